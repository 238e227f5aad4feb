"""In a real ComfyUI: task auto, videos, memory given back, and what the nodes say."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tests.host.conftest import PACK
from tests.host.environment import ROOT
from tests.host.prompts import Builder, let_go
from tests.host.server import Server
from tests.host.test_nodes import TRUNCATION, difference
from tests.model.test_video import make_clip, read_clip


def put(server: Server, name: str, image: Image.Image) -> str:
    image.save(server.base / "input" / name)
    return name


def test_auto_is_the_default_of_new_nodes(server: Server) -> None:
    for node in ("DEvUDPRestore", "DEvUDPLoadUpscaleModel", "DEvUDPRestoreVideo"):
        details = server.get(f"/object_info/{node}")[node]["input"]["required"]
        assert details["task"][1]["default"] == "auto"
        for name in ("strength", "exposure"):
            assert details[name][1]["display"] == "slider"


def test_auto_leaves_a_good_photograph_alone_and_says_so(server: Server) -> None:
    with Image.open(ROOT / "samples/good/flowers.jpg") as image:
        name = put(server, "good.png", image.resize((256, 256)))
        dark = put(
            server, "dark.png", ImageEnhance.Brightness(image.resize((256, 256))).enhance(1 / 6)
        )
    build = Builder()
    nodes = [build.restore(build.load(each), task="auto") for each in (name, dark)]
    saved = [build.save(node) for node in nodes]
    run = server.run(build.prompt)
    texts = [run.outputs[node[0]]["text"][0] for node in nodes]
    assert "left as it is" in texts[0] and "low light" in texts[1]
    images = [server.images(run, each)[0] for each in saved]
    before = np.asarray(Image.open(server.base / "input" / name))
    assert difference(images[0], before) <= TRUNCATION
    assert images[1].mean() > 2 * before.mean() / 6
    for view in ("a_images", "b_images"):
        [preview] = run.outputs[nodes[1][0]][view]
        assert server.file(preview).startswith(b"\xff\xd8\xff"), "a JPEG file"


def test_a_black_mask_and_no_numbers_are_told_on_the_node(server: Server) -> None:
    build = Builder()
    image = build.load()
    black = [build.add("SolidMask", value=0.0, width=128, height=96), 0]
    node = build.restore(image, mask=black)
    build.save(node)
    run = server.run(build.prompt)
    assert "mask is black everywhere" in run.outputs[node[0]]["text"][0]


def test_a_space_in_the_folders_name_is_told_loudly(server: Server) -> None:
    assert PACK in server.log_text() and " " in PACK
    assert "has a space in its name" in server.log_text()
    assert "rename the folder to 'De-V.udp-1.0-(test)'" in server.log_text()


def tensors(server: Server) -> int:
    return server.get("/tests/memory")["tensors"]


def test_free_gives_the_memory_back(server: Server) -> None:
    """Weights and kept outputs go when the host is asked to let go."""

    def free() -> int:
        let_go(server, "other.png")
        return tensors(server)

    before = free()
    build = Builder()
    image = build.load()
    build.save(build.restore(image, task="joint", checkpoint="bundled"))
    build.save(build.restore(image, task="deblur", checkpoint="bundled", strength=0.9))
    server.run(build.prompt)
    assert tensors(server) > before + 50 * 2**20, "both generators are kept meanwhile"
    assert free() < before + 2**20


def test_a_changed_strength_is_quick(server: Server) -> None:
    with Image.open(ROOT / "samples/good/flowers.jpg") as image:
        name = put(server, "quick.png", image.resize((320, 320)))

    def seconds(strength: float) -> float:
        build = Builder()
        build.save(build.restore(build.load(name), checkpoint="bundled", strength=strength))
        run = server.run(build.prompt)
        return run.seconds

    first = seconds(1.0)
    assert seconds(0.6) < first / 2


@pytest.mark.parametrize("task", ["joint", "auto"])
def test_a_video_keeps_its_sound_and_frame_rate(server: Server, task: str) -> None:
    clip = make_clip(server.base / "input" / f"{task}.mp4", 20, cut=9, light=0.2)
    build = Builder()
    loaded = [build.add("LoadVideo", file=clip.name), 0]
    node = build.restore_video(loaded, task=task)
    build.add("SaveVideo", video=node, filename_prefix=task, format="auto", codec="auto")
    run = server.run(build.prompt)
    assert run.status == "success", run.error
    [saved] = (server.base / "output").glob(f"{task}_*.mp4")
    before, after = read_clip(clip), read_clip(Path(saved))
    assert after["rate"] == before["rate"] and after["times"] == before["times"]
    assert np.array_equal(after["sound"], before["sound"])
    assert after["pixels"].mean() > 1.5 * before["pixels"].mean()
    if task == "auto":
        assert "scene 2: dark" in run.outputs[node[0]]["text"][0]


def test_a_video_can_be_cancelled_and_leaves_nothing(server: Server) -> None:
    clip = make_clip(server.base / "input" / "long.mp4", 60, size=(320, 240))
    build = Builder()
    loaded = [build.add("LoadVideo", file=clip.name), 0]
    node = build.restore_video(loaded, checkpoint="bundled")
    build.add("SaveVideo", video=node, filename_prefix="long", format="auto", codec="auto")
    before = set((server.base / "temp").iterdir())
    number = server.submit(build.prompt)
    end = time.monotonic() + 20
    while not server.get("/queue")["queue_running"] and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1)
    server.post("/interrupt", {})
    asked = time.monotonic()
    assert server.wait(number).status == "interrupted"
    assert time.monotonic() - asked < 10
    assert set((server.base / "temp").iterdir()) == before


def test_a_video_made_of_images(server: Server) -> None:
    build = Builder()
    frames = build.repeat(build.load(), 3)
    made = [build.add("CreateVideo", images=frames, fps=12.0), 0]
    node = build.restore_video(made, strength=0.5)
    parts = build.add("GetVideoComponents", video=node)
    saved = build.save([parts, 0])
    alone = build.save(build.restore(frames, strength=0.5, statistics="shared"))
    run = server.run(build.prompt)
    assert run.status == "success", run.error
    for a, b in zip(server.images(run, saved), server.images(run, alone), strict=True):
        assert difference(a, b) <= TRUNCATION
