"""The settings of a training run. Does not import torch.

Each field has its allowed range in its annotation, its default, and below it what it means:
`devudp-train RECIPE --help`, the checks and the tables in docs/training.md are made from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from .data import DataConfig
from .ranges import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, WEIGHT, Range


@dataclass(frozen=True)
class ModelConfig:
    """The networks."""

    variant: Literal["devudp", "devudp-dt"] = "devudp"
    """Architecture: "devudp" (Fig. 5a) or "devudp-dt" (Fig. 5b)."""
    width: Annotated[int, Range(1, 1024)] = 64
    """Channels of G and G_inv at full resolution (paper: 64)."""
    depth: Annotated[int, Range(1, 64)] = 2
    """Residual blocks in each stage of G and G_inv (paper: 2)."""
    norm: Literal["instance", "batch"] | None = None
    """Ablation: "instance" or "batch" instead of the variant's own normalisation."""
    shortcut: bool | None = None
    """Ablation: with or without the global shortcut, instead of the variant's own."""
    zero_head: bool = True
    """Start a G with the global shortcut as the identity: its last layer is zero."""
    G_inv: bool = True
    """Train an inverse generator too. Without it, eqs. 5, 6 and 9 are left out."""
    G_inv_width: Annotated[int | None, Range(1, 1024)] = None
    """Width of G_inv; None: that of G. A narrower one makes steps cheaper."""
    D_width: Annotated[int, Range(1, 1024)] = 64
    """Channels after the first convolution of D."""
    init: str = ""
    """Checkpoint to start G from: a file, or a bundled one's name. Empty: random weights."""

    @property
    def has_shortcut(self) -> bool:
        """True if G has the global shortcut."""
        return self.variant == "devudp-dt" if self.shortcut is None else self.shortcut


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses (eq. 10 and additions), and switches for the ablation of Fig. 4."""

    recon: Annotated[float, WEIGHT] = 10.0
    """Weight of the reconstruction loss, eq. 6 (lambda_recon)."""
    sr: Annotated[float, WEIGHT] = 5.0
    """Weight of the self-regression losses, eqs. 8 and 9 (lambda_sr)."""
    adv: Annotated[float, WEIGHT] = 1.0
    """Weight of the adversarial loss (paper: 1)."""
    reblur: Annotated[float, WEIGHT] = 0.0
    """Weight of L1 between G's result and A before its second blur (paper: 0)."""
    reblur_scales: Annotated[int, Range(1, 12)] = 1
    """L1 is summed over this many scales (full, half, quarter, ...)."""
    ssim: Annotated[float, WEIGHT] = 0.0
    """Weight of 1 - SSIM of the same images (paper: 0)."""
    lpips: Annotated[float, WEIGHT] = 0.0
    """Weight of LPIPS of the same images (paper: 0)."""
    lpips_weights: str = ""
    """File of LPIPS weights. Empty: those of the package `lpips`."""
    t_branch: bool = True
    """The transformation branch, eqs. 2 to 6."""
    s_branch: bool = True
    """The self-regression branch, eqs. 7 to 9."""
    s_branch_every: Annotated[int, COUNT] = 1
    """Run the self-regression branch in every N-th step (paper: 1)."""


@dataclass(frozen=True)
class ScheduleConfig:
    """Training length, learning rate and optimizers."""

    unit: Literal["epochs", "steps"] = "epochs"
    """Unit of all lengths: "epochs" (each image of A once) or "steps"."""
    length: Annotated[int, COUNT] = 200
    """Length of the training; in a recipe with stages, each stage has its own."""
    stop: Annotated[int | None, COUNT] = None
    """End the run after this many steps, even within a stage; None: after the last stage."""
    scale: Annotated[float, Range(0, 1000000.0, open_low=True)] = 1.0
    """Factor on all lengths, warm-up included: 0.01 to try a recipe out."""
    lr: Annotated[float, Range(0, 1, open_low=True)] = 2e-4
    """Learning rate of both optimizers."""
    warm_up: Annotated[int, NOT_NEGATIVE] = 0
    """Steps in which the learning rate rises from 0."""
    decay: Literal["halve", "cosine", "linear", "none"] = "halve"
    """Fall of the learning rate: "halve", "cosine" or "linear" (both end at 0), or "none"."""
    halve_every: Annotated[int, COUNT] = 50
    """With "halve", the interval at which the learning rate is halved."""
    decay_from: Annotated[float, SHARE] = 0.7
    """Share of the stage after which "linear" begins; the rate is constant before."""
    freeze_norm: Annotated[int | None, NOT_NEGATIVE] = None
    """When BatchNorm switches to its running statistics. None: never (paper)."""
    max_norm: Annotated[float | None, POSITIVE] = None
    """Clip the generators' gradient to this L2 norm. None: no clipping (paper)."""
    accumulate: Annotated[int, Range(1, 4096)] = 1
    """Accumulate gradients over this many parts of a batch, to save memory."""
    betas: Annotated[tuple[float, float], Range(0, 1, open_high=True, ordered=False)] = (0.5, 0.999)
    """Adam's decay rates, for the averages of the gradient and of its square."""
    muon: Annotated[float, Range(0, 1000)] = 0.0
    """Use Muon for the generators' convolutions, at this multiple of lr. 0: Adam (paper)."""


