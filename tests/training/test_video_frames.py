"""devudp-train frames: mistakes on the command line."""

from pathlib import Path

import pytest

from training.config import ConfigError
from training.data.video_frames import extract


@pytest.mark.parametrize("every", [0, -1])
def test_every_must_be_at_least_one(every: int, tmp_path: Path):
    with pytest.raises(ConfigError, match="must be at least 1"):
        extract(tmp_path / "clip.mp4", tmp_path / "out", every)
    assert not (tmp_path / "out").exists()
