"""Takes all images of the nodes again, from real runs: after the weights or the nodes changed.

    python -m tools.retake            # needs Chromium and scikit-image (for its photographs)
    python -m tools.retake "Fix this photo.app" "Restore as upscale model"      # only these

Writes the workflows' thumbnails and the images of the help pages. The photographs are
scikit-image's (CC0), made worse by DEvUDP Degrade.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tests.host.browser import find_chromium, look
from tests.host.environment import ROOT, prepare
from tests.host.prompts import Builder, Link
from tests.host.server import Server, install_pack, make_base, serve
from tests.host.test_workflows import RESTORERS, VIDEO
from tests.host.workflows import load, to_prompt, workflow_files
from tools.make_workflows import as_upscale_model

PACK = "comfyui-devudp"
DOCS = ROOT / "web" / "docs"
AS_MODEL = "Restore as upscale model"
SCALE = 2
"""Pixels of a screenshot for one of the page, so that text is sharp."""

FOR_DOCS: dict[str, tuple[str, list[str]]] = {
    "web/docs/DEvUDPLoadUpscaleModel/connections.jpg": (AS_MODEL, ["1", "2", "3"]),
    "web/docs/DEvUDPMeasure/numbers.jpg": ("Measure how well a photo was fixed", ["6"]),
}
"""What is cut out of a workflow's screenshot: these nodes."""

THUMBNAIL = (512, 384)
WIDEST, MAX_BYTES = 1600, 250_000
"""Of images in help pages."""

CUT_OUT = {"Fix a photo, then enlarge it", "Measure how well a photo was fixed"}
"""Workflows that show the middle of the image, to be told from others."""

LABELS = {"Compare deblur, brighten and both": ["before", "joint", "deblur", "low light"]}


