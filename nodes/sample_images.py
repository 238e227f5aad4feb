"""Sample images in the host's input folder: the example workflows load them."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import folder_paths  # pyright: ignore[reportMissingImports]

logger = logging.getLogger("devudp")

SAMPLES = Path(__file__).parents[1] / "samples"
NAMES = {
    "devudp_dark_and_blurred.jpg": "dark_blurry_flowers.jpg",
    "devudp_dark.jpg": "dark_coffee.jpg",
    "devudp_blurred.jpg": "blurry_cat.jpg",
    "devudp_good.jpg": "good/flowers.jpg",
}
"""The name in the input folder: the file in samples/."""

MARKER = "devudp_samples.txt"
"""In the user's folder, which outlives an update of the pack: what was copied once already."""


def copy_samples_once() -> None:
    """Copies each sample once; one that is there, or was deleted by the user, is left alone."""
    marker = Path(folder_paths.get_user_directory()) / MARKER
    folder = Path(folder_paths.get_input_directory())
    try:
        known = set(marker.read_text(encoding="utf-8").split()) if marker.exists() else set()
        new = [name for name in NAMES if name not in known]
        if not new:
            return
        # First the marker: if it cannot be written, nothing may come again at every start.
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text("\n".join([*sorted(known), *new]) + "\n", encoding="utf-8")
        copied = [name for name in new if copy(SAMPLES / NAMES[name], folder / name)]
    except OSError as error:
        logger.warning("The sample images could not be copied to %s: %s", folder, error)
        return
    if copied:
        logger.info(
            "DEvUDP copied sample images to %s, for its example workflows: %s. "
            "Delete them if you like: they are not copied again.",
            folder,
            ", ".join(copied),
        )


def copy(source: Path, target: Path) -> bool:
    """True if the file was copied; one of that name, or a sample that is missing, is no error."""
    if target.exists() or not source.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return True
