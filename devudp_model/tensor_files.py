"""Named tensors from a .safetensors or .pth file of any network."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import safetensors
import torch
from torch import Tensor

PICKLE_SUFFIXES = (".pth", ".pt", ".ckpt")

WRAPPERS = ("params_ema", "params", "state_dict", "generator", "model")
"""Under these names other programs keep the weights in a .pth file; the best ones first."""

SAFE_PICKLES = "2.10"  # compared as a version (torch.__version__ is a TorchVersion), not as text
"""The first torch that reads .pth files without the risk of running code in them. In older ones
`weights_only=True` can be got around: before 2.6 by CVE-2025-32434, before 2.10 by CVE-2026-24747.
"""

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before the names of weights."""


class CheckpointError(ValueError):
    """A file does not hold weights that can be used; the message says why and what to do."""


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The file's tensors and metadata."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder. Name the .safetensors file in it.")
    if not path.exists():
        raise CheckpointError(
            f"There is no file {path}. Check the name and the folder; weights of this project end "
            "in .safetensors."
        )
    if path.suffix.lower() == ".safetensors":
        return read_safetensors(path)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return read_pickle(path), {}
    raise CheckpointError(
        f"{path} ends in {path.suffix or 'nothing'}, which is no kind of checkpoint known here. "
        f"Use a .safetensors file (or {', '.join(PICKLE_SUFFIXES)} with tensors only)."
    )


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(os.fspath(path), framework="pt") as file:
            # Copied, so that nothing hangs on the open file (Windows could not replace it).
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read as safetensors: {error}. It is "
            "cut off, damaged, or something else (a saved web page?). Download or copy it again."
        ) from error


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Tensors from a .pth file. Code in it is never run: `weights_only=True`, and a torch where
    that can be relied on."""
    if torch.__version__ < SAFE_PICKLES:
        raise CheckpointError(
            f"{path} is refused: torch {torch.__version__} cannot rule out that code in a "
            f"{path.suffix} file is run (CVE-2025-32434, CVE-2026-24747). Use a .safetensors file, "
            "or torch 2.10 or later."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is refused: it is damaged, or holds Python objects beside tensors, and "
            "reading those could run code. Save the weights alone with "
            "torch.save(model.state_dict(), ...), or convert them to .safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read as PyTorch weights: {reason}. "
            "It is cut off or damaged. Download or copy it again."
        ) from error
    for name in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not named weights. Save them with "
            "torch.save(model.state_dict(), ...)."
        )
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    for prefix in PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
    return tensors
