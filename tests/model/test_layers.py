"""The engine's layers, kept as long as their generator, and the kernels that they run."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F

from devudp_model.engine.kernels import EAGER, kernels_for, normalize_into, signed
from devudp_model.engine.layers import forget_layers, layers_of
from devudp_model.engine.network import Network
from devudp_model.engine.statistics import FeatureStatistics
from devudp_model.network.batch_norm import fold_batchnorm
from devudp_model.network.generator import NORM_EPS
from tests.model.engine_network import generator, random_image

CPU = torch.device("cpu")


def test_layers_are_made_once_for_a_generator() -> None:
    net = generator("devudp")
    net.requires_grad_(False)
    x = random_image(1, 3, 16, 16)
    network = Network(net, torch.float32)
    assert Network(net, torch.float32).layers is network.layers
    assert Network(net, torch.bfloat16).layers is not network.layers
    before = network(x)
    network(x, freeze=True)
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


@pytest.mark.parametrize("width", [9, 7, 3, 1])
def test_few_outputs_are_convolved_by_columns(width: int) -> None:
    net = generator("devudp-dt")
    *_, last, head = layers_of(net, torch.float32)
    assert head.in_columns and not last.in_columns
    assert not any(layer.in_columns for layer in layers_of(net, torch.bfloat16))
    strip = torch.randn(1, head.inner, 9, width).contiguous(memory_format=torch.channels_last)
    plain = F.conv2d(strip, head.weight, head.bias, padding=(0, 3))
    assert not torch.equal(head(strip), plain), "rounded otherwise: it was done otherwise"
    assert torch.allclose(head(strip), plain, atol=1e-5)


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
    columns = torch.randn(1, 15, 4, 9).contiguous(memory_format=torch.channels_last)
    assert torch.equal(fast.sum_columns(columns, 5), EAGER.sum_columns(columns, 5))
    pixels, buffer = torch.randn(11, 5, 3), torch.empty(4, 5, 3)
    for origin in (None, torch.ones(3)):
        sums = fast.group_sums(pixels, origin, 4, buffer)
        for mine, theirs in zip(sums, EAGER.group_sums(pixels, origin, 4, buffer), strict=True):
            assert torch.equal(mine, theirs)
