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

from .compare_one import peak_bytes
from .measure import forget_peak


def measure(
    size: tuple[int, int],
    net: Generator,
    precision: Precision,
    memory: int | None,
    device: torch.device,
) -> tuple[dict[str, float], torch.Tensor]:
    """Seconds, peak bytes, and the restored image."""
    torch.manual_seed(0)
    options = Options(precision=precision, memory=memory)
    restore(torch.rand(1, 3, 64, 64, device=device), net, options)  # loads kernels, starts threads
    image = torch.rand(1, 3, *size, device=device)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    else:
        forget_peak()
    before = torch.cuda.memory_allocated(device) if cuda else psutil.Process().memory_info().rss
    start = time.perf_counter()
    result = restore(image, net, options)
    if cuda:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated(device) if cuda else peak_bytes()
    return {"seconds": seconds, "peak": max(peak - before - result.nbytes, 0)}, result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one")
    parser.add_argument("height", type=int, help="of the image, in pixels")
    parser.add_argument("width", type=int, help="of the image, in pixels")
    parser.add_argument("precision", choices=["fp32", "bf16", "fp16"], help="of the network")
    parser.add_argument("--memory", type=float, help="the bound, in bytes; default: none")
    parser.add_argument("--check", action="store_true", help="compare with the unbounded result")
    parser.add_argument("--device", default="cpu", help="default: cpu")
    parser.add_argument("--channels", type=int, default=64, help="the network's width")
    args = parser.parse_args()
    memory = None if args.memory is None else int(args.memory)
    size, device = (args.height, args.width), torch.device(args.device)
    torch.manual_seed(0)
    net = Generator(width=args.channels).eval().requires_grad_(False).to(device)
    found, result = measure(size, net, args.precision, memory, device)
    if args.check:
        whole, expected = measure(size, net, args.precision, None, device)
        found["difference"] = (result - expected).abs().max().item()
        found["seconds_whole"] = whole["seconds"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
