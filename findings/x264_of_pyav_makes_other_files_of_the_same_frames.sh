#!/bin/sh
# The libx264 of PyAV's wheel makes different files of the same frames, in one process.
#
# Versions: av 18.1.0 (FFmpeg 8.1.2), numpy 2.4.6 (Python 3.11), on a processor with AVX-512.
#
# Good guess: x264 is deterministic unless it is told `non-deterministic`, with any number of
# threads; so equal frames and options give equal bytes, and a hash of a result can be compared.
#
# Seen: of 40 encodings of the same 25 frames of 320x120, several come out otherwise, in their
# packets and in the pixels that are decoded from them. With `mbtree=0` all are equal. Sizes of
# whole multiples of 16, and libx265, were equal wherever they were tried.
#
# Fails if all 40 are equal, or if those with mbtree=0 are not.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'PYTHON'
import hashlib
import io
import sys

import av
import numpy as np

WIDTH, HEIGHT, FRAMES, TIMES = 320, 120, 25, 40
down, across = np.mgrid[0:HEIGHT, 0:WIDTH]


def frames():
    for number in range(FRAMES):
        channels = (
            (across * 3 + number * 5) % 256,
            (down * 3 + number * 3) % 256,
            ((across + down) * 2 + number * 7) % 256,
        )
        pixels = np.stack(channels, -1).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
        frame.pts = number
        yield frame


def digest(parts):
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def encoded(options):
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in frames():
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        pixels = digest(frame.to_ndarray().tobytes() for frame in container.decode(video=0))
    return digest([file.getvalue()]), pixels


print("av", av.__version__, "with FFmpeg", av.ffmpeg_version_info)
print("input:", len({digest(f.to_ndarray().tobytes() for f in frames()) for _ in range(3)}))
counts = {}
for name, options in (("as it is", {}), ("mbtree=0", {"x264-params": "mbtree=0"})):
    made = [encoded(options) for _ in range(TIMES)]
    counts[name] = len({file for file, _ in made})
    print(f"{name}: {TIMES} encodings, {counts[name]} files, {len({p for _, p in made})} images")
sys.exit(0 if counts["as it is"] > 1 and counts["mbtree=0"] == 1 else "It behaves otherwise now")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" "$folder/try.py"
