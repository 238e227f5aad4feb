"""The processes of a training and their devices."""

from __future__ import annotations

import gc
import importlib
import os
from datetime import timedelta

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from ..config import Config, ConfigError

PEER_TIMEOUT = timedelta(minutes=10)
"""A process on another machine that is silent for so long is given up."""


def make_accelerator(config: Config) -> Accelerator:
    """The processes and their devices, as `accelerate launch` (or nothing) set them up.

    Raises:
        ConfigError: a GPU that is not there, or a batch that cannot be shared out.
    """
    speed = config.speed
    if speed.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "speed.device is 'cuda', and PyTorch finds no GPU here (torch.cuda.is_available() is "
            "false). Install a PyTorch with CUDA, or set speed.device to 'auto' or 'cpu'."
        )
    if speed.threads:
        torch.set_num_threads(speed.threads)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # It is imported anyway later on, and then keeps the group alive for good: see `leave`.
        importlib.import_module("torch._dynamo")
    accelerator = Accelerator(
        cpu=speed.device == "cpu",
        mixed_precision="no",  # the loop's own autocast, so that fp32 is fp32 everywhere
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False),
            InitProcessGroupKwargs(timeout=PEER_TIMEOUT),
        ],
    )
    if config.batch % accelerator.num_processes:
        raise ConfigError(
            f"a batch of {config.batch} cannot be shared out equally to "
            f"{accelerator.num_processes} processes: make it a multiple of that"
        )
    return accelerator


def leave(accelerator: Accelerator) -> None:
    """Ends the group of processes, and with it the threads that served it.

    Such a thread must not be there any more when Python ends: where it just lets go of a tensor
    then, it aborts the process. So nothing may hold the group: no parallel network, no function
    that has it as its default.
    """
    if not dist.is_initialized():
        return
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    gc.collect()
    dist.destroy_process_group()
