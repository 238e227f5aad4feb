"""Handles Ctrl-C and SIGTERM in a training run."""

from __future__ import annotations

import os
import signal
from types import FrameType

from accelerate import Accelerator


class StopSignals:
    """Ctrl-C and SIGTERM end the training after the current step; a second one ends it at once."""

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
        """Records the request, and confirms it: compiling a step can take minutes."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        text = b"\nStopping after this step (minutes, while it compiles). Once more: at once.\n"
        os.write(2, text)  # a signal handler must not wait for logging's lock

    def agreed(self, accelerator: Accelerator) -> bool:
        """True in all processes once one of them was asked."""
        if accelerator.num_processes == 1:
            return self.asked
        if self.asked:
            accelerator.set_trigger()
        return accelerator.check_trigger()
