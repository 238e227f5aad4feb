"""The second network of `joint`: it deblurs a copy of the model's image at half the size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from devudp_model import task_weights
from devudp_model.checkpoint import save_checkpoint
from devudp_model.engine.network import Network
from devudp_model.engine.output_cache import OutputCache
from devudp_model.network.generator import Generator
from devudp_model.ops.dtypes import to_unit
from devudp_model.restorer import Restorer
from devudp_model.restoring import coarse_to_fine
from devudp_model.restoring.coarse_to_fine import balanced, blurred_share, share_of_rows
from devudp_model.restoring.facts import facts_of, generator_of
from devudp_model.restoring.frozen import FrozenRestorer, VideoRestorer
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.run_network import deblur, pixels_to_do
from devudp_model.task_weights import add_deblurrer, weights_of
from tests.model.restore_network import generator

JOINT = Options("joint", precision="fp32")


@pytest.fixture(autouse=True)
def small_images_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarse_to_fine, "MIN_SIDE", 20)


def pair() -> Generator:
    """A small network with a second one."""
    first, second = generator("devudp"), generator("devudp-dt")
    add_deblurrer(first, "joint", lambda task: {"deblur": second}[task])
    return first


def blurred(height: int = 52, width: int = 62) -> Tensor:
    image = torch.rand(1, 3, height // 6, width // 6, generator=torch.Generator().manual_seed(0))
    return F.interpolate(image, (height, width), mode="bicubic").clamp(0, 1)


def test_its_balanced_change_in_blurred_places_is_added() -> None:
    image = blurred()
    both = image.clone()
    deblur(Network(pair(), torch.float32), both, JOINT, None)
    small = F.avg_pool2d(image, 2)
    change = Network(generator("devudp-dt"), torch.float32)(small) - small
    change = balanced(change * share_of_rows(blurred_share(small), 0, 0, 26)[..., :31])
    change = F.interpolate(change, scale_factor=2, mode="bicubic")
    wanted = (image + change).clamp(0, 1)
    assert (wanted - image).abs().max() > 0.05
    torch.testing.assert_close(both[..., 4:-4, 4:-4], wanted[..., 4:-4, 4:-4])


def test_light_is_moved_and_not_made() -> None:
    """Most of a sharper edge stays; nothing of what is only made darker or brighter."""
    sharper, darker = torch.zeros(1, 1, 40, 60), torch.zeros(1, 1, 40, 60)
    sharper[..., 28:30], sharper[..., 30:32] = -0.2, 0.2
    darker[..., 28:32] = -0.2
    kept = balanced(sharper)[..., 28:32] / sharper[..., 28:32]
    assert kept.min() > 0.65 and kept.mean() > 0.75 and kept.max() <= 1
    assert not balanced(darker).any() and not balanced(-darker).any()
    partly = balanced(sharper + darker / 2)  # three times as much is made darker
    assert partly.mean().abs() < 0.15 * (sharper + darker / 2).mean().abs()


def test_where_it_has_a_part() -> None:
    image, alone, both = blurred(), generator("devudp"), pair()
    assert not torch.equal(restore(image, both, JOINT), restore(image, alone, JOINT))
    for options, given in (
        (replace(JOINT, coarse=False), image),
        (replace(JOINT, task="low light"), image),
        (JOINT, image[:, :, :39]),  # half of it is too small
    ):
        assert torch.equal(restore(given, both, options), restore(given, alone, options))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_bits_for_any_memory_and_number_of_threads(precision: str) -> None:
    image, both = blurred(70, 50), pair()
    options = Options("joint", precision=precision)  # pyright: ignore[reportArgumentType]
    wanted = restore(image, both, options)
    for memory in (10**6, 10**5, 1):
        assert torch.equal(restore(image, both, replace(options, memory=memory)), wanted)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert torch.equal(restore(image, both, options), wanted)
    finally:
        torch.set_num_threads(threads)


def test_integers_give_what_their_values_do() -> None:
    image = (blurred() * 255).round().to(torch.uint8)
    result = restore(image, pair(), JOINT)
    torch.testing.assert_close(
        to_unit(result), restore(to_unit(image), pair(), JOINT), atol=0.51 / 255, rtol=0
    )


def test_frames_of_a_video_are_deblurred_alike() -> None:
    frames, both = torch.cat([blurred(), 0.8 * blurred()]), pair()
    wanted = restore(frames, both, replace(JOINT, statistics="shared"))
    video = VideoRestorer(both, frames, JOINT)
    for frame, expected in zip(frames.split(1), wanted.split(1), strict=True):
        torch.testing.assert_close(video(frame), expected, atol=2e-5, rtol=0)


def test_pieces_are_pieces_of_the_whole() -> None:
    image, both = blurred(180, 200), pair()
    wanted, frozen = restore(image, both, JOINT), FrozenRestorer(both, image, JOINT)
    assert frozen.given.shape == (1, 6, 180, 200)
    torch.testing.assert_close(frozen(image, frozen.given), wanted, atol=2e-5, rtol=0)
    torch.testing.assert_close(frozen(image), wanted, atol=2e-5, rtol=0)
    above = frozen.overlap
    piece = frozen(image[:, :, : 60 + above], frozen.given[:, :, : 60 + above])
    torch.testing.assert_close(piece[:, :, :60], wanted[:, :, :60], atol=2e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_whole_image_as_its_own_piece(channels: int) -> None:
    """Without the change that the second network makes; alpha is none."""
    image = torch.cat([blurred(), torch.ones(1, 1, 52, 62)], 1)[:, :channels]
    frozen = FrozenRestorer(pair(), image, JOINT)
    wanted = frozen(image[:, :3], image[:, :3])
    torch.testing.assert_close(frozen(image, image)[:, :3], wanted, atol=2e-5, rtol=0)


def test_neither_network_runs_again_where_outputs_are_kept() -> None:
    image, both, cache = blurred(), pair(), OutputCache(2**24)
    wanted = restore(image, both, replace(JOINT, strength=0.5))
    first = restore(image, cache.network(both, torch.float32), JOINT)
    assert torch.equal(first, restore(image, both, JOINT)) and cache.hits == 0
    again = restore(image, cache.network(both, torch.float32), replace(JOINT, strength=0.5))
    assert torch.equal(again, wanted) and cache.hits == 2


def test_its_work_is_counted() -> None:
    assert pixels_to_do(400, 500, pair(), JOINT) == 400 * 500 * 1.25
    assert pixels_to_do(400, 500, generator("devudp"), JOINT) == 400 * 500
    assert pixels_to_do(30, 500, pair(), JOINT) == 30 * 500


def test_only_the_bundled_network_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variant in ("devudp", "devudp-dt"):
        save_checkpoint(tmp_path / f"{variant}.safetensors", generator(variant), {})
    own = tmp_path / "devudp.safetensors"
    monkeypatch.setattr(
        task_weights, "bundled", lambda variant: tmp_path / f"{variant}.safetensors"
    )
    bundled = weights_of(None, "cpu")
    first = generator_of(bundled("low light"))
    assert facts_of(first).deblurrer is None, "it is read when it is needed"
    assert generator_of(bundled("joint")) is first
    assert facts_of(first).deblurrer is bundled("deblur")
    assert facts_of(generator_of(weights_of(own, "cpu")("joint"))).deblurrer is None
    image, restored = blurred(), Restorer(task="joint", options=JOINT, device="cpu")(blurred())
    assert torch.equal(restored, restore(image, bundled("joint"), JOINT))
