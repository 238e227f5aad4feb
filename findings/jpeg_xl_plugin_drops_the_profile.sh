#!/bin/sh
# pillow-jxl-plugin takes `icc_profile` when it saves, leaves it out, and the file says that it is sRGB.
#
# Versions: pillow 13.0.0, pillow-jxl-plugin 1.3.8 (Python 3.11 to 3.13).
#
# Good guess: `image.save("a.jxl", icc_profile=profile)` keeps the profile, as Pillow's own JPEG, PNG,
# WebP, TIFF and AVIF writers do, and as libjxl can. Or else it warns or fails.
#
# Seen: no warning and no error; read again, the file has another profile, sRGB's, which the decoder
# makes up from what the encoder noted. Numbers of Display P3 or ProPhoto are shown as sRGB: paler.
# EXIF and XMP are kept. So images have to be converted to sRGB before they are saved.
#
# Fails if the profile comes back, or if saving warns or fails.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'PYTHON'
import io
import sys
import warnings

import PIL
import pillow_jxl  # registers itself
from PIL import Image, ImageCms

warnings.simplefilter("error")
# A profile that is not sRGB's: linear light, of the library's own making by its description.
linear = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
start = linear.index(b"para")  # the parametric curve, shared by the three channels
linear[start + 8 : start + 10] = b"\0\0"  # a plain exponent ...
linear[start + 12 : start + 16] = (65536).to_bytes(4, "big")  # ... of 1
profile = bytes(linear)
ImageCms.ImageCmsProfile(io.BytesIO(profile))  # it is whole

image = Image.new("RGB", (64, 48), (200, 40, 40))
print("pillow", PIL.__version__)
kept = {}
for format in ("PNG", "JPEG", "WEBP", "TIFF", "JXL"):
    stream = io.BytesIO()
    image.save(stream, format, icc_profile=profile)
    with Image.open(stream) as back:
        found = back.info.get("icc_profile", b"")
    kept[format] = found == profile
    name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(found))).strip()
    print(f"{format}: {'the same profile' if kept[format] else f'another profile, {name!r}'}")
sys.exit(0 if not kept.pop("JXL") and all(kept.values()) else "It behaves otherwise now")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pillow==13.0.0 pillow-jxl-plugin==1.3.8
"$folder/venv/bin/python" "$folder/try.py"
