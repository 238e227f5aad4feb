"""Files that are no good checkpoints: damaged, of another network, or made to do harm."""

from __future__ import annotations

import contextlib
import json
import os
import random
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from devudp_model import checkpoint as checkpoint_module
from devudp_model.checkpoint import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from devudp_model.network.generator import Generator, Variant
from tests.model.checkpoint_files import make_generator

pytestmark = pytest.mark.usefixtures("read_pth_with_any_torch")


class Evil:
    """Unpickling it would create a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pth_with_code_is_refused(tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"weights": Evil(trace)}, path)
    with pytest.raises(CheckpointError, match=r"could run code.*state_dict"):
        load_checkpoint(path)
    assert not trace.exists()


def with_changes(saved: Path, **changes: torch.Tensor | None) -> None:
    """Rewrites the file with some tensors (dots as __) replaced or, for None, taken out."""
    tensors = safetensors.torch.load_file(saved)
    for key, value in changes.items():
        name = key.replace("__", ".")
        tensors.pop(name, None)
        if value is not None:
            tensors[name] = value
    safetensors.torch.save_file(tensors, saved)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no file .*absent\.safetensors.*Check"):
        load_checkpoint(tmp_path / "absent.safetensors")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        load_checkpoint(tmp_path)


def test_unknown_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"\.onnx.*Use a \.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_truncated_file(tmp_path: Path, saved: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save(make_generator().state_dict(), path)
    else:
        path.write_bytes(saved.read_bytes())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_web_page_with_the_wrong_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"page{suffix}"
    path.write_bytes(b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 20)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_another_models_weights(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(nn.Conv2d(3, 8, 3).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"another network \(its first names: bias, weight\)"):
        load_checkpoint(path)
    safetensors.torch.save_file({}, path)
    with pytest.raises(CheckpointError, match="none at all"):
        load_checkpoint(path)
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_checkpoint(tmp_path / "list.pth")


@pytest.mark.parametrize(("depth", "known"), [(0, False), (1, True), (64, True), (65, False)])
def test_how_deep_a_network_may_be(depth: int, known: bool) -> None:
    weights = {f"encode1.{k}.conv1.weight": torch.empty(0) for k in range(depth)}
    weights["stem.conv.weight"] = torch.empty(5, 3, 7, 7)
    if known:
        found = checkpoint_module.identify(weights, {}, Path("a"))
        assert (found["depth"], found["width"]) == (depth, 5)
        assert (found["variant"], found["norm"], found["shortcut"]) == ("devudp", "instance", False)
    else:
        with pytest.raises(CheckpointError, match="another network"):
            checkpoint_module.identify(weights, {}, Path("a"))


def test_a_first_layer_of_another_kind() -> None:
    for stem in (torch.empty(0, 3, 7, 7), torch.empty(5, 3), torch.empty(5, 3, 7, 7, 1)):
        weights = {"stem.conv.weight": stem, "encode1.0.conv1.weight": torch.empty(0)}
        with pytest.raises(CheckpointError, match="another network"):
            checkpoint_module.identify(weights, {}, Path("a"))


def test_no_more_than_three_faults_are_listed(saved: Path) -> None:
    with_changes(saved, a=torch.zeros(1), b=torch.zeros(1), c=torch.zeros(1))
    with pytest.raises(
        CheckpointError, match=r"but 3 of its .*: a does .*; b does .*; c does [^;.]*\. It"
    ):
        load_checkpoint(saved)
    with_changes(saved, d=torch.zeros(1))
    with pytest.raises(CheckpointError, match=r"but 4 of its .*; c does [^;]* \.\.\.\. It was"):
        load_checkpoint(saved)


def test_nearly_this_architecture(saved: Path) -> None:
    for side in (1, 5):
        with_changes(saved, head__bias=None, down1__conv__weight=torch.zeros(16, 8, side, side))
        expected = (
            rf"2 of its weights.*head\.bias is missing.*{side}, {side}\] instead of [^.]*\. It"
        )
        with pytest.raises(CheckpointError, match=expected):
            load_checkpoint(saved)


def test_extra_weights(saved: Path) -> None:
    with_changes(saved, attention__weight=torch.zeros(3))
    with pytest.raises(CheckpointError, match=r"attention\.weight does not belong"):
        load_checkpoint(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path: Path, saved: Path, value: float) -> None:
    weight = safetensors.torch.load_file(saved)["head.weight"]
    weight[0, 0, 0, 0] = value
    with_changes(saved, head__weight=weight)
    with pytest.raises(CheckpointError, match=r"not finite.*head\.weight.*diverged"):
        load_checkpoint(saved)
    generator = make_generator()
    nn.init.constant_(generator.head.weight, value)
    with pytest.raises(CheckpointError, match=r"Not saved.*head\.weight"):
        save_checkpoint(tmp_path / "new.safetensors", generator, {})
    assert not (tmp_path / "new.safetensors").exists()


def test_weights_too_large_for_sixteen_bits(tmp_path: Path) -> None:
    generator = make_generator()
    nn.init.constant_(generator.head.weight, 1e6)
    with pytest.raises(CheckpointError, match=r"dtype=torch\.float32"):
        save_checkpoint(tmp_path / "g.safetensors", generator, {})
    save_checkpoint(tmp_path / "g.safetensors", generator, {}, dtype=torch.float32)


def test_format_of_the_future(saved: Path) -> None:
    tensors = safetensors.torch.load_file(saved)
    safetensors.torch.save_file(tensors, saved, {"format_version": "2"})
    with pytest.raises(CheckpointError, match=r"format version 2.*Update"):
        load_checkpoint(saved)


@pytest.mark.parametrize("version", ["one", "-1", "1.0", ""])
def test_format_that_is_no_number(saved: Path, version: str) -> None:
    tensors = safetensors.torch.load_file(saved)
    safetensors.torch.save_file(tensors, saved, {"format_version": version})
    with pytest.raises(CheckpointError, match="has format version"):
        load_checkpoint(saved)


def test_metadata_that_contradict_the_weights(saved: Path) -> None:
    tensors = safetensors.torch.load_file(saved)
    metadata = {"format_version": "1", "width": "8", "depth": "1", "norm": "batch"}
    safetensors.torch.save_file(tensors, saved, metadata)
    with pytest.raises(CheckpointError, match=r"contradicts itself.*batch.*instance"):
        load_checkpoint(saved)


def safetensors_of(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    """A file with such a header: dtype, shape and bytes of each tensor."""
    header, content = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        places = [len(content), len(content) + len(data)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": places}
        content += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


@pytest.mark.parametrize("width", [2048, 100_000])
def test_a_tiny_file_that_claims_a_wide_network(
    tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = Generator.__init__

    def note(self: Generator, variant: Variant, width: int, *rest: object, **more: object) -> None:
        made.append(width)
        real(self, variant, width, *rest, **more)  # pyright: ignore

    monkeypatch.setattr(Generator, "__init__", note)
    path = tmp_path / "a.safetensors"
    empty = ("F16", [width, 0, 7, 7], b"")
    safetensors_of(path, {"stem.conv.weight": empty, "encode1.0.conv1.weight": empty})
    with pytest.raises(CheckpointError, match=rf"width {width} .* do not fit"):
        load_checkpoint(path)
    assert not [each for each in made if each > 2]


@pytest.mark.slow
def test_a_packed_pth_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        with archive.open("a/data/0", "w") as file:
            for _ in range(900):
                file.write(bytes(10**6))
    assert path.stat().st_size < 2 * 10**6
    with pytest.raises(CheckpointError, match=r"claims to hold 900,000,004 bytes.*--file-memory"):
        load_checkpoint(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"a{suffix}")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_checkpoint(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.bool, torch.float8_e4m3fn, torch.complex64, torch.uint8]
)
def test_other_kinds_of_numbers_are_refused(saved: Path, dtype: torch.dtype) -> None:
    with_changes(saved, head__bias=torch.zeros(3).to(dtype))
    with pytest.raises(CheckpointError, match=r"another number format.*head\.bias"):
        load_checkpoint(saved)


@pytest.mark.parametrize("value", [1e38, -1e7])
def test_weights_beyond_all_training_are_refused(saved: Path, value: float) -> None:
    with_changes(saved, head__bias=torch.tensor([0, value, 0]))
    with pytest.raises(CheckpointError, match=r"beyond 1e\+06.*head\.bias"):
        load_checkpoint(saved)


def test_how_large_a_weight_may_be(saved: Path) -> None:
    with_changes(saved, head__bias=torch.tensor([0, -1e6, 0]))
    assert load_checkpoint(saved).generator.head.bias is not None
    with_changes(saved, head__bias=torch.tensor([0, 1e6 + 0.5, 0]))
    with pytest.raises(CheckpointError, match="beyond"):
        load_checkpoint(saved)


def test_negative_variances_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, make_generator("devudp-dt"), {})
    variances = -torch.ones(8)
    with_changes(path, stem__norm__running_var=variances)
    with pytest.raises(CheckpointError, match=r"negative variances.*running_var"):
        load_checkpoint(path)


@pytest.mark.parametrize("seed", range(30))
def test_any_damage_of_a_pth_is_refused_in_words(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / "a.pth"
    torch.save(make_generator().state_dict(), path, _use_new_zipfile_serialization=seed % 3 > 0)
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 5, 50))):
        content[rng.randrange(len(content) if seed % 2 else 2000)] = rng.randrange(256)
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        load_checkpoint(path)
