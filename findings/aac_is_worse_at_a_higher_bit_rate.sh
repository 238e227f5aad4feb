#!/bin/sh
# FFmpeg's AAC encoder makes a tone's start worse at 96 and 128 kb/s than at 64 kb/s.
#
# Versions: PyAV 18.1.0 with its FFmpeg 8 (libavcodec 62.28.102), numpy 2.4.6 (Python 3.11 to 3.13).
#
# Good guess: more bits a channel, less error; 96 kb/s for one channel is a careful choice.
#
# Seen: a mono tone of 440 Hz, whose peak is 0.61, comes back with a peak of 0.91 at 96 and at
# 128 kb/s, and of 0.63 at 64 kb/s; the error of the whole second is two and a half times as large. It is
# all in the first two frames, where the tone begins from silence. So results that are made of other
# sound are encoded with 64 kb/s for each channel, which is also what PyAV's default comes to in stereo.
#
# Fails if the higher bit rates are as good.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'PYTHON'
import sys

import av
import numpy as np

RATE = 44100
tone = (np.sin(2 * np.pi * 440 / RATE * np.arange(RATE)) * 20000).astype(np.int16)[None]
print("av", av.__version__, "libavcodec", av.library_versions["libavcodec"])
peaks = {}
for bits in (64_000, 96_000, 128_000):
    path = f"{sys.argv[1]}/tone.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        stream.bit_rate = bits
        frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        for part in [*av.AudioResampler("fltp", "mono", RATE).resample(frame), None]:
            container.mux(stream.encode(part))
    with av.open(path) as container:
        back = np.concatenate([part.to_ndarray()[0] for part in container.decode(audio=0)])
    error = back[:RATE] - tone[0, : len(back)] / 32768
    peaks[bits] = np.abs(back).max()
    print(f"{bits} bits a second: peak {peaks[bits]:.3f} of 0.610, error {error.std():.4f}")
worse = min(peaks[96_000], peaks[128_000]) > 0.8 and peaks[64_000] < 0.7
sys.exit(0 if worse else "It behaves otherwise now")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" "$folder/try.py" "$folder"
