"""Stand-ins for the host's modules in both shapes that it has had, to test what differs.

They have only what the pack uses; the real host is tested in the other files.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from PIL import Image

from tests.host.environment import ROOT

Shape = Literal["old", "new"]
"""ComfyUI 0.3.64 and 0.38."""


class Interrupted(Exception):
    """The host's InterruptProcessingException."""


@dataclass
class Calls:
    """What the pack asked of the host."""

    freed: list[tuple[float, torch.device]] = field(default_factory=list)
    emptied: int = 0
    progress: list[float] = field(default_factory=list)
    previews: list[tuple[str, Image.Image, int]] = field(default_factory=list)
    interrupt_at: int | None = None
    replaced: list[Any] = field(default_factory=list)

    @property
    def whole(self) -> list[float]:
        """The progress in whole images; slow machines are told of parts of one, too, and a preview
        can come without progress."""
        return [value for value in self.progress if value == int(value)]


class Patcher:
    """The host's ModelPatcher."""

    def __init__(self, model: Any, load_device: torch.device, offload_device: torch.device):
        self.model, self.load_device, self.offload_device = model, load_device, offload_device


class CorePatcher(Patcher):
    """What newer hosts use for upscale models."""


def fake_management(shape: Shape, calls: Calls) -> ModuleType:
    module: Any = ModuleType("comfy.model_management")
    cpu = torch.device("cpu")
    for name in ("get_torch_device", "intermediate_device", "vae_offload_device"):
        setattr(module, name, lambda: cpu)
    module.unet_offload_device = lambda: cpu
    module.vae_dtype = lambda device, allowed: torch.float32
    module.get_free_memory = lambda device: 8 * 2**30
    module.module_size = lambda module: sum(p.nbytes for p in module.parameters())
    module.InterruptProcessingException = Interrupted
    module.throw_exception_if_processing_interrupted = lambda: None
    if shape == "old":
        module.free_memory = lambda needed, device, keep_loaded=(): calls.freed.append(
            (needed, device)
        )
        module.OOM_EXCEPTION = torch.OutOfMemoryError
    else:
        module.free_memory = lambda needed, device, keep_loaded=(), pins_required=0: (
            calls.freed.append((needed, device))
        )
        module.intermediate_dtype = lambda: torch.float16

        def raise_non_oom(error: Exception) -> None:
            if not isinstance(error, torch.OutOfMemoryError):
                raise error

        module.raise_non_oom = raise_non_oom

    def soft_empty_cache() -> None:
        calls.emptied += 1

    module.soft_empty_cache = soft_empty_cache
    return module


def fake_api(shape: Shape, calls: Calls) -> ModuleType:
    """`comfy_api.latest` with inputs, outputs and schemas that keep what they are given."""

    class OldInput:
        def __init__(self, id: str, **details: Any):
            if "advanced" in details:
                raise TypeError("unexpected keyword argument 'advanced'")
            self.id, self.details = id, details

    class OldCombo(OldInput):
        def __init__(self, id: str, options: Any = None, default: Any = None, tooltip: Any = None):
            super().__init__(id, options=options, default=default, tooltip=tooltip)

    class NewCombo(OldInput):
        def __init__(
            self,
            id: str,
            options: Any = None,
            default: Any = None,
            tooltip: Any = None,
            advanced: Any = None,
        ):
            super().__init__(id, options=options, default=default, tooltip=tooltip)
            self.advanced = advanced

    @dataclass
    class OldSchema:
        node_id: str
        display_name: str = ""
        category: str = ""
        inputs: Any = None
        outputs: Any = None
        description: str = ""
        is_output_node: bool = False
        is_deprecated: bool = False

    @dataclass
    class NewSchema(OldSchema):
        search_aliases: Any = None
        has_intermediate_output: bool = False

    class Replacements:
        """What newer hosts are told of nodes that go."""

        async def register(self, replacement: Any) -> None:
            calls.replaced.append(replacement)

    class Output:
        def __init__(self, **details: Any):
            self.details = details

    class NodeOutput:
        def __init__(self, *args: Any, ui: Any = None):
            self.args, self.ui = args, ui

    kind = SimpleNamespace(Input=OldInput, Output=Output)
    combo = SimpleNamespace(Input=OldCombo if shape == "old" else NewCombo)
    module: Any = ModuleType("comfy_api.latest")
    module.ComfyExtension = object
    module.ui = SimpleNamespace(PreviewText=str)
    module.io = SimpleNamespace(
        ComfyNode=object,
        Schema=OldSchema if shape == "old" else NewSchema,
        NodeOutput=NodeOutput,
        Combo=combo,
        **{name: kind for name in ("Image", "Mask", "Float", "Int", "UpscaleModel")},
    )
    if shape == "new":
        module.ComfyAPI = lambda: SimpleNamespace(node_replacement=Replacements())
        module.io.NodeReplace = lambda new, old, **more: SimpleNamespace(new=new, old=old, **more)
    return module


