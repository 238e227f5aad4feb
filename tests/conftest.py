"""Settings for every test: one thread, and quick garbage collections."""

import gc

import torch

torch.set_num_threads(1)  # the networks here are too small to share out


def pytest_collection_finish() -> None:
    """What is imported by now stays: without it, a collection takes a tenth of the time."""
    gc.collect()
    gc.freeze()
