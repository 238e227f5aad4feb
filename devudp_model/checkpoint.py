"""Weights on disk: safetensors with metadata.

    checkpoint = load_checkpoint(bundled("devudp"))
    sharp = restore(image, checkpoint)              # image: B,C,H,W in [0, 1]

The weights alone say which network they belong to, so a file without metadata can be read too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, TypeVar

import torch
from torch import Tensor, nn

from .engine.measured import measured_later
from .engine.precision import Measured, from_json
from .network.batch_norm import fold_batchnorm
from .network.generator import Generator, Norm, Variant
from .network.tensor_files import CheckpointError, encode_safetensors, read_tensors
from .restoring.facts import Facts, facts_of
from .restoring.scene import SceneModel
from .system.atomic import replacing

__all__ = ["Checkpoint", "CheckpointError", "bundled", "load_checkpoint", "save_checkpoint"]

Read = TypeVar("Read")

FORMAT_VERSION = 1
"""Raised when older readers would misunderstand a new file."""
COUNTER, VARIANCE = "num_batches_tracked", "running_var"
"""What the names of BatchNorm's other numbers end in."""
STORED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights are stored as."""

LARGEST = 1e6
"""No weight of a trained network is larger by far."""

MAX_BLOCKS = 64
"""More residual blocks in a stage are no network of this project."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights as read from a file.

    Attributes:
        generator: in eval mode, float32, on the CPU, without gradients; BatchNorm folded if asked.
        metadata: what the file says of itself. `variant`, `width`, `depth`, `norm` and `shortcut`
            are always there; `format_version`, `recipe`, `data`, `step`, `metrics`, `licence`,
            `seed`, `trained_with` and `hardware` in files of this project; `scene` and `precision`
            where they were fitted and measured (see exposure.py, engine/precision.py).
        path: where it was read from.
    """

    generator: Generator
    metadata: dict[str, str]
    path: Path

    @property
    def scene(self) -> SceneModel | None:
        """Returns how bright results should be, where that was fitted."""
        return facts_of(self.generator).scene

    @property
    def measured(self) -> Measured:
        """Returns how far 16 and 8 bits are from fp32, where that was measured."""
        return facts_of(self.generator).measured


class Architecture(TypedDict):
    """The arguments of `Generator`."""

    variant: Variant
    width: int
    depth: int
    norm: Norm
    shortcut: bool


def bundled(variant: Variant) -> Path:
    """Returns where the weights that come with this package lie."""
    return Path(__file__).parent / "weights" / f"{variant}.safetensors"


def load_checkpoint(path: str | os.PathLike[str], *, fold: bool = True) -> Checkpoint:
    """Reads a generator from a .safetensors file, or from a .pth file that holds tensors only.

    Args:
        path: the file.
        fold: put DEvUDP-DT's BatchNorm into the convolutions: for restoring, not for training on.

    Raises:
        CheckpointError: there is no such file, it is damaged, it belongs to another network, or
            its weights are not finite numbers.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    architecture = identify(tensors, metadata, path)
    shapes = shapes_of(architecture)
    # BatchNorm's step counters play no part in restoring; many programs do not store them.
    tensors = {**{n: torch.tensor(0) for n in shapes if n.endswith(COUNTER)}, **tensors}
    check_shapes(tensors, shapes, architecture, path)  # before a network of that size is made
    check_values(tensors, path)
    # The caller's random numbers stay as they are. (On the device "meta" none would be drawn at
    # all, but drawing none there imports eight hundred modules of torch, for most of a second.)
    with torch.random.fork_rng(devices=[]):
        generator = Generator(**architecture)
    given = {k: tensors[k].to(v.dtype) for k, v in generator.state_dict().items()}
    generator.load_state_dict(given, assign=True)
    generator.eval().requires_grad_(False)
    measured = from_metadata(metadata, "precision", from_json, path) or {}
    scene = from_metadata(metadata, "scene", SceneModel.from_json, path)
    generator.facts = Facts(scene=scene, measured={**measured, **measured_later(path)})
    return Checkpoint(
        generator=fold_batchnorm(generator) if fold else generator,
        metadata={**metadata, **describe(generator)},
        path=path,
    )


