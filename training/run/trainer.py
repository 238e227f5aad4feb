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
import logging
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

from devudp_model.coarse_to_fine import coarse_to_fine

from ..config import Config, ConfigError
from ..data.dataset import UnpairedPictures, develop
from ..data.loader import Loaded, make_loader
from ..method.discriminator import Discriminator
from ..method.generators import calibrate, make_generator, start_from
from ..method.lpips import find_lpips
from ..method.optimizer import make_optimizer
from ..method.pool import PicturePool
from ..method.reblur import BlurInverse
from ..method.step import Batch, Networks, train_step
from .schedule import Schedule
from .state import load_state, random_states, save_state, set_random_states

COARSER = ((), (2,), (4, 2))
"""With model.coarse, the scales at which a step's inputs are worked on first, in turn."""

NOT_OF_SHAPES = ("init", "calibrate", "coarse", "lpips")
"""Settings of the model that a run may be resumed without."""

logger = logging.getLogger("devudp")


class NonFiniteLoss(ArithmeticError):
    """A loss became infinite or not a number."""


class Trainer:
    """Networks, optimizers and data of a run, and what one step does to them.

    Args:
        config: of the run.
        accelerator: from `make_accelerator`.
        data: the pictures.
    """

    def __init__(self, config: Config, accelerator: Accelerator, data: UnpairedPictures):
        self.config, self.accelerator, self.data = config, accelerator, data
        self.schedule = Schedule(config, data.sides.A_size)
        data.length = self.schedule.steps * config.batch
        self.step = 0
        self.sums: dict[str, Tensor] = {}  # of the losses since the last log entry
        self.counts: dict[str, int] = {}  # of the steps that had them
        set_seed(config.seed)  # of Python, NumPy and torch
        model = config.model
        self.G = make_generator(model, model.width)
        self.G_inv = (
            BlurInverse()
            if model.G_inv == "known blur"
            else make_generator(model, model.G_inv_width or model.width)
        )
        self.D = Discriminator(config.model.D_width)
        if config.model.init:
            start_from(self.G, config.model.init)
        if model.calibrate:
            calibrate(self.G, data, config.batch, model.calibrate)
        self.pool = PicturePool(config.pool, config.seed + accelerator.process_index)
        self.place_networks()

    def place_networks(self) -> None:
        """Moves the networks to the device; compiled and made parallel where asked for."""
        accelerator, speed = self.accelerator, self.config.speed
        networks: list[nn.Module] = [self.G, self.G_inv, self.D]
        self.layout = torch.channels_last if speed.channels_last else torch.contiguous_format
        for network in networks:
            network.to(accelerator.device)
            network.to(memory_format=self.layout)  # pyright: ignore[reportCallIssue]
        # Whatever happens to G below, its average stays a plain network.
        self.ema = copy.deepcopy(self.G).requires_grad_(False) if self.config.ema else None
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            networks = [nn.SyncBatchNorm.convert_sync_batchnorm(n) for n in networks]
        lr, betas = self.schedule.lr(0), self.config.schedule.betas
        generators = [*self.G.parameters(), *self.G_inv.parameters()]
        opt_G = make_optimizer(generators, self.config.schedule)
        opt_D = torch.optim.Adam(self.D.parameters(), lr, betas)
        if speed.compile:
            for network in networks:
                if not isinstance(network, BlurInverse):
                    # In place: the weights keep their names. Pictures blurred again have a size
                    # of their own, for which there is to be a kernel of its own as well.
                    network.compile(dynamic=False)
        with warnings.catch_warnings():  # broadcast_buffers has another name in new versions
            warnings.simplefilter("ignore", FutureWarning)
            G, G_inv, D = (
                network if isinstance(network, BlurInverse) else accelerator.prepare_model(network)
                for network in networks
            )
        self.nets = Networks(G, G_inv, D, opt_G, opt_D, self.lpips())

    def lpips(self) -> nn.Module | None:
        """LPIPS where it is a loss."""
        if not self.config.loss.lpips:
            return None
        weights = self.config.model.lpips
        return find_lpips(Path(weights) if weights else None).to(self.accelerator.device)

    def unwrap(self) -> None:
        """Lets go of the parallel networks, which hold the group of processes. No step follows."""
        self.nets = dataclasses.replace(self.nets, G=self.G, G_inv=self.G_inv, D=self.D)

    def loader(self) -> DataLoader[Loaded]:
        """The remaining steps' samples."""
        return make_loader(self.data, self.config, self.accelerator, self.step, self.schedule.steps)

    def reduce(self, value: Tensor, how: Literal["sum", "mean"]) -> Tensor:
        """The sum or mean of `value` over all processes."""
        reduced = self.accelerator.reduce(value, how)
        assert isinstance(reduced, Tensor)
        return reduced

    def autocast(self) -> AbstractContextManager:
        """The precision of the forward passes."""
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

    def batch_of(self, loaded: Loaded) -> Batch:
        """The samples as the networks take them, on their device."""
        pictures = loaded.pictures
        if isinstance(pictures, Batch):
            batch = pictures
        else:
            batch = develop(pictures, self.config.data, self.accelerator.device)
        A, B, A_input, B_input = (x.contiguous(memory_format=self.layout) for x in batch[:4])
        return Batch(A, B, A_input, B_input, *batch[4:])

    @torch.no_grad()
    def from_coarser(self, batch: Batch) -> Batch:
        """With G's inputs as coarser scales leave them, as is this step's turn (model.coarse)."""
        scales = COARSER[self.step % len(COARSER)] if self.config.model.coarse else ()
        if not scales:
            return batch
        training = self.G.training
        self.G.eval()  # small pictures are not to change the statistics

        def run(small: Tensor) -> Tensor:
            with self.autocast():
                return (self.G(small * 2 - 1).float() + 1) / 2

        inputs = {"A_input": batch.A_input}
        if self.config.loss.at(self.step).s_branch:
            inputs["B_input"] = batch.B_input
        given = {k: coarse_to_fine(run, (x + 1) / 2, scales) * 2 - 1 for k, x in inputs.items()}
        self.G.train(training)
        return batch._replace(**given)

    def advance(self, loaded: Loaded) -> None:
        """One step (section 3.2).

        Raises:
            NonFiniteLoss: see `backward`; `step` is not counted then.
        """
        lr = self.schedule.lr(self.step)
        for optimizer in (self.nets.opt_G, self.nets.opt_D):
            for group in optimizer.param_groups:
                group["lr"] = lr
        if self.step >= self.schedule.freeze_norm:
            self.nets.G.eval()
            self.nets.G_inv.eval()
        losses, _ = train_step(
            self.nets,
            self.from_coarser(self.batch_of(loaded)),
            self.config.loss.at(self.step),
            backward=self.backward,
            autocast=self.autocast,
            pool=self.pool,
            max_norm=self.config.schedule.max_norm or math.inf,
        )
        self.share_buffers()
        self.update_ema()
        self.step += 1
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(loss)) + loss
            self.counts[name] = self.counts.get(name, 0) + 1

    @torch.no_grad()
    def share_buffers(self) -> None:
        """BatchNorm's running statistics become the mean of all processes'."""
        accelerator = self.accelerator
        if accelerator.num_processes == 1 or accelerator.device.type == "cuda":
            return
        buffers = [b for n in (self.G, self.G_inv) for b in n.buffers() if b.is_floating_point()]
        if buffers and self.G.training:
            flat = torch.cat([buffer.flatten() for buffer in buffers])
            flat = self.reduce(flat, "mean")
            for buffer, mean in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
                buffer.copy_(mean.view_as(buffer))

    @torch.no_grad()
    def update_ema(self) -> None:
        """The average of G's weights and buffers; at first a shorter one."""
        if self.ema is None:
            return
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        current = self.G.state_dict()
        for name, average in self.ema.state_dict().items():
            if average.is_floating_point():
                average.lerp_(current[name], 1 - decay)
            else:
                average.copy_(current[name])

    def mean_losses(self) -> dict[str, float]:
        """The losses' means, of all processes, since this was last called."""
        if not self.sums:
            return {}
        names = sorted(self.sums)
        total = torch.stack([self.sums[name].float() / self.counts[name] for name in names])
        self.sums, self.counts = {}, {}
        return dict(zip(names, self.reduce(total, "mean").tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on. To be called by all processes."""
        return {
            "step": self.step,
            "model": dataclasses.asdict(self.config.model),
            "G": self.G.state_dict(),
            "G_inv": self.G_inv.state_dict(),
            "D": self.D.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "opt_G": self.nets.opt_G.state_dict(),
            "opt_D": self.nets.opt_D.state_dict(),
            "sums": {name: value.cpu() for name, value in self.sums.items()},
            "counts": self.counts,
            "processes": gather_object([{"random": random_states(), "pool": self.pool.state()}]),
        }

    def save(self, path: Path) -> None:
        """Writes the state; all processes call it, the first one writes.

        Raises:
            StateError: in all processes, if it cannot be written.
        """
        content, error = self.state(), None
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

    def load(self, path: Path) -> None:
        """Continues from a state.

        Raises:
            StateError: it cannot be read.
            ConfigError: it is of another architecture or optimizer.
        """
        state = load_state(path)
        mine, its = (
            {k: v for k, v in model.items() if k not in NOT_OF_SHAPES}
            for model in (dataclasses.asdict(self.config.model), state["model"])
        )
        if mine != its:
            wrong = [
                f"{k} {its.get(k)!r} there, {mine[k]!r} here" for k in mine if mine[k] != its.get(k)
            ]
            raise ConfigError(f"{path} is a state of another architecture: {'; '.join(wrong)}")
        if ("muon" in state["opt_G"]) != (self.config.schedule.muon > 0):
            raise ConfigError(
                f"{path} is a state of {'Muon' if 'muon' in state['opt_G'] else 'Adam'}, and "
                "schedule.muon asks for the other. Leave that as it was, or start a new run from "
                "the weights (--model.init)"
            )
        self.G.load_state_dict(state["G"])
        self.G_inv.load_state_dict(state["G_inv"])
        self.D.load_state_dict(state["D"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"] or state["G"])
        self.nets.opt_G.load_state_dict(state["opt_G"])
        self.nets.opt_D.load_state_dict(state["opt_D"])
        device = self.accelerator.device
        self.step, self.counts = state["step"], state["counts"]
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        rank = self.accelerator.process_index
        own = state["processes"][rank % len(state["processes"])]
        set_random_states(own["random"])
        self.pool.load(own["pool"], device)
