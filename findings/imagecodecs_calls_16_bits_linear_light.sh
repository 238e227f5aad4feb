#!/bin/sh
# imagecodecs writes JPEG XL of 16 bits as linear light, and of 8 bits as sRGB.
#
# Versions: imagecodecs 2026.3.6, pillow 12.3.0, pillow-jxl-plugin 1.3.8, numpy 2.4.6 (Python 3.11 to
# 3.13).
#
# Good guess: `jpegxl_encode(pixels)` of the same photograph in uint8 and in uint16 (times 257) gives
# files that look the same, as with its PNG; or the documentation says what the numbers mean.
#
# Seen: the file of 16 bits says that its numbers are linear light, that of 8 bits sRGB. A reader that
# believes the files shows the first one far too bright: grey 128 of 255 as 188. To other programs a
# JPEG XL file from a 16-bit array is another image.
#
# Fails if both depths are called the same.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'PYTHON'
import io
import sys

import imagecodecs
import numpy as np
import pillow_jxl  # registers itself
from PIL import Image, ImageCms

grey = np.full((48, 64, 3), 128, np.uint8)
shown = {}
for pixels in (grey, grey.astype(np.uint16) * 257):
    content = imagecodecs.jpegxl_encode(pixels, lossless=True)
    with Image.open(io.BytesIO(content)) as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        srgb = ImageCms.createProfile("sRGB")
        level = ImageCms.profileToProfile(image.convert("RGB"), profile, srgb).getpixel((0, 0))[0]
    shown[pixels.dtype.name] = level
    name = ImageCms.getProfileDescription(profile).strip()
    print(f"{pixels.dtype}: {name!r}, grey 128 is shown as {level}")
print("imagecodecs", imagecodecs.__version__)
as_seen = abs(shown["uint8"] - 128) <= 2 and shown["uint16"] > 170
sys.exit(0 if as_seen else "It behaves otherwise now")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet imagecodecs==2026.3.6 pillow==12.3.0 \
    pillow-jxl-plugin==1.3.8 numpy==2.4.6
"$folder/venv/bin/python" "$folder/try.py"
