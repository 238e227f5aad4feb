"""Whole images in strips, in any memory: always the same image."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from devudp_model.engine import statistics as statistics
from devudp_model.engine import strips as strips
from devudp_model.engine.droplets import excess, heal
from devudp_model.engine.network import Network
from devudp_model.engine.statistics import (
    FeatureStatistics,
    ImageStatistics,
    Moments,
    channel_moments,
    join,
)
from devudp_model.network.generator import Generator, InstanceNorm, Variant
from tests.model.engine_network import generator, random_image

CPU = torch.device("cpu")
VARIANTS: list[Variant] = ["devudp", "devudp-dt"]


def reference(net: Generator, x: Tensor) -> Tensor:
    """The generator itself, from [0, 1] to [0, 1]; its droplets healed, where it may have them.

    Random weights give some images a few pixels at the border that count as one.
    """
    heads: list[Tensor] = []

    def keep(_module: object, _inputs: object, out: Tensor) -> None:
        heads.append(out)

    handle = net.head.register_forward_hook(keep)
    with torch.no_grad():
        out = (net(x * 2 - 1) + 1) / 2
    handle.remove()
    if not net.has_droplets:
        return out
    return heal(out, x, excess(heads[0][..., : x.shape[2], : x.shape[3]]))


def in_strips(
    net: Network, x: Tensor, strip_bytes: int, memory: int | None, group: int = 1
) -> Tensor:
    """With strips of another size than usual, and groups of as few rows as there can be."""
    usual = strips.CACHE_BYTES, strips.LIBRARIES_BYTES, statistics.GROUP_NUMBERS
    strips.CACHE_BYTES, strips.LIBRARIES_BYTES = strip_bytes, 0
    statistics.GROUP_NUMBERS = group
    try:
        return net(x, memory=memory)
    finally:
        strips.CACHE_BYTES, strips.LIBRARIES_BYTES, statistics.GROUP_NUMBERS = usual


sizes = st.integers(1, 70)
strip_bytes = st.integers(1, 300_000)
memories = st.sampled_from([None, 1, 50_000, 200_000, 10_000_000])


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@example(53, 28, 1, None, "devudp", 2)  # a droplet that the border cuts
@given(sizes, sizes, strip_bytes, memories, st.sampled_from(VARIANTS), st.integers(1, 2))
def test_any_size_strip_and_memory_gives_the_generators_image(
    height: int, width: int, strip: int, memory: int | None, variant: Variant, depth: int
) -> None:
    net, x = generator(variant, depth), random_image(1, 3, height, width)
    if height * width == 1:  # no contrast: rounding decides (`restore` does not ask for it)
        return
    out = in_strips(Network(net, torch.float32), x, strip, memory)
    assert (out - reference(net, x)).abs().max() < 1e-4


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.integers(130, 500),
    st.integers(80, 160),
    st.sampled_from([1, 300_000]),
    st.sampled_from(VARIANTS),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    st.integers(1, 4),
)
def test_strips_and_threads_change_no_bit(
    height: int, width: int, strip: int, variant: Variant, dtype: torch.dtype, threads: int
) -> None:
    """In every type the whole image's result is that of its strips, so there is no seam either.

    The widths make strips of 104 to 206 rows at the finest scale, which is the fewest there are.
    """
    net, x = Network(generator(variant), dtype), random_image(1, 3, height, width)
    group = statistics.GROUP_NUMBERS
    whole = in_strips(net, x, 2**40, None, group)
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(in_strips(net, x, strip, None, group), whole)
    finally:
        torch.set_num_threads(usual)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_are_the_same_bits_for_any_strips(dtype: torch.dtype) -> None:
    x = (torch.randn(1, 6, 31, 17) + 2).to(dtype).contiguous(memory_format=torch.channels_last)

    def gather(*stops: int) -> Moments:
        found = FeatureStatistics(4)
        spans = list(zip((0, *stops), (*stops, 31), strict=True))
        for index in (0, *reversed(range(1, len(spans)))):  # in any order, once the first is there
            start, stop = spans[index]
            found.add(index, x[:, :, start:stop])
        return found.moments()

    whole, strips = gather(), gather(4, 16, 20)
    assert whole.size == strips.size == 31 * 17
    assert torch.equal(whole.mean, strips.mean) and torch.equal(whole.var, strips.var)


def test_statistics_far_from_zero_keep_their_digits() -> None:
    x = torch.randn(1, 4, 40, 50, dtype=torch.float64)
    found = FeatureStatistics(8)
    found.add(0, (x + 1000).float().contiguous(memory_format=torch.channels_last))
    var = (x + 1000).float().double().var((0, 2, 3), correction=0)
    torch.testing.assert_close(found.moments().var.double(), var, rtol=1e-5, atol=0)
    dark = ImageStatistics()
    dark.add(0, (x * 1e-3 - 1).float())
    var = (x * 1e-3 - 1).float().double().var(correction=0)
    torch.testing.assert_close(dark.moments(CPU).var.double(), var, rtol=1e-6, atol=0)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 20))
def test_strips_begin_at_groups_and_none_is_smaller(height: int, times: int, group: int) -> None:
    found = strips.cut(height, times * group, group)
    rows = [row for start, stop in found for row in range(start, stop)]
    assert rows == list(range(height))
    assert all(start % group == 0 for start, _ in found)
    assert all(stop - start >= min(group, height) for start, stop in found)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    sizes, sizes, st.integers(1, 3000), memories, st.sampled_from([torch.bfloat16, torch.float16])
)
def test_half_precision_beyond_the_memory_is_the_same_to_the_bit(
    height: int, width: int, strip: int, memory: int | None, dtype: torch.dtype
) -> None:
    """Where the buffers lie changes nothing."""
    net, x = Network(generator("devudp"), dtype), random_image(1, 3, height, width)
    assert torch.equal(in_strips(net, x, strip, memory), in_strips(net, x, strip, None))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_half_precision_agrees_with_float32(variant: Variant, dtype: torch.dtype) -> None:
    net, x = generator(variant), random_image(1, 3, 48, 56)
    error = (Network(net, dtype)(x) - reference(net, x)).abs()
    assert error.mean() < (1.5 if dtype == torch.bfloat16 else 0.2) / 255


def test_a_dark_image_keeps_its_digits_in_half_precision() -> None:
    """Five grey levels in 16 bits, standardized in float32 first: as good as a bright image."""
    net, bright = generator("devudp"), random_image(1, 3, 48, 56)
    dark = bright * 0.02
    error = (Network(net, torch.bfloat16)(dark) - reference(net, dark)).abs().mean()
    assert (
        error < 1.5 * (Network(net, torch.bfloat16)(bright) - reference(net, bright)).abs().mean()
    )


@pytest.mark.parametrize("memory", [None, 1])
def test_shared_statistics_are_those_of_all_frames(memory: int | None) -> None:
    """The same as InstanceNorm over the frames laid side by side, were it not for the borders."""
    net, frames = generator("devudp"), random_image(3, 3, 20, 24)

    class Shared(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.batch_norm(x, None, None, training=True)

    def share(module: nn.Module) -> None:
        for name, child in module.named_children():
            share(child)
            if isinstance(child, InstanceNorm):
                setattr(module, name, Shared())

    expected = generator("devudp")
    share(expected)
    x = frames * 2 - 1
    x = (x - x.mean()) / x.std(correction=0)
    with torch.no_grad():
        y = (torch.tanh(expected.body(x)) + 1) / 2
    out = Network(net, torch.float32)(frames, memory=memory)
    assert (out - y).abs().max() < 1e-4
    assert (Network(net, torch.float32)(frames[:1]) - y[:1]).abs().max() > 1e-3


def test_frozen_statistics_make_a_local_network() -> None:
    """A tile with enough around it comes out as in the whole image, and only then."""
    net, x = Network(generator("devudp"), torch.float32), random_image(1, 3, 140, 136)
    whole = net(x, freeze=True)
    tile = net(x[:, :, 40:, 44:])  # 44: the receptive field of depth 1, up to a multiple of 4
    assert (tile[:, :, 44:, 44:] - whole[:, :, 84:, 88:]).abs().max() < 1e-5
    assert (tile[:, :, :4, :4] - whole[:, :, 40:44, 44:48]).abs().max() > 1e-3


def test_colour_channels_types_and_values_beyond_the_range() -> None:
    net, x = Network(generator("devudp"), torch.float32), random_image(1, 3, 24, 20)
    grey = x[:, :1]
    assert torch.equal(net(grey), net(grey.expand(-1, 3, -1, -1)))
    assert torch.equal(net(torch.cat([x, x[:, :1]], 1)), net(x))
    assert (net(x.double()) - net(x)).abs().max() < 1e-5
    beyond = x.clone()
    beyond[..., 0, 0], beyond[..., 1, 1] = 3.0, -2.0
    assert torch.equal(net(beyond), net(beyond.clamp(0, 1)))


def test_what_overflows_in_16_bits_is_done_in_fp32(caplog: pytest.LogCaptureFixture) -> None:
    net, x = generator("devudp"), random_image(1, 3, 16, 16)
    net.get_parameter("encode1.0.conv1.weight").mul_(1e6)
    exact = Network(net, torch.float32)
    network = Network(net, torch.float16)
    for _ in range(2):
        assert torch.equal(network(x), exact(x))
    assert network.dtype == torch.float32
    assert len(caplog.records) == 1 and "float16" in caplog.text


def test_statistics_that_overflow_are_measured_again_before_they_are_frozen() -> None:
    net, x = generator("devudp"), random_image(1, 3, 16, 16)
    net.get_parameter("encode1.0.conv1.weight").mul_(1e6)
    network, exact = Network(net, torch.float16), Network(net, torch.float32)
    assert torch.equal(network(x, freeze=True), exact(x, freeze=True))
    assert network.local and network.dtype == torch.float32
    assert torch.equal(network(x / 2), exact(x / 2))


def test_what_overflows_with_frozen_statistics_is_told() -> None:
    """They were measured in 16 bits; who froze them has to measure them again."""
    net, x = generator("devudp"), random_image(1, 3, 16, 16)
    network = Network(net, torch.float16)
    network(x, freeze=True)
    network.layers.stem.weight.fill_(6e4)
    with pytest.raises(FloatingPointError, match="float16"):
        network(x)
    assert network.dtype == torch.float16


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 1000))
def test_moments_of_pieces_join_to_those_of_the_whole(heights: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    pieces = [torch.randn(1, 4, height, 3) * height + seed for height in heights]
    joined, whole = join([channel_moments(p) for p in pieces]), torch.cat(pieces, 2)
    assert joined.size == whole[0, 0].numel()
    torch.testing.assert_close(joined.mean, whole.mean((0, 2, 3), keepdim=True))
    var = whole.double().var((0, 2, 3), correction=0, keepdim=True).float()
    torch.testing.assert_close(joined.var, var, rtol=1e-3, atol=1e-3)
