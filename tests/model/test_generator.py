"""What section 3.3 demands of G, and what the design adds: sizes, invariance, reach."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from devudp_model.engine.network import Network
from devudp_model.network.generator import (
    MIN_SIDE,
    STRIDE,
    Generator,
    Variant,
    pad_to_stride,
    standardize,
)
from devudp_model.network.instance_norm import (
    NORM_EPS,
    InstanceNorm,
    InstanceNormFunction,
    InstanceNormOnCPU,
)


def random_image(*shape: int, seed: int = 0) -> Tensor:
    """Smooth random images in [-1, 1], B,3,H,W."""
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=rng) * 1.6 - 0.8


def small(variant: Variant) -> Generator:
    """As it is at the start of training."""
    return Generator(variant, width=8, depth=1)


def trained(variant: Variant, width: int = 8, depth: int = 1) -> Generator:
    """A small generator whose every part matters, in eval mode."""
    torch.manual_seed(1)
    generator = Generator(variant, width, depth)
    for module in generator.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            for vector in (module.weight, module.running_var):
                nn.init.uniform_(vector, 0.5, 1.5)  # pyright: ignore[reportArgumentType]
            for vector in (module.bias, module.running_mean):
                nn.init.uniform_(vector, -0.5, 0.5)  # pyright: ignore[reportArgumentType]
    return generator.eval()


@pytest.mark.parametrize(("variant", "count"), [("devudp", 6_949_251), ("devudp-dt", 6_957_699)])
def test_parameter_counts_are_the_papers(variant: Variant, count: int) -> None:
    with torch.device("meta"):
        generator = Generator(variant)
    assert sum(p.numel() for p in generator.parameters()) == count


def test_no_global_shortcut() -> None:
    """Condition 1: with an empty head nothing of the input comes through."""
    generator = trained("devudp")
    nn.init.zeros_(generator.head.weight)
    assert generator(random_image(1, 3, 16, 16)).abs().max() == 0


def test_dt_has_the_shortcut_and_starts_as_the_identity() -> None:
    x = random_image(2, 3, 18, 21) * 1.25  # up to the ends of the range
    assert torch.equal(small("devudp-dt")(x), x)


def test_dt_gets_a_gradient_back_from_beyond_the_range() -> None:
    net = Generator("devudp-dt", width=4, depth=1)
    nn.init.constant_(net.head.bias, 5.0)  # pyright: ignore[reportArgumentType]
    out = net(torch.rand(1, 3, 16, 16))
    assert out.min() == out.max() == 1
    (out + 1).sum().backward()
    assert net.head.bias is not None and net.head.bias.grad is not None
    assert (net.head.bias.grad == 256).all()


def test_the_only_normalisation_is_instance_norm() -> None:
    """Condition 2; the norm is InstanceNorm indeed: equal to PyTorch's, without parameters."""
    layers = {type(m) for m in small("devudp").modules() if not list(m.children())}
    assert layers == {nn.Conv2d, InstanceNorm}
    assert not list(InstanceNorm().parameters())
    x = torch.randn(2, 5, 7, 9) * 3 + 1
    torch.testing.assert_close(InstanceNorm()(x), nn.InstanceNorm2d(5, eps=1e-5)(x))


@pytest.mark.parametrize("variant", ["devudp", "devudp-dt"])
def test_output_lies_in_the_range(variant: Variant) -> None:
    """Condition 3, also where the head wants far beyond."""
    generator = trained(variant)
    with torch.no_grad():
        generator.head.weight.mul_(30)
        out = generator(random_image(1, 3, 32, 32))
    assert out.abs().max() <= 1
    assert out.abs().max() > 0.99


