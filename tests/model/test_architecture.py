"""Another network than the generator, in the engine: what it needs of one is a protocol."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from devudp_model.engine import statistics, strips
from devudp_model.engine.network import Network
from devudp_model.engine.output_cache import OutputCache
from devudp_model.engine.whole import WholeExecution
from devudp_model.network.generator import Generator
from devudp_model.network.instance_norm import InstanceNorm
from devudp_model.network.topology import Architecture, Operation, Operations, check_operations
from tests.model.engine_network import random_image


class Tiny(nn.Module):
    """Two convolutions, and InstanceNorm over the whole image between them.

    Smaller and simpler than the generator, and not padded to any multiple.
    """

    stride, min_side = 1, 3
    standardized = has_droplets = False
    operations: Operations = (Operation("first", "norm", "stem"), Operation("last", relu=False))

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(3, 5, 5, padding=2, padding_mode="reflect")
        self.norm = InstanceNorm()
        self.last = nn.Conv2d(5, 3, 3, padding=1)
        self.eval().requires_grad_(False)

    def activate(self, out: Tensor, x: Tensor) -> Tensor:
        return torch.sigmoid(out) * 2 - 1

    def forward(self, x: Tensor) -> Tensor:
        """B,3,H,W in [-1, 1] to the same: the whole image at once."""
        return self.activate(self.last(F.relu(self.norm(self.first(x)))), x)


class Deeper(Tiny):
    """The same with a residual block of other channels inside one at half the size."""

    stride, min_side = 2, 4
    operations: Operations = (
        Operation("first", "norm", "stem"),
        Operation("down", "norm", "down", keep=True),
        Operation("wider", keep=True),
        Operation("narrower", "norm", relu=False),
        Operation("same"),
        Operation("back", "norm", add=True),
        Operation("up", "norm", "up", add=True),
        Operation("last", relu=False),
    )

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(5, 6, 3, 2, padding=1, bias=False)
        self.wider, self.narrower = nn.Conv2d(6, 9, 1), nn.Conv2d(9, 4, 3, padding=1)
        self.same, self.back = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 6, 5, padding=2)
        self.up = nn.Conv2d(6, 5, 3, padding=1)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        fine = F.relu(self.norm(self.first(x)))
        half = F.relu(self.norm(self.down(fine)))
        inner = self.norm(self.narrower(F.relu(self.wider(half))))
        half = half + F.relu(self.norm(self.back(F.relu(self.same(inner)))))
        large = F.interpolate(half, scale_factor=2.0)
        fine = fine + F.relu(self.norm(self.up(large)))
        return self.activate(self.last(fine), x)


NETWORKS: list[type[Tiny]] = [Tiny, Deeper]


def whole(net: Tiny, x: Tensor) -> Tensor:
    """The network itself, from [0, 1] to [0, 1]."""
    return (net(x * 2 - 1) + 1) / 2


@pytest.fixture
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows each."""
    monkeypatch.setattr(strips, "CACHE_BYTES", 5000)
    monkeypatch.setattr(strips, "LIBRARIES_BYTES", 0)
    monkeypatch.setattr(statistics, "GROUP_NUMBERS", 1)


@pytest.mark.parametrize("memory", [None, 20_000, 1])
@pytest.mark.parametrize("make", NETWORKS)
def test_strips_in_bounded_memory_give_the_whole_networks_image(
    make: type[Tiny], memory: int | None, small_strips: None
) -> None:
    net, x = make(), random_image(2, 3, 46, 38)
    network = Network(net, torch.float32)
    # Each on its own: together they would share their statistics.
    out = torch.cat([network(image, memory=memory) for image in x.split(1)])
    torch.testing.assert_close(out, whole(net, x), atol=1e-5, rtol=0)
    execution = strips.StripExecution(network, x, memory, False)
    with torch.inference_mode():
        execution.run(torch.empty(2, 3, 46, 38))
    assert (execution.space.spilled > 0) == (memory is not None)
    spans = execution.spans(network.layers.stem, execution.image.size)
    assert len(spans) > 10


