"""devudp-evaluate: sets, rows, metrics, cascades, files."""

import argparse
import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from devudp_model.checkpoint import load_checkpoint
from devudp_model.network.generator import Generator, Variant
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from tests.training.training_run import ROOT, make_images, random_lpips_weights
from training.evaluation.arguments import Tasks
from training.evaluation.evaluate import main
from training.evaluation.paper import PAPER
from training.evaluation.tables import Result, best_and_worst, markdown
from training.export import export_weights
from training.method import lpips as perceptual

NO_LPIPS = ["--no-lpips"]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def results_of(out: Path) -> dict[str, dict]:
    content = json.loads((out / "results.json").read_text())
    return {f"{r['set']}/{r['method']}": r for r in content["results"]}


def test_rows_values_and_files(weights: str, pairs: list[str], tmp_path: Path):
    out = tmp_path / "out"
    main(["--weights", weights, "--task", "joint", "model", *pairs, "--out", str(out), *NO_LPIPS])
    found = results_of(out)
    assert list(found) == ["mine/input", "mine/gamma 0.26", "mine/joint", "mine/model"]
    for method in ("input", "gamma 0.26", "joint"):
        values = []
        for name, image in found[f"mine/{method}"]["images"].items():
            a = pixels(out / "mine" / method / f"{name}.png")
            b = pixels(tmp_path / "gt" / f"{name}.png")
            expected = structural_similarity(
                b, a, channel_axis=2, gaussian_weights=True, use_sample_covariance=False,
                data_range=255)  # fmt: skip
            assert image["ssim"] == pytest.approx(expected, abs=1e-6)
            psnr = peak_signal_noise_ratio(b, a, data_range=255)
            assert image["psnr"] == pytest.approx(psnr, abs=1e-6)
            assert image["mae"] == pytest.approx(np.abs(a.astype(float) - b).mean(), abs=1e-9)
            assert image["lpips"] is None
            values.append(psnr)
        assert found[f"mine/{method}"]["mean"]["psnr"] == pytest.approx(np.mean(values), abs=1e-6)
    table = (out / "table.md").read_text()
    assert table.count("| mine | 3 |") == 4
    with Image.open(out / "mine/joint.jpg") as sheet:
        assert sheet.height == 3 * (16 + 16 + 48)  # a title and captions above each image
    sha256 = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    about = json.loads((out / "results.json").read_text())
    assert about["weights"]["joint"] == {"file": "tiny.safetensors", "sha256": sha256}


