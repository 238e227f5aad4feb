"""PSNR, SSIM and MAE are scikit-image's, to rounding."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from devudp_model.ops import metrics
from devudp_model.ops.metrics import PRODUCT_SIDE, mae, psnr, ssim

ROOT = Path(__file__).parents[2]

sides = st.integers(11, 40)


def check_against_skimage(height: int, width: int, seed: int, noise: float):
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, width)[None, :, None] * rng.uniform(0.2, 1, 3)
    a = np.broadcast_to(ramp, (height, width, 3)).round().astype(np.uint8)
    b = np.clip(a + rng.normal(0, noise + 1, a.shape), 0, 255).round().astype(np.uint8)
    x, y = (torch.from_numpy(p.copy()).permute(2, 0, 1) for p in (a, b))
    expected = structural_similarity(
        a, b, channel_axis=2, gaussian_weights=True, use_sample_covariance=False, data_range=255
    )
    assert ssim(x, y) == pytest.approx(expected, abs=1e-6)
    assert mae(x, y) == pytest.approx(np.abs(a.astype(float) - b).mean(), abs=1e-9)
    if not np.array_equal(a, b):
        assert psnr(x, y) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(sides, sides, st.integers(0, 10**6), st.floats(0, 80))
def test_equal_to_skimage(height: int, width: int, seed: int, noise: float):
    check_against_skimage(height, width, seed, noise)


@pytest.mark.parametrize(("height", "width"), [(11, PRODUCT_SIDE + 1), (PRODUCT_SIDE + 30, 40)])
def test_equal_to_skimage_for_large_images(height: int, width: int):
    """Those whose means are convolutions, not a product of matrices."""
    check_against_skimage(height, width, seed=0, noise=20)


def test_values_computed_by_hand():
    a, b = torch.zeros(3, 16, 16, dtype=torch.uint8), torch.full((3, 16, 16), 51, dtype=torch.uint8)
    assert psnr(a, b) == pytest.approx(20 * math.log10(5))  # 255 / 51 = 5
    assert mae(a, b) == 51
    assert ssim(a, b) == pytest.approx(6.5025 / (51**2 + 6.5025))  # no structure: C1 is left
    assert psnr(a, a) == math.inf and ssim(a, a) == 1 and mae(a, a) == 0


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ((3, 10, 40), (3, 10, 40), "at least 11x11"),
        ((3, 20, 20), (3, 20, 21), "differ in size"),
    ],
)
def test_images_that_cannot_be_compared(a: tuple, b: tuple, words: str):
    with pytest.raises(ValueError, match=words):
        ssim(torch.zeros(a, dtype=torch.uint8), torch.zeros(b, dtype=torch.uint8))


def test_only_8_bit_images():
    with pytest.raises(ValueError, match="8-bit"):
        psnr(torch.zeros(3, 16, 16), torch.zeros(3, 16, 16))


@pytest.mark.parametrize("shape", [(3, 41, 30), (3, 200, 23), (1, 12, 300), (3, 11, 11)])
def test_bands_change_nothing(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
    """Bands of a few rows, and the last of fewer, against the whole image at once."""
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8) for _ in "ab")
    whole = psnr(a, b), mae(a, b), ssim(a, b)
    monkeypatch.setattr(metrics, "BAND_PIXELS", 7 * shape[2])
    assert (psnr(a, b), mae(a, b)) == whole[:2]
    assert ssim(a, b) == pytest.approx(whole[2], rel=1e-12)
    exact = metrics.similarity(a.double(), b.double(), 255.0).item()
    assert whole[2] == pytest.approx(exact, rel=1e-12)


MEMORY = """
import resource, sys, torch
from devudp_model.ops import metrics
from devudp_model.ops.metrics import mae, psnr, ssim
torch.set_num_threads(1)
small = torch.zeros(3, 64, 64, dtype=torch.uint8)
psnr(small, small), ssim(small, small)
a = torch.randint(0, 256, (3, 2000, 3000), dtype=torch.uint8)
b = a.flip(1).contiguous()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
values = psnr(a, b), mae(a, b), ssim(a, b)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((peak - before) * (1 if sys.platform == "darwin" else 1024) / 6e6)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no getrusage")
def test_large_images_take_little_memory():
    """At most 60 bytes a pixel at 6 megapixels; it was 440."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 60
