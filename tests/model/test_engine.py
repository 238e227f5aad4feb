"""Whole images in strips, in any memory: always the same image."""

import errno
import gc
import io
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from devudp_model.engine import buffers as buffers
from devudp_model.engine import statistics as statistics
from devudp_model.engine import strips as strips
from devudp_model.engine.buffers import (
    BlockBuffer,
    BufferPool,
    BufferShape,
    FileBuffer,
    MemoryBuffer,
    RowBuffer,
    empty_strip,
)
from devudp_model.engine.image_rows import FileImage
from devudp_model.engine.kernels import EAGER, kernels_for, normalize_into, signed
from devudp_model.engine.layers import forget_layers
from devudp_model.engine.network import Network
from devudp_model.engine.statistics import (
    FeatureStatistics,
    ImageStatistics,
    Moments,
    channel_moments,
    join,
)
from devudp_model.generator import NORM_EPS, Generator, InstanceNorm, Variant, fold_batchnorm

CPU = torch.device("cpu")
VARIANTS: list[Variant] = ["devudp", "devudp-dt"]


def random_image(*shape: int, seed: int = 0) -> Tensor:
    """Random images in [0, 1] with coarse and fine structure, so that all scales matter."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], 3, 4, generator=rng)
    coarse = nn.functional.interpolate(coarse, shape[2:], mode="bilinear")
    return (0.7 * coarse + 0.3 * torch.rand(shape, generator=rng)) * 0.9


def generator(variant: Variant, depth: int = 1) -> Generator:
    """Small, with weights of a size that keeps the numbers where a trained network has them."""
    torch.manual_seed(2)
    net = Generator(variant, width=8, depth=depth).eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            nn.init.normal_(module.weight, std=(1 if variant == "devudp" else 0.5) * fan**-0.5)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)  # pyright: ignore[reportArgumentType]
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # pyright: ignore[reportArgumentType]
    return net


def reference(net: Generator, x: Tensor) -> Tensor:
    """The generator itself, from [0, 1] to [0, 1]."""
    with torch.no_grad():
        return (net(x * 2 - 1) + 1) / 2


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


def test_kept_statistics_make_a_local_network() -> None:
    """A tile with enough around it comes out as in the whole image, and only then."""
    net, x = Network(generator("devudp"), torch.float32), random_image(1, 3, 140, 136)
    whole = net(x, keep=True)
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


def test_what_overflows_with_kept_statistics_is_told() -> None:
    """They were measured in 16 bits; who keeps them has to measure them again."""
    net, x = generator("devudp"), random_image(1, 3, 16, 16)
    network = Network(net, torch.float16)
    network(x, keep=True)
    network.layers.stem.weight.fill_(6e4)
    with pytest.raises(FloatingPointError, match="float16"):
        network(x)
    assert network.dtype == torch.float16


def test_layers_are_made_once_for_a_generator() -> None:
    net = generator("devudp")
    net.requires_grad_(False)
    x = random_image(1, 3, 16, 16)
    network = Network(net, torch.float32)
    assert Network(net, torch.float32).layers is network.layers
    assert Network(net, torch.bfloat16).layers is not network.layers
    before = network(x)
    network(x, keep=True)
    assert torch.equal(Network(net, torch.float32)(x / 2), Network(net, torch.float32)(x / 2))
    assert not Network(net, torch.float32).local, "statistics are not kept with the layers"
    net.get_parameter("encode1.0.conv1.weight").mul_(2)
    changed = Network(net, torch.float32)
    assert changed.layers is not network.layers and not torch.equal(changed(x), before)
    net.head = torch.nn.Conv2d(net.head.in_channels, 3, 7, padding=3).requires_grad_(False)
    assert Network(net, torch.float32).layers is not changed.layers
    net.requires_grad_(True)
    assert Network(net, torch.float32).layers is not Network(net, torch.float32).layers


def test_layers_go_with_their_generator() -> None:
    net = generator("devudp").requires_grad_(False)
    layers = weakref.ref(Network(net, torch.float32).layers)
    gc.collect()
    assert layers() is not None
    forget_layers(net)
    gc.collect()
    assert layers() is None
    layers = weakref.ref(Network(net, torch.float32).layers)
    del net
    gc.collect()
    assert layers() is None


def test_few_buffers_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most three full-size feature maps: 384 bytes a pixel with width 64 in 16 bits."""
    sizes: list[float] = []

    class Counting(BufferPool):
        def allocate(self, shape: BufferShape) -> RowBuffer:
            if not hasattr(self, "start"):
                self.start = self.left = 1e12
            buffer = super().allocate(shape)
            sizes.append(self.start - self.left)
            return buffer

    monkeypatch.setattr(strips, "BufferPool", Counting)
    Network(generator("devudp", 2), torch.bfloat16)(random_image(1, 3, 64, 64))
    assert max(sizes) / 64**2 == 3 * 8 * 2