@dataclass(frozen=True)
class SpeedConfig:
    """Settings that change the speed, and the result only by rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train: "auto" (a GPU if there is one), "cpu" or "cuda"."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic: "fp32", the reference, or "bf16" (autocast)."""
    compile: bool = False
    """Torch.compile the networks: minutes at the start, then faster steps."""
    channels_last: bool = False
    """Memory format of images and weights."""
    workers: Annotated[int, Range(0, 1024)] = 2
    """Processes that load images; 0: the training process loads them."""
    threads: Annotated[int, Range(0, 1024)] = 0
    """CPU threads of each process; 0: as many as are free at the start, of PyTorch's default."""


@dataclass(frozen=True)
class RecordConfig:
    """Says what is written during training. All numbers are in steps; 0: never."""

    log_every: Annotated[int, NOT_NEGATIVE] = 50
    """Write the mean losses to the log and TensorBoard."""
    save_every: Annotated[int, NOT_NEGATIVE] = 1000
    """Save a state to resume from; the last two are kept."""
    sample_every: Annotated[int, NOT_NEGATIVE] = 1000
    """Save a sheet of images that the networks made."""
    weights_every: Annotated[int, NOT_NEGATIVE] = 0
    """Save G's weights as a checkpoint; all are kept."""
    tensorboard: bool = True
    """Write TensorBoard's files."""


@dataclass(frozen=True)
class ValidationConfig:
    """Measurements during training, on image pairs, with the tasks as users run them."""

    every: Annotated[int, NOT_NEGATIVE] = 0
    """Steps between validations; 0: none."""
    tasks: tuple[str, ...] = ("deblur",)
    """What is measured: names of tasks (`devudp restore --help`), such as "deblur"."""
    degraded: str = ""
    """Folder of degraded images. Empty: the images of `data.held_out`,
    blurred, darkened or both as the task needs it, the same way each time."""
    reference: str = ""
    """Folder of their references, under the same names."""
    images: Annotated[int, NOT_NEGATIVE] = 8
    """Number of pairs at most; 0: all."""
    best_by: Literal["psnr", "ssim", "lpips"] = "psnr"
    """The metric whose mean decides which state is kept as the best."""
    patience: Annotated[int, NOT_NEGATIVE] = 0
    """End the training after this many validations without improvement; 0: never."""


@dataclass(frozen=True)
class Stage:
    """A part of a training run."""

    name: str
    """For the log."""
    length: int
    """In schedule.unit."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the recipe's settings, by dotted names ("data.crop")."""


@dataclass(frozen=True)
class Config:
    """Everything that a training run depends on, except the images themselves."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Determines all random numbers."""
    batch: Annotated[int, Range(1, 4096)] = 4
    """Images of each domain per step, over all processes (paper: 4)."""
    ema: Annotated[float, Range(0, 1, open_high=True)] = 0.0
    """Decay of the moving average of G's weights, e.g. 0.998; 0: none."""
    pool: Annotated[int, Range(0, 100_000)] = 0
    """Number of earlier images L = G(A) kept to train D on, as in CycleGAN; 0: none (paper)."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    record: RecordConfig = field(default_factory=RecordConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    stages: Annotated[tuple[Stage, ...], tyro.conf.Suppress] = ()
    """See `Stage`; set in the recipe."""
