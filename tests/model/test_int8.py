"""Convolutions of 8-bit integers: `precision="int8"`."""

from __future__ import annotations

import copy
import hashlib
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from devudp_model.checkpoint import bundled, load_checkpoint
from devudp_model.engine import int8, int8_product, network, precision
from devudp_model.engine.int8 import Convolution, RangeStatistics, convolution, precise
from devudp_model.engine.int8_product import round_together
from devudp_model.engine.kernels import quantize
from devudp_model.engine.layers import Layer, layers_of
from devudp_model.engine.measured import BUNDLED, measured_later
from devudp_model.engine.network import Network
from devudp_model.engine.precision import Difference, choose_dtype
from devudp_model.engine.statistics import GROUP_NUMBERS, Range
from devudp_model.images.reading import read_image
from devudp_model.network.generator import Generator
from devudp_model.restoring.frozen import FrozenRestorer
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from tests.model.engine_network import generator, needs_tiles, random_image
from tests.model.test_engine import in_strips

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")

needs_int8 = pytest.mark.skipif(not int8_product.has_int8(), reason="no 8-bit convolutions here")


@pytest.fixture(autouse=True)
def _of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small images are computed in 8 bits, too."""
    monkeypatch.setattr(int8, "LEAST_PIXELS", 0)


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def smooth_rows(channels: int) -> Tensor:
    """As features are: neighbouring pixels are alike."""
    x = torch.nn.functional.interpolate(torch.randn(1, channels, 4, 5), (8, 12), mode="bilinear")
    return (x + 0.2 * torch.randn_like(x)).contiguous(memory_format=torch.channels_last)


def terms(convolve: Convolution, strip: Tensor) -> Tensor:
    """A strip as a convolution in 8 bits is given it."""
    _, channels, height, width = strip.shape
    shape = (len(convolve.blank), height, width + 2, channels)
    out = torch.empty(shape, dtype=torch.uint8).permute(0, 3, 1, 2).copy_(convolve.blank)
    numbers = strip.clone()
    integers = numbers.view(torch.int32)
    quantize(out, [strip], numbers, integers, convolve.gain, convolve.zero, convolve.most)
    return out


@needs_int8
@pytest.mark.parametrize("index", [1, 5, 14, -2])  # same, down, up, same
def test_a_layer_in_8_bits_is_the_layer_up_to_rounding(index: int) -> None:
    torch.manual_seed(0)
    layer = list(layers_of(generator("devudp-dt"), torch.float32))[index]
    strip = smooth_rows(layer.inner) * torch.logspace(-2, 1, layer.inner)[:, None, None]
    exact = layer(strip)
    exact = exact.clamp(min=0) if layer.operation.relu else exact
    apart = []
    for count in (1, 2):
        convolve = Convolution(layer, Range(strip.amin((0, 2, 3)), strip.amax((0, 2, 3))), count)
        out = convolve(terms(convolve, strip))
        assert out.shape == exact.shape and out.dtype == torch.float32
        apart.append((out - exact).std() / exact.std())
    assert apart[1] < apart[0] < 0.02


@needs_int8
def test_two_terms_have_sixteen_bits() -> None:
    """With weights that are exact in 8 bits, nothing but the input is rounded."""
    layer = list(layers_of(generator("devudp-dt"), torch.float32))[-2]
    layer = copy.deepcopy(layer)
    layer.weight.copy_(torch.randint(-126, 127, layer.weight.shape))
    layer.weight[:, 0, 1, 1] = 127
    strip = rows(1, layer.inner, 8, 12)
    found = Range(strip.amin((0, 2, 3)), strip.amax((0, 2, 3)))
    for count, most in ((1, 1e-2), (2, 4e-5)):
        convolve = Convolution(layer, found, count)
        apart = convolve(terms(convolve, strip)) - layer(strip)
        assert most / 20 < apart.std() / layer(strip).std() < most


def test_kernels_are_rounded_so_that_smooth_places_stay() -> None:
    torch.manual_seed(0)
    weight = 20 * torch.randn(16, 16, 3, 3)
    apart = (round_together(weight) - weight).sum((2, 3))
    assert apart.std() < 0.4 * (weight.round() - weight).sum((2, 3)).std()
    assert (round_together(weight) - weight).abs().max() < 4
    whole = weight.round()
    assert torch.equal(round_together(whole), whole)


def test_zero_stays_zero_and_what_is_beyond_the_range_is_clipped() -> None:
    x = torch.tensor([0.0, 1.0, -1.0, 5.0]).view(1, 1, 1, 4)
    for terms, scale, wanted in ((1, 100.0, [100, 200, 0, 255]), (2, 300, [300, 600, 0, 1800])):
        out = torch.full((terms, 1, 1, 6), 7, dtype=torch.uint8)
        numbers, gain = torch.empty_like(x), torch.tensor([scale])
        quantize(out, [x], numbers, numbers.view(torch.int32), gain, gain, 256.0**terms - 1)
        assert out[..., 0].unique() == 7 and out[..., -1].unique() == 7  # the edges
        digits = out[:, 0, 0, 1:-1].int()
        assert (digits if terms == 1 else digits[0] * 256 + digits[1]).flatten().tolist() == wanted


def test_the_range_does_not_depend_on_the_order_and_keeps_nan() -> None:
    x, found = rows(1, 5, 12, 7), (RangeStatistics(5), RangeStatistics(5))
    for statistics, strips in zip(found, (x.split(5, 2), reversed(x.split(3, 2))), strict=True):
        for strip in strips:
            statistics.add(strip)
    for one, two in zip(found[0].range, found[1].range, strict=True):
        assert torch.equal(one, two)
    found[0].add(x * torch.nan)
    assert found[0].range.low.isnan().all()


def check_strips(net: Network[Generator], x: Tensor) -> None:
    """The same bits in any strips; and nearly those of fp32."""
    usual, group = torch.get_num_threads(), GROUP_NUMBERS  # smaller ones change fp32's kernels
    try:
        torch.set_num_threads(1)
        whole = in_strips(net, x, 2**40, None, group)
        for threads, strip, memory in ((1, 1, None), (3, 4000, None), (3, 9000, 1), (2, 1, 200000)):
            torch.set_num_threads(threads)
            assert torch.equal(in_strips(net, x, strip, memory, group), whole)
    finally:
        torch.set_num_threads(usual)
    exact = Network(net.generator, torch.float32)(x)
    assert 0 < (whole - exact).abs().max() < 0.02


@needs_int8
@pytest.mark.parametrize("shape", [(2, 3, 330, 100), (1, 3, 420, 84), (1, 3, 9, 48)])
def test_strips_threads_and_memory_change_no_bit(shape: tuple[int, ...]) -> None:
    net = Network(generator("devudp-dt"), torch.int8)
    assert net.in_int8
    check_strips(net, random_image(*shape))


@needs_int8
@needs_tiles
@pytest.mark.usefixtures("few_channels")
def test_where_errors_count_most_it_is_in_tiles_as_far_as_there_are_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(int8, "TILES_FROM", 16)
    net = Network(generator("devudp-dt"), torch.int8)
    inner = list(net.layers)[1:-1]
    made = {layer.index: convolution(layer, net.layers, wide(layer)) for layer in inner}
    in_fp32 = {layer.index for layer in inner if made[layer.index] is layer}
    large = {layer.index for layer in inner if layer.kind == "same" and layer.outer >= 16}
    assert in_fp32 == large & precise(net.layers) and len(in_fp32) > 1
    check_strips(net, random_image(1, 3, 330, 100))


def test_precise_layers_go_by_what_they_do() -> None:
    shipped = layers_of(generator("devudp-dt", 2), torch.float32)
    assert len(shipped) == 30 and precise(shipped) == {1, 2, 3, 5, 6, 20, 22}
    for depth in (1, 3):
        layers = list(layers_of(generator("devudp-dt", depth), torch.float32))
        kinds = [layer.kind for layer in layers]
        down, up = kinds.index("down"), kinds.index("up")
        first = range(up + 1, up + 1 + 2 * depth, 2)
        found = precise(layers_of(generator("devudp-dt", depth), torch.float32))
        assert found == {1, 2, 3, down, down + 1, *first}


def wide(layer: Layer) -> Range:
    return Range(-torch.ones(layer.inner), torch.ones(layer.inner))


@needs_int8
@pytest.mark.slow
def test_with_the_bundled_weights_nothing_can_be_seen() -> None:
    net = load_checkpoint(bundled("devudp-dt")).generator
    x = read_image(ROOT / "samples/blurry_cat.jpg").pixels[:, :, 40:232, 60:300]
    usual = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(restore(x, net, Options("deblur", precision="int8")))
    finally:
        torch.set_num_threads(usual)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    apart = (results[0] - restore(x, net, Options("deblur", precision="fp32"))).abs() * 255
    assert 0 < apart.max() < 2 and apart.flatten().quantile(0.999) < 1


@needs_int8
def test_pieces_have_the_ranges_of_the_whole_image() -> None:
    net, x = generator("devudp-dt"), random_image(1, 3, 400, 24)
    frozen = FrozenRestorer(net, x, Options("deblur", precision="int8"))
    assert frozen.network.in_int8 and frozen.network.local
    whole = restore(x, net, Options("deblur", precision="int8"))
    assert torch.equal(frozen(x), whole)
    top = frozen(x[:, :, :360], frozen.given[:, :, :360])
    least = 360 - frozen.overlap
    assert least > 0 and torch.equal(top[:, :, :least], whole[:, :, :least])


@needs_int8
def test_small_images_are_fp32_but_pieces_are_as_their_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rounding the weights takes longer than a small image."""
    net, small = generator("devudp-dt"), random_image(1, 3, 40, 24)
    exact = Network(net, torch.float32)
    monkeypatch.setattr(int8, "LEAST_PIXELS", 40 * 24 + 1)
    assert torch.equal(Network(net, torch.int8)(small), exact(small))
    two = random_image(2, 3, 40, 24)
    assert not torch.equal(Network(net, torch.int8)(two), exact(two))
    large = Network(net, torch.int8)
    large(random_image(1, 3, 48, 24), freeze=True)
    assert not torch.equal(large(small), exact(small))
    frozen = Network(net, torch.int8)
    frozen(small, freeze=True)
    assert torch.equal(frozen(random_image(1, 3, 48, 24)), exact(random_image(1, 3, 48, 24)))


