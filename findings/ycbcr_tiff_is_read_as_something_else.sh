#!/bin/sh
# TIFF in YCbCr: Pillow cannot read what it has written itself, and libvips reads it as RGB.
#
# Versions: pillow 12.3.0, pyvips 3.2.0 with pyvips-binary 8.18.7, numpy 2.4.6 (Python 3.11 to 3.13).
#
# Good guess: `Image.new("YCbCr", ...).save("a.tif")` makes a sound file (PhotometricInterpretation 6,
# no compression, no subsampling; LibTIFF's tools read it), which Pillow and libvips open with the
# right colours, or refuse.
#
# Seen: Pillow says "image file is truncated (0 bytes not processed)", since it expects four bytes a
# pixel. libvips opens it without a word as sRGB, luma as red, chroma as green and blue: an orange
# comes out purple. The same file with LZW is right in Pillow, and as wrong in libvips; with JPEG
# inside, both are right.
#
# Fails if any of this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'PYTHON'
import sys

import numpy as np
import PIL
import pyvips
from PIL import Image

orange = Image.new("RGB", (64, 48), (230, 120, 20))
expected = np.asarray(orange.convert("YCbCr").convert("RGB")).astype(int)[0, 0]
print("pillow", PIL.__version__, "libvips", *(pyvips.version(part) for part in range(3)))
seen = {}
for compression in (None, "tiff_lzw", "jpeg"):
    path = f"{sys.argv[1]}/{compression}.tif"  # libvips remembers what it read from a name
    orange.convert("YCbCr").save(path, compression=compression)
    try:
        with Image.open(path) as image:
            pillow = bool(np.abs(np.asarray(image.convert("RGB"))[0, 0] - expected).max() <= 4)
    except OSError as error:
        pillow = str(error)
    image = pyvips.Image.new_from_file(path)
    pixel = image.numpy()[0, 0, :3].astype(int)
    libvips = bool(np.abs(pixel - expected).max() <= 4)
    seen[compression] = pillow, libvips
    print(f"{compression}: Pillow {pillow}, libvips {libvips} ({image.interpretation} {pixel})")
truncated = "truncated" in str(seen[None][0])
as_seen = truncated and not seen[None][1] and seen["tiff_lzw"] == (True, False)
sys.exit(0 if as_seen and seen["jpeg"] == (True, True) else "It behaves otherwise now")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pillow==12.3.0 "pyvips[binary]==3.2.0" \
    pyvips-binary==8.18.7 numpy==2.4.6
"$folder/venv/bin/python" "$folder/try.py" "$folder"
