"""ComfyUI as it is: every difference between its versions is dealt with here, and only here.

Supported from 0.3.64 on. Both ways that the host has known are kept for each of these:

=====================  ===========================  =============================================
what                   older hosts (0.3.64)         newer hosts (0.38)
=====================  ===========================  =============================================
dtype of images      always float32               `intermediate_dtype()`, may be half precision
out of memory          `OOM_EXCEPTION` to catch     `raise_non_oom(error)` to call
schema                 no `search_aliases`,         has them
                       no input `advanced`
upscale models         `.to(device)` is called      `.patcher`, a `CoreModelPatcher`, is loaded
videos                 in `comfy_api.input_impl`    in `comfy_api.latest.InputImpl`, can be cut,
                                                    know their bits and colours
text on a node         in the log only              `PromptServer.send_progress_text`
after a reload         texts and views are gone     `has_intermediate_output` in the schema
replacing a node       `is_deprecated` only         `ComfyAPI().node_replacement`
=====================  ===========================  =============================================
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol

import comfy.model_management as management  # pyright: ignore[reportMissingImports]
import comfy.model_patcher as model_patcher  # pyright: ignore[reportMissingImports]
import comfy.utils  # pyright: ignore[reportMissingImports]
import torch
from comfy.cli_args import args as arguments  # pyright: ignore[reportMissingImports]
from PIL import Image
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ..devudp_model.system import memory


def make(factory: Callable[..., Any], *args: Any, newer: dict[str, Any], **kwargs: Any) -> Any:
    """`factory(*args, **kwargs)`, with those arguments out of `newer` that this host knows."""
    known = inspect.signature(factory).parameters
    return factory(*args, **kwargs, **{key: newer[key] for key in newer if key in known})


def compute_device() -> torch.device:
    """Returns where the host wants networks to run."""
    return management.get_torch_device()


def intermediate_device() -> torch.device:
    """Returns where the host wants images to lie between nodes."""
    return management.intermediate_device()


def intermediate_dtype() -> torch.dtype:
    """Returns the dtype that ComfyUI expects of IMAGE."""
    choose = getattr(management, "intermediate_dtype", None)
    return choose() if choose else torch.float32


def network_dtype(device: torch.device) -> torch.dtype | None:
    """Returns the dtype in which ComfyUI runs image networks on that device.

    The host's rule for its own image networks: its arguments first (--fp32-vae, --force-fp32, ...),
    then what the device is good at. None: it has no opinion; of CPUs it only knows float32.
    """
    chosen = management.vae_dtype(device, [torch.float16, torch.bfloat16])
    forced = any(getattr(arguments, name, False) for name in ("force_fp32", "fp32_vae"))
    if device.type == "cpu" and chosen == torch.float32 and not forced:
        return None
    return chosen


def free_bytes(device: torch.device) -> int:
    """Memory that could be used on the device now."""
    return int(management.get_free_memory(device))


def is_interrupt(error: BaseException) -> bool:
    """True if the user pressed Cancel."""
    return isinstance(error, management.InterruptProcessingException)


def is_out_of_memory(error: BaseException) -> bool:
    """True if memory ran out (so that trying again with less can help)."""
    if is_interrupt(error) or not isinstance(error, Exception):
        return False
    if memory.is_out_of_memory(error):
        return True
    if hasattr(management, "raise_non_oom"):
        try:
            management.raise_non_oom(error)
        except Exception:
            return False
        return True
    kind = getattr(management, "OOM_EXCEPTION", MemoryError)
    return kind is not Exception and isinstance(error, kind)  # Exception: the host does not know


def empty_cache() -> None:
    """Gives memory that torch only keeps in reserve back to the device."""
    management.soft_empty_cache()


PREVIEW_PIXELS = 512
"""Of the long side of an image that the host shows while a node works."""

MEMORY = memory.MemoryApi(is_out_of_memory, free_bytes, empty_cache)
"""ComfyUI's, for `Restorer` and `attempts`."""


@contextmanager
def on_device(module: nn.Module, working_bytes: int) -> Iterator[torch.device]:
    """`module` on the compute device for as long as the block runs, and room to work there.

    The host first unloads what it must. Whatever happens in the block, the module leaves the device
    again, so that nothing stays there that the host does not know of.
    """
    device = compute_device()
    management.free_memory(working_bytes + management.module_size(module), device)
    try:
        move(module, device)
        yield device
    finally:
        move(module, management.vae_offload_device())


