"""Finds which images a run uses, and in which domain.

A, the blurry domain: images with real blur, sharp ones to be blurred, clips to be averaged.
B, the sharp domain: sharp images that are not used in A.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import Config, ConfigError
from ..config.stages import stage_configs
from .layouts import LayoutName, list_clips, list_images, official_pairs
from .manifest import read_table
from .shards import size_in_bytes

LISTS = Path(__file__).parents[1] / "recipes"
"""Where the shipped tables lie."""


@dataclass(frozen=True)
class Domains:
    """The images by their role.

    Attributes:
        real_blurry: images of A with real blur.
        to_blur: sharp images from which A is made.
        clips: frames of videos, by clip, from which A is made.
        sharp: images of B.
        held_out: sharp images that are kept apart for validation.
    """

    real_blurry: list[Path]
    to_blur: list[Path]
    clips: list[list[Path]]
    sharp: list[Path]
    held_out: list[Path]

    @property
    def A_size(self) -> int:
        """Counts the images that A is made from: an epoch shows each once."""
        return len(self.real_blurry) + len(self.to_blur) + sum(map(len, self.clips))

    @property
    def trained_on(self) -> list[Path]:
        """Returns all images but the ones held out."""
        frames = [frame for clip in self.clips for frame in clip]
        return [*self.real_blurry, *self.to_blur, *frames, *self.sharp]

    def listing(self) -> list[str]:
        """Returns a line for each image: role, size in bytes, path; for the run's records."""
        roles = {
            "A": self.real_blurry,
            "A synthetic": self.to_blur,
            "A frame": [frame for clip in self.clips for frame in clip],
            "B": self.sharp,
            "held out": self.held_out,
        }
        return [
            f"{role}\t{size_in_bytes(path)}\t{path.as_posix()}"
            for role, paths in roles.items()
            for path in paths
        ]


def listing_hash(listing: Sequence[str]) -> str:
    """SHA-256 of a data list: roles, sizes and file names, wherever the folders lie."""
    rows = (line.split("\t") for line in listing)
    text = "\n".join(f"{role}\t{size}\t{Path(path).name}" for role, size, path in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def hold_out(sharp: list[Path], count: int) -> tuple[list[Path], list[Path]]:
    """Splits off `count` sharp images, evenly spaced in the list: the others, then these.

    Raises:
        ConfigError: there are not enough.
    """
    if not count:
        return sharp, []
    if count * 2 > len(sharp):
        raise ConfigError(
            f"data.held_out = {count} of only {len(sharp)} sharp images: keep at least half of "
            "them for the training"
        )
    places = {k * len(sharp) // count for k in range(count)}
    kept = [path for k, path in enumerate(sharp) if k not in places]
    return kept, [sharp[k] for k in sorted(places)]


def excluded_names(table: str) -> set[str]:
    """Returns the file names in a table, given by its path or by a shipped one's name; of "" none.

    Raises:
        ConfigError: there is no such table, or it has no column `file`.
    """
    if not table:
        return set()
    path = Path(table) if Path(table).exists() else LISTS / table
    if not path.is_file():
        raise ConfigError(
            f"data.exclude = {table!r}: there is no such file. Give a table with a column named "
            'file, "untuned.tsv" for the shipped one, or "" to exclude nothing'
        )
    return {Path(row["file"]).name for _, row in read_table(path, required=("file",))}


def find_domains(config: Config) -> Domains:
    """Lists the images that a recipe asks for; the same for all of its stages.

    Raises:
        FileNotFoundError: a folder is missing or empty.
        ConfigError: one of the two domains is empty.
    """
    data, stages = config.data, [stage.data for stage in stage_configs(config)]
    if data.layout != "folders":
        if not data.root:
            raise ConfigError(f"the recipe uses the tree of {data.layout}: give its data.root")
        layout: LayoutName = data.layout
        pairs = official_pairs(layout, data.root, "train", data.blur)
        blurry, sharp = [p.degraded for p in pairs], [p.reference for p in pairs]
    else:
        blurry = list_images(data.blurry) if data.blurry else []
        sharp = list_images(data.sharp) if data.sharp else []
    excluded = excluded_names(data.exclude)
    blurry, sharp = ([p for p in paths if p.name not in excluded] for paths in (blurry, sharp))
    sharp, held_out = hold_out(sharp, data.held_out)
    to_blur: list[Path] = []
    if any(stage.synthetic_blur_share > 0 for stage in stages):
        to_blur, sharp = sharp[0::2], sharp[1::2]
    uses_frames = any(stage.frames_share > 0 for stage in stages)
    clips = list_clips(data.frames) if data.frames and uses_frames else []
    clips = [[p for p in clip if p.name not in excluded] for clip in clips]
    clips = [clip for clip in clips if clip]
    if not sharp:
        raise ConfigError("no sharp images: give folders of them as --data.sharp")
    if not blurry and not clips and any(stage.synthetic_blur_share == 0 for stage in stages):
        raise ConfigError(
            "no blurry images: give folders of them as --data.blurry, or have blur synthesised "
            "(--data.synthetic-blur-share above 0, or --data.frames)"
        )
    if not blurry and not clips and not to_blur:
        raise ConfigError("no sharp images are left to be blurred: give more of them")
    if not blurry and not to_blur and any(stage.frames_share < 1 for stage in stages):
        raise ConfigError(
            "frames are the only blurry images there are: set data.frames_share to 1, or give "
            "others as --data.blurry"
        )
    return Domains(blurry, to_blur, clips, sharp, held_out)
