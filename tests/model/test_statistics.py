"""Means and variances that are added up strip by strip, against the formulas for the whole."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from devudp_model.bands.workers import Stopped
from devudp_model.engine import statistics
from devudp_model.engine.statistics import (
    GROUP_NUMBERS,
    FeatureStatistics,
    Frozen,
    ImageStatistics,
    Moments,
    channel_moments,
    group_rows,
    in_order,
    join,
    sorted_values,
    strip_moments,
    to_float64,
)

CPU = torch.device("cpu")


def numbers(*shape: int, seed: int = 0, mean: float = 0.0) -> Tensor:
    """Each channel with its own mean and standard deviation."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    channel = torch.arange(1, shape[1] + 1).view(1, -1, *[1] * (len(shape) - 2))
    return (x * channel + channel + mean).float()


def check(found: Moments, x: Tensor, size: int, *, rtol: float = 1e-5) -> None:
    """Of each channel of B,C,H,W, or of everything if the mean is a scalar."""
    dims = None if found.mean.ndim == 0 else (0, 2, 3)
    exact = x.double()
    mean, var = exact.mean(dims), exact.var(dims, correction=0)
    assert found.size == size and found.mean.dtype == found.var.dtype == torch.float32
    torch.testing.assert_close(found.mean.flatten().double(), mean.flatten(), rtol=rtol, atol=1e-6)
    torch.testing.assert_close(found.var.flatten().double(), var.flatten(), rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("width", [1, 3, 1000, GROUP_NUMBERS, 3 * GROUP_NUMBERS])
def test_a_group_has_the_fewest_even_rows_with_enough_numbers(width: int) -> None:
    rows = group_rows(width)
    assert rows >= 2 and rows % 2 == 0 and rows * width >= GROUP_NUMBERS
    assert rows == 2 or (rows - 2) * width < GROUP_NUMBERS


def test_sums_are_in_float64_and_in_order() -> None:
    x = torch.tensor([[2.0**60, 1.0], [1.0, 2.0], [-(2.0**60), 3.0]], dtype=torch.float64)
    assert to_float64(x.float()).dtype == torch.float64
    assert in_order(x).tolist() == [0.0, 6.0]  # the 1 is lost in 2**60: first, not last
    assert in_order(x[[0, 2, 1]]).tolist() == [1.0, 6.0]
    assert sorted_values({2: "c", 0: "a", 1: "b"}) == ["a", "b", "c"]


def test_channel_moments_are_over_all_else() -> None:
    x = numbers(2, 3, 5, 7)
    found = channel_moments(x)
    assert found.mean.shape == found.var.shape == (1, 3, 1, 1)
    check(found, x, 2 * 5 * 7)


def test_parts_of_any_size_are_joined() -> None:
    x = numbers(1, 3, 12, 5, mean=300.0)
    parts = [channel_moments(x[:, :, a:b]) for a, b in ((0, 1), (1, 9), (9, 12))]
    check(join(parts), x, 12 * 5)
    assert join(parts[:1]) is parts[0]
    scalars = [Moments(4, torch.tensor(1.0), torch.tensor(2.0))] * 2
    scalars.append(Moments(8, torch.tensor(5.0), torch.tensor(0.0)))
    joined = join(scalars)  # mean 3; variance (8 * (2 + 4) + 8 * 4) / 16
    assert (joined.size, joined.mean.item(), joined.var.item()) == (16, 3.0, 5.0)


@pytest.mark.parametrize("stops", [(11,), (1, 11), (3, 4, 9, 11)])
@pytest.mark.parametrize("dark", [False, True])
def test_an_image_has_one_mean_and_variance(dark: bool, stops: tuple[int, ...]) -> None:
    """The same bits for any strips, in any order; a dark image is close to -1."""
    x = numbers(1, 3, 11, 6) * 1e-3 - 1 if dark else numbers(1, 3, 11, 6, mean=-2.0)
    found, whole = ImageStatistics(), ImageStatistics()
    whole.add(0, x)
    spans = list(zip((0, *stops[:-1]), stops, strict=True))
    for index in reversed(range(len(spans))):
        start, stop = spans[index]
        found.add(index, x[:, :, start:stop])
    assert found.moments(CPU).mean.shape == ()
    check(found.moments(CPU), x, 3 * 11 * 6, rtol=1e-7)
    for mine, theirs in zip(found.moments(CPU), whole.moments(CPU), strict=True):
        assert torch.equal(torch.as_tensor(mine), torch.as_tensor(theirs))


def test_a_variance_is_never_negative() -> None:
    flat = torch.full((1, 2, 7, 9), 0.1)
    image, features = ImageStatistics(), FeatureStatistics(2)
    image.add(0, flat)
    features.add(0, flat.contiguous(memory_format=torch.channels_last))
    for found in (image.moments(CPU), features.moments()):
        assert found.var.min() >= 0 and found.var.max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [2, 4])
