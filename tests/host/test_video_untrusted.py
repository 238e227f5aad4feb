"""What DEvUDP Restore Video asks the host to open."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host.fakes import Pack

pytest.importorskip("av")

from tests.model.video_files import make_video, playlists


class VideoFromFile:
    """The host's VIDEO that is a file."""

    def __init__(self, file: Path):
        self.file, self.opened = str(file), 0

    def get_stream_source(self) -> str:
        return self.file

    def get_duration(self) -> float:
        self.opened += 1
        return 1.0


def test_a_file_that_names_other_files_is_refused_before_the_host_opens_it(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pack.module("nodes.restore_video")
    monkeypatch.setattr(module.host, "video_types", lambda: (VideoFromFile, object))
    execute = module.DEvUDPRestoreVideo.execute
    for path in playlists(tmp_path):
        video = VideoFromFile(path)
        with pytest.raises(ValueError, match="no video that can be read"):
            execute(video, "joint", "bundled", 1.0, 1.0, "fp32")
        assert not video.opened
    video = VideoFromFile(make_video(tmp_path / "clip.mp4"))
    assert module.window_of(video) == module.WHOLE and video.opened
