"""Between the host's layout of images and masks and the network's."""

from __future__ import annotations

import torch
from torch import Tensor

from .host import intermediate_device, intermediate_dtype

NO_MASK = (64, 64)
"""Size of the empty mask that the host's Load Image gives for images without transparency."""


def channels_first(image: Tensor) -> Tensor:
    """IMAGE B,H,W,C to B,C,H,W: the same memory seen in another order, so it costs nothing."""
    return image.movedim(-1, 1)


def channels_last(image: Tensor) -> Tensor:
    """B,C,H,W to IMAGE B,H,W,C, likewise."""
    return image.movedim(1, -1)


def empty_like(image: Tensor) -> Tensor:
    """Room for the result of a node: as large as `image`, where and as the host wants images."""
    return torch.empty(image.shape, dtype=intermediate_dtype(), device=intermediate_device())


def check_image(image: Tensor, *, may_be_empty: bool = True) -> None:
    """Checks an IMAGE as other nodes give it.

    Args:
        image: B,H,W,C.
        may_be_empty: whether a batch of no images will do.

    Raises:
        ValueError: it is no image, has no pixels, or pixels that are not finite.
    """
    shape = list(image.shape)
    if image.ndim != 4 or image.shape[3] not in (1, 3, 4):
        raise ValueError(
            f"The image has shape {shape}, which is not an image: connect an output of type IMAGE."
        )
    if 0 in image.shape[1:]:
        raise ValueError(
            f"The image is {image.shape[2]}x{image.shape[1]} pixels: look at the node that made "
            "it, for instance a crop or a resize."
        )
    if not len(image) and not may_be_empty:
        raise ValueError(
            "There are no images in the batch: look at the node that made it, for instance a "
            "selection of frames."
        )
    check_finite(image, "image")


def check_finite(values: Tensor, name: str) -> None:
    """Raises ValueError if an IMAGE or MASK has numbers that are none."""
    if values.numel() and not torch.stack(torch.aminmax(values)).isfinite().all():
        raise ValueError(
            f"The {name} has pixels that are not numbers (NaN or infinite). A node before this one "
            "made them: often a VAE or a model in fp16 that needs fp32. Look at its result with "
            "Preview Image, where such pixels are black."
        )


def clean_mask(mask: Tensor | None, images: int) -> Tensor | None:
    """MASK (B,H,W or H,W; some nodes give B,1,H,W) to B,1,H,W, or None where there is none.

    Raises:
        ValueError: neither one mask nor one for each image, or not a mask at all.
    """
    if mask is None:
        return None
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim == 3:
        mask = mask[:, None]
    if mask.ndim != 4 or mask.shape[1] != 1 or 0 in mask.shape:
        raise ValueError(
            f"The mask has shape {list(mask.shape)}, which is not a mask: connect an output of "
            "type MASK."
        )
    if len(mask) not in (1, images):
        raise ValueError(
            f"There are {len(mask)} masks for {images} images: connect one mask for all of "
            "them, or exactly one for each."
        )
    check_finite(mask, "mask")
    if tuple(mask.shape[-2:]) == NO_MASK and not mask.any():
        return None  # nobody painted this mask, and it must not silence the node
    return mask