def main(only: Sequence[str] = ()) -> int:
    chromium = find_chromium()
    if not chromium:
        print("There is no Chromium: install one, or name it in CHROMIUM.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        base, shots = Path(folder) / "base", Path(folder) / "shots"
        make_base(base)
        photograph(skimage.data.chelsea()).save(base / "input" / "example.png")
        install_pack(base / "custom_nodes" / PACK)
        with serve(prepare(), base) as server:
            spoil(server, base / "input" / "bad.png")
            files = [path for path in workflow_files() if path.stem in only or not only]
            for path in files:
                thumbnail(server, path).save(path.with_suffix(".jpg"), quality=85, optimize=True)
            take_for_docs(server)
            helped = Path(folder) / f"{AS_MODEL}.json"
            helped.write_text(json.dumps(as_upscale_model().workflow(AS_MODEL)), encoding="utf-8")
            files += [helped] if helped.stem in only or not only else []
            take_in_page(server, chromium, files, shots)
        for path in sorted(shots.rglob("*.png")):
            target = ROOT / ".cache" / "screenshots" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            print(target)
    return 0


def photograph(pixels: np.ndarray) -> Image.Image:
    """Returns a 4:3 image of 640 pixels at most."""
    image = Image.fromarray(pixels)
    width = min(640, image.width, image.height * 4 // 3)
    return ImageOps.fit(image, (width, round(width * 3 / 4)))


def spoil(server: Server, target: Path) -> None:
    """A dark and blurry image, made by the node."""
    photograph(skimage.data.coffee()).save(target)
    build = Builder()
    saved = build.save(build.degrade(build.load(target.name), blur=7.0, light=0.12, noise=0.01))
    [image] = server.images(server.run(build.prompt), saved)
    Image.fromarray(image).save(target)


def thumbnail(server: Server, path: Path) -> Image.Image:
    """Returns the first image that goes into a restoring node beside all that come out of them."""
    prompt = to_prompt(load(path), server.get("/object_info"))
    build = Builder(prompt)
    restorers = [n for n, node in prompt.items() if node["class_type"] in RESTORERS]
    if prompt[restorers[0]]["class_type"] == VIDEO:
        ends = prompt[restorers[0]]["inputs"]["video"], [restorers[0], 0]
        frames = [[build.add("GetVideoComponents", video=end), 0] for end in ends]
        before, *after = map(build.save, frames)
    else:
        before = build.save(prompt[restorers[0]]["inputs"]["image"])
        after = [build.save([number, 0]) for number in restorers]
    run = server.run(build.prompt)
    images = server.images(run, before)[:1]
    for node in after:
        images += server.images(run, node)[:1]
    if path.stem == "Fix a dark or shaky video":
        images = server.images(run, before)[:2] + server.images(run, after[0])[:2]
    if path.stem == "Fix part of a photo with a mask":
        images = images[1:]
    if path.stem in CUT_OUT:
        images = [middle(image) for image in images]
    return sheet(images, THUMBNAIL, LABELS.get(path.stem, []))


def middle(image: np.ndarray) -> np.ndarray:
    """Returns a quarter of it."""
    height, width = image.shape[:2]
    return image[height // 8 : height * 5 // 8, width // 4 : width * 3 // 4]


def sheet(
    arrays: list[np.ndarray], size: tuple[int, int], labels: Sequence[str] = ()
) -> Image.Image:
    """Two images as the left and the right part of one; more of them in two rows, labelled."""
    images = [Image.fromarray(array).resize(size, Image.Resampling.LANCZOS) for array in arrays]
    width, height = size
    if len(images) == 2:
        both, half = images[1].copy(), width // 2
        both.paste(images[0].crop((0, 0, half, height)), (0, 0))
        ImageDraw.Draw(both).line((half, 0, half, height), fill="white", width=2)
        return both
    if len(images) == 1:
        return images[0]
    rows = Image.new("RGB", size, "white")
    for number, image in enumerate(images[:4]):
        small = image.resize((width // 2 - 2, height // 2 - 2), Image.Resampling.LANCZOS)
        if number < len(labels):
            font = ImageFont.load_default(20)
            ImageDraw.Draw(small).text(
                (8, small.height - 8),
                labels[number],
                fill="white",
                font=font,
                anchor="ls",
                stroke_width=2,
                stroke_fill="black",
            )
        rows.paste(small, (number % 2 * (width // 2 + 2), number // 2 * (height // 2 + 2)))
    return rows


def take_for_docs(server: Server) -> None:
    """The help pages' own images: before | after."""
    build = Builder()
    bad, good = build.load("bad.png"), build.load()
    shown = {
        "DEvUDPRestore": (bad, build.restore(bad, checkpoint="bundled")),
        "DEvUDPRestoreVideo": frames_of(build, bad),
        "DEvUDPDegrade": (good, build.degrade(good, blur=12.0, light=0.2, noise=0.01)),
    }
    saved = {name: [build.save(link) for link in pair] for name, pair in shown.items()}
    run = server.run(build.prompt)
    for name, nodes in saved.items():
        images = [server.images(run, node)[0] for node in nodes]
        pair = Image.new("RGB", (2 * 400 + 4, 300), "white")
        for number, image in enumerate(images):
            image = Image.fromarray(image).resize((400, 300), Image.Resampling.LANCZOS)
            pair.paste(image, (number * 404, 0))
        (DOCS / name).mkdir(exist_ok=True)
        pair.save(DOCS / name / "before_after.jpg", quality=85, optimize=True)


def frames_of(build: Builder, image: Link) -> tuple[Link, Link]:
    """Adds a video of an image twice, and its restoration; returns the frames of both."""
    video = [build.add("CreateVideo", images=build.repeat(image, 2), fps=8.0), 0]
    ends = video, build.restore_video(video, checkpoint="bundled")
    before, after = ([build.add("GetVideoComponents", video=end), 0] for end in ends)
    return before, after


def take_in_page(server: Server, chromium: str, files: list[Path], shots: Path) -> None:
    """Takes what shows the page itself: parts of workflows after a run, and a node's help."""
    seen = look(prepare(), server, chromium, shots, files, scale=SCALE)["workflows"]
    for target, (name, nodes) in FOR_DOCS.items():
        if name in seen:
            chosen = [seen[name]["boxes"][number] for number in nodes]
            keep(crop(shots / f"{name}.png", chosen), ROOT / target)


def crop(shot: Path, boxes: Sequence[Sequence[float]], around: int = 28) -> Image.Image:
    """The part of a screenshot with these boxes (left, top, right, bottom on the page) in it."""
    left, top = (min(box[i] for box in boxes) - around for i in (0, 1))
    right, bottom = (max(box[i] for box in boxes) + around for i in (2, 3))
    image = Image.open(shot).convert("RGB")
    image = image.crop((SCALE * left, SCALE * top, SCALE * right, SCALE * bottom))
    image.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
    return image


def keep(image: Image.Image, target: Path) -> None:
    """A JPEG of at most MAX_BYTES."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for quality in range(92, 40, -4):
        image.save(target, quality=quality, optimize=True)
        if target.stat().st_size <= MAX_BYTES:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
