"""Runs one method of the comparison on a folder of PNGs, in a process of its own; prints JSON.

python -m benchmarks.compare_one METHOD SOURCE TARGET

Processor seconds a megapixel (of all threads, best of the images), peak memory of the whole process
and the size of all that has to be installed, in bytes. Imports nothing but what the method needs.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image

from .compared_methods import METHODS, Method, to_8_bits


def run(method: Method, source: Path, target: Path) -> dict[str, float]:
    """Restores all PNGs of a folder into another one."""
    function, seconds = method.make(), []
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*.png")):
        image = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
        start = time.process_time()
        result = function(image)
        seconds.append((time.process_time() - start) / (image[..., 0].size / 1e6))
        if not np.isfinite(result).all():
            raise ArithmeticError(f"{method.name} gives values that are not finite for {path.name}")
        Image.fromarray(to_8_bits(result)).save(target / path.name, compress_level=1)
    return {
        "seconds": min(seconds),
        "peak": peak_bytes(),
        "installed": installed(method.packages) + method.weights(),
    }


def peak_bytes() -> int:
    """Peak memory of this process, on Linux. (`getrusage` would include what started it.)"""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024


def installed(names: Iterable[str]) -> int:
    """Bytes of these distributions and of all that they depend on."""
    left, seen = [*names], dict[str, int]()
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in seen:
            continue
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for another system or Python
            seen[name] = 0
            continue
        paths = [Path(str(found.locate_file(file))) for file in found.files or ()]
        seen[name] = sum(path.stat().st_size for path in paths if path.is_file())
        for line in found.requires or ():
            if "extra ==" not in line:
                left.append(re.split(r"[^\w.-]", line)[0])
    return sum(seen.values())


if __name__ == "__main__":
    wanted = next(method for method in METHODS if method.name == sys.argv[1])
    print(json.dumps(run(wanted, Path(sys.argv[2]), Path(sys.argv[3]))))
