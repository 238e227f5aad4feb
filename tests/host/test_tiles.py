"""DEvUDP as Upscale Model, in the core's own node that cuts images into tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from devudp_model.checkpoint import load_checkpoint
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from tests.host.prompts import Builder
from tests.host.server import Server
from tests.host.test_nodes import difference


@pytest.mark.parametrize(
    ("task", "checkpoint", "size"),
    [
        ("joint", "small.safetensors", (1300, 700)),
        ("deblur", "small.safetensors", (700, 400)),
        ("deblur", "small-dt.safetensors", (1300, 640)),
        ("low light", "small.safetensors", (700, 400)),
        ("joint", "bundled", (1300, 96)),
    ],
)
def test_tiles_make_the_same_image_without_seams(
    server: Server, task: str, checkpoint: str, size: tuple[int, int]
) -> None:
    """Not only away from the overlaps of the tiles: everywhere, but for a grey level's rounding.

    Without their surroundings, tiles are up to 138 grey levels off near the overlaps (bundled
    weights, a photograph of 2000x400).
    """
    build = Builder()
    image = build.degrade(build.resize(build.load(), *size), blur=0.0)
    exact = {"task": task, "checkpoint": checkpoint, "precision": "fp32"}
    whole = build.save(build.restore(image, **exact))
    tiled = build.save(build.upscale(build.upscale_model(image, **exact), image))
    run = server.run(build.prompt)
    assert run.status == "success", run.error
    [a], [b] = server.images(run, whole), server.images(run, tiled)
    assert a.shape == (size[1], size[0], 3)
    assert difference(a, b) <= 1


def test_each_image_of_a_batch_keeps_its_own_statistics(server: Server) -> None:
    build = Builder()
    image = build.resize(build.load(), 600, 300)
    dark = build.degrade(image, light=0.1, blur=0.0)
    batch = [build.add("ImageBatch", image1=image, image2=dark), 0]
    whole = build.save(build.restore(batch, precision="fp32"))
    tiled = build.save(build.upscale(build.upscale_model(batch, precision="fp32"), batch))
    run = server.run(build.prompt)
    assert run.status == "success", run.error
    for a, b in zip(server.images(run, whole), server.images(run, tiled), strict=True):
        assert difference(a, b) <= 1


def test_transparent_images_are_tiled_too(server: Server) -> None:
    """The host's node makes them opaque; their colours are restored as ever."""
    build = Builder()
    image = build.resize(build.load(), 600, 100)
    alpha = build.add("ImageToMask", image=image, channel="green")
    rgba = [build.add("JoinImageWithAlpha", image=image, alpha=[alpha, 0]), 0]
    whole = build.save(build.restore(image, precision="fp32"))
    tiled = build.save(build.upscale(build.upscale_model(rgba, precision="fp32"), rgba))
    run = server.run(build.prompt)
    assert run.status == "success", run.error
    [a], [b] = server.images(run, whole), server.images(run, tiled)
    assert difference(a, b) <= 1


def test_dt_needs_no_image(server: Server, photo: np.ndarray) -> None:
    build = Builder()
    model = build.upscale_model(
        None, task="deblur", checkpoint="small-dt.safetensors", precision="fp32"
    )
    saved = build.save(build.upscale(model, build.load()))
    run = server.run(build.prompt)
    assert run.status == "success", run.error
    generator = load_checkpoint(server.base / "models/devudp/small-dt.safetensors").generator
    image = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255
    wanted = restore(image, generator, Options(task="deblur", coarse=False, precision="fp32"))
    wanted = (wanted[0].permute(1, 2, 0) * 255).to(torch.uint8).numpy()
    assert difference(server.images(run, saved)[0], wanted) <= 1


def test_the_other_one_says_that_it_needs_the_image(server: Server) -> None:
    build = Builder()
    build.save(build.upscale(build.upscale_model(None), build.load()))
    run = server.run(build.prompt)
    assert run.status == "error"
    assert "Connect the image to restore" in run.error


def test_another_image_is_restored_too_and_the_log_tells(server: Server) -> None:
    build = Builder()
    model = build.upscale_model(build.load("other.png"))
    saved = build.save(build.upscale(model, build.load()))
    run = server.run(build.prompt)
    assert run.status == "success" and server.images(run, saved)
    assert "not the one connected" in server.log_text()