@pytest.mark.parametrize("variant", ["devudp", "devudp-dt"])
def test_model_is_the_plain_output_of_the_network(variant: Variant, tmp_path: Path):
    torch.manual_seed(0)
    generator = Generator(variant, width=4, depth=1).eval()
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    file = tmp_path / "tiny.safetensors"
    export_weights(generator.state_dict(), variant, {}, file, dtype=torch.float32)
    make_images(tmp_path / "in", 1, size=(140, 130))
    pairs = ["--pairs", "mine", str(tmp_path / "in"), str(tmp_path / "in")]
    main(["--weights", str(file), "--task", "model", *pairs, "--out", str(tmp_path / "out"),
          *NO_LPIPS])  # fmt: skip
    image = torch.from_numpy(pixels(tmp_path / "in/000.png").copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = (generator(image * 2 - 1)[0].permute(1, 2, 0).numpy() + 1) / 2 * 255
    written = pixels(tmp_path / "out/mine/model/000.png")
    assert np.abs(written - expected.clip(0, 255)).max() < 0.6


def test_images_are_those_of_restore(weights: str, pairs: list[str], tmp_path: Path):
    main(["--weights", weights, "--task", "low-light", "--strength", "0.5", *pairs, "--out",
          str(tmp_path / "out"), *NO_LPIPS])  # fmt: skip
    image = torch.from_numpy(pixels(tmp_path / "dark/001.png").copy()).permute(2, 0, 1)[None] / 255
    expected = restore(
        image, load_checkpoint(weights).generator, Options(task="low light", strength=0.5)
    )
    written = pixels(tmp_path / "out/mine/low-light/001.png")
    assert np.abs(written - (expected[0].permute(1, 2, 0).numpy() * 255)).max() <= 0.51


def test_gamma_row(pairs: list[str], tmp_path: Path):
    main([*pairs, "--task", "--gamma", "0.5", "--out", str(tmp_path / "out"), *NO_LPIPS])
    dark = pixels(tmp_path / "dark/000.png") / 255
    assert np.array_equal(pixels(tmp_path / "out/mine/gamma 0.5/000.png"),
                          np.round(255 * dark**0.5).astype(np.uint8))  # fmt: skip


@pytest.mark.slow
def test_official_sets_scaled_and_the_paper_s_rows(weights: str, tmp_path: Path):
    for kind, seed in (("blur_gamma", 1), ("sharp", 2)):
        make_images(tmp_path / f"gopro/test/GOPR01/{kind}", 1, seed=seed, size=(128, 72))
        make_images(tmp_path / f"lol/eval15/{'low' if seed == 1 else 'high'}", 2, seed=seed)
    out = tmp_path / "out"
    main(["--weights", weights, "--task", "--scaled", "--gopro", str(tmp_path / "gopro"), "--lol",
          str(tmp_path / "lol"), "--out", str(out), *NO_LPIPS])  # fmt: skip
    assert pixels(out / "gopro blur_gamma 640x360/input/GOPR01__000.png").shape == (360, 640, 3)
    assert pixels(out / "gopro blur_gamma/input/GOPR01__000.png").shape == (72, 128, 3)
    table = (out / "table.md").read_text()
    assert "| gopro blur_gamma |  | paper: DEvUDP-DT | 25.15 | 0.786 | 9.56 | 0.272 |" in table
    assert (
        "| gopro blur_gamma 640x360 |  | paper: DEvUDP-DT* | 26.69 | 0.822 | 8.54 | 0.205 |"
        in table
    )
    assert "| lol |  | paper: DEvUDP | 16.88 | 0.667 | 36.27 | 0.326 |" in table
    assert (
        sum(map(len, PAPER.values())) == table.count("paper:") + 5 + 2 + 5
    )  # without RealBlur-J, LOL-Blur


COPY = (
    "import sys, pathlib, shutil\n"
    "for p in pathlib.Path(sys.argv[1]).glob('*.png'):\n"
    "    shutil.copy(p, pathlib.Path(sys.argv[2]) / p.name)\n"
)


@pytest.mark.slow
def test_cascade_of_a_command_and_a_task(weights: str, pairs: list[str], tmp_path: Path):
    (tmp_path / "copy.py").write_text(COPY)
    command = f'"{Path(sys.executable).as_posix()}" "{(tmp_path / "copy.py").as_posix()}"'
    command += " {input} {output}"
    main(["--weights", weights, "--task", "deblur", *pairs, "--cascade", "copy, deblur", command,
          "deblur", "--out", str(tmp_path / "out"), *NO_LPIPS])  # fmt: skip
    found = results_of(tmp_path / "out")
    assert found["mine/copy, deblur"]["images"] == found["mine/deblur"]["images"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cascade", "x", "no-such-program {input} {output}"], "cannot be run"),
        pytest.param(
            ["--cascade", "x", f'"{Path(sys.executable).as_posix()}" -c pass'],
            "left out 3 images",
            marks=pytest.mark.slow,
        ),
        (["--cascade", "x"], "has no stages"),
        (["--weights", "no/such.safetensors", "--task", "joint"], "no file"),
        (["--lpips-weights", "no/such.npz"], "cannot be read as LPIPS weights"),
        (["--gopro", "no/such"], "GoPro's tree"),
        (["--kind", "blur"], "--kind blur is of no set"),
        (["--cascade", "gamma 0.26", "joint"], "'gamma 0.26' is the name of 2 rows"),
        (["--cascade", "input", "joint"], "'input' is the name of 2 rows"),
        (["--cascade", "../up", "joint"], "'../up' cannot be used"),
    ],
)
def test_mistakes_are_said(
    arguments: list[str], words: str, pairs: list[str], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    lpips = [] if "--lpips-weights" in arguments else NO_LPIPS
    with pytest.raises(SystemExit) as ended:
        main([*pairs, "--task", *arguments, "--out", str(tmp_path / "out"), *lpips])
    assert ended.value.code == 1 and words in caplog.messages[-1]


def test_pairs_of_differing_sizes(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    make_images(tmp_path / "a", 1)
    make_images(tmp_path / "b", 1, size=(50, 50))
    pairs = ["--pairs", "x", str(tmp_path / "a"), str(tmp_path / "b"), "--task", "--no-lpips"]
    with pytest.raises(SystemExit):
        main([*pairs, "--out", str(tmp_path / "out")])
    assert "64x48 and its reference" in caplog.messages[-1]
    main([*pairs, "--size", "32x32", "--out", str(tmp_path / "out2")])


def test_lpips_column(pairs: list[str], tmp_path: Path):
    file = tmp_path / "w.safetensors"
    save_file(random_lpips_weights(), file)
    lpips = ["--lpips-weights", str(file)]
    main([*pairs, "--task", "--out", str(tmp_path / "out"), *lpips])
    assert results_of(tmp_path / "out")["mine/input"]["mean"]["lpips"] > 0


def test_lpips_that_cannot_be_had_leaves_its_column_empty(
    monkeypatch: pytest.MonkeyPatch, pairs: list[str], tmp_path: Path
):
    def fail() -> dict:
        raise OSError("no route to host")

    monkeypatch.setattr(perceptual, "package_weights", fail)
    main([*pairs, "--task", "--out", str(tmp_path / "out")])
    first = (tmp_path / "out/table.md").read_text().splitlines()[2]
    assert first.endswith("|  |")


def test_extra_files_of_a_command_are_not_scored(pairs: list[str], tmp_path: Path):
    script = COPY + "    shutil.copy(p, pathlib.Path(sys.argv[2]) / ('extra' + p.name))\n"
    (tmp_path / "copy.py").write_text(script)
    command = f'"{Path(sys.executable).as_posix()}" "{(tmp_path / "copy.py").as_posix()}"'
    command += " {input} {output}"
    main([*pairs, "--task", "--cascade", "copy", command, "--out", str(tmp_path / "out"),
          *NO_LPIPS])  # fmt: skip
    found = results_of(tmp_path / "out")
    assert found["mine/copy"]["images"] == found["mine/input"]["images"]


def test_two_pairs_of_one_name(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    make_images(tmp_path / "a/b", 1)
    (tmp_path / "a/b/000.png").rename(tmp_path / "a/b/c.png")
    shutil.copyfile(tmp_path / "a/b/c.png", tmp_path / "a/b__c.png")
    with pytest.raises(SystemExit):
        main(["--pairs", "x", str(tmp_path / "a"), str(tmp_path / "a"), "--task", "--out",
              str(tmp_path / "out"), *NO_LPIPS])  # fmt: skip
    assert "two pairs of x are named b__c" in caplog.messages[-1]


def test_two_sets_of_one_name(pairs: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with pytest.raises(SystemExit):
        main([*pairs, *pairs, "--task", "--out", str(tmp_path / "out"), *NO_LPIPS])
    assert "'mine' is the name of 2 rows" in caplog.messages[-1]


def test_summary_has_the_means_and_no_local_path(weights: str, pairs: list[str], tmp_path: Path):
    summary = tmp_path / "docs/results.json"
    main(["--weights", weights, *pairs, "--out", str(tmp_path / "out"), "--summary", str(summary),
          *NO_LPIPS])  # fmt: skip
    content = json.loads(summary.read_text())
    full = results_of(tmp_path / "out")
    for result in content["results"]:
        assert "images" not in result
        one = full[f"{result['set']}/{result['method']}"]
        assert result["mean"] == one["mean"] and result["n"] == one["n"] == 3
    assert content["version"] and content["settings"]["precision"] == "auto"
    assert list(content["weights"]) == ["joint"]
    assert str(tmp_path) not in summary.read_text() and "\\" not in summary.read_text()


@pytest.mark.slow
def test_as_a_module():
    command = [sys.executable, "-m", "training.evaluation", "--help"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("usage: devudp-evaluate")


def test_best_and_worst_by_gain():
    values = {str(k): {"psnr": 20.0 + k, "ssim": 0.5, "mae": 1.0, "lpips": None} for k in range(9)}
    flat = {name: {**image, "psnr": 20.0} for name, image in values.items()}
    order = best_and_worst(Result("s", "m", values), Result("s", "input", flat))
    assert order == ["8", "7", "6", "2", "1", "0"]


def test_equal_images_do_not_break_the_files(tmp_path: Path):
    make_images(tmp_path / "a", 1)
    main(["--pairs", "same", str(tmp_path / "a"), str(tmp_path / "a"), "--task", "--out",
          str(tmp_path / "out"), *NO_LPIPS])  # fmt: skip
    assert results_of(tmp_path / "out")["same/input"]["mean"]["psnr"] is None
    infinite = {"psnr": math.inf, "ssim": 1.0, "mae": 0.0, "lpips": None}
    assert "| inf |" in markdown([Result("s", "m", {"a": infinite})], {})


def test_a_second_network_is_named_among_the_weights() -> None:
    options = argparse.Namespace(weights=None, strength=1.0, exposure=None, precision="fp32")
    for word, wanted in (
        ("low-light", {"low-light": "devudp.safetensors"}),
        ("joint", {"joint": "devudp.safetensors", "deblur": "devudp-dt.safetensors"}),
    ):
        tasks = Tasks(options)
        tasks(word)
        assert {name: path.name for name, path in tasks.used.items()} == wanted