@pytest.mark.parametrize(
    ("gain", "offset"), [(0.2, -0.8), (0.05, -0.94), (3.0, 0.0), (1.0, 0.7), (0.5, 0.5)]
)
def test_gain_and_offset_of_the_input_are_forgotten(gain: float, offset: float) -> None:
    """G(a x + b) = G(x) for a > 0, at the borders too, where padding with zeros would tell."""
    generator, x = trained("devudp"), random_image(1, 3, 30, 25)
    with torch.no_grad():
        difference = (generator(gain * x + offset) - generator(x)).abs()
    assert difference.max() < 1e-4


def test_network_without_standardisation_forgets_them_too() -> None:
    """It is the structure that forgets; `standardize` only keeps the digits in half precision."""
    generator, x = trained("devudp"), random_image(1, 3, 32, 24)
    with torch.no_grad():
        a, b = generator.body(0.3 * x - 0.6), generator.body(x)
        stem = generator.stem.conv
        stem.padding_mode, stem.padding = "zeros", (3, 3)
        c, d = generator.body(0.3 * x - 0.6), generator.body(x)
    assert (a - b).abs().max() < 1e-3 * b.abs().max()
    assert (c - d).abs().max() > 1e-2 * d.abs().max()  # what a stem padded with zeros would do


def test_standardize() -> None:
    x = random_image(2, 3, 9, 5) * 0.01 - 0.9
    y = standardize(x)
    torch.testing.assert_close(y.mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(y.std(dim=(1, 2, 3), correction=0), torch.ones(2), atol=1e-3, rtol=0)
    flat = standardize(torch.full((1, 3, 4, 4), 0.3))
    assert flat.isfinite().all() and flat.abs().max() < 1e-2


def test_standardize_has_the_gradient_of_earlier_versions_in_16_bits() -> None:
    """Each use of the input rounds its part of the gradient: a resumed run depends on it."""
    x = (random_image(1, 3, 9, 5) * 0.01 - 0.9).bfloat16().requires_grad_()
    upstream = random_image(1, 3, 9, 5, seed=1).bfloat16()
    var, mean = torch.var_mean(x.float(), dim=(1, 2, 3), correction=0, keepdim=True)
    as_ever = ((x.float() - mean) * torch.rsqrt(var + 1e-8)).bfloat16()
    [mine] = torch.autograd.grad(standardize(x), x, upstream)
    [earlier] = torch.autograd.grad(as_ever, x, upstream)
    assert torch.equal(mine, earlier)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2), (5, 5), (17, 31), (33, 64)])
@pytest.mark.parametrize("variant", ["devudp", "devudp-dt"])
def test_any_size(variant: Variant, size: tuple[int, int]) -> None:
    with torch.no_grad():
        out = trained(variant)(random_image(2, 3, *size))
    assert out.shape == (2, 3, *size)
    assert out.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (8, 8), (12, 15), (100, 1)])
def test_padding(size: tuple[int, int]) -> None:
    x = random_image(1, 3, *size)
    padded = pad_to_stride(x)
    assert all(side % STRIDE == 0 and side >= MIN_SIDE for side in padded.shape[2:])
    assert torch.equal(padded[..., : size[0], : size[1]], x)
    if size == (12, 15):
        assert torch.equal(padded[..., 15], x[..., 13])  # reflected, not repeated


def spread(network: Network, x: Tensor, row: int, column: int) -> tuple[int, int]:
    """How far a NaN at a pixel of `x` spreads: to smaller and to larger coordinates."""
    x = x.clone()
    x[..., row, column] = torch.nan
    out = torch.zeros_like(x)
    with pytest.raises(FloatingPointError):
        network(x, out=out)
    reached = out[0, 0].isnan().nonzero()
    low, high = torch.tensor([row, column]) - reached.amin(0), reached.amax(0)
    return int(low.max()), int((high - torch.tensor([row, column])).max())


@pytest.mark.parametrize(("depth", "radius"), [(1, 43), (2, 71)])
def test_receptive_field(depth: int, radius: int) -> None:
    """With its statistics frozen, G is a local network: 71 pixels around each with depth 2."""
    network = Network(trained("devudp", width=2, depth=depth), torch.float32)
    network.has_droplets = False  # what heals them looks further
    x = random_image(1, 3, 168, 168) / 2 + 0.5
    network(x, freeze=True)
    spreads = [spread(network, x, 80 + phase, 84 - phase) for phase in range(STRIDE)]
    assert max(max(s) for s in spreads) == radius == network.layers.radius


