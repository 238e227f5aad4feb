"""Convolutions in tiles: those of the layers up to rounding, and the same for any strips."""

import copy
import pickle
from io import BytesIO

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from devudp_model.engine import layers, winograd
from devudp_model.engine.network import Network
from devudp_model.engine.statistics import GROUP_NUMBERS
from devudp_model.engine.winograd import Tiles
from devudp_model.network.generator import Variant
from tests.model.engine_network import generator, needs_tiles, random_image
from tests.model.test_engine import VARIANTS, in_strips


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes the outputs of each convolution in tiles."""
    seen: list[int] = []
    convolve = Tiles.__call__

    def call(self: Tiles, strip: Tensor) -> Tensor:
        seen.append(self.outer)
        return convolve(self, strip)

    monkeypatch.setattr(Tiles, "__call__", call)
    return seen


@needs_tiles
@pytest.mark.parametrize("rows", [1, 3, 4, 9])
@pytest.mark.parametrize("width", [1, 4, 10, 87])
@pytest.mark.parametrize("channels", [(16, 24), (128, 128)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_tiles_are_the_convolution(
    rows: int, width: int, channels: tuple[int, int], with_bias: bool
) -> None:
    inner, outer = channels
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(outer, inner, 3, 3, generator=rng) / (9 * inner) ** 0.5
    bias = torch.randn(outer, generator=rng) if with_bias else None
    strip = torch.randn(1, inner, rows + 2, width, generator=rng)
    strip = strip.contiguous(memory_format=torch.channels_last)
    found = Tiles(weight, bias)(strip)
    exact = F.conv2d(
        strip.double(), weight.double(), None if bias is None else bias.double(), padding=(0, 1)
    )
    assert found.shape == exact.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - exact).abs().max() < 1e-4


@needs_tiles
@pytest.mark.usefixtures("few_channels")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(330, 100), (421, 87), (9, 48)])
def test_strips_threads_and_memory_change_no_bit(
    monkeypatch: pytest.MonkeyPatch, variant: Variant, size: tuple[int, int]
) -> None:
    seen = counted(monkeypatch)
    net, x = Network(generator(variant), torch.float32), random_image(2, 3, *size)
    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = in_strips(net, x, 2**40, None, GROUP_NUMBERS)
        assert {8, 16, 32} == set(seen)
        for threads, strip, memory in ((1, 1, None), (3, 4000, None), (3, 9000, 1), (2, 1, 200000)):
            torch.set_num_threads(threads)
            assert torch.equal(in_strips(net, x, strip, memory, GROUP_NUMBERS), whole)
        # Groups of as few rows as there can be are still whole tiles.
        few = in_strips(net, x, 1, None, 1)
    finally:
        torch.set_num_threads(usual)
    assert (few - whole).abs().max() < 1e-4
    monkeypatch.setattr(layers, "pays_in_tiles", lambda weight: False)
    direct = Network(generator(variant), torch.float32)(x)
    assert 0 < (whole - direct).abs().max() < 1e-4


@needs_tiles
@pytest.mark.usefixtures("few_channels")
def test_packed_weights_count_and_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[Tensor] = []
    pack = Tiles.pack

    def note(self: Tiles) -> Tensor:
        packed.append(self.weight)
        return pack(self)

    monkeypatch.setattr(Tiles, "pack", note)
    net, x = generator("devudp"), random_image(1, 3, 40, 24)
    first = Network(net, torch.float32)
    own = sum(layer.weight.nbytes for layer in first.layers if layer.tiles is not None)
    assert own > 0 and first.layers.packed_bytes == 4 * own
    assert first.nbytes == 4 * own + sum(buffer.nbytes for buffer in first.buffers())
    assert not packed  # not before they are needed
    before = first(x)
    count = len(packed)
    assert count == 12  # all 3x3 convolutions without stride: two in each of six blocks
    Network(net, torch.float32)(x)
    assert len(packed) == count
    next(iter(net.encode1.parameters())).mul_(2)
    assert not torch.equal(Network(net, torch.float32)(x), before)
    assert len(packed) == 2 * count


@needs_tiles
@pytest.mark.usefixtures("few_channels")
def test_a_network_that_has_run_can_be_copied_and_stored() -> None:
    net, x = Network(generator("devudp"), torch.float32), random_image(1, 3, 40, 24)
    found = net(x)
    assert torch.equal(copy.deepcopy(net)(x), found)
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), found)
    file = BytesIO()
    torch.save(net, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), found)


@needs_tiles
@pytest.mark.usefixtures("few_channels")
def test_weights_that_change_in_place_are_packed_again() -> None:
    found = layers.Layers(generator("devudp"), torch.float32)
    layer = next(layer for layer in found if layer.tiles is not None)
    strip = torch.randn(1, layer.inner, 6, 9).contiguous(memory_format=torch.channels_last)
    before = layer(strip)
    layer.load_state_dict({name: 2 * x for name, x in layer.state_dict().items()})
    torch.testing.assert_close(layer(strip), 2 * before)


@needs_tiles
@pytest.mark.usefixtures("few_channels")
def test_weights_made_in_inference_mode_can_be_packed() -> None:
    with torch.inference_mode():
        net = Network(generator("devudp"), torch.float32)
    x = random_image(1, 3, 40, 24)
    assert torch.equal(net(x), Network(generator("devudp"), torch.float32)(x))


@needs_tiles
@pytest.mark.usefixtures("few_channels")
def test_tiles_go_where_the_weights_go() -> None:
    net, x = Network(generator("devudp"), torch.float32), random_image(1, 3, 40, 24)
    found, size = net(x), net.nbytes
    net.layers.to(torch.float64)
    assert net.layers.packed_bytes == 0
    assert {layer.unit for layer in net.layers} == {1}
    net.layers.to(torch.float32)
    assert net.nbytes == size
    assert torch.equal(net(x), found)


def test_where_it_cannot_be_had_it_is_the_plain_convolution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = random_image(1, 3, 40, 24)
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 8)
    monkeypatch.setattr(winograd, "LEAST_CHANNELS_AVX512", 8)
    monkeypatch.setattr(winograd, "has_tiles", lambda: False)
    net = Network(generator("devudp-dt"), torch.float32)
    assert all(layer.tiles is None for layer in net.layers)
    assert net.layers.packed_bytes == 0
    assert net(x).isfinite().all()


@pytest.mark.parametrize("fault", ["wrong", "missing"])
def test_what_convolves_otherwise_is_found_out(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def call(self: Tiles, strip: Tensor) -> Tensor:
        if fault == "missing":
            raise AttributeError("no such operation")
        return torch.ones(1, 16, 4, 8)

    monkeypatch.setattr(Tiles, "__call__", call)
    winograd.has_tiles.cache_clear()
    try:
        assert not winograd.has_tiles()
    finally:
        winograd.has_tiles.cache_clear()


@pytest.mark.parametrize("capability", ["DEFAULT", "NO AVX"])
def test_an_old_processor_does_without(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    winograd.has_tiles.cache_clear()
    try:
        assert not winograd.pays_in_tiles(torch.zeros(256, 256, 3, 3))
    finally:
        winograd.has_tiles.cache_clear()


def test_few_channels_and_other_types_are_left_alone() -> None:
    assert not winograd.pays_in_tiles(torch.zeros(32, 32, 3, 3))
    assert not winograd.pays_in_tiles(torch.zeros(256, 256, 3, 3, dtype=torch.bfloat16))
    assert not winograd.pays_in_tiles(torch.zeros(256, 256, 7, 7))
