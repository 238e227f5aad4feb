"""DEvUDP Degrade: a blurred, dark, noisy image from a good one."""

from __future__ import annotations

import torch
from comfy_api.latest import io  # pyright: ignore[reportMissingImports]
from torch import Tensor

from ..devudp_model.ops.degrade import degrade
from .host import compute_device, make, progress
from .images import channels_first, channels_last, check_image, empty_like
from .inputs import CATEGORY


class DEvUDPDegrade(io.ComfyNode):
    """Makes a test image with the same camera shake, darkness and noise as the training's."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make(
            io.Schema,
            node_id="DEvUDPDegrade",
            display_name="DEvUDP Degrade: blur and darken for tests",
            category=CATEGORY,
            description=(
                "Makes a test image from a good one: camera shake, low light, sensor noise. For "
                "trying out a restoration, and for making training images."
            ),
            inputs=[
                io.Image.Input("image", tooltip="Good images: sharp and well exposed."),
                io.Float.Input(
                    "blur",
                    default=12.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    tooltip="Camera shake: the length of the streaks in pixels. 0: none.",
                ),
                io.Float.Input(
                    "light",
                    default=0.15,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="The share of the light that is left. 1: all of it; 0.1: night.",
                ),
                io.Float.Input(
                    "noise",
                    default=0.01,
                    min=0.0,
                    max=0.5,
                    step=0.005,
                    tooltip=(
                        "Sensor noise: its standard deviation, where black is 0 and white is 1. "
                        "0: none."
                    ),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=True,
                    tooltip=(
                        "The same seed gives the same shake and noise. Each image of a batch "
                        "has its own: the seed plus its place in the batch."
                    ),
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The degraded images.")],
            newer={
                "search_aliases": ["spoil", "test image", "synthetic degradation", "darken"],
            },
        )

    @classmethod
    def execute(
        cls, image: Tensor, blur: float, light: float, noise: float, seed: int
    ) -> io.NodeOutput:
        check_image(image)
        report = progress(len(image))
        result = empty_like(image)
        for i in range(len(image)):
            colours = image[i : i + 1, ..., :3].to(compute_device(), torch.float32)
            rng = torch.Generator().manual_seed(seed + i)
            worse = degrade(channels_first(colours), rng, blur=blur, light=light, noise=noise)
            result[i : i + 1, ..., :3] = channels_last(worse)
            result[i : i + 1, ..., 3:] = image[i : i + 1, ..., 3:]  # transparency stays
            report(i + 1)
        return io.NodeOutput(result)
