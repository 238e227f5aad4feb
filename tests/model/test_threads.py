"""Small images and the number of threads, with the bundled weights: docs/performance.md."""

from __future__ import annotations

import pytest
import torch

from devudp_model.checkpoint import bundled, load_checkpoint
from devudp_model.engine.precision import Precision
from devudp_model.network.generator import VARIANTS, Variant
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore

SIZES = ((8, 8), (9, 48), (24, 24), (33, 40))
"""At these sizes a convolution takes other kernels if it may use several threads."""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_number_of_threads_changes_no_bit_of_small_images(
    variant: Variant, precision: Precision
) -> None:
    generator = load_checkpoint(bundled(variant)).generator
    options = Options(task="joint" if variant == "devudp" else "deblur", precision=precision)
    rng, usual = torch.Generator().manual_seed(0), torch.get_num_threads()
    images = [torch.rand(1, 3, *size, generator=rng) for size in SIZES]
    results = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append([restore(image, generator, options) for image in images])
    finally:
        torch.set_num_threads(usual)
    for other in results[1:]:
        assert all(map(torch.equal, other, results[0]))
