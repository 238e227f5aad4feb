"""A training's settings: what there is to be set, and what goes together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from devudp_model.generator import Norm, Variant
from devudp_model.metrics import WINDOW

from .data.domains import DataConfig
from .method.step import LossWeights


class ConfigError(ValueError):
    """A setting that cannot be used; the message says which and what to do."""


ALEXNET_SIDE = 31
"""Pixels of a side of the smallest picture that AlexNet, LPIPS' network, has an answer for."""


@dataclass(frozen=True)
class ModelConfig:
    """The networks.

    Attributes:
        variant: "devudp" (Fig. 5a) or "devudp-dt" (Fig. 5b).
        width: channels of G and G_inv at full resolution (the paper's: 64).
        depth: residual blocks in each of their stages (the paper's: 2).
        norm: ablation: "instance" or "batch" in place of the variant's own.
        shortcut: ablation: with or without the global shortcut, in place of the variant's own.
        G_inv_width: G_inv's, where it is not to be G's; a narrower one makes steps cheaper, and
            G_inv is not needed afterwards.
        G_inv: "network" (the paper's), or "known blur": in its place the very blur that was made
            on the fly (`training/method/reblur.py`). Needs data.made_blur = 1, or data.again_of =
            "A", which blurs all of A.
        calibrate: BatchNorm takes its running statistics from this many batches before the first
            step; with schedule.freeze_norm = 0 it keeps them. 0: not (the paper's).
        coarse: G is trained on what coarser scales make of its inputs as well, as the task `deblur`
            gives it (`coarse_to_fine.py`): at every third step each on the input itself, on what
            half its size and on what a quarter and half make of it. Needs the global shortcut.
        D_width: channels of the discriminator after its first convolution.
        lpips: a file with the weights of LPIPS (training/method/lpips.py), for loss.lpips; empty:
            those of the package `lpips`.
        init: a checkpoint to start G from (.safetensors); empty: from random numbers.
    """

    variant: Variant = "devudp"
    width: int = 64
    depth: int = 2
    norm: Norm | None = None
    shortcut: bool | None = None
    G_inv_width: int | None = None
    G_inv: Literal["network", "known blur"] = "network"
    calibrate: int = 0
    coarse: bool = False
    D_width: int = 64
    lpips: str = ""
    init: str = ""

    @property
    def has_shortcut(self) -> bool:
        """Whether G has the global shortcut."""
        return self.variant == "devudp-dt" if self.shortcut is None else self.shortcut


@dataclass(frozen=True)
class ScheduleConfig:
    """How long, and how fast.

    Attributes:
        unit: what the numbers below count: "epochs" (each picture of A once) or "steps".
        length: of the whole training.
        halve_every: the learning rate is halved this often.
        freeze_norm: from here on BatchNorm uses its running statistics instead of the batch's; for
            "devudp-dt" with small batches, whose statistics are noisy. None: never (the paper's).
        lr: the learning rate at the start, of both optimizers.
        warm_up: steps in which it grows to that from nothing.
        max_norm: longer gradients of the generators are shortened to this. None: none are.
        betas: Adam's.
        muon: the convolutions' weights of the generators are Muon's, with this many times the
            learning rate, instead of Adam's. 0: all are Adam's (the paper's).
    """

    unit: Literal["epochs", "steps"] = "epochs"
    length: int = 200
    halve_every: int = 50
    freeze_norm: int | None = None
    lr: float = 2e-4
    warm_up: int = 0
    max_norm: float | None = None
    betas: tuple[float, float] = (0.5, 0.999)
    muon: float = 0.0


