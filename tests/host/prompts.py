"""Prompts for the tests, piece by piece."""

from __future__ import annotations

from typing import Any

from tests.host.server import Prompt, Server

Link = list[Any]
"""[node's number, its output]."""


RESTORING: dict[str, Any] = {
    "task": "joint",
    "checkpoint": "small.safetensors",
    "strength": 1.0,
    "exposure": 1.0,
    "precision": "auto",
}
"""What all nodes with a checkpoint are asked for, unless a test says otherwise."""


class Builder:
    """Collects nodes; `prompt` is what the server takes."""

    def __init__(self, prompt: Prompt | None = None):
        self.prompt: Prompt = dict(prompt or {})

    def add(self, node_type: str, **inputs: Any) -> str:
        """Adds a node and returns its number."""
        number = str(max(map(int, self.prompt), default=0) + 1)
        self.prompt[number] = {"class_type": node_type, "inputs": inputs}
        return number

    def load(self, name: str = "example.png") -> Link:
        return [self.add("LoadImage", image=name), 0]

    def repeat(self, image: Link, amount: int) -> Link:
        return [self.add("RepeatImageBatch", image=image, amount=amount), 0]

    def resize(self, image: Link, width: int, height: int) -> Link:
        return [
            self.add(
                "ImageScale",
                image=image,
                upscale_method="bicubic",
                width=width,
                height=height,
                crop="disabled",
            ),
            0,
        ]

    def degrade(self, image: Link, **changes: Any) -> Link:
        values = {"blur": 4.0, "light": 0.4, "noise": 0.02, "seed": 1, **changes}
        return [self.add("DEvUDPDegrade", image=image, **values), 0]

    def restore(self, image: Link, **changes: Any) -> Link:
        values = {**RESTORING, "statistics": "each image", **changes}
        return [self.add("DEvUDPRestore", image=image, **values), 0]

    def restore_video(self, video: Link, **changes: Any) -> Link:
        values = {**RESTORING, **changes}
        return [self.add("DEvUDPRestoreVideo", video=video, **values), 0]

    def upscale_model(self, image: Link | None, **changes: Any) -> Link:
        values = {**RESTORING, **changes}
        if image is not None:
            values["image"] = image
        return [self.add("DEvUDPLoadUpscaleModel", **values), 0]

    def upscale(self, model: Link, image: Link) -> Link:
        return [self.add("ImageUpscaleWithModel", upscale_model=model, image=image), 0]

    def save(self, image: Link) -> str:
        return self.add("SaveImage", images=image, filename_prefix="test")


def let_go(server: Server, image: str) -> None:
    """Asks the host to free its memory, and returns once it has; `image` is one of its inputs.

    It frees after the work that it does next, so the work after that is waited for, too.
    """
    server.post("/free", {"unload_models": True, "free_memory": True})
    for _ in range(2):
        build = Builder()
        build.save(build.load(image))
        server.run(build.prompt)
