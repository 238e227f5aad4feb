"""How many operations an image takes on an accelerator, and how often the host waits for it.

An operation costs the host 5 to 8 microseconds, about as long as a GPU computes on it; and while
the host waits for a value, the GPU gets nothing to do.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from devudp_model.checkpoint import bundled, load_checkpoint
from devudp_model.engine import network, strips
from devudp_model.network.generator import Generator
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.tasks import TASK_SPECS, Task
from devudp_model.task_weights import add_deblurrer
from tests.accelerator.counts import counting
from tests.accelerator.device import KERNELS

WIDTH = 2
"""Of the network, to be quick: strips get as many rows as with the bundled weights."""

LIMITS = {
    ("joint", 720, 1280, "memory"): (448, 3),
    ("joint", 720, 1280, "device"): (476, 9),
    ("low light", 720, 1280, "memory"): (327, 2),
    ("deblur", 720, 1280, "memory"): (280, 2),
    ("joint", 256, 256, "memory"): (341, 2),
    ("joint", 256, 256, "device"): (369, 8),
    ("low light", 256, 256, "memory"): (327, 2),
    ("deblur", 256, 256, "memory"): (84, 2),
}
"""Most operations (kernels and transfers: views cost a GPU nothing) and waits, of an image that
comes from main memory or lies on the device. `joint` at 1280x720 runs two networks."""


@pytest.fixture
def no_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions that only fill their output, since nothing here depends on their values."""
    noise = torch.randn(2**20, generator=torch.Generator().manual_seed(0))

    def convolution(x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, *_: Any):
        sides = (
            (x.shape[i + 2] + 2 * padding[i] - weight.shape[i + 2]) // stride[i] + 1 for i in (0, 1)
        )
        height, width = sides
        count = len(x) * height * width * len(weight)
        values = noise.to(x.dtype).repeat(-(-count // len(noise)))[:count]
        return values.view(len(x), height, width, len(weight)).permute(0, 3, 1, 2)

    monkeypatch.setitem(KERNELS, "convolution", convolution)


@pytest.mark.parametrize(
    ("task", "height", "width", "home"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] * (case[:3] != ("joint", 256, 256)))
        for case in LIMITS
    ],
)
def test_few_operations_and_waits(
    task: Task,
    height: int,
    width: int,
    home: str,
    device: torch.device,
    no_arithmetic: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shipped = load_checkpoint(bundled(TASK_SPECS[task].variant)).generator
    share = shipped.width // WIDTH
    monkeypatch.setattr(strips, "GPU_STRIP_BYTES", strips.GPU_STRIP_BYTES // share)
    generator = Generator(shipped.variant, WIDTH, shipped.depth).eval().requires_grad_(False)
    generator.facts = shipped.facts
    if TASK_SPECS[task].deblurred:
        second = load_checkpoint(bundled("devudp-dt")).generator
        small = Generator(second.variant, WIDTH, second.depth).eval().requires_grad_(False)
        small.facts = second.facts
        add_deblurrer(generator, task, lambda task: small.to(device))
    generator.to(device)
    torch.manual_seed(0)
    image = F.interpolate(torch.rand(1, 3, height // 16, width // 16), scale_factor=16.0)
    image = image.to(device) if home == "device" else image
    options = Options(task=task, precision="fp16")
    with torch.inference_mode():
        network.layers_of(generator, torch.float16)  # as for all images but the first
        if generator.facts.deblurrer is not None:
            network.layers_of(generator.facts.deblurrer, torch.float16)
    with counting() as counts:
        restore(image, generator, options)
    launches, waits = LIMITS[task, height, width, home]
    print(f"{task}, {width}x{height}, from {home}: {counts.operations} operations")
    print(f"{counts.launches} launches, {counts.waits} waits, {counts.of('upload')} uploads")
    print(counts.table())
    assert counts.launches <= launches
    assert counts.waits <= waits