def test_features_have_one_of_each_for_a_channel(dtype: torch.dtype, rows: int) -> None:
    """The strips begin at groups; the last group may have fewer rows."""
    x = numbers(1, 5, 11, 6).to(dtype).contiguous(memory_format=torch.channels_last)
    found = FeatureStatistics(rows)
    for index, (start, stop) in {0: (0, 4), 2: (8, 11), 1: (4, 8)}.items():
        found.add(index, x[:, :, start:stop])
    check(found.moments(), x.float(), 11 * 6)
    assert found.moments().mean.shape == (5,)
    assert not found.parts


def test_features_far_from_zero_keep_their_digits() -> None:
    x = (numbers(1, 3, 8, 9) * 1e-2 + 1000).contiguous(memory_format=torch.channels_last)
    found = FeatureStatistics(4)
    for index in (0, 1):
        found.add(index, x[:, :, 4 * index : 4 * index + 4])
    assert found.origin is not None and torch.equal(found.origin, x[0, :, 0, 0])
    check(found.moments(), x, 8 * 9)


def test_strips_wait_for_the_first_and_are_let_go() -> None:
    """It says from where on the numbers are counted."""
    x = numbers(1, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    found, ended = FeatureStatistics(2), []

    def later() -> None:
        try:
            found.add(1, x[:, :, 2:])
        except Stopped:
            ended.append("stopped")
        else:
            ended.append("added")

    thread = threading.Thread(target=later)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive() and not ended
    found.add(0, x[:, :, :2])
    thread.join(10)
    assert ended == ["added"]
    check(found.moments(), x, 4 * 5)
    found = FeatureStatistics(2)
    thread = threading.Thread(target=later)
    thread.start()
    found.stop()
    thread.join(10)
    assert ended == ["added", "stopped"]


def test_parts_of_an_accelerator_are_joined_in_the_order_of_the_image() -> None:
    x = numbers(1, 3, 10, 5)
    found = FeatureStatistics(2)
    found.parts = {k: strip_moments(x[:, :, 4 * k : 4 * k + 4]) for k in (2, 0, 1)}
    in_turn = join([found.parts[k] for k in range(3)])
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b))
               for a, b in zip(found.moments(), in_turn, strict=True))  # fmt: skip
    check(found.moments(), x, 10 * 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", [False, True])
def test_moments_of_a_strip(
    dtype: torch.dtype, kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With BatchNorm's kernel as on a GPU, which gives 1 / sqrt(variance + eps), and without."""
    x = numbers(1, 4, 6, 7).to(dtype)

    def stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        var, mean = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
        return mean.float(), ((var + eps).rsqrt() * (1 + 1e-6)).float()  # a kernel rounds

    if kernel:
        monkeypatch.setattr(statistics, "BATCH_NORM_STATS", {"cpu"})
        monkeypatch.setattr(torch, "batch_norm_stats", stats)
    check(strip_moments(x), x.float(), 6 * 7)
    flat = strip_moments(torch.full((1, 2, 4, 4), 3.0, dtype=dtype))
    assert (flat.mean == 3).all() and (flat.var >= 0).all() and (flat.var < 1e-10).all()


def test_kept_moments_move_with_their_module() -> None:
    own = Frozen()
    assert own.moments is None
    own.freeze(Moments(12, torch.tensor([1.0]), torch.tensor([2.0])))
    assert own.moments is not None
    assert (own.moments.size, own.moments.mean, own.moments.var) == (0, 1.0, 2.0)
    own.double()
    assert own.moments.mean.dtype == own.moments.var.dtype == torch.float64
    own.second = None
    assert own.moments is None
