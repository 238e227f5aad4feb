"""devudp-train frames: mistakes on the command line."""

from pathlib import Path

import pytest

from devudp_model.videos.pyav import VideoError
from training.config import ConfigError
from training.data.video_frames import extract


@pytest.mark.parametrize("every", [0, -1])
def test_every_must_be_at_least_one(every: int, tmp_path: Path):
    with pytest.raises(ConfigError, match="must be at least 1"):
        extract(tmp_path / "clip.mp4", tmp_path / "out", every)
    assert not (tmp_path / "out").exists()


def test_a_file_that_names_other_files_is_refused(tmp_path: Path):
    pytest.importorskip("av")
    from tests.model.video_files import playlists

    for path in playlists(tmp_path):
        with pytest.raises(VideoError, match="no video that can be read"):
            extract(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
