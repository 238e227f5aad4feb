"""A training from its start, or from a state, to its end: the loop around `Trainer.advance`."""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path
from types import FrameType

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from devudp_model.checkpoint import save_checkpoint

from ..config import Config
from ..data.dataset import UNUSED_FROM, UnpairedPictures, develop
from ..data.loader import Loaded
from ..export import describe_checkpoint, export_run
from ..method.step import reconstruct
from .distributed import leave, make_accelerator
from .records import (
    Log,
    check_same_data,
    claim_folder,
    describe_run,
    draw_curve,
    picture_sheet,
    write_picture,
)
from .state import state_path
from .trainer import NonFiniteLoss, Trainer

logger = logging.getLogger("devudp")

SHOWN = 4
"""Samples in a sample sheet."""


class StopSignals:
    """Ctrl-C and SIGTERM end the training after the step that is being done."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> StopSignals:
        kinds = (signal.SIGINT, signal.SIGTERM)
        self.before = {kind: signal.signal(kind, self.ask) for kind in kinds}
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self.before.items():
            signal.signal(kind, handler)

    def ask(self, kind: int, frame: FrameType | None) -> None:
        self.asked = True

    def agreed(self, accelerator: Accelerator) -> bool:
        """True in all processes once one of them was asked."""
        if accelerator.num_processes == 1:
            return self.asked
        if self.asked:
            accelerator.set_trigger()
        return accelerator.check_trigger()


class Run:
    """A training from its start, or from a state, to its end."""

    def __init__(self, config: Config, out: Path, state: Path | None = None):
        self.config, self.out, self.resumed = config, out, state is not None
        self.accelerator = make_accelerator(config)
        self.main = self.accelerator.is_main_process
        if not self.main:
            logger.setLevel(logging.ERROR)
        if self.main and not self.resumed:
            claim_folder(out)
        self.accelerator.wait_for_everyone()
        steps = 1  # known once the pictures are counted
        self.data = UnpairedPictures(config.data, steps, config.seed)
        self.trainer = Trainer(config, self.accelerator, self.data)
        listing = self.data.sides.listing()
        if state is not None:
            self.trainer.load(state)
        if self.main:
            if self.resumed:
                check_same_data(out, listing)
            describe_run(out, config, listing, self.accelerator.num_processes)
            self.log = Log(out, self.trainer.step, config.record.tensorboard)
        self.unreadable: set[str] = set()
        self.clock, self.clock_step = time.perf_counter(), self.trainer.step

    def train(self) -> None:
        """All remaining steps.

        Raises:
            NonFiniteLoss: with the step, its files and a state for looking into it.
            StateError, UnreadablePicture: see there.
        """
        trainer, total = self.trainer, self.trainer.schedule.steps
        logger.info(
            "%s from step %d to %d (%d an epoch) in %s",
            self.config.model.variant,
            trainer.step,
            total,
            trainer.schedule.epoch,
            self.out,
        )
        progress = tqdm(
            total=total,
            initial=trainer.step,
            disable=None if self.main else True,
            dynamic_ncols=True,
            unit="step",
        )
        stopped = False
        with StopSignals() as signals, progress:
            for loaded in trainer.loader():
                self.note_faults(loaded)
                try:
                    trainer.advance(loaded)
                except NonFiniteLoss as error:
                    self.explain(error, loaded)
                progress.update()
                self.keep_records(progress)
                stopped = trainer.step < total and signals.agreed(self.accelerator)
                if stopped:
                    break
        self.finish(stopped)

    def due(self, every: int) -> bool:
        """Whether something done every so many steps is to be done after this one."""
        return every > 0 and self.trainer.step % every == 0

    def keep_records(self, progress: tqdm) -> None:
        """Log, samples, weights and states, each when it is due."""
        record, trainer, step = self.config.record, self.trainer, self.trainer.step
        if self.due(record.log_every):
            self.write_log(progress)
        if self.main and self.due(record.sample_every):
            sheet = self.sample_sheet()
            write_picture(sheet, self.out / "samples" / f"{step:08d}.png")
            self.log.picture(step, sheet)
        if self.main and self.due(record.weights_every):
            self.write_weights(self.out / "weights" / f"{step:08d}.safetensors")
        if self.due(record.save_every) and step < trainer.schedule.steps:
            trainer.save(state_path(self.out / "states", step))

    def write_log(self, progress: tqdm) -> None:
        """The mean losses and the speed since the last entry."""
        trainer, now = self.trainer, time.perf_counter()
        losses = trainer.mean_losses()
        seconds = (now - self.clock) / max(trainer.step - self.clock_step, 1)
        self.clock, self.clock_step = now, trainer.step
        if not self.main:
            return
        lr = trainer.schedule.lr(trainer.step - 1)
        speed = {"seconds_per_step": seconds, "images_per_second": 2 * self.config.batch / seconds}
        self.log.write(trainer.step, {"lr": lr, **losses, **speed})
        shown = {name: f"{value:.3f}" for name, value in losses.items()}
        shown["images/s"] = f"{speed['images_per_second']:.1f}"
        progress.set_postfix(shown)
        if progress.disable:  # no terminal: lines in place of a bar
            left = seconds * (trainer.schedule.steps - trainer.step)
            eta = time.strftime("%H:%M:%S", time.gmtime(left % 86400))
            days = f"{int(left // 86400)} d " if left >= 86400 else ""
            text = ", ".join(f"{name} {value}" for name, value in shown.items())
            logger.info(
                "step %d of %d, %s%s left: %s",
                trainer.step,
                trainer.schedule.steps,
                days,
                eta,
                text,
            )

    def note_faults(self, loaded: Loaded) -> None:
        """Counts and names unreadable pictures, each once."""
        for fault in loaded.faults:
            if fault not in self.unreadable:
                self.unreadable.add(fault)
                logger.warning("Skipped a picture (%d so far): %s", len(self.unreadable), fault)

    def explain(self, error: NonFiniteLoss, loaded: Loaded) -> None:
        """Saves what is needed to look into a non-finite loss, and raises it with all of that.

        Raises:
            NonFiniteLoss: always.
        """
        step = self.trainer.step
        files = gather_object(loaded.files)
        path = self.out / "states" / f"fault-{step:08d}.pt"
        self.trainer.save(path)
        if self.main:
            self.log.write(step, {"fault": str(error), "files": files})
            self.log.close()
        raise NonFiniteLoss(
            f"Stopped at step {step}: {error}. Its pictures: {', '.join(files)}. The state before "
            f"this step is in {path}. If the losses grew before (see log.jsonl), go on from an "
            f"earlier state with a lower rate: devudp-train resume {self.out} --schedule.lr "
            f"{self.config.schedule.lr / 2:g}; otherwise look at the pictures."
        ) from error

    def write_weights(self, path: Path) -> None:
        """The weights so far, the averaged ones where there are such."""
        trainer = self.trainer
        metadata = describe_checkpoint(self.out, self.config, trainer.step)
        path.parent.mkdir(exist_ok=True)
        save_checkpoint(path, trainer.ema if trainer.ema is not None else trainer.G, metadata)

    @torch.no_grad()
    def sample_sheet(self) -> torch.Tensor:
        """Rows of A, L = G(A), G_inv(L) and B, G(B), of pictures never trained on."""
        trainer, device = self.trainer, self.accelerator.device
        samples = [self.data[UNUSED_FROM + k] for k in range(SHOWN)]
        batch = develop(samples, self.config.data, device)
        G = trainer.G if trainer.ema is None else trainer.ema
        modes = [(network, network.training) for network in (G, trainer.G_inv)]
        for network, _ in modes:
            network.eval()
        # forward() itself, past the compiled call: these few pictures are no reason to compile.
        L = G.forward(batch.A_input)
        A_recon = reconstruct(trainer.G_inv, L, batch)
        columns = [batch.A_input, L, A_recon, batch.B, G.forward(batch.B)]
        for network, mode in modes:
            network.train(mode)
        return picture_sheet(list(zip(*columns, strict=True)))

    def finish(self, stopped: bool) -> None:
        """The last state, the curve, and the weights if this is the end."""
        trainer = self.trainer
        path = state_path(self.out / "states", trainer.step)
        trainer.save(path)
        trainer.unwrap()
        leave(self.accelerator)
        if not self.main:
            return
        draw_curve(self.out)
        self.log.close()
        if self.unreadable:
            logger.warning("%d pictures could not be read (named above)", len(self.unreadable))
        if stopped:
            logger.info("Stopped after step %d; the state is saved in %s", trainer.step, path)
            logger.info("Resume with:  devudp-train resume %s", self.out)
            return
        logger.info("Done: %d steps. The curve is in %s", trainer.step, self.out / "curve.png")
        for file in export_run(self.out):
            logger.info("Weights: %s", file)
