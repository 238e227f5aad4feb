"""devudp-evaluate: sets, rows, metrics, cascades, LPIPS."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from devudp_model.checkpoint import load_checkpoint
from devudp_model.generator import Generator, Variant
from devudp_model.restore import Options, restore
from tests.training.training_run import make_images, random_lpips_weights
from training.config import ConfigError
from training.evaluation.evaluate import main
from training.evaluation.tables import Result, best_and_worst, markdown
from training.evaluation.testsets import PAPER
from training.export import export_weights
from training.method import lpips as perceptual
from training.method.lpips import SHIFT, AlexLpips, find_lpips, load_lpips, read_weights

NO_LPIPS = ["--no-lpips"]


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    export_weights(Generator(width=4, depth=1).state_dict(), "devudp", {}, path)
    return str(path)


@pytest.fixture
def pairs(tmp_path: Path) -> list[str]:
    make_images(tmp_path / "gt", 3, seed=1)
    (tmp_path / "dark").mkdir()
    for path in (tmp_path / "gt").iterdir():
        with Image.open(path) as image:
            image.point(lambda value: value // 4).save(tmp_path / "dark" / path.name)
    return ["--pairs", "mine", str(tmp_path / "dark"), str(tmp_path / "gt")]


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
        assert sheet.width == 3 * 68
    assert "sha256" in (out / "results.json").read_text()


@pytest.mark.parametrize("variant", ["devudp", "devudp-dt"])
def test_model_is_the_networks_very_picture(variant: Variant, tmp_path: Path):
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


def test_pictures_are_those_of_restore(weights: str, pairs: list[str], tmp_path: Path):
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


def test_official_sets_scaled_and_the_paper_s_rows(weights: str, tmp_path: Path):
    for kind, seed in (("blur_gamma", 1), ("sharp", 2)):
        make_images(tmp_path / f"gopro/test/GOPR01/{kind}", 1, seed=seed, size=(128, 72))
        make_images(tmp_path / f"lol/eval15/{'low' if seed == 1 else 'high'}", 2, seed=seed)
    out = tmp_path / "out"
    main(["--weights", weights, "--task", "--scaled", "--gopro", str(tmp_path / "gopro"), "--lol",
          str(tmp_path / "lol"), "--out", str(out), *NO_LPIPS])  # fmt: skip
    assert pixels(out / "gopro 640x360/input/GOPR01__000.png").shape == (360, 640, 3)
    assert pixels(out / "gopro/input/GOPR01__000.png").shape == (72, 128, 3)
    table = (out / "table.md").read_text()
    assert "| gopro |  | paper: DEvUDP-DT | 25.15 | 0.786 | 9.56 | 0.272 |" in table
    assert "| gopro 640x360 |  | paper: DEvUDP-DT* | 26.69 | 0.822 | 8.54 | 0.205 |" in table
    assert "| lol |  | paper: DEvUDP | 16.88 | 0.667 | 36.27 | 0.326 |" in table
    assert sum(map(len, PAPER.values())) == table.count("paper:") + 4 + 5  # realblur-j, lol-blur


COPY = (
    "import sys, pathlib, shutil\n"
    "for p in pathlib.Path(sys.argv[1]).glob('*.png'):\n"
    "    shutil.copy(p, pathlib.Path(sys.argv[2]) / p.name)\n"
)


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
        (["--cascade", "x", f'"{Path(sys.executable).as_posix()}" -c pass'], "left out 3 pictures"),
        (["--cascade", "x"], "has no stages"),
        (["--weights", "no/such.safetensors", "--task", "joint"], "no file"),
        (["--lpips-weights", "no/such.npz"], "cannot be read as LPIPS weights"),
        (["--gopro", "no/such"], "GoPro's tree"),
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


def test_lpips_against_plain_layers():
    weights = random_lpips_weights()
    relu, pool = nn.ReLU(), nn.MaxPool2d(3, 2)
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, 4, 2), relu, pool]
    layers += [nn.Conv2d(64, 192, 5, 1, 2), relu, pool]
    layers += [nn.Conv2d(192, 384, 3, 1, 1), relu]
    layers += [nn.Conv2d(384, 256, 3, 1, 1), relu, nn.Conv2d(256, 256, 3, 1, 1), relu]
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    for k, conv in enumerate(convs):
        assert conv.bias is not None
        conv.weight.data, conv.bias.data = weights[f"conv{k}.weight"], weights[f"conv{k}.bias"]
    rng = torch.Generator().manual_seed(1)
    a, b = (torch.randint(0, 256, (3, 80, 72), generator=rng, dtype=torch.uint8) for _ in "ab")

    @torch.no_grad()
    def features(x: torch.Tensor) -> list[torch.Tensor]:
        x = x[None] / 255 * 2 - 1
        x = torch.stack([(x[:, 0] + 0.030) / 0.458, (x[:, 1] + 0.088) / 0.448,
                         (x[:, 2] + 0.188) / 0.450], 1)  # fmt: skip
        found = []
        for layer in layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x / x.norm(dim=1, keepdim=True))
        return found

    expected = sum(
        ((x - y) ** 2 * weights[f"lin{k}"].view(1, -1, 1, 1)).sum(1).mean().item()
        for k, (x, y) in enumerate(zip(features(a), features(b), strict=True))
    )
    lpips = AlexLpips(weights)
    assert lpips.of_images(a, b) == pytest.approx(expected, rel=1e-5)
    assert lpips.of_images(a, a) == 0


def test_lpips_as_a_loss_has_a_finite_gradient_even_where_no_feature_is_active():
    weights = {k: -v.abs() if k.endswith("bias") else v for k, v in random_lpips_weights().items()}
    lpips = AlexLpips(weights)
    rng = torch.Generator().manual_seed(1)
    x, y = (torch.rand(2, 3, 40, 40, generator=rng) * 2 - 1 for _ in "xy")
    x[0] = torch.tensor(SHIFT).view(3, 1, 1)  # AlexNet's grey: only biases are left
    x.requires_grad_()
    loss = lpips(x, y)
    loss.backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad[1].abs().max() > 0
    ones = [lpips(a[None], b[None]) for a, b in zip(x, y, strict=True)]
    assert loss.item() == pytest.approx(sum(one.item() for one in ones) / 2, rel=1e-5)
    assert not list(lpips.parameters())  # nothing of it learns


def test_lpips_from_files(pairs: list[str], tmp_path: Path):
    weights = random_lpips_weights()
    save_file(weights, tmp_path / "w.safetensors")
    arrays = {k: v.numpy() for k, v in weights.items()}
    np.savez(tmp_path / "w.npz", **arrays)  # pyright: ignore[reportArgumentType]
    for name in ("w.safetensors", "w.npz"):
        assert all(torch.equal(v, weights[k]) for k, v in read_weights(tmp_path / name).items())
    main([*pairs, "--task", "--out", str(tmp_path / "out"), "--lpips-weights",
          str(tmp_path / "w.npz")])  # fmt: skip
    assert results_of(tmp_path / "out")["mine/input"]["mean"]["lpips"] > 0


def test_lpips_that_cannot_be_had_is_said_and_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    pairs: list[str], tmp_path: Path,
):  # fmt: skip
    def fail() -> dict:
        raise OSError("no route to host")

    monkeypatch.setattr(perceptual, "package_weights", fail)
    assert load_lpips() is None and "no route to host" in caplog.messages[-1]
    with pytest.raises(ConfigError, match=r"no route to host\)\. Install the extra 'eval'"):
        find_lpips()
    main([*pairs, "--task", "--out", str(tmp_path / "out")])
    first = (tmp_path / "out/table.md").read_text().splitlines()[2]
    assert first.endswith("|  |")  # the column is there, and empty


def test_best_and_worst_by_gain():
    values = {str(k): {"psnr": 20.0 + k, "ssim": 0.5, "mae": 1.0, "lpips": None} for k in range(9)}
    flat = {name: {**image, "psnr": 20.0} for name, image in values.items()}
    order = best_and_worst(Result("s", "m", values), Result("s", "input", flat))
    assert order == ["8", "7", "6", "2", "1", "0"]


def test_equal_pictures_do_not_break_the_files(tmp_path: Path):
    make_images(tmp_path / "a", 1)
    main(["--pairs", "same", str(tmp_path / "a"), str(tmp_path / "a"), "--task", "--out",
          str(tmp_path / "out"), *NO_LPIPS])  # fmt: skip
    assert results_of(tmp_path / "out")["same/input"]["mean"]["psnr"] is None
    infinite = {"psnr": math.inf, "ssim": 1.0, "mae": 0.0, "lpips": None}
    assert "| inf |" in markdown([Result("s", "m", {"a": infinite})], {})
