"""`Options.working_size`: the network on a smaller copy, its change at the full size."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from devudp_model.bands import rows
from devudp_model.bands.rows import AnyImage
from devudp_model.batch import run as batch
from devudp_model.cli import main as cli
from devudp_model.cli.arguments import pixel_count
from devudp_model.network.generator import Variant
from devudp_model.restorer import Restorer
from devudp_model.restoring.options import Options
from devudp_model.restoring.progress import ImageProgress
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.run_network import pixels_to_do
from devudp_model.restoring.working_size import (
    Kernel,
    resample,
    run_smaller,
    without_noise,
    working_shape,
)
from tests.model.cli_files import draw, pixels_of
from tests.model.restore_network import FP32, generator, random_image

SMALLER = dataclasses.replace(FP32, working_size=1000)

Change = Callable[[Tensor], Tensor]


def brought_to_full_size(
    image: Tensor, change: Change, pixels: int = 1000, *, keeps_exposure: bool = False
) -> Tensor:
    """What a network that does `change` gives at a working size."""

    def run(small: AnyImage, memory: int | None, out: AnyImage) -> None:
        assert isinstance(small, Tensor) and isinstance(out, Tensor)
        out.copy_(change(small))

    height, width = image.shape[2:]
    size = working_shape(height, width, pixels)
    assert size is not None
    out = torch.empty(len(image), 3, height, width)
    run_smaller(run, image, size, out, None, keeps_exposure=keeps_exposure)
    return out


@pytest.mark.parametrize("task", ["joint", "deblur", "low light"])
def test_off_by_default_and_the_same_bits_for_what_is_not_larger(task: str) -> None:
    net = generator("devudp-dt" if task == "deblur" else "devudp")
    image = random_image(2, 3, 40, 50)
    options = dataclasses.replace(FP32, task=task)
    usual = restore(image, net, options)
    for size in (None, 2000, 10**9):
        assert torch.equal(
            restore(image, net, dataclasses.replace(options, working_size=size)), usual
        )
    smaller = restore(image, net, dataclasses.replace(options, working_size=1999))
    assert not torch.equal(smaller, usual)


def test_the_network_works_on_so_many_pixels_and_no_more() -> None:
    assert working_shape(4000, 6000, 2_000_000) == (1154, 1732)
    assert working_shape(1, 100, 50) == (1, 70)
    assert working_shape(40, 50, 2000) is None
    net = generator()
    assert pixels_to_do(4000, 6000, net, Options(working_size=2_000_000)) == 1154 * 1732
    assert pixels_to_do(40, 50, net, Options(working_size=2000)) == 2000


@pytest.mark.parametrize("grey", [0.0, 0.2, 1.0])
def test_constant_images_become_constant(grey: float) -> None:
    image = torch.full((1, 3, 61, 83), grey)
    made = brought_to_full_size(image, lambda x: 0.5 * x + 0.1)
    assert (made - (0.5 * grey + 0.1)).abs().max() < 1e-5


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.0])
def test_a_change_of_exposure_has_no_halos_at_straight_edges(angle: float) -> None:
    """Gains, offsets and a gamma curve at a step from dark to bright, which stays as sharp."""
    y, x = torch.meshgrid(torch.arange(120.0), torch.arange(160.0), indexing="ij")
    far = (x - 80) * torch.cos(torch.tensor(angle)) + (y - 60) * torch.sin(torch.tensor(angle))
    image = (0.05 + 0.2 * far.clamp(0, 1)).expand(1, 3, -1, -1)
    limits = {(lambda x: 3 * x): 0.002, (lambda x: 2 * x + 0.2): 0.002, (lambda x: x**0.5): 0.04}
    for change, limit in limits.items():
        made, ideal = brought_to_full_size(image, change), change(image)
        step = ideal.max() - ideal.min()
        over = torch.maximum(made - ideal.max(), ideal.min() - made).max()
        assert over < limit * step
        assert (made - ideal).abs().mean() < 0.01 * step


def test_details_that_a_network_with_the_shortcut_makes_are_there() -> None:
    """Sharpening is no affine change: the fit alone would lose most of it."""
    ramp = (torch.arange(160.0) / 16 - 4.5).clamp(0, 1) * 0.5 + 0.25
    image = ramp.expand(1, 3, 120, -1).contiguous()
    made, fitted = (
        brought_to_full_size(image, sharpen, keeps_exposure=keeps) for keeps in (True, False)
    )
    small = F.interpolate(image, (27, 36), mode="bilinear", antialias=True)
    ideal = F.interpolate(sharpen(small), (120, 160), mode="bilinear")
    assert (made - ideal).abs().mean() < (fitted - ideal).abs().mean() / 2


def sharpen(x: Tensor) -> Tensor:
    return x + 2 * (x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))


def test_detail_that_the_copy_lost_is_there_with_the_new_exposure() -> None:
    columns = random_image(1, 3, 1, 120) * 0.2  # no diagonals, which would be taken for noise
    image = columns.expand(-1, -1, 96, -1)
    made = brought_to_full_size(image, lambda x: 3 * x, keeps_exposure=True)
    small = F.interpolate(image, (28, 35), mode="bilinear", antialias=True)
    enlarged = 3 * F.interpolate(small, (96, 120), mode="bilinear")
    assert (made - 3 * image).abs().max() < 0.05
    assert (enlarged - 3 * image).abs().mean() > 10 * (made - 3 * image).abs().mean()


@pytest.mark.parametrize("keeps_exposure", [False, True])
def test_noise_is_taken_from_what_is_added(keeps_exposure: bool) -> None:
    flat = torch.full((1, 3, 120, 160), 0.3)
    noisy = flat + 0.02 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(1))
    made = brought_to_full_size(noisy, lambda x: x, keeps_exposure=keeps_exposure)
    assert (made - flat).std() < 0.6 * 0.02


def test_deblurring_is_enlarged_as_sharp_as_can_be() -> None:
    """Bilinear interpolation would lose a tenth of waves of five pixels of the copy."""
    image = torch.full((1, 3, 180, 240), 0.5)

    def wave(width: int, period: float) -> Tensor:
        return 0.1 * torch.sin((torch.arange(width) + 0.5) * 2 * torch.pi / period)

    made = brought_to_full_size(image, lambda x: x + wave(80, 5), 60 * 80, keeps_exposure=True)
    ideal = wave(240, 15)
    share = ((made - 0.5) * ideal).sum() / ideal.expand_as(made).square().sum()
    assert 0.94 < share < 1.02


def test_texture_that_is_hardly_above_the_noise_is_not_lost() -> None:
    """Wiener's filter would leave nothing of the first and a third of the last."""
    noise, texture = torch.full((1, 3, 1, 1), 1e-4), random_image(1, 3, 40, 40) - 0.5
    for times, share in ((0.25, 0.2), (1.0, 0.5), (4.0, 0.8)):
        lost = texture * math.sqrt(1e-4 * times / texture.square().mean())
        kept = without_noise(lost, noise).std() / lost.std()
        assert share - 0.05 < kept < share + 0.05
    assert torch.equal(without_noise(texture, torch.zeros(1, 3, 1, 1)), texture)