@pytest.mark.parametrize("make", NETWORKS)
def test_buffers_are_given_back(make: type[Tiny]) -> None:
    """All but those of the head's input: with what was added last, they are two."""
    network, x = Network(make(), torch.float32), random_image(1, 3, 46, 38)
    execution = strips.StripExecution(network, x, 10**9, False)
    left = execution.space.left
    with torch.inference_mode():
        execution.run(torch.empty_like(x))
    assert left - execution.space.left == 4 * 5 * 46 * 38 * {Tiny: 1, Deeper: 2}[make]


@pytest.mark.parametrize("make", NETWORKS)
def test_whole_features_give_the_same(make: type[Tiny]) -> None:
    net, x = make(), random_image(1, 3, 46, 38)
    out = torch.empty_like(x)
    with torch.inference_mode():
        WholeExecution(Network(net, torch.float32), x, False).run(out)
    torch.testing.assert_close(out, whole(net, x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", NETWORKS)
def test_a_piece_with_the_whole_images_statistics(make: type[Tiny]) -> None:
    """As far as the radius of its layers, and no further."""
    network, x = Network(make(), torch.float32), random_image(1, 3, 80, 80)
    image = network(x, freeze=True)
    assert network.layers.radius == {Tiny: 3, Deeper: 3 + 1 + 2 * 4 + 1 + 1}[make]
    around = -(-network.layers.radius // 2) * 2
    piece = network(x[:, :, 40 - around :, 40 - around :])[:, :, around:, around:]
    torch.testing.assert_close(piece, image[:, :, 40:, 40:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (5, 9)])
@pytest.mark.parametrize("make", NETWORKS)
def test_any_size(make: type[Tiny], size: tuple[int, int]) -> None:
    out = Network(make(), torch.bfloat16)(random_image(1, 3, *size))
    assert out.shape == (1, 3, *size) and out.isfinite().all()


def test_its_outputs_can_be_cached() -> None:
    net, x, cache = Tiny(), random_image(1, 3, 20, 20), OutputCache(10**6)
    first, again = (cache.network(net, torch.float32)(x) for _ in range(2))
    assert cache.hits == 1 and torch.equal(first, again)
    assert torch.equal(first, Network(net, torch.float32)(x))


def changed(net: Tiny, **modules: nn.Module) -> Architecture:
    for name, module in modules.items():
        setattr(net, name, module)
    return net


@pytest.mark.parametrize(
    "net",
    [
        changed(Tiny(), first=nn.Conv2d(3, 5, 5, padding=2)),  # with zeros
        changed(Tiny(), last=nn.Conv2d(5, 3, 3)),
        changed(Tiny(), last=nn.Conv2d(5, 3, 3, padding=2, dilation=2)),
        changed(Tiny(), norm=nn.GroupNorm(1, 5)),
        changed(Deeper(), up=nn.Conv2d(6, 5, 5, padding=2)),
        changed(Deeper(), down=nn.Conv2d(5, 6, 3, padding=1)),
    ],
)
def test_what_the_engine_cannot_run_is_refused(net: Architecture) -> None:
    with pytest.raises(TypeError, match="can"):
        Network(net, torch.float32)


STEM, HEAD = Operation("a", kind="stem"), Operation("b", relu=False)


@pytest.mark.parametrize(
    "operations",
    [
        (),
        (STEM,),
        (HEAD, STEM),
        (STEM, STEM, HEAD),
        (STEM._replace(keep=True), HEAD._replace(add=True)),
        (STEM, HEAD._replace(relu=True)),
        (STEM, HEAD._replace(norm="n")),
        (STEM, Operation("c", keep=True), HEAD),
        (STEM, Operation("c", add=True), HEAD),
    ],
)
def test_lists_that_cannot_be_run(operations: Operations) -> None:
    with pytest.raises(ValueError):
        check_operations(operations)


@pytest.mark.parametrize("depth", [1, 3])
def test_the_generators_own_list(depth: int) -> None:
    """Every convolution once, each with the norm beside it."""
    net = Generator("devudp-dt", 2, depth)
    check_operations(net.operations)
    convs = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]
    assert [operation.conv for operation in net.operations] == convs
    norms = [name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert [operation.norm for operation in net.operations if operation.norm] == norms
