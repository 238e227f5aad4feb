"""The paper's own results: Tables 1 to 3."""

from __future__ import annotations

from typing import NamedTuple


class Means(NamedTuple):
    """A row of a table: the means of a method over a set.

    PSNR in dB, MAE on the scale 0..255; LPIPS is None where it was not computed.
    """

    method: str
    psnr: float
    ssim: float
    mae: float
    lpips: float | None


PAPER: dict[str, list[Means]] = {
    # Table 1; a star: scaled down before inference.
    "gopro": [
        Means("paper: CycleGAN", 22.54, 0.720, 13.95, 0.243),
        Means("paper: UID-GAN", 23.56, 0.738, 11.38, 0.289),
        Means("paper: FCL-GAN", 24.84, 0.771, 9.63, 0.239),
        Means("paper: DEvUDP", 22.19, 0.708, 14.30, 0.253),
        Means("paper: DEvUDP-DT", 25.15, 0.786, 9.56, 0.272),
    ],
    "gopro 640x360": [
        Means("paper: CRNet*", 25.88, 0.803, 9.12, 0.192),
        Means("paper: DEvUDP-DT*", 26.69, 0.822, 8.54, 0.205),
    ],
    "realblur-j": [
        Means("paper: CycleGAN", 19.79, 0.633, 22.39, 0.247),
        Means("paper: UID-GAN", 22.87, 0.671, 13.41, 0.235),
        Means("paper: FCL-GAN", 25.36, 0.736, 9.58, 0.193),
        Means("paper: DEvUDP", 19.75, 0.617, 22.18, 0.261),
        Means("paper: DEvUDP-DT", 25.87, 0.790, 8.69, 0.201),
    ],
    "realblur-j 320x360": [
        Means("paper: CRNet*", 24.05, 0.715, 13.02, 0.146),
        Means("paper: DEvUDP-DT*", 26.55, 0.831, 8.80, 0.137),
    ],
    # Table 2
    "lol": [
        Means("paper: LIME", 14.22, 0.514, 50.92, 0.368),
        Means("paper: Zhang et al.", 14.02, 0.513, 51.91, 0.372),
        Means("paper: Zero-DCE", 14.97, 0.500, 41.62, 0.432),
        Means("paper: Zero-DCE++", 14.80, 0.516, 43.72, 0.413),
        Means("paper: RUAS", 16.40, 0.500, 39.11, 0.270),
        Means("paper: SCI", 14.02, 0.508, 52.36, 0.388),
        Means("paper: DEvUDP", 16.88, 0.667, 36.27, 0.326),
    ],
    # Table 3
    "lol-blur": [
        Means("paper: FCL-GAN, then Zero-DCE", 9.07, 0.515, 86.03, 0.495),
        Means("paper: Zero-DCE, then UID-GAN", 12.23, 0.574, 59.46, 0.368),
        Means("paper: UID-GAN, then RUAS", 6.88, 0.454, 109.46, 0.510),
        Means("paper: RUAS, then FCL-GAN", 12.72, 0.602, 57.50, 0.406),
        Means("paper: DEvUDP", 18.03, 0.653, 28.14, 0.323),
    ],
}
"""By `TestSet.paper`. RealBlur-J's are of the images as they are, not aligned (`--align`)."""
