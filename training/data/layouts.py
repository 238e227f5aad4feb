"""Lists images: of folders, clips, and the official trees of the paper's four data sets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from .shards import SUFFIX as SHARD
from .shards import expand, files_in

logger = logging.getLogger("devudp")

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}

Split = Literal["train", "test"]


class Pair(NamedTuple):
    """A degraded image and its reference, under a name that is unique in its set."""

    name: str
    degraded: Path
    reference: Path


def is_image(path: Path) -> bool:
    """True if the suffix is one of `SUFFIXES`; macOS's ``._`` files are skipped."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def list_images(folders: Sequence[str | Path]) -> list[Path]:
    """Returns all images below the folders and in the shards, sorted within each.

    Args:
        folders: folders of images; folders of shards and nothing else; shards such as
            `shards/000000.tar`, or many of them: `shards/{000000..000009}.tar`.

    Raises:
        FileNotFoundError: a folder or shard that does not exist or holds no image.
        ShardError: a shard that cannot be read.
    """
    found: list[Path] = []
    for folder in (Path(name) for each in folders for name in expand(str(each))):
        shards = [folder] if folder.suffix == SHARD and folder.is_file() else []
        here = sorted(p for p in folder.rglob("*") if is_image(p))
        if not here:
            shards = shards or sorted(p for p in folder.rglob(f"*{SHARD}") if p.is_file())
            here = [path for shard in shards for path in files_in(shard) if is_image(path)]
        if not here:
            state = "holds no images" if folder.exists() else "does not exist"
            raise FileNotFoundError(
                f"{folder} {state}: give a folder with {', '.join(sorted(SUFFIXES))} files, or "
                "shards (.tar) of them"
            )
        found += here
    return found


def list_clips(folders: Sequence[str | Path]) -> list[list[Path]]:
    """Returns the frames of every clip: each folder below `folders` that holds images is one clip.

    Raises:
        FileNotFoundError: as for `list_images`.
    """
    clips: dict[Path, list[Path]] = {}
    for frame in list_images(folders):
        clips.setdefault(frame.parent, []).append(frame)
    return list(clips.values())


def folder_pairs(degraded: Path, reference: Path) -> list[Pair]:
    """Images with the same relative path below two folders, whatever their suffix.

    Raises:
        FileNotFoundError: a folder without images, or images without a partner.
    """
    sides = [
        {p.relative_to(folder).with_suffix("").as_posix(): p for p in list_images([folder])}
        for folder in (degraded, reference)
    ]
    alone = sorted(set(sides[0]) ^ set(sides[1]))
    if alone:
        raise FileNotFoundError(
            f"{len(alone)} images of {degraded} and {reference} have no partner of the same name "
            f"in the other folder (first: {alone[0]}): rename or remove them"
        )
    return [Pair(name, sides[0][name], sides[1][name]) for name in sorted(sides[0])]


def need(folder: Path, what: str) -> Path:
    """`folder`, if it exists.

    Raises:
        FileNotFoundError: it does not; the message says what was expected.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: expected {what}")
    return folder


def gopro_pairs(root: Path, split: Split, blur: str = "blur_gamma") -> list[Pair]:
    """GoPro (Nah et al., 2017): ``{train,test}/GOPR*/{blur,blur_gamma,sharp}/*.png``."""
    base = need(root / split, "GoPro's tree {train,test}/GOPR*/{blur,blur_gamma,sharp}")
    pairs = []
    for clip in sorted(p for p in base.iterdir() if p.is_dir()):
        need(clip / "sharp", f"the sharp frames of {clip.name}")
        for pair in folder_pairs(need(clip / blur, f"{blur} of {clip.name}"), clip / "sharp"):
            pairs.append(pair._replace(name=f"{clip.name}/{pair.name}"))
    return pairs


