"""Deblurring from coarse to fine."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from devudp_model.bands import rows as image_rows
from devudp_model.bands.rows import FileImage
from devudp_model.restoring import coarse_to_fine as coarse
from devudp_model.restoring.coarse_to_fine import (
    MIN_SIDE,
    add_change,
    coarse_to_fine,
    scales_for,
    share_of_rows,
    shrink,
    where_blurred,
)


def random_image(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25


def blurred_share(image: Tensor) -> Tensor:
    """For every pixel: B,1,H,W."""
    share, (frames, _, height, width) = coarse.blurred_share(image), image.shape
    rows = [share_of_rows(share, frame, 0, height) for frame in range(frames)]
    return torch.cat(rows)[..., :width]


def test_small_images_are_not_made_smaller() -> None:
    assert scales_for(5000, 8 * MIN_SIDE) == (8, 4, 2)
    assert scales_for(4 * MIN_SIDE, 8 * MIN_SIDE - 1) == (4, 2)
    assert scales_for(720, 1280) == (4, 2)
    assert scales_for(360, 640) == (2,)
    assert scales_for(2 * MIN_SIDE - 1, 2000) == scales_for(1, 1) == ()


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("size", [(64, 64), (65, 67), (70, 63)])
def test_smaller_images_lie_where_the_image_does(size: tuple[int, int], scale: int) -> None:
    """A slope, made smaller and enlarged, is the same slope; the borders apart."""
    down, across = (torch.linspace(0, 0.5, n) for n in size)
    slope = (down[:, None] + across)[None, None].expand(1, 3, -1, -1)
    small = shrink(slope, scale)
    assert small.shape[2:] == tuple(-(-n // scale) for n in size)
    enlarged = torch.zeros_like(slope)
    add_change(enlarged, torch.zeros_like(small), small, scale)
    inside = (..., slice(16, -16), slice(16, -16))
    torch.testing.assert_close(enlarged[inside], slope[inside], atol=4e-3, rtol=0)


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_bands_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image, small = random_image(2, 3, 45, 30), random_image(2, 3, 23, 15)
    change = torch.rand_like(small) - 0.5
    enlarged = F.interpolate(change, scale_factor=2.0, mode="bicubic")[:, :, :45]
    wanted = (image + enlarged).clamp(0, 1)
    monkeypatch.setattr(image_rows, "BAND_PIXELS", rows * 60)
    add_change(image, small, small + change, 2)
    torch.testing.assert_close(image, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(131, 300), (160, 277)])
@pytest.mark.parametrize("band", [2**18, 2**12, 1])
def test_images_in_files_come_out_the_same_to_the_bit(
    size: tuple[int, int], band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bands of any height; for images of less than 256 pixels a side PyTorch takes another
    kernel, which rounds otherwise."""
    image = F.avg_pool2d(random_image(2, 3, *size), 9, 1, 4, count_include_pad=False)

    def darker(small: Tensor) -> Tensor:
        return small[:] * 0.9

    def in_file(small: FileImage) -> FileImage:
        whole = torch.cat([small.read(f, 0, small.shape[2]) for f in range(small.shape[0])])
        return stored(darker(whole))

    def stored(whole: Tensor) -> FileImage:
        file = FileImage(whole.shape)
        for frame, start, stop in image_rows.bands_of(whole):
            file.write(frame, start, whole[frame : frame + 1, :, start:stop])
        return file

    wanted = coarse_to_fine(where_blurred(darker), image.clone(), (4, 2))
    assert not torch.equal(wanted, image)
    monkeypatch.setattr(image_rows, "BAND_PIXELS", band)
    found = coarse_to_fine(where_blurred(in_file), stored(image), (4, 2), allocate=FileImage)
    whole = torch.cat([found.read(f, 0, size[0]) for f in range(2)])
    assert torch.equal(whole, wanted)


def test_each_scale_goes_on_from_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coarse, "MIN_SIDE", 40)
    image, seen = random_image(1, 3, 160, 200), []

    def brighter(small: Tensor) -> Tensor:
        seen.append((small.shape[2:], small.mean().item()))
        return small + 0.1

    before = image.mean().item()
    result = coarse_to_fine(brighter, image)
    assert [shape for shape, _ in seen] == [(40, 50), (80, 100)]
    assert [mean - before for _, mean in seen] == pytest.approx([0.0, 0.1], abs=1e-3)
    assert result is image and image.mean().item() - before == pytest.approx(0.2, abs=2e-3)


def test_scales_can_be_given() -> None:
    seen: list[torch.Size] = []

    def run(small: Tensor) -> Tensor:
        seen.append(small.shape[2:])
        return small

    coarse_to_fine(run, random_image(1, 3, 48, 64), (4, 2))
    assert seen == [(12, 16), (24, 32)]


def test_what_is_sharp_is_left_alone() -> None:
    """Left half sharp, right half out of focus; what is flat may as well be blurred."""
    noise = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    # As much in every octave, as natural images have.
    sharp = sum(
        F.interpolate(noise[..., : 256 // k, : 256 // k], (256, 256), mode="bicubic")
        for k in (1, 2, 4, 8, 16)
    )
    assert isinstance(sharp, Tensor)
    sharp = (0.5 + 0.05 * sharp).clamp(0, 1)
    soft = F.avg_pool2d(sharp, 7, stride=1, padding=3, count_include_pad=False)
    share = blurred_share(torch.cat([sharp[..., :128], soft[..., 128:]], 3))
    assert share.shape == (1, 1, 256, 256)
    assert share[..., :96].mean() < 0.1 and share[..., 160:].mean() > 0.9
    assert share[..., :96].max() < 0.5 < share[..., 160:].min()
    assert blurred_share(torch.full((2, 3, 61, 50), 0.3)).shape == (2, 1, 61, 50)
    image = torch.cat([sharp[..., :128], soft[..., 128:]], 3)
    changed = where_blurred(lambda x: x + 0.1)(image) - image
    torch.testing.assert_close(changed, 0.1 * blurred_share(image).expand(-1, 3, -1, -1))


@pytest.mark.parametrize(
    ("ratio", "share"), [(0.2, 1.0), (0.32, 0.95), (0.5, 0.5), (0.68, 0.05), (0.72, 0.0)]
)
def test_the_share_falls_from_1_to_0_between_both_ratios(ratio: float, share: float) -> None:
    """Stripes of two bands: of one pixel, and of four pixels with `ratio` times the amplitude."""
    x = torch.arange(160)
    coarse_band = 0.15 * torch.sin(torch.pi * (x + 0.5) / 4)
    amplitude = coarse_band[:4].mean()  # what is left of it at a quarter of the size
    fine_band = ratio * amplitude * (1 - 2 * (x % 2).float())
    image = (0.5 + coarse_band + fine_band).expand(1, 3, 160, 160).contiguous()
    inside = blurred_share(image)[..., 40:-40, 40:-40]
    assert inside.mean().item() == pytest.approx(share, abs=0.04)
    assert (inside.max() == 0) == (share == 0)


def test_the_result_stays_in_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarse, "MIN_SIDE", 32)
    result = coarse_to_fine(lambda small: small + 3, random_image(1, 3, 64, 64))
    assert torch.equal(result, torch.ones(1, 3, 64, 64))


def test_a_network_that_changes_nothing_leaves_the_image_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coarse, "MIN_SIDE", 32)
    image = random_image(1, 3, 131, 140)
    assert torch.equal(coarse_to_fine(lambda small: small.clone(), image.clone()), image)
