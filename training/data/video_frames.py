"""devudp-train frames: writes the frames of videos as images, to be averaged into blur.

  devudp-train frames clip1.mp4 clip2.mov --out my/frames
  devudp-train unpaired --data.frames my/frames --data.frames-share 0.5 ...

Use clips with a high frame rate (GoPro: 240 frames per second) whose single frames are sharp. Needs
the extra "video" (PyAV).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from devudp_model.videos.pyav import VideoError, load_av, open_video, video_stream

from ..config import ConfigError
from ..console import plain_parser

logger = logging.getLogger("devudp")


def extract(video: Path, folder: Path, every: int = 1, limit: int = 0) -> int:
    """Writes the frames of a video as 000000.png, 000001.png, ...; returns their number.

    Args:
        video: MP4, MOV, MKV, ...: see `open_video`.
        folder: created if it does not exist.
        every: keep every N-th frame.
        limit: keep at most this many frames; 0: all.

    Raises:
        ConfigError: PyAV is missing, the video is damaged, or `every` is below 1.
        VideoError: the file is not a video.
    """
    if every < 1:
        raise ConfigError(f"--every {every}: it must be at least 1, which keeps every frame")
    try:
        load_av()
    except VideoError as error:
        raise ConfigError(
            "Reading videos needs PyAV: pip install av. Or extract the frames "
            f"yourself: ffmpeg -i {video} {folder / '%06d.png'}"
        ) from error
    opened = open_video(video)
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    try:
        with opened as container:
            for number, frame in enumerate(container.decode(video_stream(container))):
                if number % every == 0:
                    frame.to_image().save(folder / f"{count:06d}.png")
                    count += 1
                if limit and count >= limit:
                    break
    except (OSError, ValueError) as error:  # PyAV's, of a damaged video
        raise ConfigError(f"{video} cannot be read as a video: {error}") from error
    return count


def main(arguments: Sequence[str]) -> None:
    """``devudp-train frames``; see the top of this file."""
    parser = plain_parser(__doc__)
    add = parser.add_argument
    add("videos", nargs="+", type=Path, metavar="VIDEO", help="a video file; needs PyAV")
    add("--out", type=Path, required=True, metavar="DIR", help="gets a folder for each video")
    add("--every", type=int, default=1, metavar="N", help="keep every N-th frame; default: all")
    add("--limit", type=int, default=0, metavar="N",
        help="at most so many frames of each video; default: all")  # fmt: skip
    options = parser.parse_args(arguments)
    for video in options.videos:
        folder = options.out / video.stem
        count = extract(video, folder, options.every, options.limit)
        logger.info("%d frames of %s written to %s", count, video, folder)
