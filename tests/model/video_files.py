"""Small videos in every container, and text files that name other files."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

FRAMES = 12
"""With three, FFmpeg does not recognise an MPEG transport stream."""

SUFFIXES = {
    ".mp4": ("mpeg4", "mp4"),
    ".mov": ("mpeg4", "mov"),
    ".m4v": ("mpeg4", "m4v"),
    ".mkv": ("mpeg4", "matroska"),
    ".webm": ("libvpx", "webm"),
    ".avi": ("mpeg4", "avi"),
    ".mpg": ("mpeg1video", "mpeg"),
    ".mpeg": ("mpeg2video", "mpeg2video"),
    ".ts": ("mpeg2video", "mpegts"),
    ".mts": ("mpeg2video", "mpegts"),
    ".m2ts": ("mpeg2video", "mpegts"),
    ".vob": ("mpeg2video", "vob"),
    ".wmv": ("wmv2", "asf"),
    ".3gp": ("mpeg4", "3gp"),
    ".flv": ("flv", "flv"),
    ".3g2": ("mpeg4", "3g2"),
    ".f4v": ("libx264", "f4v"),
    ".m2v": ("mpeg2video", "mpeg2video"),
    ".m2t": ("mpeg2video", "mpegts"),
    ".asf": ("wmv2", "asf"),
    ".ogv": ("libvpx", "ogg"),
    ".gif": ("gif", "gif"),
}
"""Codec and FFmpeg's name of the container."""


def make_video(path: Path) -> Path:
    """A video in the container that its suffix stands for."""
    codec, container = SUFFIXES[path.suffix]
    with path.open("wb") as file, av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height = 48, 32
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for level in range(FRAMES):
            pixels = np.full((32, 48, 3), 20 * level, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            output.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        output.mux(stream.encode(None))
    return path


def playlists(folder: Path) -> list[Path]:
    """Text files that name a video beside them, for FFmpeg to open in their place."""
    make_video(folder / "secret.ts")
    segment = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nsecret.ts\n#EXT-X-ENDLIST\n"
    texts = {
        "list.mp4": "ffconcat version 1.0\nfile secret.ts\n",
        "list.mkv": "ffconcat version 1.0\nfile secret.ts\n",
        "list.m3u8": segment,
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]
