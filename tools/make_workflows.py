"""Writes the example workflows and blueprints: places, sizes, and the version of the pack.

    python -m tools.make_workflows

Run it after a change here or of the version in pyproject.toml; `test_layout.py` compares the files.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.host.environment import ROOT
from tools.blueprints import BLUEPRINTS, RESTORE, blueprint
from tools.workflow_graph import ACROSS, Graph

BYPASSED = 4
DEGRADE = [8.0, 0.2, 0.01, 1, "fixed"]
LARGE = 420, 420
NUMBERS = ACROSS, 180
BAD, GOOD = "devudp_dark_and_blurred.jpg", "devudp_good.jpg"
DARK, BLURRED = "devudp_dark.jpg", "devudp_blurred.jpg"


def load(graph: Graph, image: str, at: tuple[int, int], title: str = "Your photo") -> int:
    return graph.add("LoadImage", at, title, [image, "image"], size=(ACROSS, 400))


def demonstration(graph: Graph, at: tuple[int, int]) -> int:
    """DEvUDP Degrade, switched off and beside the way that the photo takes."""
    return graph.add("DEvUDPDegrade", at, "Demo: spoil a good photo", DEGRADE, mode=BYPASSED)


DEMO_NOTE = (
    "*Demo: spoil a good photo* is switched off (bypassed). To try it, select it, press Ctrl+B, "
    "and connect it between a good photo and **Restore**."
)


def fix(image: str = BAD) -> Graph:
    graph = Graph(
        "Choose your photo in **Your photo** and press **Run**. The result is saved in ComfyUI's "
        "folder *output/devudp*. Move the pointer over the image on **Restore** to compare.\n\n"
        "**task**: *auto* measures the photo, does what it needs, and shows on the node what it "
        "did; a good photo stays as it is. Or choose yourself: *joint* for dark **and** blurred, "
        "*low light* for dark, *deblur* for blurred. Result too strong? Lower *strength*.\n\n"
        "**Save Image** keeps 8 bits. For 16 bits or EXR, newer ComfyUI has **Save Image "
        "(Advanced)**.",
        (720, 170),
        (0, -270),
    )
    photo = load(graph, image, (0, 0))
    restored = graph.add("DEvUDPRestore", (400, 0), "Restore", ["auto", *RESTORE], (photo, 0))
    saved = graph.add(
        "SaveImage", (800, 0), "Fixed photo", ["devudp/restored"], (restored, 0), size=LARGE
    )
    settings = [(restored, name) for name in ("task", "strength", "exposure", "denoise")]
    graph.show_as_app([(photo, "image"), *settings], [saved])
    return graph


def compare() -> Graph:
    graph = Graph(
        "One photo, three tasks. *joint* is for a photo that is dark **and** blurred, *deblur* for "
        "a blurred one with good light, *low light* for a dark, sharp one.\n\n" + DEMO_NOTE,
        (ACROSS, 330),
        (0, 500),
    )
    photo = load(graph, BAD, (0, 0))
    for row, task in enumerate(("joint", "deblur", "low light")):
        y = 384 * row
        restored = graph.add("DEvUDPRestore", (440, y), task, [task, *RESTORE], (photo, 0))
        # The images stand beside it: no view of its own, which would cover the next row.
        graph.nodes[restored - 1]["properties"]["before_after"] = False
        graph.add("PreviewImage", (840, y), f"After {task}", [], (restored, 0), size=(340, 310))
    demonstration(graph, (0, 910))
    return graph


def mask() -> Graph:
    graph = Graph(
        "Only what is white in the mask is restored: here the right half, to show both.\n\n"
        "To paint a mask, right-click **Your photo**, choose *Open in MaskEditor*, and connect its "
        "MASK to **Restore**. A mask of another size is fitted to the photo. " + DEMO_NOTE,
    )
    photo = load(graph, DARK, (0, 0))
    black = graph.add("SolidMask", (0, 540), "Black: keep", [0.0, 512, 512])
    white = graph.add("SolidMask", (0, 780), "White: restore", [1.0, 256, 512])
    both = graph.add("MaskComposite", (400, 540), "Mask", [256, 0, "add"], (black, 0), (white, 0))
    restored = graph.add(
        "DEvUDPRestore", (800, 0), "Restore", ["auto", *RESTORE], (photo, 0), (both, 0)
    )
    graph.add(
        "SaveImage",
        (1200, 0),
        "Right half fixed",
        ["devudp/right_half"],
        (restored, 0),
        size=LARGE,
    )
    demonstration(graph, (400, 150))
    return graph


def app() -> Graph:
    """Returns the first one under a name by which pages know an app: a form instead of a graph."""
    graph = fix(BLURRED)
    graph.extra["linearMode"] = True
    return graph


def enlarge() -> Graph:
    graph = Graph(
        "First **Restore**, then **Enlarge**: an upscaler would draw blur and noise larger, and "
        "take them for detail. If you have an upscale model, replace **Enlarge** by **Load Upscale "
        "Model** and **Upscale Image (using Model)**.\n\n"
        "If the upscaler makes the image soft, put a second **Restore** with the task *deblur* and "
        "a low *strength* after it. To look at any two images of one shape, newer ComfyUI has "
        "**Compare Images**.",
        (720, 170),
        (0, -270),
    )
    photo = load(graph, BLURRED, (0, 0))
    restored = graph.add("DEvUDPRestore", (400, 0), "Restore", ["auto", *RESTORE], (photo, 0))
    large = graph.add("ImageScaleBy", (800, 0), "Enlarge", ["lanczos", 2.0], (restored, 0))
    graph.add(
        "SaveImage", (1200, 0), "Fixed and enlarged", ["devudp/restored_and_upscaled"], (large, 0),
        size=LARGE,
    )  # fmt: skip
    return graph


def as_upscale_model() -> Graph:
    """Not shipped, since the node is deprecated: for the image on its help page."""
    graph = Graph("")
    photo = load(graph, BAD, (0, 0))
    model = graph.add(
        "DEvUDPLoadUpscaleModel",
        (400, 180),
        "Restore as model",
        ["auto", *RESTORE[:4]],
        (photo, 0),
    )
    restored = graph.add(
        "ImageUpscaleWithModel", (800, 0), "Apply model", [], (model, 0), (photo, 0)
    )
    large = graph.add("ImageScaleBy", (1200, 0), "Enlarge", ["lanczos", 2.0], (restored, 0))
    graph.add("PreviewImage", (1600, 0), "Enlarged", [], (large, 0), size=LARGE)
    return graph


def video() -> Graph:
    graph = Graph(
        "Here the video is one photo, repeated. For your own, replace the first four nodes by "
        "**Load Video**: it may have any length, and its sound is kept.\n\n"
        "**Restore Video** measures the frames of a scene together, so that they do not flicker. "
        + DEMO_NOTE.replace("**Restore**", "**Frame size**"),
        (1120, 100),
        (0, -200),
    )
    photo = load(graph, BAD, (0, 0))
    size = ["lanczos", 512, 384, "center"]
    scaled = graph.add("ImageScale", (380, 0), "Frame size", size, (photo, 0), size=(250, 132))
    frames = graph.add("RepeatImageBatch", (690, 0), "Six frames", [6], (scaled, 0), size=(200, 60))
    made = graph.add(
        "CreateVideo", (950, 0), "Make a video", [8.0], (frames, 0), None, size=(200, 80)
    )
    values = ["auto", *RESTORE[:4]]
    restored = graph.add("DEvUDPRestoreVideo", (1210, 0), "Restore Video", values, (made, 0))
    graph.add(
        "SaveVideo", (1590, 0), "Fixed video", ["video/devudp", "auto", "auto"], (restored, 0),
        size=LARGE,
    )  # fmt: skip
    demonstration(graph, (690, 240))
    return graph


def measure() -> Graph:
    graph = Graph(
        "**Measure** says how close a photo is to the reference, before and after the restoration. "
        "PSNR and SSIM: higher is closer. MAE: lower is closer. Both photos need the same size.\n\n"
        + DEMO_NOTE,
    )
    photo = load(graph, BAD, (0, 0))
    truth = load(graph, GOOD, (0, 540), "Reference: the good photo")
    restored = graph.add("DEvUDPRestore", (400, 0), "Restore", ["joint", *RESTORE], (photo, 0))
    graph.add("SaveImage", (800, 0), "Fixed photo", ["devudp/measured"], (restored, 0), size=LARGE)
    for image, at, when in ((restored, (800, 540), "after"), (photo, (400, 740), "before")):
        links = (image, 0), (truth, 0)
        graph.add("DEvUDPMeasure", at, f"Measure {when}", [], *links, size=NUMBERS)
    demonstration(graph, (800, 840))
    return graph


WORKFLOWS = {
    "Fix a dark or blurred photo": fix,
    "Compare deblur, brighten and both": compare,
    "Fix part of a photo with a mask": mask,
    "Fix a photo, then enlarge it": enlarge,
    "Fix a dark or shaky video": video,
    "Measure how well a photo was fixed": measure,
    "Fix this photo.app": app,
}

PHOTOS = {
    "Fix part of a photo with a mask": DARK,
    "Fix a photo, then enlarge it": BLURRED,
    "Fix this photo.app": BLURRED,
}
"""Those that do not begin with `BAD`, so that they are told apart by their thumbnails."""

FIRST, MEASURED = "Fix a dark or blurred photo", "Measure how well a photo was fixed"


def files() -> dict[Path, str]:
    """Returns what every file should hold."""
    made = {ROOT / "workflows" / f"{n}.json": make().workflow(n) for n, make in WORKFLOWS.items()}
    made |= {ROOT / "subgraphs" / f"{name}.json": blueprint(name) for name in BLUEPRINTS}
    return {path: json.dumps(content, indent=1) + "\n" for path, content in made.items()}


def main() -> None:
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
