"""The trainer: networks, optimizers, data and one step, on one device or many (accelerate).

What is not obvious about GANs under DistributedDataParallel:

- G and D are called twice before one backward pass. That is fine as long as no buffer changes in
  between by broadcasting, so broadcasting is off and BatchNorm's buffers are averaged after the
  step instead (on GPUs SyncBatchNorm keeps them equal).
- All losses are means and every process has equally many samples, so the averaged gradients are
  those of the whole batch. With BatchNorm on CPUs each process normalises over its own part.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader

from devudp_model.restoring.coarse_to_fine import coarse_to_fine

from ..batch import Batch
from ..config import Config, ConfigError
from ..config.stages import stage_configs
from ..data.dataset import UnpairedImages
from ..data.loader import Loaded, make_loader
from ..data.synthesis import render_batch
from ..method.average import update_average
from ..method.lpips import find_lpips
from ..method.networks import Discriminator, make_generator, start_from
from ..method.optimizer import make_adam, make_optimizer
from ..method.pool import ImagePool
from ..method.step import Networks, due, train_step
from .distributed import average_buffers
from .records import MeanLosses
from .schedule import Schedule, StageSpan
from .state import (
    check_architecture,
    check_numbers,
    random_states,
    save_state,
    set_random_states,
)

COARSER = ((), (2,), (4, 2))
"""With data.coarse_inputs, the scales at which a step's inputs are restored first, in turn."""


class NonFiniteLoss(ArithmeticError):
    """A loss became infinite or not a number."""


