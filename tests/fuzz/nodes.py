"""Inputs of the nodes: images and masks as other nodes may give them, sound and not."""

from __future__ import annotations

import functools
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from devudp_model.checkpoint import save_checkpoint
from devudp_model.network.generator import Generator
from tests.fuzz.harness import Fault
from tests.host.fakes import Pack, load_pack

TASKS = ("joint", "deblur", "low light")


@functools.cache
def packs() -> dict[str, Pack]:
    """The pack in stand-ins for an old and a new host, with networks of width 1."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    patch, loaded = pytest.MonkeyPatch(), {}
    folder = tempfile.mkdtemp(prefix="fuzz-pack-")
    for shape in ("old", "new"):
        loaded[shape] = load_pack(patch, shape, folder)
    return loaded


def use_small_network(pack: Pack, variant: Any, folder: Path) -> None:
    """Every choice of a checkpoint gives this one."""
    path = folder / "small.safetensors"
    torch.manual_seed(0)
    network = Generator(variant, 1, 1)
    torch.nn.init.normal_(network.head.weight, std=0.3)
    save_checkpoint(path, network, {}, dtype=torch.float32)
    pack.module("nodes.checkpoints").find = lambda *_: path


def attack(seed: int, folder: Path) -> str:
    """Calls one node, and checks what it gives."""
    rng = random.Random(seed)
    pack = packs()[rng.choice(("old", "new"))]
    use_small_network(pack, rng.choice(("devudp", "devudp-dt")), folder)
    torch.manual_seed(seed)
    image = make_image(rng)
    before = image.clone()
    node, given = make_call(rng, image)
    try:
        result = pack.nodes[node].execute(**given).args
        if node == "DEvUDPLoadUpscaleModel":
            tile = image[:1, :, :, :3].movedim(-1, 1)
            result = (result[0](tile).movedim(1, -1),)
            image, before = image[:1, :, :, :3], before[:1, :, :, :3]
    except ValueError as error:
        text = str(error)
        if len(text) < 40 or not is_odd(image, given):
            raise Fault(
                f"{node} {list(image.shape)}: unclear, or not called for: {text}"
            ) from error
        return "refused"
    if not torch.equal(image.nan_to_num(7), before.nan_to_num(7)):
        raise Fault(f"{node} changed its input")
    if node == "DEvUDPMeasure":
        if any(number != number for number in result):
            raise Fault(f"measured {result}")
        return "measured"
    check_image(node, image, result[0])
    return "restored"


def make_image(rng: random.Random) -> Tensor:
    """B,H,W,C, mostly an image."""
    side = rng.choice((lambda: rng.randint(1, 40), lambda: rng.choice((0, 1, 1, 200))))
    shape = [rng.choice((1, 1, 2, 9, 0)), side(), rng.randint(1, 40), rng.choice((3, 3, 4, 1))]
    if rng.random() < 0.1:
        shape = rng.choice(([3, 8, 8], [1, 8, 8, 2], [1, 8, 8, 5], [8, 8], [1, 1, 8, 8, 3], [0]))
    image = torch.rand(shape).to(rng.choice((torch.float32, torch.float32, torch.float16,
                                            torch.bfloat16, torch.float64)))  # fmt: skip
    kind = rng.choice(("noise", "noise", "flat", "odd", "range", "view"))
    if kind == "flat":
        image = torch.full_like(image, rng.random())
    elif kind == "odd" and image.numel():
        image.view(-1)[rng.randrange(image.numel())] = rng.choice(
            (float("nan"), float("inf"), -9.0)
        )
    elif kind == "range":
        image = image * 3 - 1
    elif kind == "view" and image.ndim == 4:
        image = image.transpose(1, 2)
    return image


def make_mask(rng: random.Random, image: Tensor) -> Tensor | None:
    if rng.random() < 0.4:
        return None
    count = rng.choice((1, len(image), 3, 0))
    shape = rng.choice(([count, *image.shape[1:3]], [count, 64, 64], [7, 5], [count, 1, 9, 9], [3]))
    mask = torch.rand(shape)
    if rng.random() < 0.2 and mask.numel():
        mask.view(-1)[0] = rng.choice((float("nan"), float("inf"), -1.0, 5.0))
    return mask * rng.choice((0, 1))


def make_call(rng: random.Random, image: Tensor) -> tuple[str, dict[str, Any]]:
    """The name of a node, and its inputs."""
    restoring = {
        "image": image,
        "task": rng.choice(TASKS),
        "checkpoint": "bundled",
        "strength": rng.choice((0.0, 0.5, 1.0)),
        "exposure": rng.choice((0.0, 0.5, 1.0)),
        "precision": rng.choice(("auto", "fp32", "bf16", "fp16")),
    }
    node = rng.choice(("DEvUDPRestore", "DEvUDPRestore", "DEvUDPDegrade", "DEvUDPMeasure",
                       "DEvUDPLoadUpscaleModel"))  # fmt: skip
    if node == "DEvUDPRestore":
        statistics = rng.choice(("each image", "shared"))
        return node, {**restoring, "statistics": statistics, "mask": make_mask(rng, image)}
    if node == "DEvUDPLoadUpscaleModel":
        return node, restoring
    if node == "DEvUDPMeasure":
        other = rng.choice((image, make_image(rng), image[:1]))
        return node, {"image": image, "reference": other}
    return node, {
        "image": image,
        "blur": rng.choice((0.0, 12.0, 100.0)),
        "light": rng.choice((0.01, 1.0)),
        "noise": rng.choice((0.0, 0.5)),
        "seed": rng.choice((0, 2**32 - 1)),
    }


def is_odd(image: Tensor, given: dict[str, Any]) -> bool:
    """Whether there is something to refuse."""
    mask, reference = given.get("mask"), given.get("reference")
    if image.ndim != 4 or image.shape[3] not in (1, 3, 4) or 0 in image.shape:
        return True
    if not image.isfinite().all():
        return True
    if reference is not None:
        return (
            reference.shape != image.shape
            or min(image.shape[1:3]) < 11
            or not reference.isfinite().all()
        )
    odd_mask = mask is not None and (mask.ndim == 1 or not mask.isfinite().all() or 0 in mask.shape)
    return odd_mask or (mask is not None and mask.ndim > 2 and len(mask) not in (1, len(image)))


def check_image(node: str, image: Tensor, result: Tensor) -> None:
    """Raises Fault unless it is an image of the same size, in range, its transparency untouched."""
    if result.shape != image.shape:
        raise Fault(f"{node}: {list(image.shape)} became {list(result.shape)}")
    colours = result[..., :3]
    if not result.isfinite().all():
        raise Fault(f"{node}: not finite")
    inside = image[..., :3].numel() and image.min() >= 0 and image.max() <= 1
    if inside and (colours.min() < -0.002 or colours.max() > 1.002):
        raise Fault(f"{node}: {colours.min().item()} to {colours.max().item()}")
    if image.shape[-1] == 4 and image.numel():
        before, after = image[..., 3].double(), result[..., 3].double()
        if (after - before).abs().max() > 0.001 * (1 + before.abs().max()):
            raise Fault(f"{node}: transparency changed")