def save_checkpoint(
    path: str | os.PathLike[str],
    generator: Generator,
    metadata: Mapping[str, str],
    *,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Writes a .safetensors file, which is complete or not there at all.

    The convolutions' weights are stored as `dtype`; everything else (0.3 % of the numbers) stays
    float32, since small variances would lose their digits in 16 bits.

    Args:
        path: the file; an existing one is replaced.
        generator: not compiled or wrapped, BatchNorm not folded.
        metadata: see `Checkpoint`; format version, variant, width and depth are added.
        dtype: floating point.

    Raises:
        CheckpointError: a weight is not finite (or not within `dtype`), or BatchNorm is folded.
        OSError: the file cannot be written.
    """
    if any(isinstance(module, nn.Identity) for module in generator.modules()):
        raise CheckpointError(
            "This generator's BatchNorm is folded into its convolutions, so it cannot be saved as "
            "weights to train on. Load it with fold=False, then save it."
        )
    tensors = {}
    for name, tensor in generator.state_dict().items():
        stored = tensor.detach().to("cpu", dtype if tensor.ndim == 4 else tensor.dtype)
        if not stored.isfinite().all():
            raise CheckpointError(
                f"Not saved to {path}: {name} has values that are not finite as {dtype}. Either "
                "the training diverged (go back to an earlier state, lower the learning rate) or "
                "the weights are too large (save with dtype=torch.float32)."
            )
        tensors[name] = stored.contiguous()
    described = {**metadata, "format_version": str(FORMAT_VERSION), **describe(generator)}
    with replacing(path) as file:
        file.write(encode_safetensors(tensors, described))


def describe(generator: Generator) -> dict[str, str]:
    """The architecture, as it stands in the metadata. Norm and shortcut differ in ablations."""
    return {
        "variant": generator.variant,
        "width": str(generator.width),
        "depth": str(generator.depth),
        "norm": generator.norm,
        "shortcut": "yes" if generator.shortcut else "no",
    }


def from_metadata(
    metadata: Mapping[str, str], name: str, read: Callable[[str], Read], path: Path
) -> Read | None:
    """Returns what `read` makes of an entry of a file's metadata; None without one.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        return read(metadata[name]) if metadata.get(name) else None
    except ValueError as error:
        raise CheckpointError(f"{path} has damaged metadata ({name}): {error}") from error


def identify(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path
) -> Architecture:
    """Tells which generator these weights belong to."""
    stem = tensors.get("stem.conv.weight")
    depth = 0
    while depth <= MAX_BLOCKS and f"encode1.{depth}.conv1.weight" in tensors:
        depth += 1
    if stem is None or stem.ndim != 4 or len(stem) == 0 or not 1 <= depth <= MAX_BLOCKS:
        found = ", ".join(sorted(tensors)[:3]) or "none at all"
        raise CheckpointError(
            f"{path} holds the weights of another network (its first names: {found}). Choose a "
            "DEvUDP checkpoint, one made by this project's training."
        )
    norm: Norm = "batch" if "stem.norm.weight" in tensors else "instance"
    variant: Variant = "devudp-dt" if norm == "batch" else "devudp"
    shortcut = norm == "batch"
    if "format_version" in metadata:  # without it, the same keys may mean other things
        check_metadata(metadata, {"width": len(stem), "depth": depth, "norm": norm}, path)
        variant = "devudp-dt" if metadata.get("variant") == "devudp-dt" else "devudp"
        shortcut = metadata.get("shortcut") == "yes"
    return Architecture(variant=variant, width=len(stem), depth=depth, norm=norm, shortcut=shortcut)


def check_metadata(metadata: Mapping[str, str], actual: Mapping[str, object], path: Path) -> None:
    """Refuses a file from the future, and one whose description contradicts its weights."""
    version = metadata["format_version"]
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}; this DEvUDP reads up to {FORMAT_VERSION}. "
            "Update DEvUDP."
        )
    wrong = {key: metadata.get(key) for key in actual if metadata.get(key) != str(actual[key])}
    if wrong:
        weights = {key: actual[key] for key in wrong}
        raise CheckpointError(
            f"{path} contradicts itself: described as {wrong}, but its weights are {weights}. "
            "The file was modified; get it again from where it was published."
        )


def shapes_of(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each of a generator's weights, without making a generator of that size.

    All sides of all weights are linear in the width, so two tiny generators tell.
    """
    with torch.random.fork_rng(devices=[]):
        narrow, wider = (
            Generator(**{**architecture, "width": width}).state_dict() for width in (1, 2)
        )
    return {
        name: tuple(
            one + (architecture["width"] - 1) * (two - one)
            for one, two in zip(narrow[name].shape, wider[name].shape, strict=True)
        )
        for name in narrow
    }


def check_shapes(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
    architecture: Architecture,
    path: Path,
) -> None:
    """Raises CheckpointError unless names and shapes are those of the architecture."""
    faults = [f"{name} is missing" for name in expected if name not in tensors]
    faults += [f"{name} does not belong there" for name in tensors if name not in expected]
    faults += [
        f"{name} has shape {list(tensors[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    if faults:
        raise CheckpointError(
            f"{path} looks like {architecture['variant']} with width {architecture['width']} and "
            f"depth {architecture['depth']}, but {len(faults)} of its weights do not fit: "
            f"{'; '.join(faults[:3])}{' ...' if len(faults) > 3 else ''}. It was made by another "
            "version or program; choose a checkpoint of this project."
        )


def check_values(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises CheckpointError unless all weights are numbers that a training can arrive at."""
    weights = {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}
    odd = {name: tensor for name, tensor in weights.items() if tensor.dtype not in STORED}
    if odd:
        name, tensor = next(iter(odd.items()))
        raise CheckpointError(
            f"{path} stores {len(odd)} of {len(weights)} weights in another number format than "
            f"fp16, bf16, fp32 or fp64 (first {name}: {str(tensor.dtype).removeprefix('torch.')}). "
            "Convert them to one of these."
        )
    broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{path} has weights that are not finite numbers ({len(broken)} of {len(tensors)} "
            f"tensors, first {broken[0]}): the training that made it diverged. Choose an earlier "
            "checkpoint."
        )
    extreme = [name for name, tensor in weights.items() if tensor.abs().max() > LARGEST]
    extreme += [n for n, tensor in weights.items() if n.endswith(VARIANCE) and (tensor < 0).any()]
    if extreme:
        raise CheckpointError(
            f"{path} has weights beyond {LARGEST:g}, or negative variances ({len(extreme)} of "
            f"{len(tensors)} tensors, first {extreme[0]}), out of range: it is corrupt. "
            "Download or copy it again."
        )
