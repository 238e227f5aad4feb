#!/bin/sh
# FFmpeg finds by FFV1's check sums that a frame is damaged, and PyAV's caller is told nothing of it.
#
# Versions: av 18.1.0 (FFmpeg 8), numpy 2.4.6 (Python 3.11 to 3.13).
#
# Good guess: FFV1 is what archives keep films in, since every slice has a check sum. Where one is
# wrong, `decode()` raises, or the frame says `is_corrupt`, as with H.264, MPEG-2 or ProRes; at the
# latest with the option err_detect=crccheck+explode, which is to make errors fatal.
#
# Seen: "slice CRC mismatch" goes to FFmpeg's log only. No exception with either setting, as many
# frames as before, none of them corrupt by its mark, and part of an image is that of the frame
# before. Whoever needs to know has to compute the check sums (RFC 9043, 4.9.3), or read the log.
#
# Fails if a damaged frame raises, is marked or is left out.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'PYTHON'
import sys

import av
import numpy as np

av.logging.set_libav_level(av.logging.PANIC)
path = sys.argv[1]
down, across = np.mgrid[0:192, 0:256]
with av.open(path, "w") as container:
    stream = container.add_stream("ffv1", rate=25, options={"level": "3", "slicecrc": "1"})
    stream.width, stream.height, stream.pix_fmt = 256, 192, "yuv420p"
    for number in range(8):
        waves = 128 + 60 * np.sin((across + 3 * number) / 9) + 60 * np.cos(down * across / 900)
        pixels = np.repeat(waves.astype(np.uint8)[..., None], 3, 2)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def decoded(options):
    frames, raised, marked = [], 0, 0
    with av.open(path) as container:
        video = container.streams.video[0]
        video.codec_context.options = options
        for packet in container.demux(video):
            try:
                found = packet.decode()
            except av.FFmpegError:
                raised += 1
                continue
            marked += sum(frame.is_corrupt for frame in found)
            frames += [frame.to_ndarray(format="gray").astype(int) for frame in found]
    return frames, raised, marked


good, *_ = decoded({})
with av.open(path) as container:
    packet = [packet for packet in container.demux(video=0) if packet.size][4]
    inside = bytes(packet)
content = bytearray(open(path, "rb").read())
middle = content.index(inside) + len(inside) // 3
content[middle : middle + 64] = bytes(64)  # a part that could not be read
open(path, "wb").write(content)
print("av", av.__version__)
told = False
for options in ({}, {"err_detect": "crccheck+explode"}):
    frames, raised, marked = decoded(options)
    wrong = sum(np.abs(a - b).max() > 0 for a, b in zip(good, frames))
    print(f"{options}: {len(frames)} frames, {wrong} wrong, {raised} errors, {marked} marked")
    told |= bool(raised or marked or len(frames) != len(good)) or not wrong
sys.exit("It behaves otherwise now" if told else 0)
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" "$folder/try.py" "$folder/a.mkv"
