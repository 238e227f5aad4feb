"""Videos: shared statistics from a sample of the frames, one frame at a time."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from devudp_model.network.generator import Generator
from devudp_model.restoring.frozen import VideoRestorer, sampled
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    generator = Generator("devudp", width=8, depth=1).eval()
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    return generator.requires_grad_(False)


def frames(count: int, seed: int = 0) -> torch.Tensor:
    """B,3,24,32, each brighter than the last one."""
    rng = torch.Generator().manual_seed(seed)
    light = torch.linspace(0.2, 1, count).view(-1, 1, 1, 1)
    return light * torch.rand(count, 3, 24, 32, generator=rng)


@pytest.mark.parametrize(
    ("count", "pixels", "numbers"),
    [
        (1, 100, [0]),
        (3, 100, [0, 1, 2]),
        (16, 100, [1, 3, 5, 7, 9, 11, 13, 15]),
        (100, 2_000_000, [25, 75]),
        (100, 50_000_000, [50]),
    ],
)
def test_the_sample_is_spread_over_the_video(count: int, pixels: int, numbers: list[int]) -> None:
    assert sampled(count, pixels) == numbers


@pytest.mark.parametrize("task", ["joint", "deblur", "low light"])
def test_few_frames_come_out_as_if_restored_together(generator: Generator, task: str) -> None:
    video, options = frames(4), Options(task=task, statistics="shared", precision="fp32")  # pyright: ignore[reportArgumentType]
    mask = torch.rand(1, 1, 24, 32, generator=torch.Generator().manual_seed(1))
    restorer = VideoRestorer(generator, video, options)
    one_by_one = torch.cat([restorer(frame, mask) for frame in video.split(1)])
    together = restore(video, generator, options, mask=mask)
    torch.testing.assert_close(one_by_one, together, atol=2e-5, rtol=0)
    each = restore(video, generator, Options(task=task, precision="fp32"), mask=mask)  # pyright: ignore[reportArgumentType]
    assert (one_by_one - each).abs().max() > 0.01


def test_frames_without_contrast_do_not_spoil_the_statistics(generator: Generator) -> None:
    black, video = torch.zeros(2, 3, 24, 32), frames(2)
    with_black = VideoRestorer(generator, torch.cat([black, video]), Options())
    without = VideoRestorer(generator, video, Options())
    assert torch.equal(with_black(video[:1]), without(video[:1]))
    only_black = VideoRestorer(generator, black, Options(statistics="shared"))
    assert torch.equal(only_black(black[:1]), black[:1])
    assert torch.equal(only_black(video[:1]), restore(video[:1], generator))


def test_faded_frames_and_a_black_pause_do_not_spoil_the_statistics(generator: Generator) -> None:
    """They are dark for another reason than the scene."""
    rng = torch.Generator().manual_seed(3)
    squares = torch.rand(2, 3, 8, 8, generator=rng) * 0.8 + 0.1
    bright = squares.repeat_interleave(8, 2).repeat_interleave(8, 3)
    faded = [bright[:1] * share for share in (0.3, 0.1, 0.03)]
    pause = (1 + torch.rand(1, 3, 64, 64, generator=rng)) / 255
    wanted = VideoRestorer(generator, bright, Options())
    for more in ([*faded], [pause], [*faded, pause], [1 - (1 - bright[:1]) * 0.1]):
        video = VideoRestorer(generator, torch.cat([bright, *more]), Options())
        assert torch.equal(video(bright[:1]), wanted(bright[:1]))
    alpha = torch.ones(1, 1, 64, 64)
    alpha[..., :20] = 0
    cut_out = [torch.cat([frame, alpha], 1) for frame in (bright[:1], bright[1:], faded[2])]
    video = VideoRestorer(generator, torch.cat(cut_out), Options())
    assert torch.equal(
        video(cut_out[0]), VideoRestorer(generator, torch.cat(cut_out[:2]), Options())(cut_out[0])
    )


def test_alpha_and_half_precision_frames(generator: Generator) -> None:
    video = torch.rand(2, 4, 24, 32, generator=torch.Generator().manual_seed(2)).half()
    restored = VideoRestorer(generator, video, Options())(video[:1], torch.rand(10, 10))
    assert restored.dtype == torch.float16 and restored.shape == (1, 4, 24, 32)
    assert torch.equal(restored[:, 3], video[:1, 3])


def test_numbers_too_large_for_a_later_frame(
    generator: Generator, caplog: pytest.LogCaptureFixture
) -> None:
    video = frames(2)
    restorer = VideoRestorer(generator, video, Options(precision="bf16"))
    assert restorer.frozen

    def overflow(image: Any, **details: Any) -> Any:
        raise FloatingPointError

    restorer.frozen.network.forward = overflow
    with caplog.at_level(logging.WARNING, "devudp"):
        restored = restorer(video[:1])
    assert "again in fp32" in caplog.text
    exact = VideoRestorer(generator, video, Options(precision="fp32"))
    assert torch.equal(restored, exact(video[:1]))
    restorer.frozen.network.forward = overflow
    with pytest.raises(FloatingPointError):
        restorer(video[:1])
