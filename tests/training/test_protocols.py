"""Each protocol gives the numbers of the program that it is named after."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.originals import (
    NEEDS,
    ORIGINALS,
    as_tensor,
    available,
    differences,
    made_pairs,
)
from tests.training.training_run import make_images
from training.data.layouts import LOL_MISMATCHED, official_pairs
from training.evaluation import alignment
from training.evaluation.evaluate import main
from training.evaluation.protocols import PROTOCOLS

NO_LPIPS = ["--no-lpips"]
NEEDS_OPENCV = pytest.mark.skipif(not available("cv2"), reason="needs OpenCV: the extra align")


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_numbers_are_those_of_the_original(name: str):
    if not available(*NEEDS[name]):
        pytest.skip(f"needs {', '.join(NEEDS[name])}: see tests/training/originals.py")
    for metric, apart in differences(name, made_pairs(3)).items():
        assert apart < (0.001 if "psnr" in metric else 0.0001), metric


def test_every_protocol_has_an_original_and_says_what_it_is():
    assert {protocol for protocol, _ in ORIGINALS.values()} == set(PROTOCOLS)
    assert all("RGB" in protocol.text for protocol in PROTOCOLS.values())


def test_the_y_of_each():
    """Of a grey step of 255: MATLAB's Y is shorter, by 219 of 255, so its PSNR is higher."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (32, 40, 1), np.uint8).repeat(3, 2)
    noisy = (255 - grey.astype(int)).astype(np.uint8)
    a, b = as_tensor(noisy), as_tensor(grey)
    pyiqa, basicsr, paper = (PROTOCOLS[n].compare(a, b) for n in ("pyiqa", "basicsr", "paper"))
    assert pyiqa["psnr_y"] == pytest.approx(paper["psnr"], abs=1e-6)
    gain = 20 * np.log10(255 / 219)  # 1.32 dB
    assert basicsr["psnr_y"] == pytest.approx(paper["psnr"] + gain, abs=1e-6)
    assert paper["ssim"] < 0 <= pyiqa["ssim"]  # pyiqa's structure is not negative
    assert PROTOCOLS["pyiqa"].compare(a, a)["psnr"] == pytest.approx(80)


@NEEDS_OPENCV
def test_alignment_finds_a_shift_and_a_brightness():
    (_, sharp), _ = made_pairs(2)
    shifted = np.roll(sharp, (2, -3), (0, 1)).astype(float)
    a, b = as_tensor((shifted * 0.6).round().astype(np.uint8)), as_tensor(sharp)
    image, reference, mask = alignment.aligned(a, b)
    assert mask.shape == (1, *sharp.shape[:2]) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert 0.9 < mask.mean() < 1  # less a row and a column at the borders
    assert torch.equal(reference, b.float() / 255 * mask)
    inner = (slice(None), slice(8, -8), slice(8, -8))
    both = torch.stack([image[inner].flatten(), reference[inner].flatten()])
    before = torch.stack([a[inner].flatten(), b[inner].flatten()]).float()
    assert torch.corrcoef(both)[0, 1] > 0.999 > 0.99 > torch.corrcoef(before)[0, 1]
    # The factor is of least squares over the images as they come, before they are aligned.
    x, z = b.double(), a.double()
    factor = (x * z).sum() / (z * z).sum() * 0.6
    assert (both[0] - factor * both[1]).mean().abs() < 0.001
    values = PROTOCOLS["realblur"].compare(a, b)
    assert values["psnr"] > PROTOCOLS["paper"].compare(a, b)["psnr"] + 10 and values["ssim"] > 0.95


