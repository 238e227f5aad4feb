"""LPIPS: against plain layers, as a loss, from files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.training.training_run import random_lpips_weights
from training.config import ConfigError
from training.method import lpips as perceptual
from training.method.lpips import SHIFT, AlexLpips, find_lpips, load_lpips, read_weights


def test_lpips_against_plain_layers():
    weights = random_lpips_weights()
    relu, pool = nn.ReLU(), nn.MaxPool2d(3, 2)
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, 4, 2), relu, pool]
    layers += [nn.Conv2d(64, 192, 5, 1, 2), relu, pool]
    layers += [nn.Conv2d(192, 384, 3, 1, 1), relu]
    layers += [nn.Conv2d(384, 256, 3, 1, 1), relu, nn.Conv2d(256, 256, 3, 1, 1), relu]
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    for k, conv in enumerate(convs):
        assert conv.bias is not None
        conv.weight.data, conv.bias.data = weights[f"conv{k}.weight"], weights[f"conv{k}.bias"]
    rng = torch.Generator().manual_seed(1)
    a, b = (torch.randint(0, 256, (3, 80, 72), generator=rng, dtype=torch.uint8) for _ in "ab")

    @torch.no_grad()
    def features(x: torch.Tensor) -> list[torch.Tensor]:
        x = x[None] / 255 * 2 - 1
        x = torch.stack([(x[:, 0] + 0.030) / 0.458, (x[:, 1] + 0.088) / 0.448,
                         (x[:, 2] + 0.188) / 0.450], 1)  # fmt: skip
        found = []
        for layer in layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x / x.norm(dim=1, keepdim=True))
        return found

    expected = sum(
        ((x - y) ** 2 * weights[f"lin{k}"].view(1, -1, 1, 1)).sum(1).mean().item()
        for k, (x, y) in enumerate(zip(features(a), features(b), strict=True))
    )
    lpips = AlexLpips(weights)
    assert lpips.of_images(a, b) == pytest.approx(expected, rel=1e-5)
    assert lpips.of_images(a, a) == 0


def test_lpips_as_a_loss_has_a_finite_gradient_even_where_no_feature_is_active():
    weights = {k: -v.abs() if k.endswith("bias") else v for k, v in random_lpips_weights().items()}
    lpips = AlexLpips(weights)
    rng = torch.Generator().manual_seed(1)
    x, y = (torch.rand(2, 3, 40, 40, generator=rng) * 2 - 1 for _ in "xy")
    x[0] = torch.tensor(SHIFT).view(3, 1, 1)  # AlexNet's grey: only biases are left
    x.requires_grad_()
    loss = lpips(x, y)
    loss.backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad[1].abs().max() > 0
    ones = [lpips(a[None], b[None]) for a, b in zip(x, y, strict=True)]
    assert loss.item() == pytest.approx(sum(one.item() for one in ones) / 2, rel=1e-5)
    assert not list(lpips.parameters())  # nothing of it learns


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz"])
def test_lpips_from_files(name: str, tmp_path: Path):
    weights = random_lpips_weights()
    if name.endswith(".npz"):
        arrays = {k: v.numpy() for k, v in weights.items()}
        np.savez(tmp_path / name, **arrays)  # pyright: ignore[reportArgumentType]
    else:
        save_file(weights, tmp_path / name)
    found = read_weights(tmp_path / name)
    assert all(torch.equal(v, weights[k]) for k, v in found.items()) and len(found) == len(weights)


def test_lpips_that_cannot_be_had_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail() -> dict:
        raise OSError("no route to host")

    monkeypatch.setattr(perceptual, "package_weights", fail)
    assert load_lpips() is None and "no route to host" in caplog.messages[-1]
    with pytest.raises(ConfigError, match=r"no route to host\)\. Install the extra 'eval'"):
        find_lpips()
