"""Restores one random image; prints seconds and peak memory over input and output as JSON.

python -m benchmarks.one 720 1280 bf16
python -m benchmarks.one 4000 6000 bf16 --memory 1.5e9 --check     # against the unbounded result
"""

from __future__ import annotations

import argparse
import json
import time

import psutil
import torch

from devudp_model.engine.precision import Precision
from devudp_model.network.generator import Generator
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore

from .measure import forget_peak, peak_bytes


def measure(
    size: tuple[int, int], net: Generator, precision: Precision, memory: int | None
) -> tuple[dict[str, float], torch.Tensor]:
    """Seconds, peak bytes, and the restored image."""
    torch.manual_seed(0)
    options = Options(precision=precision, memory=memory)
    restore(torch.rand(1, 3, 64, 64), net, options)  # loads kernels, starts threads
    image = torch.rand(1, 3, *size)
    forget_peak()
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    result = restore(image, net, options)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": max(peak_bytes() - before - result.nbytes, 0)}, result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one")
    parser.add_argument("height", type=int, help="of the image, in pixels")
    parser.add_argument("width", type=int, help="of the image, in pixels")
    parser.add_argument("precision", choices=["fp32", "bf16", "fp16"], help="of the network")
    parser.add_argument("--memory", type=float, help="the bound, in bytes; default: none")
    parser.add_argument("--check", action="store_true", help="compare with the unbounded result")
    parser.add_argument("--channels", type=int, default=64, help="the network's width")
    args = parser.parse_args()
    memory = None if args.memory is None else int(args.memory)
    size = args.height, args.width
    torch.manual_seed(0)
    net = Generator(width=args.channels).eval().requires_grad_(False)
    found, result = measure(size, net, args.precision, memory)
    if args.check:
        whole, expected = measure(size, net, args.precision, None)
        found["difference"] = (result - expected).abs().max().item()
        found["seconds_whole"] = whole["seconds"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