@pytest.mark.parametrize("kind", ["memory", "block", "file"])
def test_buffers_are_queues_of_rows(kind: str) -> None:
    """Frames 2, height 6: rows come back in order whatever the strips, also while written anew."""
    shape = BufferShape(2, 3, 6, 5)
    buffer = {
        "memory": lambda: MemoryBuffer(shape, CPU, CPU),
        "block": lambda: BlockBuffer(shape, torch.bfloat16, CPU),
        "file": lambda: FileBuffer(shape, torch.bfloat16),
    }[kind]()
    rows = torch.arange(12.0).view(1, 1, 12, 1).expand(1, 3, 12, 5).bfloat16()
    rows = rows.contiguous(memory_format=torch.channels_last)

    def read(count: int) -> list[float]:
        place = empty_strip(shape, count, torch.bfloat16, CPU)
        return torch.cat(buffer.read(place), 2)[0, 0, :, 0].tolist()

    def write(strip: Tensor) -> None:
        buffer.append(buffer.own(strip))

    for start, stop in ((0, 4), (4, 6), (6, 7), (7, 12)):
        write(rows[:, :, start:stop].clone())
    assert read(3) == [0, 1, 2]
    write(rows[:, :, :2] + 100)
    assert read(3) == [3, 4, 5]
    assert read(6) == [6, 7, 8, 9, 10, 11]
    write(rows[:, :, 2:12] + 100)
    assert read(6) == [100, 101, 102, 103, 104, 105]
    buffer.close()


def test_workspace_spills_what_does_not_fit() -> None:
    space, shape = (
        BufferPool(torch.float32, CPU, 1000),
        BufferShape(1, 2, 5, 10),
    )  # 400 bytes a buffer
    first, second, third = (space.allocate(shape) for _ in range(3))
    # Each takes much of the limit.
    assert [type(p) for p in (first, second, third)] == [BlockBuffer, BlockBuffer, FileBuffer]
    assert space.spilled == 400
    space.free(third)
    space.free(first)
    assert isinstance(space.allocate(shape), BlockBuffer)
    assert isinstance(BufferPool(torch.float32, CPU, 40_000).allocate(shape), MemoryBuffer)


def test_a_bound_that_cannot_be_kept_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    net, x = Network(generator("devudp"), torch.float32), random_image(1, 3, 40, 40)
    outs = [net(x, memory=memory) for memory in (None, 10_000_000, 10_000_000)]
    assert all(torch.equal(out, outs[0]) for out in outs)
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1 and "limit is too low: it leaves 10 MB" in warnings[0]
    caplog.clear()
    Network(generator("devudp"), torch.float32)(x, memory=200_000_000)
    assert not caplog.records


def test_a_full_disk_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(buffers.tempfile, "TemporaryFile", lambda **options: Full())
    with pytest.raises(OSError, match="TMPDIR") as caught:
        Network(generator("devudp"), torch.float32)(random_image(1, 3, 16, 16), memory=1)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="TMPDIR"):
        FileImage(torch.Size((1, 3, 4, 5))).write(0, 0, torch.rand(1, 3, 4, 5))


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_feature_moments_and_normalisation_are_float32(dtype: torch.dtype) -> None:
    x = (torch.randn(1, 6, 33, 17) + 2).to(dtype).contiguous(memory_format=torch.channels_last)
    gathered = FeatureStatistics(33)
    gathered.add(0, x)
    found = gathered.moments()
    assert found.mean.dtype == found.var.dtype == torch.float32
    var, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(found.mean, mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.var, var, rtol=1e-4, atol=1e-5)
    out = torch.empty_like(x)
    normalize_into(out, x, found.mean, found.var, NORM_EPS)
    expected = (
        (x.float() - mean.view(1, -1, 1, 1)) * (var + NORM_EPS).rsqrt().view(1, -1, 1, 1)
    ).to(dtype)
    torch.testing.assert_close(
        out, expected, rtol=1e-2 if dtype != torch.float32 else 1e-4, atol=1e-4
    )


def test_relu_of_bfloat16_as_integers() -> None:
    x = torch.tensor([-3.0, -0.0, 0.0, 1e-30, -1e-30, 2.5, -torch.inf, torch.inf]).bfloat16()
    expected = x.relu()
    signed(x).clamp_(min=0)
    assert torch.equal(x, expected)


def test_folded_or_not_is_the_same() -> None:
    net, x = generator("devudp-dt"), random_image(1, 3, 20, 20)
    a, b = (Network(n, torch.float32)(x) for n in (net, fold_batchnorm(net)))
    assert torch.equal(a, b)


def test_kernels_are_scripted_and_give_what_they_do_in_python() -> None:
    fast = kernels_for(CPU)
    assert all(isinstance(function, torch.jit.ScriptFunction) for function in fast)
    even, odd = torch.randn(2, 6, 4, 9).contiguous(memory_format=torch.channels_last).split(1)
    assert torch.equal(fast.interleave(even, odd), EAGER.interleave(even, odd))
    pixels, buffer = torch.randn(11, 5, 3), torch.empty(4, 5, 3)
    for origin in (None, torch.ones(3)):
        sums = fast.group_sums(pixels, origin, 4, buffer)
        for mine, theirs in zip(sums, EAGER.group_sums(pixels, origin, 4, buffer), strict=True):
            assert torch.equal(mine, theirs)