@NEEDS_OPENCV
def test_what_cannot_be_aligned_is_said(caplog: pytest.LogCaptureFixture):
    flat = torch.full((3, 40, 40), 100, dtype=torch.uint8)
    image, _, mask = alignment.aligned(flat // 2, flat)
    assert "without aligning it" in caplog.messages[-1]
    assert mask.min() == 1 and torch.allclose(image, flat.float() / 255, atol=1e-6)


@pytest.mark.parametrize(
    "words",
    [
        ["--protocol", "basicsr", "--align"],
        ["--limit", "-1"],
        ["--untuned-images", "-1"],
        ["--size", "0x9"],
    ],
)
def test_what_would_measure_something_else_is_refused(
    pairs: list[str], tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two protocols at once; all images but the last; images of no size."""
    with pytest.raises(SystemExit):
        main([*pairs, "--task", *words, "--out", str(tmp_path / "out")])
    assert "devudp-evaluate: error: argument --" in capsys.readouterr().err


def test_without_opencv(
    pairs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(SystemExit):
        main([*pairs, "--task", "--align", "--out", str(tmp_path / "out")])
    assert "the extra 'align'" in caplog.messages[-1] and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("protocol", "head"),
    [
        ("paper", "| set | n | method | PSNR | SSIM | MAE | LPIPS |"),
        ("basicsr", "| set | n | method | PSNR | SSIM | PSNR Y | SSIM Y |"),
        ("pyiqa", "| set | n | method | PSNR | PSNR Y | SSIM Y | SSIM | LPIPS |"),
        pytest.param("realblur", "| set | n | method | PSNR | SSIM |", marks=NEEDS_OPENCV),
    ],
)
def test_files_say_the_protocol(protocol: str, head: str, pairs: list[str], tmp_path: Path):
    out, summary = tmp_path / "out", tmp_path / "s.json"
    main([*pairs, "--task", "--protocol", protocol, "--out", str(out), "--summary", str(summary),
          *NO_LPIPS])  # fmt: skip
    table = (out / "table.md").read_text()
    assert table.startswith(head) and f"Protocol `{protocol}`: {PROTOCOLS[protocol].text}" in table
    name = "mine aligned" if protocol == "realblur" else "mine"
    assert f"| {name} | 3 | input |" in table
    for file in (out / "results.json", summary):
        content = json.loads(file.read_text())
        assert content["protocol"]["name"] == protocol
        assert ("opencv" in content["protocol"]) == (protocol == "realblur")
    (first, *_) = content["results"]
    a, b = (
        as_tensor(np.asarray(Image.open(tmp_path / side / "000.png"))) for side in ("dark", "gt")
    )
    full = json.loads((out / "results.json").read_text())["results"][0]["images"]["000"]
    for metric, value in PROTOCOLS[protocol].compare(a, b).items():
        assert full[metric] == pytest.approx(value, abs=1e-9) and metric in first["mean"]


# Which images a set has


def make_gopro(root: Path) -> None:
    for seed, kind in enumerate(("blur_gamma", "blur", "sharp")):
        make_images(root / f"test/GOPR01/{kind}", 1, seed=seed)


def make_lol_blur(root: Path) -> None:
    for seed, kind in enumerate(("low_blur", "low_blur_noise", "high_sharp_scaled")):
        make_images(root / f"test/{kind}/0001", 1, seed=seed)


def test_the_kind_of_blur_is_chosen_and_said(tmp_path: Path):
    make_gopro(tmp_path / "gopro")
    make_lol_blur(tmp_path / "lolblur")
    roots = ["--gopro", str(tmp_path / "gopro"), "--lol-blur", str(tmp_path / "lolblur")]
    rest = ["--task", "--gamma", "0", *NO_LPIPS, "--out"]
    found = {}
    for kinds in ([], ["blur"], ["blur", "blur_gamma", "low_blur_noise"]):
        out = tmp_path / f"out{len(found)}"
        options = ["--kind", *kinds] if kinds else []
        main([*roots, *options, *rest, str(out)])
        content = json.loads((out / "results.json").read_text())
        found[len(found)] = content["sets"]
        for name in content["sets"]:
            layout, kind = name.split(" ")
            folder = (
                f"gopro/test/GOPR01/{kind}" if layout == "gopro" else f"lolblur/test/{kind}/0001"
            )
            image = next((out / name / "input").iterdir())
            expected = np.asarray(Image.open(tmp_path / folder / "000.png"))
            assert np.array_equal(np.asarray(Image.open(image)), expected), name
    assert list(found.values()) == [
        ["gopro blur_gamma", "lol-blur low_blur"],
        ["gopro blur", "lol-blur low_blur"],
        ["gopro blur", "gopro blur_gamma", "lol-blur low_blur_noise"],
    ]
    table = (tmp_path / "out1/table.md").read_text()
    assert "| gopro blur | 1 | input |" in table and "MPRNet" in table and "LEDNet" in table
    assert "| gopro blur |  | paper: DEvUDP-DT |" in table


def make_realblur(root: Path) -> None:
    (rows := root / "RealBlur_J_test_list.txt").parent.mkdir(parents=True)
    for (image, reference), number in zip(made_pairs(2), (1, 2), strict=True):
        for kind, pixels in (("blur", image), ("gt", reference)):
            path = root / f"scene/{kind}/{kind}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    rows.write_text("".join(f"scene/gt/gt_{n}.png scene/blur/blur_{n}.png\n" for n in (1, 2)))


@NEEDS_OPENCV
def test_realblur_is_plain_or_aligned_and_says_so(tmp_path: Path):
    make_realblur(tmp_path / "rb")
    command = ["--realblur-j", str(tmp_path / "rb"), "--task", "--gamma", "0", *NO_LPIPS]
    main([*command, "--out", str(tmp_path / "plain")])
    main([*command, "--align", "--out", str(tmp_path / "aligned")])
    plain, aligned = ((tmp_path / name / "table.md").read_text() for name in ("plain", "aligned"))
    assert "| realblur-j plain | 2 | input |" in plain and "RealBlur-J: plain" in plain
    assert "| realblur-j plain |  | paper: FCL-GAN |" in plain
    assert "| realblur-j aligned | 2 | input |" in aligned and "paper:" not in aligned
    values = [
        json.loads((tmp_path / name / "results.json").read_text())["results"][0]["mean"]["psnr"]
        for name in ("plain", "aligned")
    ]
    assert values[1] > values[0] + 5


def test_pairs_of_lol_that_do_not_belong_together(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    for part in ("our485", "eval15"):
        for side in ("low", "high"):
            make_images(tmp_path / part / side, 3)
            for old, new in (("000", "2"), ("001", "79"), ("002", "735")):
                (tmp_path / part / side / f"{old}.png").rename(
                    tmp_path / part / side / f"{new}.png"
                )
    assert [pair.name for pair in official_pairs("lol", tmp_path, "train")] == ["2"]
    assert "LOL without 735, 79" in caplog.messages[-1]
    assert [pair.name for pair in official_pairs("lol", tmp_path, "test")] == ["2", "735", "79"]
    assert {"79", "111", "735"} == LOL_MISMATCHED
