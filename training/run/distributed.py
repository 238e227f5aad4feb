"""The processes of a run and their devices."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Iterable
from datetime import timedelta

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn

from ..config import Config, ConfigError

PEER_TIMEOUT = timedelta(minutes=10)
"""A process on another machine that is silent for this long counts as lost."""


def make_accelerator(config: Config) -> Accelerator:
    """Returns the processes and their devices, as `accelerate launch` (or nothing) set them up.

    Raises:
        ConfigError: there is no GPU.
    """
    speed = config.speed
    if speed.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "speed.device is 'cuda', and PyTorch finds no GPU here (torch.cuda.is_available() is "
            "false). Install a PyTorch with CUDA, or set speed.device to 'auto' or 'cpu'."
        )
    # SSIM is a difference of means of squares, which TF32 is too coarse for.
    torch.backends.cudnn.allow_tf32 = False
    if speed.threads:
        torch.set_num_threads(speed.threads)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Imported later, it would keep the group alive: see `shutdown_distributed`.
        importlib.import_module("torch._dynamo")
    return Accelerator(
        cpu=speed.device == "cpu",
        mixed_precision="no",  # the loop's own autocast, so that fp32 is fp32 everywhere
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False),
            InitProcessGroupKwargs(timeout=PEER_TIMEOUT),
        ],
    )


@torch.no_grad()
def average_buffers(networks: Iterable[nn.Module | None], accelerator: Accelerator) -> None:
    """BatchNorm's running statistics become the mean of all processes'.

    On GPUs, SyncBatchNorm does that.
    """
    if accelerator.num_processes == 1 or accelerator.device.type == "cuda":
        return
    buffers = [b for n in networks if n is not None for b in n.buffers() if b.is_floating_point()]
    if not buffers:
        return
    flat = accelerator.reduce(torch.cat([buffer.flatten() for buffer in buffers]), "mean")
    assert isinstance(flat, Tensor)
    for buffer, mean in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def shutdown_distributed(accelerator: Accelerator) -> None:
    """Ends the group of processes, and with it the threads that served it.

    No such thread may be left when Python exits: if it releases a tensor at that moment, it aborts
    the process. So nothing may keep a reference to the group: no parallel network, no function
    with the group as a default argument.
    """
    if not dist.is_initialized():
        return
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    gc.collect()
    dist.destroy_process_group()