def fake_folder_paths(models: str) -> ModuleType:
    module: Any = ModuleType("folder_paths")
    module.models_dir = models
    module.get_user_directory = module.get_input_directory = lambda: models
    module.folder_names_and_paths = {}

    def add_model_folder_path(name: str, path: str, is_default: bool = False) -> None:
        module.folder_names_and_paths.setdefault(name, ([], set()))[0].append(path)

    module.add_model_folder_path = add_model_folder_path
    module.get_filename_list = lambda name: ["own.safetensors"]
    for kind in ("user", "input", "temp"):
        folder = str(Path(models) / kind)
        setattr(module, f"get_{kind}_directory", lambda folder=folder: folder)
    return module


class Bar:
    """The host's ProgressBar; the user presses Cancel at `calls.interrupt_at`."""

    calls: Calls

    def __init__(self, total: int):
        self.total = total

    def update_absolute(self, value: float, total: Any = None, preview: Any = None) -> None:
        if preview is not None:
            self.calls.previews.append(preview)
        if preview is None or value not in (0, *self.calls.progress[-1:]):
            self.calls.progress.append(value)
        if value == self.calls.interrupt_at:
            raise Interrupted


@dataclass
class Pack:
    """The pack as loaded into a fake host."""

    name: str
    calls: Calls
    management: Any
    nodes: dict[str, Any]

    def module(self, name: str) -> Any:
        """One of its modules, e.g. "nodes.run_on_host"."""
        return sys.modules[f"{self.name}.{name}"]


LIBRARIES: dict[Shape, dict[str, ModuleType]] = {}
"""The pack's devudp_model is imported once, not for each test: it knows nothing of its host."""


def load_pack(monkeypatch: pytest.MonkeyPatch, shape: Shape, models: str) -> Pack:
    """Imports the pack as the host does: by its folder's path, whatever that is called."""
    calls = Calls()
    management, utils = fake_management(shape, calls), ModuleType("comfy.utils")
    patchers: Any = ModuleType("comfy.model_patcher")
    patchers.ModelPatcher = Patcher
    if shape == "new":
        patchers.CoreModelPatcher = CorePatcher
    utils.ProgressBar = type("ProgressBar", (Bar,), {"calls": calls})  # type: ignore[attr-defined]
    arguments: Any = ModuleType("comfy.cli_args")
    arguments.args = SimpleNamespace(force_fp32=False)
    comfy: Any = ModuleType("comfy")
    comfy.model_management, comfy.model_patcher, comfy.utils = management, patchers, utils
    fakes = {
        "comfy": comfy,
        "comfy.cli_args": arguments,
        "comfy.model_management": management,
        "comfy.model_patcher": patchers,
        "comfy.utils": utils,
        "comfy_api": ModuleType("comfy_api"),
        "comfy_api.latest": fake_api(shape, calls),
        "folder_paths": fake_folder_paths(models),
    }
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
    name = f"/custom_nodes/De-V_x_udp {shape}"
    for known in [known for known in sys.modules if known.startswith(name)]:
        monkeypatch.delitem(sys.modules, known)
    for known, library in LIBRARIES.setdefault(shape, {}).items():
        monkeypatch.setitem(sys.modules, known, library)
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    extension: Any = asyncio.run(module.comfy_entrypoint())
    nodes = asyncio.run(extension.get_node_list())
    for known in [known for known in sys.modules if known.startswith(f"{name}.devudp_model")]:
        LIBRARIES[shape][known] = sys.modules[known]
    return Pack(name, calls, management, {node.__name__: node for node in nodes})


def restore_node(pack: Pack, image: torch.Tensor, **changes: Any) -> Any:
    """What DEvUDP Restore gives, with weights of a few kilobytes."""
    values = {
        "task": "joint",
        "checkpoint": "own.safetensors",
        "strength": 1.0,
        "exposure": 1.0,
        "precision": "fp32",
        "statistics": "each image",
        **changes,
    }
    return pack.nodes["DEvUDPRestore"].execute(image, **values)