def realblur_pairs(root: Path, split: Split, blur: str = "") -> list[Pair]:
    """RealBlur-J (Rim et al., 2020): ``RealBlur_J_{train,test}_list.txt`` in `root`.

    Each line names the sharp image, then the blurry one, relative to `root`.

    Raises:
        FileNotFoundError: no list, or an image that it names is missing.
        ValueError: a line that does not name two images.
    """
    list_file = root / f"RealBlur_J_{split}_list.txt"
    if not list_file.is_file():
        raise FileNotFoundError(f"no {list_file}: put RealBlur-J's own list files beside its tree")
    pairs = []
    for number, line in enumerate(list_file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        names = line.split()
        if len(names) != 2:
            raise ValueError(f"{list_file}, line {number}: expected two paths, sharp and blurry")
        reference, degraded = (root / name for name in names)
        for path in (reference, degraded):
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing, named by {list_file}, line {number}")
        name = f"{degraded.parent.parent.name}/{degraded.stem}"
        pairs.append(Pair(name, degraded, reference))
    return pairs


LOL_MISMATCHED = frozenset({"79", "111", "735"})
"""Pairs of LOL's training part that are reported to show two different scenes
(github.com/weichen582/RetinexNet/issues/9). Its test part has no such report."""


def lol_pairs(root: Path, split: Split, blur: str = "") -> list[Pair]:
    """LOL (Wei et al., 2018): ``our485`` and ``eval15``, each with ``low`` and ``high``.

    The training part comes without `LOL_MISMATCHED`, which is said.
    """
    base = need(root / ("our485" if split == "train" else "eval15"), "LOL's our485 and eval15")
    pairs = folder_pairs(base / "low", base / "high")
    wrong = [pair.name for pair in pairs if split == "train" and pair.name in LOL_MISMATCHED]
    if wrong:
        logger.info("LOL without %s, whose images do not belong together", ", ".join(wrong))
    return [pair for pair in pairs if pair.name not in wrong]


def lol_blur_pairs(root: Path, split: Split, blur: str = "low_blur") -> list[Pair]:
    """LOL-Blur (Zhou et al., 2022): ``{train,test}/{low_blur,high_sharp_scaled}/*/*.png``.

    `blur` may be ``low_blur_noise``, which the training part has too.
    """
    base = need(root / split, "LOL-Blur's {train,test}/{low_blur,high_sharp_scaled}")
    return folder_pairs(base / blur, base / "high_sharp_scaled")


class Layout(NamedTuple):
    """An official tree: its name for people, how to find its pairs, and its kinds of blurry images,
    the default first."""

    label: str
    pairs: Callable[[Path, Split, str], list[Pair]]
    blurs: tuple[str, ...] = ("",)


LayoutName = Literal["gopro", "realblur-j", "lol", "lol-blur"]

LAYOUTS: dict[LayoutName, Layout] = {
    "gopro": Layout("GoPro", gopro_pairs, ("blur_gamma", "blur")),
    "realblur-j": Layout("RealBlur-J", realblur_pairs),
    "lol": Layout("LOL", lol_pairs),
    "lol-blur": Layout("LOL-Blur", lol_blur_pairs, ("low_blur", "low_blur_noise")),
}


def official_pairs(
    layout: LayoutName, root: str | Path, split: Split, blur: str = ""
) -> list[Pair]:
    """Returns the pairs of an official tree.

    Args:
        layout: which data set.
        root: its folder, as unpacked.
        split: its training or its test part.
        blur: which kind of its blurry images; empty: the layout's default.

    Raises:
        FileNotFoundError: the tree is missing or incomplete.
        ValueError: a kind of blurry images that the set does not have.
    """
    entry = LAYOUTS[layout]
    blur = blur or entry.blurs[0]
    if blur not in entry.blurs:
        raise ValueError(f"{layout} has no {blur!r}: choose one of {', '.join(entry.blurs)}")
    pairs = entry.pairs(Path(root), split, blur)
    if not pairs:
        raise FileNotFoundError(f"no pairs in the {split} part of {root} ({layout})")
    return pairs