def test_statistics_tie_every_pixel_to_the_whole_image() -> None:
    """Not frozen, one NaN reaches everything: why a tile on its own comes out differently."""
    x = random_image(1, 3, 64, 64)
    x[..., 3, 3] = torch.nan
    assert trained("devudp")(x).isnan().all()


@pytest.mark.parametrize("variant", ["devudp", "devudp-dt"])
def test_gradients_reach_every_parameter(variant: Variant) -> None:
    generator = trained(variant).train()
    x = random_image(2, 3, 32, 32).requires_grad_()
    generator(x).square().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert x.grad is not None and x.grad.abs().min() >= 0 and x.grad.abs().max() > 0


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_batchnorm_is_trained_as_a_part_of_the_convolution(frozen: bool) -> None:
    """Same output, same gradients: of the input, the kernels, BatchNorm's gains and biases."""
    generator = trained("devudp-dt").double().train(not frozen)
    x = random_image(2, 3, 20, 24).double().requires_grad_()
    norm = generator.encode2[0].get_submodule("norm1")
    calls = []
    norm.register_forward_hook(lambda *_: calls.append(1))

    def gradients(out: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(out.square().sum(), [x, *generator.parameters()]))

    out = generator(x)
    assert len(calls) == (0 if frozen else 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "devudp_model.network.generator.conv_norm", lambda conv, norm, x: norm(conv(x))
        )
        expected = generator(x)
    torch.testing.assert_close(out, expected)
    for mine, its in zip(gradients(out), gradients(expected), strict=True):
        torch.testing.assert_close(mine, its)


def test_images_of_a_batch_do_not_influence_each_other() -> None:
    generator, x = trained("devudp"), random_image(3, 3, 24, 20)
    with torch.no_grad():
        together, alone = generator(x), torch.cat([generator(image[None]) for image in x])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "arguments", [{"variant": "devudp-xl"}, {"width": 0}, {"depth": 0}, {"width": -3}]
)
def test_nonsense_is_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=r"unknown variant|at least 1"):
        Generator(**arguments)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("function", [InstanceNormFunction, InstanceNormOnCPU])
def test_gradient_of_instance_norm(function: Any, layout: torch.memory_format) -> None:
    """Both ways to the gradient agree with what autograd makes of the formula, in float64."""
    torch.manual_seed(0)
    x = (3 * torch.randn(3, 5, 14, 10) + 2).to(memory_format=layout)
    slope = torch.randn_like(x)
    exact = x.double().requires_grad_()
    var, mean = torch.var_mean(exact, dim=(2, 3), correction=0, keepdim=True)
    normal = (exact - mean) * torch.rsqrt(var + NORM_EPS)
    normal.backward(slope.double())
    mine = x.clone().requires_grad_()
    result = function.apply(mine)
    result.backward(slope)
    assert mine.grad is not None and exact.grad is not None
    torch.testing.assert_close(result.double(), normal, rtol=0, atol=5e-6)
    torch.testing.assert_close(mine.grad.double(), exact.grad, rtol=0, atol=5e-6)


def test_an_eager_network_on_a_cpu_takes_the_faster_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    for function in (InstanceNormFunction, InstanceNormOnCPU):
        apply = function.apply

        def spy(x: torch.Tensor, name: str = function.__name__, apply: Any = apply) -> Any:
            used.append(name)
            return apply(x)

        monkeypatch.setattr(function, "apply", spy)
    InstanceNorm()(torch.rand(1, 2, 8, 8, requires_grad=True))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    InstanceNorm()(torch.rand(1, 2, 8, 8, requires_grad=True))
    assert used == ["InstanceNormOnCPU", "InstanceNormFunction"]