@dataclass(frozen=True)
class SpeedConfig:
    """What changes the speed and not (or hardly) the result.

    Attributes:
        device: "auto" (a GPU where there is one), "cpu", or "cuda".
        precision: "fp32", the reference, or "bf16" (autocast).
        compile: torch.compile the networks: a minute at the start, faster steps.
        channels_last: memory format of pictures and weights.
        workers: processes that load pictures; 0: none beside the training's own.
        threads: CPU threads of each process; 0: PyTorch's choice.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    channels_last: bool = False
    workers: int = 2
    threads: int = 0


@dataclass(frozen=True)
class RecordConfig:
    """What is written during the training; every number counts steps, 0 means never.

    Attributes:
        log_every: losses, averaged, to the log and TensorBoard.
        save_every: a state to resume from; the last two are kept.
        sample_every: a picture of what the networks do.
        weights_every: G's weights as a checkpoint, all of them kept.
        tensorboard: whether to write TensorBoard's files.
    """

    log_every: int = 50
    save_every: int = 1000
    sample_every: int = 1000
    weights_every: int = 0
    tensorboard: bool = True


@dataclass(frozen=True)
class Config:
    """Everything that a training depends on, besides the pictures themselves.

    Attributes:
        seed: all random numbers follow from it.
        batch: pictures of each domain in one step, of all processes together (the paper's: 4).
        ema: decay of the exponential moving average of G's weights, e.g. 0.998; 0: none.
        pool: L = G(A) of this many earlier pictures are kept to train D on, as CycleGAN does;
            0: none (the paper's).
    """

    seed: int = 0
    batch: int = 4
    ema: float = 0.0
    pool: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    record: RecordConfig = field(default_factory=RecordConfig)

    def __post_init__(self) -> None:
        low, high = self.data.short_side
        checks = {
            "batch must be at least 1": self.batch >= 1,
            "ema must be from 0 to below 1": 0 <= self.ema < 1,
            "schedule.length and schedule.halve_every must be at least 1": min(
                self.schedule.length, self.schedule.halve_every
            )
            >= 1,
            "data.crop must be at least 24 pixels, D's smallest picture": self.data.crop >= 24,
            "data.short_side must be two numbers, the smaller one first": low <= high,
            "one of loss.t_branch and loss.s_branch must be on": self.loss.t_branch
            or self.loss.s_branch,
            "model.G_inv = 'known blur' needs data.made_blur = 1, no data.blurry and no "
            "data.frames, since nobody knows their blur (the recipe unpaired takes them; and so "
            "does data.again_of 'A')": (
                self.model.G_inv == "network" or self.data.last_blur_is_made
            ),
            "data.crop must be above 24 pixels with model.G_inv 'known blur', which leaves out 12 "
            "at each side": self.model.G_inv == "network" or self.data.crop > 24,
            "data.again_scale of data.crop must be at least 24 pixels, of which 8 remain": (
                not self.loss.again or self.data.again_side >= 8
            ),
            "data.again_scale must be above 0 and at most 1": 0 < self.data.again_scale <= 1,
            "model.coarse needs the global shortcut (variant devudp-dt)": (
                not self.model.coarse or self.model.has_shortcut
            ),
            "loss.again_sizes must be at least 1, and so small that the smallest has a pixel (data."
            "crop; with data.again_of 'L' data.again_scale of it, less 16)": self.loss.again_sizes
            >= 1
            and (not self.loss.again or self.data.again_side >= 2 ** (self.loss.again_sizes - 1)),
            "loss.ssim needs loss.again, and at least 11 pixels of what that compares (data.crop; "
            "with data.again_of 'L' data.again_scale of it, less 16)": (
                not self.loss.ssim or (self.loss.again > 0 and self.data.again_side >= WINDOW)
            ),
            "loss.lpips needs loss.again, and at least 31 pixels of what that compares": (
                not self.loss.lpips
                or (self.loss.again > 0 and self.data.again_side >= ALEXNET_SIDE)
            ),
            "data.curve must be two numbers above 0, the smaller one first": (
                self.data.curve is None or 0 < self.data.curve[0] <= self.data.curve[1]
            ),
            "data.directions must be 0 (any movement) or more": self.data.directions >= 0,
            "data.averaged must be from 0 to 1": 0 <= self.data.averaged <= 1,
            "schedule.muon must be 0 (Adam) or more": self.schedule.muon >= 0,
            "loss.s_branch_every must be at least 1": self.loss.s_branch_every >= 1,
            "loss.s_branch_every above 1 needs loss.t_branch or loss.again: other steps have no "
            "other loss": (
                self.loss.s_branch_every == 1 or self.loss.t_branch or self.loss.again > 0
            ),
            "loss.again and data.again_of 'A' need data.again_extent": (
                self.data.again_extent is not None
                or (not self.loss.again and self.data.again_of == "L")
            ),
        }
        for demand, met in checks.items():
            if not met:
                raise ConfigError(f"{demand}. Change it in the recipe or on the command line.")