def move(module: nn.Module, device: torch.device) -> None:
    """Nodes run in inference mode, whose tensors do not count their changes; so not in it.

    (`layers_of` in the engine needs the count.)
    """
    with torch.inference_mode(False):
        module.to(device)


@contextmanager
def cancellable() -> Iterator[None]:
    """Lets the user cancel within the block before every layer of a network, not only images.

    One large image, or a video whose frames share their statistics, can take minutes.
    """

    def check(*_: Any) -> None:
        management.throw_exception_if_processing_interrupted()

    handle = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


def patcher(module: nn.Module) -> Any:
    """Returns what newer hosts load, move and unload a network by."""
    kind = getattr(model_patcher, "CoreModelPatcher", model_patcher.ModelPatcher)
    return kind(
        module,
        load_device=compute_device(),
        offload_device=management.unet_offload_device(),
    )


class Report(Protocol):
    """Tells the host of progress."""

    def __call__(self, done: float, preview: Image.Image | None = None) -> None:
        """Steps done, parts of one count; `preview` is shown on the node, at most 512 pixels.

        Raises if the user pressed Cancel; let that pass through.
        """


def progress(total: int) -> Report:
    """Returns a progress bar on the node, of `total` steps."""
    bar = comfy.utils.ProgressBar(total)

    def report(done: float, preview: Image.Image | None = None) -> None:
        management.throw_exception_if_processing_interrupted()
        if preview is None:
            bar.update_absolute(done)
        else:
            bar.update_absolute(done, preview=("JPEG", preview, PREVIEW_PIXELS))

    return report


def video_from_file(path: str) -> Any:
    """Returns a VIDEO of the host, of a file."""
    return video_types()[0](path)


def trim_window(video: Any) -> tuple[float, float] | None:
    """Start and length in seconds of the part that a VIDEO is of its file; (0, 0): all of it.

    None: a part, but this host does not tell which (versions that cut, but do not say where).
    """
    if hasattr(video, "get_active_trim_window"):
        return video.get_active_trim_window()
    whole = video_types()[0](video.get_stream_source()).get_duration()
    return (0.0, 0.0) if abs(whole - video.get_duration()) < 0.01 else None


def video_from_frames(components: Any, like: Any) -> Any:
    """A VIDEO of frames in memory, to be saved with as many bits as `like`, another VIDEO."""
    depth = like.get_bit_depth() if hasattr(like, "get_bit_depth") else 8
    return make(video_types()[1], components, newer={"bit_depth": depth})


def is_hdr(video: Any) -> bool:
    """True if the host says so of a VIDEO; frames in memory never are, whatever they came from."""
    told = video.get_color_space() if hasattr(video, "get_color_space") else "auto"
    return told not in ("auto", "sRGB")


def video_types() -> tuple[type, ...]:
    """The host's class of a VIDEO that is a file, and of one that is made of frames; () if none."""
    for name in ("comfy_api.latest", "comfy_api.latest._input_impl", "comfy_api.input_impl"):
        try:
            module = import_module(name)
        except ImportError:
            continue
        place = getattr(module, "InputImpl", module)
        kinds = [getattr(place, kind, None) for kind in ("VideoFromFile", "VideoFromComponents")]
        if all(kinds):
            return tuple(kinds)  # pyright: ignore[reportReturnType]
    return ()


async def suggest_instead(old: str, new: str, widgets: list[str], inputs: list[str]) -> None:
    """Tells the host which node replaces one that goes, if it has a place for that.

    Args:
        old: the node that goes.
        new: the node in its place, whose inputs have the same names.
        widgets: of the old one, in the order in which workflows hold their values.
        inputs: those whose values are taken over.
    """
    try:
        from comfy_api.latest import ComfyAPI, io  # pyright: ignore[reportMissingImports]

        register, kind = ComfyAPI().node_replacement.register, io.NodeReplace
    except (ImportError, AttributeError):
        return
    taken_over = [{"new_id": name, "old_id": name} for name in inputs]
    await register(kind(new, old, old_widget_ids=widgets, input_mapping=taken_over))


def show_text(text: str) -> None:
    """Shows a text on the node that runs now, where the host can."""
    try:
        from comfy_execution.utils import (  # pyright: ignore[reportMissingImports]
            get_executing_context,
        )
        from server import PromptServer  # pyright: ignore[reportMissingImports]

        context, server = get_executing_context(), PromptServer.instance
        if context is not None:
            server.send_progress_text(text, context.node_id)
    except (ImportError, AttributeError):  # older hosts have no such thing; the log has the text
        pass
