"""Settings for every test: one thread, quick garbage collections, and who runs what in parallel."""

from __future__ import annotations

import gc
from typing import Any

import pytest


def pytest_collection_finish() -> None:
    """What is imported by now stays: without it, a collection takes a tenth of the time."""
    import torch  # not above: the process that only shares tests out does without it

    torch.set_num_threads(1)  # the networks here are too small to share out
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`, with all of tests/host on one worker: it starts the real host once."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            host = "tests/host"
            return host if nodeid.startswith(f"{host}/") else super()._split_scope(nodeid)

    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many tests ran in the real host; tests/host marks them."""
    counts = []
    for outcome in ("passed", "failed", "error", "skipped"):
        reports = terminalreporter.stats.get(outcome, [])
        # A file that cannot be collected has a report without keywords.
        count = sum("comfyui" in getattr(report, "keywords", ()) for report in reports)
        if count:
            counts.append(f"{count} {outcome}")
    if counts:
        from tests.host.environment import version

        terminalreporter.write_line(f"In a real ComfyUI {version()}: {', '.join(counts)}")