def test_a_share_of_what_no_affine_model_holds_is_there() -> None:
    """Of dots on an even image: not none, as of the fit, and not all with the network's noise."""
    dots = 0.05 * torch.randn(1, 3, 30, 40, generator=torch.Generator().manual_seed(2))
    flat = torch.full((1, 3, 90, 120), 0.3)
    made = brought_to_full_size(flat, lambda x: x + dots, 1200)
    enlarged = F.interpolate(dots, (90, 120), mode="bilinear")
    share = ((made - flat) * enlarged).sum() / enlarged.square().sum()
    assert 0.25 < share < 0.4


@pytest.mark.parametrize("shape", [(1, 1, 70, 90), (2, 4, 70, 90), (1, 3, 7, 3000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.uint16])
def test_any_kind_of_image(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Alpha comes back untouched; a mask works at the full size."""
    image = random_image(*shape)
    largest = {torch.uint8: 255, torch.uint16: 65535}.get(dtype, 1)
    image = (image * largest).to(dtype)
    mask = torch.zeros(shape[2:])
    mask[:, ::2] = 1
    restored = restore(image, generator(), SMALLER)
    masked = restore(image, generator(), SMALLER, mask=mask)
    assert restored.dtype == dtype and restored.shape == image.shape
    before, after, some = (x.float() / largest for x in (image, restored, masked))
    assert (before[:, :3] - after[:, :3]).abs().mean() > 0.01
    assert torch.equal(before[:, 3:], after[:, 3:])
    assert torch.allclose(some[..., 1::2], before[..., 1::2], atol=1e-6)
    assert torch.allclose(some[..., ::2], after[..., ::2], atol=2e-5)


def test_bits_depend_neither_on_memory_nor_on_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    image = (random_image(1, 3, 130, 90) * 255).to(torch.uint8)
    usual = restore(image, generator(), SMALLER)
    low = dataclasses.replace(SMALLER, memory=10_000)
    assert torch.equal(restore(image, generator(), low), usual)  # everything in files
    monkeypatch.setattr(rows, "BAND_PIXELS", 700)
    monkeypatch.setattr("devudp_model.restoring.working_size.BAND_PIXELS", 700)
    assert torch.equal(restore(image, generator(), SMALLER), usual)


@pytest.mark.parametrize("variant", ["devudp", "devudp-dt"])
def test_bits_do_not_depend_on_threads(variant: Variant) -> None:
    image = (random_image(1, 3, 800, 1000) * 255).to(torch.uint8)
    options = dataclasses.replace(SMALLER, task="deblur", working_size=40_000)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(restore(image, generator(variant), options))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
def test_rows_are_those_that_pytorch_gives(kernel: Kernel) -> None:
    image = random_image(1, 3, 50, 20)
    for height in (13, 50, 49, 128):
        ours = torch.cat(
            [
                resample(
                    lambda a, b: image[:, :, a:b],
                    50,
                    height,
                    start,
                    min(start + 9, height),
                    kernel,
                )
                for start in range(0, height, 9)
            ],
            2,
        )
        theirs = F.interpolate(image, (height, 20), mode=kernel, antialias=height < 50)
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_videos_and_shared_statistics_take_it_too() -> None:
    frames = random_image(3, 3, 60, 80)
    shared = dataclasses.replace(SMALLER, statistics="shared")
    full = Restorer(generator(), "joint", dataclasses.replace(shared, working_size=None))
    some = Restorer(generator(), "joint", shared)
    assert not torch.equal(some(frames), full(frames))
    assert torch.equal(some(frames[:, :, :20, :40]), full(frames[:, :, :20, :40]))


def test_command_line(tmp_path: Path, devudp: Callable[..., int]) -> None:
    image = draw(tmp_path / "a.png", (150, 100))
    for out, more in (("full", []), ("large", ["--working-size", "1MP"])):
        assert devudp(image, "--out", tmp_path / out, *more) == 0
    assert devudp(image, "--out", tmp_path / "small", "--working-size", "10000") == 0
    full, large, small = (pixels_of(tmp_path / n / "a.png") for n in ("full", "large", "small"))
    assert (full == large).all() and (full != small).any()


def test_sizes_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert [pixel_count(text) for text in ("2MP", "1.5 mp", "300000")] == [
        2 * 10**6,
        1500000,
        300000,
    ]
    for text in ("2", "0MP", "big", "-2MP", "2MB"):
        with pytest.raises(SystemExit):
            cli.main(["restore", "a.png", "--out", "out", f"--working-size={text}"])
        assert "write it as 2MP" in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, -5])
def test_no_such_size(size: int) -> None:
    with pytest.raises(ValueError, match="working_size must be above 0"):
        Options(working_size=size)


def test_what_takes_long_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By the rate of the first strips, for large images only."""
    caplog.set_level("INFO")
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    progress = ImageProgress(lambda images: None, forecast=batch.say_if_long)

    def work(pixels: float, seconds: float) -> None:
        progress.begin(pixels)
        for _ in range(100):
            clock[0] += seconds / 100
            progress.advance(pixels / 100)

    work(2e6, 600)  # no working size makes it much faster
    work(24e6, 59)
    assert not caplog.messages
    work(24e6, 240)
    work(24e6, 240)
    [message] = caplog.messages
    assert "about 4 minutes" in message and "--working-size 2MP" in message
