"""Aligns an image with its reference, as RealBlur's official evaluation does.

The reference of a pair from two cameras, or of a long exposure, is a little off. Needs OpenCV (the
extra "align").
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import ConfigError

logger = logging.getLogger("devudp")

ITERATIONS = 100
"""All of them: the search does not end early."""

SMOOTHING = 5
"""Side in pixels of the Gaussian that both images are smoothed with for the search."""


def load_opencv() -> Any:
    """Returns the module cv2.

    Raises:
        ConfigError: it is missing.
    """
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "--align and --protocol realblur need OpenCV, the extra 'align': "
            "pip install opencv-python-headless"
        ) from error
    return cv2


def aligned(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fits an image's brightness and place to its reference's.

    Where no homography is found (images without structure, or of different scenes), only the
    brightness is fitted, and a warning says so.

    Args:
        image, reference: 3,H,W uint8.

    Returns:
        The image and the reference, 3,H,W float32 about [0, 1] and black where the image does not
        cover the reference, and the mask, 1,H,W, 1 where it does.

    Raises:
        ConfigError: OpenCV is missing.
    """
    cv2 = load_opencv()
    z, x = (each.permute(1, 2, 0).numpy().astype(np.float32) / 255 for each in (image, reference))
    z *= np.sum(x * z) / max(float(np.sum(z * z)), 1e-12)  # the factor of least squares
    homography = find_homography(cv2, z, x)
    size, inverse = x.shape[1::-1], cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(
        z, homography, size, flags=cv2.INTER_CUBIC + inverse, borderMode=cv2.BORDER_REFLECT
    )
    mask = cv2.warpPerspective(
        np.ones(x.shape[:2], np.float32), homography, size, flags=cv2.INTER_NEAREST + inverse,
        borderMode=cv2.BORDER_CONSTANT, borderValue=0,
    )[..., None]  # fmt: skip
    parts = (moved * mask, x * mask, mask)
    found = tuple(torch.from_numpy(part).permute(2, 0, 1).contiguous() for part in parts)
    return found  # pyright: ignore[reportReturnType]


def find_homography(cv2: Any, image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The 3x3 matrix from places in the reference to those in the image, H,W,3 float32 both."""
    grey = [cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (reference, image)]
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ITERATIONS, 0)
    start = np.eye(3, dtype=np.float32)
    try:
        _, found = cv2.findTransformECC(
            *grey, start, cv2.MOTION_HOMOGRAPHY, until, inputMask=None, gaussFiltSize=SMOOTHING
        )
    except cv2.error as error:
        logger.warning("An image is compared without aligning it: %s", str(error).strip())
        return np.eye(3, dtype=np.float32)
    return found
