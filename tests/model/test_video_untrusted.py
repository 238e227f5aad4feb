"""Videos from strangers: no path is taken from a file."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from devudp_model.videos.pyav import VideoError, open_video
from devudp_model.videos.video import SUFFIXES

pytest.importorskip("av")

from tests.model.video_files import FRAMES, make_video, playlists


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("suffix", [*SUFFIXES, ".flv", ".gif"])
def test_all_kinds_of_videos_open(suffix: str, as_bytes: bool, tmp_path: Path) -> None:
    clip = make_video(tmp_path / f"a{suffix}")
    with open_video(io.BytesIO(clip.read_bytes()) if as_bytes else clip) as container:
        assert len(list(container.decode(video=0))) == FRAMES


def test_a_file_that_names_other_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the bytes of a list would look for its files
    for path in playlists(tmp_path):
        for source in (path, io.BytesIO(path.read_bytes())):
            with pytest.raises(VideoError, match=r"no video that can be read: .*Give a whole MP4"):
                open_video(source)
    with pytest.raises(VideoError, match=r"none of those that are opened .playlists"):
        open_video(tmp_path / "list.mp4")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file names")
def test_a_file_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "a.ts")
    with open_video(make_video(Path("concert: live.ts"))) as container:
        assert len(list(container.decode(video=0))) == FRAMES
    Path("concat:a.ts").write_text("no video")
    with pytest.raises(VideoError, match="Invalid data"):
        open_video(Path("concat:a.ts"))
