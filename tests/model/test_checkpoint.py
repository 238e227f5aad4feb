"""Weights on disk: what is read back, and that no file is left half written."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from devudp_model import checkpoint as checkpoint_module
from devudp_model.checkpoint import (
    CheckpointError,
    bundled,
    fold_batchnorm,
    load_checkpoint,
    save_checkpoint,
)
from devudp_model.network.generator import VARIANTS, Generator, Variant
from devudp_model.system import atomic
from tests.model.checkpoint_files import make_generator

pytestmark = pytest.mark.usefixtures("read_pth_with_any_torch")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("width", "depth"), [(8, 1), (4, 3)])
def test_comes_back_as_it_was(tmp_path: Path, variant: Variant, width: int, depth: int) -> None:
    generator = make_generator(variant, width=width, depth=depth)
    path = tmp_path / "g.safetensors"
    save_checkpoint(path, generator, {"recipe": "test", "step": "7"}, dtype=torch.float32)
    checkpoint = load_checkpoint(path, fold=False)
    assert checkpoint.path == path
    assert checkpoint.metadata == {
        "format_version": "1",
        "variant": variant,
        "width": str(width),
        "depth": str(depth),
        "norm": "batch" if variant == "devudp-dt" else "instance",
        "shortcut": "yes" if variant == "devudp-dt" else "no",
        "recipe": "test",
        "step": "7",
    }
    back = checkpoint.generator
    assert not back.training
    assert all(not p.requires_grad and p.dtype == torch.float32 for p in back.parameters())
    for name, tensor in generator.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_architecture_is_read_from_the_weights(tmp_path: Path, variant: Variant) -> None:
    path = tmp_path / "bare.safetensors"
    generator = make_generator(variant, width=4, depth=2)
    weights = {k: v for k, v in generator.state_dict().items() if "num_batches" not in k}
    safetensors.torch.save_file(weights, path)
    checkpoint = load_checkpoint(path, fold=False)
    described = [checkpoint.metadata[key] for key in ("variant", "width", "depth")]
    assert described == [variant, "4", "2"]
    x = torch.rand(1, 3, 9, 11) * 2 - 1
    assert torch.equal(checkpoint.generator(x), generator(x))


def test_ablations_come_back_too(tmp_path: Path) -> None:
    """Norm and shortcut need not be the variant's own; only the metadata tell of the shortcut."""
    path = tmp_path / "g.safetensors"
    x = torch.rand(1, 3, 8, 8)
    for generator in (
        Generator("devudp", 4, 1, norm="batch").eval(),
        Generator("devudp", 4, 1, shortcut=True).eval(),
    ):
        save_checkpoint(path, generator, {}, dtype=torch.float32)
        assert torch.equal(load_checkpoint(path, fold=False).generator(x), generator(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    """Convolutions are stored in 16 bits, BatchNorm's numbers are not; all load as float32."""
    generator = make_generator("devudp-dt")
    path = tmp_path / "g.safetensors"
    save_checkpoint(path, generator, {}, dtype=dtype)
    stored = safetensors.torch.load_file(path)
    assert stored["stem.conv.weight"].dtype == dtype
    assert stored["stem.norm.running_var"].dtype == torch.float32
    back = load_checkpoint(path, fold=False).generator
    assert torch.equal(back.stem.conv.weight, generator.stem.conv.weight.to(dtype).float())
    # Weights that are 16-bit throughout, as other programs save them.
    safetensors.torch.save_file({k: v.to(dtype) for k, v in stored.items()}, path)
    for parameter in load_checkpoint(path).generator.parameters():
        assert parameter.dtype == torch.float32


def test_batchnorm_is_folded_exactly(tmp_path: Path) -> None:
    generator = make_generator("devudp-dt", depth=2).double()
    x = torch.rand(2, 3, 13, 18, dtype=torch.float64) * 2 - 1
    folded = fold_batchnorm(generator)
    assert isinstance(folded, Generator)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in generator.modules())  # a copy
    change = (generator(x) - x).abs().max()
    assert change > 0.1, "the networks would agree by doing nothing"
    torch.testing.assert_close(folded(x), generator(x), rtol=0, atol=1e-11)

    path = tmp_path / "g.safetensors"
    save_checkpoint(path, generator.float(), {}, dtype=torch.float32)
    loaded = load_checkpoint(path).generator
    assert not any(isinstance(module, nn.BatchNorm2d) for module in loaded.modules())
    torch.testing.assert_close(loaded(x.float()), generator(x.float()), rtol=0, atol=1e-4)
    with pytest.raises(CheckpointError, match="fold=False"):
        save_checkpoint(path, loaded, {})


def test_perceptual_model_has_nothing_to_fold() -> None:
    generator = make_generator()
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(fold_batchnorm(generator)(x), generator(x))


def test_loading_draws_no_random_numbers(saved: Path) -> None:
    before = torch.get_rng_state()
    load_checkpoint(saved)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("wrap", ["bare", "params_ema", "ddp"])
def test_pth_with_tensors_only(tmp_path: Path, wrap: str) -> None:
    generator = make_generator()
    weights: dict = generator.state_dict()
    if wrap == "params_ema":
        weights = {"params_ema": weights, "step": 3}
    elif wrap == "ddp":
        weights = {f"module.{name}": tensor for name, tensor in weights.items()}
    path = tmp_path / "g.pth"
    torch.save(weights, path)
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(load_checkpoint(path).generator(x), generator(x))


def test_what_a_file_says_of_itself(saved: Path) -> None:
    """Metadata given for saving stay; the architecture is added."""
    generator = make_generator("devudp-dt", width=4, depth=2)
    save_checkpoint(saved, generator, {"recipe": "mine"})
    checkpoint = load_checkpoint(saved)
    assert checkpoint.metadata == {
        "recipe": "mine", "format_version": "1", "variant": "devudp-dt", "width": "4",
        "depth": "2", "norm": "batch", "shortcut": "yes",
    }  # fmt: skip
    assert checkpoint.path == saved
    assert not checkpoint.generator.training
    assert not any(p.requires_grad for p in checkpoint.generator.parameters())
    with pytest.raises(dataclasses.FrozenInstanceError):
        checkpoint.path = saved.parent  # pyright: ignore[reportAttributeAccessIssue]


def test_a_failed_save_keeps_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hashlib.sha256(saved.read_bytes()).hexdigest()

    def full_disk(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, make_generator(width=4), {})
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_bundled_names_the_place() -> None:
    for variant in VARIANTS:
        assert bundled(variant).name == f"{variant}.safetensors"
        assert bundled(variant).parent.name == "weights"


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    generator = make_generator()
    entries = {f"key{number}": "value é" for number in range(30)}
    contents = set()
    for order in (entries, dict(reversed(entries.items())), entries):
        save_checkpoint(tmp_path / "a.safetensors", generator, order)
        contents.add((tmp_path / "a.safetensors").read_bytes())
    assert len(contents) == 1
    assert load_checkpoint(tmp_path / "a.safetensors").metadata["key3"] == "value é"


def test_shapes_are_known_without_the_network() -> None:
    for variant in VARIANTS:
        for width, depth in ((5, 1), (12, 3)):
            generator = make_generator(variant, width=width, depth=depth)
            wanted = {name: tuple(each.shape) for name, each in generator.state_dict().items()}
            architecture = checkpoint_module.Architecture(
                variant=variant,
                width=width,
                depth=depth,
                norm=generator.norm,
                shortcut=generator.shortcut,
            )
            assert checkpoint_module.shapes_of(architecture) == wanted


def test_metadata_of_other_versions(saved: Path) -> None:
    """Older formats are read; only a shortcut that is described as such is one."""
    tensors = safetensors.torch.load_file(saved)
    described = {"width": "8", "depth": "1", "norm": "instance"}
    for version, shortcut in (("0", None), ("1", None), ("1", "no"), ("1", "yes")):
        metadata = {**described, "format_version": version}
        if shortcut:
            metadata["shortcut"] = shortcut
        safetensors.torch.save_file(tensors, saved, metadata)
        assert load_checkpoint(saved).generator.shortcut == (shortcut == "yes")
