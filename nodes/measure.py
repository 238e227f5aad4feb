"""DEvUDP Measure: how far two images are apart, in numbers."""

from __future__ import annotations

import math

import torch
from comfy_api.latest import io, ui  # pyright: ignore[reportMissingImports]
from torch import Tensor

from ..devudp_model.ops.dtypes import from_unit
from ..devudp_model.ops.metrics import mae, psnr, ssim
from .host import make, progress
from .images import channels_first, check_image
from .inputs import CATEGORY, SHOWS_WHAT_IT_DID


class DEvUDPMeasure(io.ComfyNode):
    """PSNR, SSIM and MAE between two batches, as numbers on the node and as outputs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make(
            io.Schema,
            node_id="DEvUDPMeasure",
            display_name="DEvUDP Measure: PSNR, SSIM, MAE",
            category=CATEGORY,
            description=(
                "Measures how close images come to a reference: PSNR, SSIM and MAE of the 8-bit "
                "images, averaged over the batch. The numbers appear on the node."
            ),
            inputs=[
                io.Image.Input(
                    "image", tooltip="The images to measure, for instance restored ones."
                ),
                io.Image.Input(
                    "reference",
                    tooltip=(
                        "What they should look like: as many images of the same size, or one "
                        "for all."
                    ),
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="PSNR",
                    tooltip="Peak signal-to-noise ratio in dB: higher is closer.",
                ),
                io.Float.Output(
                    display_name="SSIM",
                    tooltip="Structural similarity: higher is closer, 1 is the same image.",
                ),
                io.Float.Output(
                    display_name="MAE",
                    tooltip="Mean absolute error in steps of 1/255: lower is closer.",
                ),
            ],
            is_output_node=True,
            newer={
                "search_aliases": ["PSNR", "SSIM", "MAE", "metrics", "compare images"],
                **SHOWS_WHAT_IT_DID,
            },
        )

    @classmethod
    def execute(cls, image: Tensor, reference: Tensor) -> io.NodeOutput:
        check(image, reference)
        report = progress(len(image))
        rows = []
        for i in range(len(image)):
            pair = to_bytes(image[i]), to_bytes(reference[i if len(reference) > 1 else 0])
            rows.append((psnr(*pair), ssim(*pair), mae(*pair)))
            report(i + 1)
        means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        return io.NodeOutput(*means, ui=ui.PreviewText(describe(means, len(rows))))


def check(image: Tensor, reference: Tensor) -> None:
    """Raises a ValueError for images that cannot be compared."""
    for each in (image, reference):
        check_image(each, may_be_empty=False)
    if image.shape[1:3] != reference.shape[1:3]:
        (h, w), (rh, rw) = image.shape[1:3], reference.shape[1:3]
        raise ValueError(
            f"The images are {w}x{h}, the reference is {rw}x{rh}. Only images of one size can "
            "be compared: scale or crop one of them first, for instance with Upscale Image."
        )
    if len(reference) not in (1, len(image)):
        raise ValueError(
            f"There are {len(image)} images and {len(reference)} references: connect one "
            "reference for all images, or exactly one for each."
        )


def to_bytes(image: Tensor) -> Tensor:
    """H,W,C in [0, 1] to 3,H,W uint8 in main memory; transparency does not count."""
    colours = image[..., :3].cpu().expand(*image.shape[:2], 3).float()  # they may differ in device
    return channels_first(from_unit(colours, torch.uint8)[None])[0]


def describe(means: list[float], images: int) -> str:
    """Returns the text on the node."""
    decibel = "∞" if math.isinf(means[0]) else f"{means[0]:.2f}"
    text = f"PSNR {decibel} dB\nSSIM {means[1]:.4f}\nMAE {means[2]:.2f} of 255"
    return text if images == 1 else f"{text}\n(mean of {images} images)"
