"""A training run from its start, or from a state, to its end: the loop around `Trainer.advance`."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from accelerate.utils import gather_object
from tqdm import tqdm

from devudp_model.checkpoint import save_checkpoint

from ..config import Config, ConfigError
from ..data.dataset import UnpairedImages
from ..data.loader import Loaded
from ..export import export_run
from ..export.model_card import describe_checkpoint
from ..method.lpips import load_lpips
from .distributed import make_accelerator, shutdown_distributed
from .records import Log, check_places, check_same_data, claim_folder, describe_run, lock, read_run
from .schedule import duration
from .sheets import draw_curve, sample_sheet, write_image
from .state import BEST, StateError, load_state, state_path
from .stop_signals import StopSignals
from .trainer import NonFiniteLoss, Trainer
from .validation import Validation

logger = logging.getLogger("devudp")


class Run(AbstractContextManager["Run"]):
    """A training run: `with Run(config, out) as run: run.train()`.

    Args:
        config: its settings.
        out: its folder.
        resume_from: the folder, or one of its states; None: from the start.

    Raises:
        ConfigError, StateError, FileNotFoundError: it cannot start; nothing was written.
    """

    def __init__(self, config: Config, out: Path, resume_from: Path | None = None):
        self.config, self.out = config, out
        self.accelerator = make_accelerator(config)
        self.main = self.accelerator.is_main_process
        if not self.main:
            logger.setLevel(logging.ERROR)
        self.lock = lock(out) if self.main else None
        try:
            if self.main:
                check_places(out)
            if self.main and resume_from is None:
                claim_folder(out)
            self.prepare(resume_from)
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets other processes into the folder."""
        if self.lock is not None:
            self.lock.release()

    def prepare(self, resume_from: Path | None) -> None:
        """Everything that can fail before the first step fails here."""
        self.accelerator.wait_for_everyone()
        images = UnpairedImages(self.config)
        self.trainer = Trainer(self.config, self.accelerator, images)
        self.validation = self.make_validation(images)
        if resume_from is not None:
            self.load(resume_from)
        self.describe(images.domains.listing(), resumed=resume_from is not None)
        self.unreadable: set[str] = set()
        self.clock, self.clock_step = time.perf_counter(), self.trainer.step

    def make_validation(self, images: UnpairedImages) -> Validation | None:
        """Returns the validation, which only the first process does."""
        if not self.config.validation.every or not self.main:
            return None
        path = self.config.loss.lpips_weights
        lpips = load_lpips(Path(path) if path else None)
        lpips = lpips and lpips.to(self.accelerator.device)
        return Validation(self.config, images.domains.held_out, lpips)

    def load(self, resume_from: Path) -> None:
        """Continues from a state of this run.

        Raises:
            ConfigError: it is of another architecture.
            StateError: it is not a state of this run.
        """
        path, state = load_state(resume_from, read_run(self.out)["id"])
        try:
            self.trainer.load(path, state)
            if self.validation is not None and state.get("validation"):
                self.validation.load(state["validation"])
        except ConfigError:
            raise
        except Exception as error:  # in a crafted file, anything may be anywhere
            short = " ".join(str(error).split())
            raise StateError(
                f"{path} does not hold what a state of this run holds: {short}. Resume from "
                f"another one by its name: devudp-train resume {path.parent}/NAME.pt"
            ) from error

    def describe(self, listing: list[str], *, resumed: bool) -> None:
        """Writes the records that come before the first step."""
        self.id = ""
        if not self.main:
            return
        if resumed:
            check_same_data(self.out, listing)
        processes, step = self.accelerator.num_processes, self.trainer.step
        self.id = describe_run(self.out, self.config, listing, processes, step, resumed)["id"]
        self.log = Log(self.out, self.trainer.step, self.config.record.tensorboard)
        if self.trainer.G.shortcut and self.config.model.zero_head and not step:
            logger.info("G starts as the identity (model.zero_head)")

    def train(self) -> None:
        """All remaining steps.

        Raises:
            NonFiniteLoss: with the step, its files and a state for looking into it.
            StateError, UnreadableImage: see there.
        """
        trainer, total = self.trainer, self.trainer.schedule.steps
        self.announce(total)
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
                ended = self.keep_records(progress)
                stopped = trainer.step < total and signals.agreed(self.accelerator)
                if stopped or ended:
                    break
        self.finish(stopped)

    def announce(self, total: int) -> None:
        """Logs what will be done."""
        schedule = self.trainer.schedule
        facts = self.config.model.variant, self.trainer.step, total, schedule.epoch, self.out
        logger.info("%s from step %d to %d (%d steps per epoch) in %s", *facts)
        for span in schedule.stages if len(schedule.stages) > 1 else ():
            logger.info("  %s", span.describe())

    def due(self, every: int, *, at_end: bool = False) -> bool:
        """True if something done every `every` steps is due after this one."""
        trainer = self.trainer
        ends = at_end and trainer.step == trainer.schedule.steps
        return every > 0 and (trainer.step % every == 0 or ends)

    def keep_records(self, progress: tqdm) -> bool:
        """Writes log, samples, weights and states and validates, each when it is due.

        Returns:
            True if the run should end: the validations no longer improve.
        """
        record, trainer, step = self.config.record, self.trainer, self.trainer.step
        if self.due(record.log_every, at_end=True):
            self.write_log(progress)
        if self.main and self.due(record.sample_every):
            sheet = sample_sheet(trainer)
            write_image(sheet, self.out / "samples" / f"{step:08d}.png")
            self.log.image(step, sheet)
        if self.main and self.due(record.weights_every):
            self.write_weights(self.out / "weights" / f"{step:08d}.safetensors")
        ended = False
        if self.due(self.config.validation.every, at_end=True):
            ended = self.validate()
        if self.due(record.save_every) and step < trainer.schedule.steps:
            self.save(state_path(self.out / "states", step))
        return ended

    def save(self, path: Path) -> None:
        """Writes a state."""
        validation = self.validation and self.validation.state()
        self.trainer.save(path, run=self.id, validation=validation)

    def validate(self) -> bool:
        """Validates and keeps the best state; True if the run should end."""
        start = time.perf_counter()
        flags = torch.zeros(2, device=self.accelerator.device)
        if self.validation is not None:
            found = self.validation.measure(self.trainer.restored_by, self.accelerator.device)
            best = self.validation.is_best(found)
            self.log.write(self.trainer.step, {**found, "best": best})
            text = ", ".join(f"{k.removeprefix('validation ')} {v:.3f}" for k, v in found.items())
            logger.info("step %d, held out: %s%s", self.trainer.step, text, ", best" * best)
            flags = flags.new_tensor([best, self.validation.gives_up])
        best, ends = self.trainer.reduce(flags, "sum").tolist()
        if best:
            self.save(self.out / "states" / BEST)
        if ends:
            logger.info("No better validation for long (validation.patience): the run ends")
        self.clock += time.perf_counter() - start  # validation does not count as step time
        return bool(ends)

    def write_log(self, progress: tqdm) -> None:
        """The mean losses and the speed since the last entry."""
        trainer, now = self.trainer, time.perf_counter()
        losses = trainer.losses.take(lambda total: trainer.reduce(total, "mean"))
        seconds = (now - self.clock) / max(trainer.step - self.clock_step, 1)
        self.clock, self.clock_step = now, trainer.step
        if not self.main:
            return
        span = trainer.schedule.at(trainer.step - 1)
        rate = 2 * span.config.batch / seconds
        speed = {"seconds_per_step": seconds, "images_per_second": rate}
        values = {"lr": span.lr(trainer.step - 1), **losses, **speed}
        if span.name:
            values["stage"] = span.name
        self.log.write(trainer.step, values)
        shown = {name: f"{value:.3f}" for name, value in losses.items()}
        shown["images/s"] = f"{rate:.1f}"
        left = duration(trainer.schedule.seconds_left(trainer.step, seconds))
        if span.name:
            progress.set_description(span.name)
        progress.set_postfix({"left": left, **shown})
        if progress.disable:  # without a terminal, lines replace the bar
            text = ", ".join(f"{name} {value}" for name, value in shown.items())
            stage = f" ({span.name})" if span.name else ""
            total = trainer.schedule.steps
            logger.info("step %d of %d%s, %s left: %s", trainer.step, total, stage, left, text)

    def note_faults(self, loaded: Loaded) -> None:
        """Counts and names unreadable images, each once."""
        for fault in loaded.faults:
            if fault not in self.unreadable:
                self.unreadable.add(fault)
                logger.warning("Skipped an image (%d so far): %s", len(self.unreadable), fault)

    def explain(self, error: NonFiniteLoss, loaded: Loaded) -> None:
        """Saves what is needed to investigate a non-finite loss, and raises it with the details.

        Raises:
            NonFiniteLoss: always.
        """
        step = self.trainer.step
        files = gather_object(loaded.files)
        path = self.out / "states" / f"fault-{step:08d}.pt"
        self.save(path)
        if self.main:
            self.log.write(step, {"fault": str(error), "files": files})
            self.log.close()
        raise NonFiniteLoss(
            f"Stopped at step {step}: {error}. Its images: {', '.join(files)}. The state is in "
            f"{path}: that before this step, or, if it was D's loss, after G's part of it. If the "
            "losses grew before (see log.jsonl), go on from an earlier state with a lower "
            f"rate: devudp-train resume {self.out} --schedule.lr "
            f"{self.trainer.span.config.schedule.lr / 2:g}; otherwise look at the images."
        ) from error

    def write_weights(self, path: Path) -> None:
        """Writes the current weights, averaged if there is an average."""
        metadata = describe_checkpoint(self.out, self.config, self.trainer.step)
        path.parent.mkdir(exist_ok=True)
        save_checkpoint(path, self.trainer.restored_by, metadata)  # pyright: ignore

    def finish(self, stopped: bool) -> None:
        """Saves the last state and the curve, and exports the weights if the run is complete."""
        trainer = self.trainer
        path = state_path(self.out / "states", trainer.step)
        self.save(path)
        trainer.unwrap()
        shutdown_distributed(self.accelerator)
        if not self.main:
            return
        curve = draw_curve(self.out)
        self.log.close()
        if self.unreadable:
            logger.warning("%d images could not be read (named above)", len(self.unreadable))
        if stopped:
            logger.info("Stopped after step %d; the state is saved in %s", trainer.step, path)
            logger.info("Resume with:  devudp-train resume %s", self.out)
        else:
            logger.info("Done: %d steps. The curve is in %s", trainer.step, curve)
            for file in export_run(self.out):
                logger.info("Weights: %s", file)
