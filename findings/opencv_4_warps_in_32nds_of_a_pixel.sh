#!/bin/sh
# OpenCV 4 moves images in steps of 1/32 pixel, float images and any interpolation included; OpenCV 5
# moves them by what it is told.
#
# Versions: opencv-python-headless 4.10.0.84 and 5.0.0.93, numpy 2.4.6 (Python 3.10 to 3.13).
#
# Good guess: cv2.warpPerspective, warpAffine and remap of a float32 image with INTER_LINEAR give, on
# a ramp (the value of a pixel is its column), exactly the shift that they are given: 0.01 pixels to
# the right reads 32.01 at column 32. And an upgrade does not change that.
#
# Seen: with 4.10, 0.01 pixels change nothing at all, 0.016 give 0.03125, and 0.3 give 0.3125: shifts
# are rounded to multiples of 1/32. With 5.0 they are 0.01, 0.016 and 0.3. So numbers of an evaluation
# that aligns images (RealBlur's, by findTransformECC and warpPerspective) depend on the version: up to
# 0.006 dB on pairs of some 33 dB.
#
# Fails if 4.10 or 5.0 behave otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'PYTHON'
import sys

import cv2
import numpy as np

ramp = np.arange(64, dtype=np.float32)[None].repeat(64, 0)
steps = sys.argv[1] == "32nds"
print("OpenCV", cv2.__version__)
wrong = False
for shift in (0.01, 0.016, 0.3, 0.5):
    H = np.float32([[1, 0, shift], [0, 1, 0], [0, 0, 1]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    found = {
        "warpPerspective": cv2.warpPerspective(ramp, H, (64, 64), flags=flags),
        "warpAffine": cv2.warpAffine(ramp, H[:2], (64, 64), flags=flags),
        "remap": cv2.remap(ramp, ramp + np.float32(shift), np.float32(ramp.T), cv2.INTER_LINEAR),
    }
    moved = {name: float(image[32, 32]) - 32 for name, image in found.items()}
    expected = round(shift * 32) / 32 if steps else shift
    print(f"told {shift}:", ", ".join(f"{name} {by:.5f}" for name, by in moved.items()))
    wrong = wrong or any(abs(by - expected) > 1e-5 for by in moved.values())
sys.exit("It behaves otherwise now" if wrong else 0)
PYTHON
for both in "4.10.0.84 32nds" "5.0.0.93 exact"; do
  set -- $both
  python3 -m venv "$folder/venv-$1"
  "$folder/venv-$1/bin/python" -m pip install --quiet "opencv-python-headless==$1" numpy==2.4.6
  "$folder/venv-$1/bin/python" "$folder/try.py" "$2"
done
