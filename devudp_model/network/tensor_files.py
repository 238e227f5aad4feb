"""Named tensors from a .safetensors or .pth file of any network."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..system.untrusted import UntrustedFileError, check_claim, check_regular

PICKLE_SUFFIXES = (".pth", ".pt", ".ckpt")

WRAPPERS = ("params_ema", "params", "state_dict", "generator", "model")
"""Under these names other programs keep the weights in a .pth file; the best ones first."""

SAFE_PICKLES = "2.10"  # compared as a version (torch.__version__ is a TorchVersion), not as text
"""The first torch that reads .pth files without the risk of running code in them. In older ones
`weights_only=True` can be got around: before 2.6 by CVE-2025-32434, before 2.10 by CVE-2026-24747.
"""

PICKLE_GROWTH = 4
"""Weights cannot be packed into less than a quarter."""

PREFIXES = ("module.", "_orig_mod.")
"""Put by DistributedDataParallel and torch.compile before the names of weights."""


class CheckpointError(ValueError):
    """A file does not hold weights that can be used; the message says why and what to do."""


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the file's tensors and metadata.

    Raises:
        CheckpointError: there is no such file, it is damaged or too large, or holds no tensors.
    """
    try:
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder. Name the .safetensors file in it.")
        size = check_regular(path)
        check_claim(2 * size, size, f"has {size:,} bytes")
    except FileNotFoundError as error:
        raise CheckpointError(
            f"There is no file {path}. Check the name and the folder; weights of this project end "
            "in .safetensors."
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror}. Check its permissions and its disk."
        ) from error
    except UntrustedFileError as error:
        raise CheckpointError(f"{path} {error}") from error
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
    except MemoryError:
        raise
    except Exception as error:  # Rust's errors and Python's, whatever the damage leads to
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
    check_packed(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is refused: it is damaged, or holds Python objects beside tensors, and "
            "reading those could run code. Save the weights alone with "
            "torch.save(model.state_dict(), ...), or convert them to .safetensors."
        ) from error
    except Exception as error:  # the unpickler raises almost anything on damaged data
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read as PyTorch weights: {reason}. "
            "It is cut off or damaged. Download or copy it again."
        ) from error
    return named_tensors(content, path)


def check_packed(path: Path) -> None:
    """Checks how much a .pth file holds once it is unpacked: torch packs nothing, others may.

    Raises:
        CheckpointError: it does not fit into memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except Exception:  # an older kind of file, or a damaged one: torch will say so
        return
    size = path.stat().st_size
    try:
        check_claim(unpacked, size, f"claims to hold {unpacked:,} bytes", growth=PICKLE_GROWTH)
    except UntrustedFileError as error:
        raise CheckpointError(f"{path} {error}") from error


def named_tensors(content: object, path: Path) -> dict[str, Tensor]:
    """Returns the weights in what a .pth file holds, by the names that the network has for them."""
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


def encode_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Returns a whole .safetensors file; the same content gives the same bytes.

    The library writes the metadata in a random order; here they are sorted.
    """
    content = safetensors.torch.save(dict(tensors), dict(metadata))
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
