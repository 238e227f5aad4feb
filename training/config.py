"""The settings of a training run and what they mean. Does not import torch.

The docstrings are the documentation: `devudp-train RECIPE --help` and the tables in
docs/training.md are generated from them. Allowed ranges are in `ranges.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from .data_config import DataConfig


class ConfigError(ValueError):
    """A setting that cannot be used; the message says which one and what to do."""


@dataclass(frozen=True)
class ModelConfig:
    """The networks.

    Attributes:
        variant: "devudp" (Fig. 5a) or "devudp-dt" (Fig. 5b).
        width: channels of G and G_inv at full resolution (paper: 64).
        depth: residual blocks in each stage of G and G_inv (paper: 2).
        norm: ablation: "instance" or "batch" instead of the variant's own normalisation.
        shortcut: ablation: with or without the global shortcut, instead of the variant's own.
        zero_head: start a G with the global shortcut as the identity: its last layer is zero.
        G_inv: train an inverse generator too. Without it, eqs. 5, 6 and 9 are left out.
        G_inv_width: width of G_inv; None: that of G. A narrower one makes steps cheaper.
        D_width: channels after the first convolution of D.
        init: checkpoint to start G from: a file, or a bundled one's name. Empty: random weights.
    """

    variant: Literal["devudp", "devudp-dt"] = "devudp"
    width: int = 64
    depth: int = 2
    norm: Literal["instance", "batch"] | None = None
    shortcut: bool | None = None
    zero_head: bool = True
    G_inv: bool = True
    G_inv_width: int | None = None
    D_width: int = 64
    init: str = ""

    @property
    def has_shortcut(self) -> bool:
        """Whether G has the global shortcut."""
        return self.variant == "devudp-dt" if self.shortcut is None else self.shortcut


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses (eq. 10 and additions to it), and switches for the ablation of Fig. 4.

    Attributes:
        recon: weight of the reconstruction loss, eq. 6 (lambda_recon).
        sr: weight of the self-regression losses, eqs. 8 and 9 (lambda_sr).
        adv: weight of the adversarial loss (paper: 1).
        reblur: weight of L1 between G's result and A before its second blur (paper: 0).
        reblur_scales: L1 is summed over this many scales (full, half, quarter, ...).
        ssim: weight of 1 - SSIM of the same images (paper: 0).
        lpips: weight of LPIPS of the same images (paper: 0).
        lpips_weights: file of LPIPS weights. Empty: those of the package `lpips`.
        t_branch: the transformation branch, eqs. 2 to 6.
        s_branch: the self-regression branch, eqs. 7 to 9.
        s_branch_every: run the self-regression branch in every N-th step (paper: 1).
    """

    recon: float = 10.0
    sr: float = 5.0
    adv: float = 1.0
    reblur: float = 0.0
    reblur_scales: int = 1
    ssim: float = 0.0
    lpips: float = 0.0
    lpips_weights: str = ""
    t_branch: bool = True
    s_branch: bool = True
    s_branch_every: int = 1


@dataclass(frozen=True)
class ScheduleConfig:
    """Training length, learning rate and optimizers.

    Attributes:
        unit: unit of all lengths: "epochs" (each image of A once) or "steps".
        length: length of the training; in a recipe with stages, each stage has its own.
        stop: end the run after this many steps, even within a stage; None: after the last stage.
        scale: factor on all lengths, warm-up included: 0.01 to try a recipe out.
        lr: learning rate of both optimizers.
        warm_up: steps in which the learning rate rises from 0.
        decay: "halve", "cosine" or "linear" (both reach 0 at the stage's end), or "none".
        halve_every: with "halve", the interval at which the learning rate is halved.
        decay_from: share of the stage after which "linear" begins; the rate is constant before.
        freeze_norm: when BatchNorm switches to its running statistics. None: never (paper).
        max_norm: clip the generators' gradient to this L2 norm. None: no clipping (paper).
        accumulate: accumulate gradients over this many parts of a batch, to save memory.
        betas: Adam's decay rates, for the averages of the gradient and of its square.
        muon: use Muon for the generators' convolutions, at this multiple of lr. 0: Adam (paper).
    """

    unit: Literal["epochs", "steps"] = "epochs"
    length: int = 200
    stop: int | None = None
    scale: float = 1.0
    lr: float = 2e-4
    warm_up: int = 0
    decay: Literal["halve", "cosine", "linear", "none"] = "halve"
    halve_every: int = 50
    decay_from: float = 0.7
    freeze_norm: int | None = None
    max_norm: float | None = None
    accumulate: int = 1
    betas: tuple[float, float] = (0.5, 0.999)
    muon: float = 0.0


@dataclass(frozen=True)
class SpeedConfig:
    """Settings that change the speed, and the result only by rounding.

    Attributes:
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        precision: "fp32", the reference, or "bf16" (autocast).
        compile: torch.compile the networks: minutes at the start, then faster steps.
        channels_last: memory format of images and weights.
        workers: processes that load images; 0: the training process loads them.
        threads: CPU threads of each process; 0: PyTorch's default.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    channels_last: bool = False
    workers: int = 2
    threads: int = 0


@dataclass(frozen=True)
class RecordConfig:
    """What is written during training. All numbers are in steps; 0: never.

    Attributes:
        log_every: write the mean losses to the log and TensorBoard.
        save_every: save a state to resume from; the last two are kept.
        sample_every: save a sheet of images that the networks made.
        weights_every: save G's weights as a checkpoint; all are kept.
        tensorboard: write TensorBoard's files.
    """

    log_every: int = 50
    save_every: int = 1000
    sample_every: int = 1000
    weights_every: int = 0
    tensorboard: bool = True


@dataclass(frozen=True)
class ValidationConfig:
    """Measurements during training, on image pairs, with the tasks as users run them.

    Attributes:
        every: steps between validations; 0: none.
        tasks: what is measured: names of tasks (`devudp restore --help`), such as "deblur".
        degraded: folder of degraded images. Empty: the images of `data.held_out`, blurred,
            darkened or both as the task needs it, the same way each time.
        reference: folder of their references, under the same names.
        images: number of pairs at most; 0: all.
        best_by: the metric whose mean decides which state is kept as the best.
        patience: end the training after this many validations without improvement; 0: never.
    """

    every: int = 0
    tasks: tuple[str, ...] = ("deblur",)
    degraded: str = ""
    reference: str = ""
    images: int = 8
    best_by: Literal["psnr", "ssim", "lpips"] = "psnr"
    patience: int = 0


@dataclass(frozen=True)
class Stage:
    """A part of a training run.

    Attributes:
        name: for the log.
        length: in schedule.unit.
        changes: what differs from the recipe's settings, by dotted names ("data.crop").
    """

    name: str
    length: int
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """Everything that a training run depends on, except the images themselves.

    Attributes:
        seed: determines all random numbers.
        batch: images of each domain per step, over all processes (paper: 4).
        ema: decay of the moving average of G's weights, e.g. 0.998; 0: none.
        pool: number of earlier images L = G(A) kept to train D on, as in CycleGAN; 0: none (paper).
        stages: see `Stage`; set in the recipe.
    """

    seed: int = 0
    batch: int = 4
    ema: float = 0.0
    pool: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    record: RecordConfig = field(default_factory=RecordConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    stages: Annotated[tuple[Stage, ...], tyro.conf.Suppress] = ()