class Trainer:
    """Networks, optimizers and data of a run, and what one step does to them.

    Args:
        config: of the run.
        accelerator: from `make_accelerator`.
        images: the data.
    """

    def __init__(self, config: Config, accelerator: Accelerator, images: UnpairedImages):
        self.config, self.accelerator, self.images = config, accelerator, images
        self.schedule = Schedule(config, images.domains.A_size)
        self.schedule.check_processes(accelerator.num_processes)
        self.step = 0
        self.losses = MeanLosses()  # since the last log entry
        set_seed(config.seed)  # of Python, NumPy and torch
        model = config.model
        self.G = make_generator(model, model.width)
        self.G_inv = (
            make_generator(model, model.G_inv_width or model.width) if model.G_inv else None
        )
        self.D = Discriminator(model.D_width)
        if model.init:
            start_from(self.G, model.init)
        self.pool = ImagePool(config.pool, config.seed + accelerator.process_index)
        self.place_networks()

    @property
    def span(self) -> StageSpan:
        """Returns the stage of the step that is next."""
        return self.schedule.at(self.step)

    def place_networks(self) -> None:
        """Moves the networks to the device; compiled and made parallel where asked for."""
        accelerator, speed, schedule = self.accelerator, self.config.speed, self.config.schedule
        own = [network for network in (self.G, self.G_inv, self.D) if network is not None]
        self.layout = torch.channels_last if speed.channels_last else torch.contiguous_format
        for network in own:
            network.to(accelerator.device)
            network.to(memory_format=self.layout)  # pyright: ignore[reportCallIssue]
        averages = any(stage.ema for stage in stage_configs(self.config))
        # Copied before G is compiled or wrapped: the average stays a plain network.
        self.ema = copy.deepcopy(self.G).requires_grad_(False) if averages else None
        networks: list[nn.Module] = list(own)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            networks = [nn.SyncBatchNorm.convert_sync_batchnorm(n) for n in networks]
        generators = [p for n in own[:-1] for p in n.parameters()]
        opt_G = make_optimizer(generators, schedule)
        opt_D = make_adam(self.D.parameters(), schedule.lr, schedule.betas)
        if speed.compile:
            for network in networks:
                network.compile(dynamic=False)  # in place: the weights keep their names
        with warnings.catch_warnings():  # broadcast_buffers has another name in new versions
            warnings.simplefilter("ignore", FutureWarning)
            parallel = [accelerator.prepare_model(network) for network in networks]
        G, D = parallel[0], parallel[-1]
        G_inv = parallel[1] if self.G_inv is not None else None
        self.nets = Networks(G, G_inv, D, opt_G, opt_D, self.lpips())

    def lpips(self) -> nn.Module | None:
        """LPIPS where a stage has it as a loss."""
        if not any(stage.loss.lpips for stage in stage_configs(self.config)):
            return None
        weights = self.config.loss.lpips_weights
        return find_lpips(Path(weights) if weights else None).to(self.accelerator.device)

    def unwrap(self) -> None:
        """Releases the parallel networks, which keep the process group alive. No step follows."""
        self.nets = dataclasses.replace(self.nets, G=self.G, G_inv=self.G_inv, D=self.D)

    def loader(self) -> DataLoader[Loaded]:
        """Returns the remaining steps' samples."""
        accelerator = self.accelerator
        return make_loader(
            self.images,
            self.schedule.samples(self.step),
            workers=self.config.speed.workers,
            pin=accelerator.device.type == "cuda",
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
        )

    def reduce(self, value: Tensor, how: Literal["sum", "mean"]) -> Tensor:
        """Returns the sum or mean of `value` over all processes."""
        reduced = self.accelerator.reduce(value, how)
        assert isinstance(reduced, Tensor)
        return reduced

    def autocast(self) -> AbstractContextManager:
        """Returns the precision of the forward passes."""
        if self.config.speed.precision == "bf16":
            return torch.autocast(self.accelerator.device.type, torch.bfloat16)
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Propagates a loss if it is finite in every process.

        Raises:
            NonFiniteLoss: in all processes at once, before any weight is touched by it.
        """
        if self.reduce((~loss.detach().isfinite()).float(), "sum").item():
            raise NonFiniteLoss(f"a loss is {loss.item()}")
        self.accelerator.backward(loss)

    def parts_of(self, loaded: Loaded) -> list[Batch]:
        """Returns the step's samples as the networks take them, in schedule.accumulate parts."""
        data = self.span.config.data
        batch = render_batch(loaded.A, loaded.B, data, self.accelerator.device)
        batch = Batch(*(x if x is None else x.contiguous(memory_format=self.layout) for x in batch))  # pyright: ignore
        if data.coarse_inputs:
            batch = self.from_coarser(batch)
        parts = self.config.schedule.accumulate
        if parts == 1:
            return [batch]
        columns = [[None] * parts if x is None else x.chunk(parts) for x in batch]
        return [Batch(*row) for row in zip(*columns, strict=True)]

    @torch.no_grad()
    def from_coarser(self, batch: Batch) -> Batch:
        """The batch with G's inputs restored at a coarser scale, if it is this step's turn."""
        scales = COARSER[self.step % len(COARSER)]
        if not scales:
            return batch
        training = self.G.training
        self.G.eval()  # small images must not change the statistics

        def run(small: Tensor) -> Tensor:
            with self.autocast():
                # forward() itself bypasses the compiled call: these sizes are not worth compiling.
                return (self.G.forward(small * 2 - 1).float() + 1) / 2

        inputs = {"A_input": batch.A_input}
        if due(self.span.config.loss, self.step).s_branch:
            inputs["B_input"] = batch.B_input
        given = {k: coarse_to_fine(run, (x + 1) / 2, scales) * 2 - 1 for k, x in inputs.items()}
        given = {k: x.contiguous(memory_format=self.layout) for k, x in given.items()}
        self.G.train(training)
        return batch._replace(**given)

    def advance(self, loaded: Loaded) -> None:
        """One step (section 3.2).

        Raises:
            NonFiniteLoss: see `backward`; `step` is not counted then.
        """
        span = self.span
        lr = span.lr(self.step)
        for optimizer in (self.nets.opt_G, self.nets.opt_D):
            for group in optimizer.param_groups:
                group["lr"] = lr
        training = not span.norm_is_frozen(self.step)
        for network in (self.nets.G, self.nets.G_inv):
            if network is not None and network.training != training:
                network.train(training)
        losses, _ = train_step(
            self.nets,
            self.parts_of(loaded),
            due(span.config.loss, self.step),
            backward=self.backward,
            autocast=self.autocast,
            pool=self.pool,
            max_norm=span.config.schedule.max_norm or math.inf,
        )
        if training:
            average_buffers([self.G, self.G_inv], self.accelerator)
        if self.ema is not None:
            update_average(self.ema, self.G, span.config.ema, self.step)
        self.step += 1
        self.losses.add(losses)

    @property
    def restored_by(self) -> nn.Module:
        """G, with its averaged weights if there are any."""
        return self.G if self.ema is None else self.ema

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on. All processes must call it."""
        return {
            "step": self.step,
            "model": dataclasses.asdict(self.config.model),
            "G": self.G.state_dict(),
            "G_inv": self.G_inv and self.G_inv.state_dict(),
            "D": self.D.state_dict(),
            "ema": self.ema and self.ema.state_dict(),
            "opt_G": self.nets.opt_G.state_dict(),
            "opt_D": self.nets.opt_D.state_dict(),
            **self.losses.state(),
            "processes": gather_object([{"random": random_states(), "pool": self.pool.state()}]),
        }

    def save(self, path: Path, **more: Any) -> None:
        """Writes the state; all processes call it, the first one writes.

        Args:
            more: further entries to store in the file.

        Raises:
            StateError: it cannot be written. The other processes end with status 1.
        """
        content, error = self.state() | more, None
        if self.accelerator.is_main_process:
            try:
                save_state(path, content)
            except OSError as caught:
                error = caught
        failed = torch.tensor(float(error is not None), device=self.accelerator.device)
        failed = self.reduce(failed, "sum").item()
        if error is not None:
            raise error
        if failed:
            raise SystemExit(1)  # the first process says why

    def load(self, path: Path, state: dict[str, Any]) -> None:
        """Continues from a state.

        Raises:
            ConfigError: it is of another architecture or optimizer, or longer than the run.
            RuntimeError, ValueError: it holds other networks, or numbers that are not finite.
        """
        check_architecture(path, state, self.config)
        if state["step"] > self.schedule.steps:
            raise ConfigError(
                f"{path} is of step {state['step']}, and the run ends at {self.schedule.steps}: "
                "give it a larger length"
            )
        self.G.load_state_dict(state["G"])
        if self.G_inv is not None:
            self.G_inv.load_state_dict(state["G_inv"])
        self.D.load_state_dict(state["D"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"] or state["G"])
        self.nets.opt_G.load_state_dict(state["opt_G"])
        self.nets.opt_D.load_state_dict(state["opt_D"])
        check_numbers(state, self.nets.opt_G, self.nets.opt_D)
        device = self.accelerator.device
        self.step = state["step"]
        self.losses.load(state, device)
        own = state["processes"][self.accelerator.process_index % len(state["processes"])]
        set_random_states(own["random"])
        self.pool.load(own["pool"], device)