def test_without_8_bits_it_is_fp32(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    x = random_image(1, 3, 40, 24)
    with monkeypatch.context() as patch:
        patch.setattr(network, "has_int8", lambda: False)
        net = Network(generator("devudp-dt"), torch.int8)
        assert torch.equal(net(x), Network(generator("devudp-dt"), torch.float32)(x))
    caplog.set_level(logging.INFO, "devudp")
    caplog.clear()
    uneven = generator("devudp")
    Network(uneven, torch.int8)
    net = Network(uneven, torch.int8)
    assert net.dtype == torch.float32 and not net.in_int8
    assert len([r for r in caplog.records if "fp32" in r.message]) == 1
    assert torch.equal(net(x), Network(generator("devudp"), torch.float32)(x))


def test_a_processor_that_adds_in_16_bits_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(self: int8_product.Part, x: Tensor) -> Tensor:
        return torch.full((1, 16, 2, 6), 32767.0 * 72)

    monkeypatch.setattr(int8_product.Part, "__call__", call)
    int8_product.has_int8.cache_clear()
    try:
        assert not int8_product.has_int8()
    finally:
        int8_product.has_int8.cache_clear()


def test_auto_takes_it_where_there_are_no_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    faint, visible = Difference(0.1, 0.9, 1.9), Difference(0.1, 0.9, 2.1)
    for half, eight, found, wanted in (
        (False, True, faint, torch.int8),
        (False, True, visible, torch.float32),
        (False, False, faint, torch.float32),
        (True, True, faint, torch.bfloat16),
    ):
        monkeypatch.setattr(precision, "has_bf16_instructions", lambda half=half: half)
        monkeypatch.setattr(precision, "has_int8_instructions", lambda eight=eight: eight)
        assert choose_dtype("auto", CPU, {"int8": found, "bf16": faint}) == wanted
    assert choose_dtype("auto", torch.device("cuda"), {"int8": faint}) == torch.float32


def test_auto_takes_it_for_the_bundled_deblurring_only(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = load_checkpoint(bundled("devudp-dt")).measured
    assert 0 < measured["int8"].mean < measured["int8"].common < measured["int8"].largest
    for half, eight, wanted in (
        (False, True, torch.int8),
        (True, True, torch.bfloat16),
        (True, False, torch.bfloat16),
        (False, False, torch.float32),
    ):
        monkeypatch.setattr(precision, "has_bf16_instructions", lambda half=half: half)
        monkeypatch.setattr(precision, "has_int8_instructions", lambda eight=eight: eight)
        assert choose_dtype("auto", CPU, measured) == wanted
        joint = load_checkpoint(bundled("devudp")).measured
        assert choose_dtype("auto", CPU, joint) == torch.float32


@needs_int8
def test_smaller_images_are_computed_in_fp32() -> None:
    net = Network(generator("devudp-dt"), torch.int8)
    for scale in (2, 4, 8):
        small = net.for_smaller_images(scale)
        assert small is not net and small.dtype == torch.float32 and not small.in_int8


def test_what_was_measured_later_counts_for_that_very_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, faint = bundled("devudp-dt"), Difference(0.1, 0.9, 1.9)
    content = bytearray(path.read_bytes())
    key = len(content), hashlib.sha256(content).hexdigest()
    monkeypatch.delitem(BUNDLED, key)
    assert "int8" not in load_checkpoint(path).measured
    monkeypatch.setitem(BUNDLED, key, {"int8": faint})
    found = load_checkpoint(path).measured
    assert found["int8"] == faint and found["bf16"].is_small
    content[-1] ^= 1  # of the same size
    other = tmp_path / "other.safetensors"
    other.write_bytes(content)
    assert measured_later(other) == {}
