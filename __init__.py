"""DEvUDP for ComfyUI: this folder lies in `custom_nodes` under any name.

The host imports this file, serves `WEB_DIRECTORY` (help pages), and awaits `comfy_entrypoint`.
Nothing of the host is imported before that, so tools may import this file without a host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes.extension import DEvUDPExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> DEvUDPExtension:
    """The pack's nodes, as the host (ComfyUI 0.3.64 and later) asks for them."""
    from .nodes.extension import DEvUDPExtension

    return DEvUDPExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
