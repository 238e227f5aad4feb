"""What a node shows while it works, on hosts that are stand-ins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.host.fakes import Pack, restore_node


@pytest.mark.slow
@pytest.mark.usefixtures("small_weights")
@pytest.mark.parametrize("statistics", ["each image", "shared"])
def test_the_host_sees_what_is_finished(
    pack: Pack, monkeypatch: pytest.MonkeyPatch, statistics: str
) -> None:
    monkeypatch.setattr(pack.module("devudp_model.restoring.progress"), "SECONDS", 0.0)
    monkeypatch.setattr(pack.module("devudp_model.bands.rows"), "BAND_PIXELS", 600 * 100)
    image = torch.rand(1, 25, 38, 3, generator=torch.Generator().manual_seed(0))
    image = image.repeat_interleave(16, 1).repeat_interleave(16, 2).repeat(2, 1, 1, 1) * 0.3
    image[1] *= 0.5
    restored = restore_node(pack, image, statistics=statistics).args[0].float()
    shown = [preview for _, preview, most in pack.calls.previews if most == 512]
    assert {preview.size for preview in shown} == {(304, 200)}, "608x400 pixels, halved"
    small = F.avg_pool2d(restored.movedim(-1, 1), 2)

    def distance(preview: Any, number: int) -> torch.Tensor:
        pixels = torch.from_numpy(np.array(preview)).movedim(-1, 0) / 255
        return (pixels - small[number]).abs().mean((0, 2))  # of each row

    look, before, after = (
        values.mean((0, 1))
        for values in (np.array(shown[0]) / 255, image[0].numpy(), restored[0].numpy())
    )
    assert np.abs(look - after).mean() < np.abs(before - after).mean() / 3, "the new exposure"
    assert distance(shown[-1], 1).max() < 0.02
    both = [(distance(preview, 0) < 0.02).int() for preview in shown]
    growing = [int(rows.sum()) for rows in both]
    if statistics == "each image":
        assert any(0 < rows < 200 for rows in growing), "strip by strip"
        half = both[next(i for i, rows in enumerate(growing) if rows > 20)]
        assert half[:20].all(), "from the top"
    assert 200 in growing, "the first image as a whole"


@pytest.mark.usefixtures("small_weights")
@pytest.mark.parametrize(
    "change", ["kept", *(pytest.param(c, marks=pytest.mark.slow) for c in ("mask", "deblur"))]
)
def test_a_first_look_is_only_taken_where_it_tells_something(pack: Pack, change: str) -> None:
    image = torch.rand(1, 320, 320, 3, generator=torch.Generator().manual_seed(0)) * 0.2
    more = {"kept": {}, "mask": {"mask": torch.ones(1, 320, 320)}, "deblur": {"task": "deblur"}}
    if change == "kept":
        restore_node(pack, image)
        assert first_preview(pack).mean() > 1.5 * 0.1 * 255
    pack.calls.previews.clear()
    restore_node(pack, image, strength=0.5, **more[change])
    assert first_preview(pack).mean() == pytest.approx(0.1 * 255, abs=1), "the image as it is"


def first_preview(pack: Pack) -> np.ndarray:
    return np.array(pack.calls.previews[0][1])
