#!/bin/sh
# On a CPU, PyTorch's powers, sigmoid and softplus of a number depend on where it lies in a tensor:
# a crop's values are not the values' crop. exp, log, tanh, lerp and addcmul do not.
#
# Versions: torch 2.13.0, numpy 2.4.6 (Python 3.10 to 3.13); x86-64.
#
# Good guess: these work element by element, so (x ** 2.4)[:, :w] and x[:, :w] ** 2.4 are the same
# numbers to the bit, as they are for +, * or exp.
#
# Seen: x ** 2.4 of a view of 7 or 13 columns differs from the same columns of the whole in two thirds
# of the numbers, in the last place or two; of a contiguous copy in a few numbers.
# With AVX512 and with AVX2 (ATEN_CPU_CAPABILITY). So an sRGB curve computed tile by tile is not
# the curve of the image to the bit, a test that compares the two fails now and then, and so does a
# cache that goes by a hash of the result. In 8 bits only what lies at a half rounds otherwise.
#
# Fails if powers become the same everywhere, or exp, log, tanh, lerp or addcmul do not stay so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'PYTHON'
import sys

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
x, y = torch.rand(2, 40, 131)
print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability())
operations = {
    "x ** 2.4": (lambda x, y: x**2.4, False),
    "sigmoid": (lambda x, y: torch.sigmoid(x), False),
    "softplus": (lambda x, y: torch.nn.functional.softplus(x), False),
    "exp": (lambda x, y: x.exp(), True),
    "log": (lambda x, y: x.log(), True),
    "tanh": (lambda x, y: x.tanh(), True),
    "lerp": (lambda x, y: torch.lerp(x, y, 0.3), True),
    "addcmul": (lambda x, y: torch.addcmul(x, y, y, value=-1), True),
}
wrong = False
for name, (operation, alike) in operations.items():
    whole, counts = operation(x, y), []
    for width in (7, 13, 130):
        crop = whole[:, :width]
        views = operation(x[:, :width], y[:, :width])
        copies = operation(x[:, :width].contiguous(), y[:, :width].contiguous())
        counts.append([int((crop != found).sum()) for found in (views, copies)])
        wrong = wrong or not torch.allclose(crop, views, rtol=1e-6, atol=0)
    text = ", ".join(f"{width} columns {v}, copied {c}" for width, (v, c) in zip((7, 13, 130), counts))
    print(f"{name}: of 40 rows differ in", text)
    wrong = wrong or alike == any(v + c for v, c in counts)
sys.exit("It behaves otherwise now" if wrong else 0)
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
for instructions in best avx2; do
  unset ATEN_CPU_CAPABILITY
  test "$instructions" = best || export ATEN_CPU_CAPABILITY="$instructions"
  "$folder/venv/bin/python" "$folder/try.py"
done
