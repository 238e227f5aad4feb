"""Other restoration networks that a user might pick, with random weights, by the package spandrel.

They need `pip install spandrel`, which needs a torchvision that fits torch. With a torch without
CUDA, PyPI's torchvision cannot load its compiled part, which none of these networks uses; put
tests/host/torchvision_on_cpu.py and a .pth file that imports it into a virtual environment of its
own, and run the benchmark there.
"""

# pyright: reportMissingImports=false
# spandrel is optional: it needs torchvision, which the checks do without.

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def networks() -> dict[str, Callable[[], nn.Module]]:
    """Constructors by name, in the sizes published for deblurring, denoising or low light.

    Raises:
        ImportError: spandrel or torchvision is not there.
    """
    from spandrel.architectures.FFTformer import FFTformer
    from spandrel.architectures.HVICIDNet import HVICIDNet
    from spandrel.architectures.KBNet import KBNet_s
    from spandrel.architectures.NAFNet import NAFNet
    from spandrel.architectures.RetinexFormer import RetinexFormer
    from spandrel.architectures.SwinIR import SwinIR
    from spandrel.architectures.Uformer import Uformer

    def nafnet(width: int) -> nn.Module:
        encoder, decoder = [1, 1, 1, 28], [1, 1, 1, 1]
        return NAFNet(width=width, middle_blk_num=1, enc_blk_nums=encoder, dec_blk_nums=decoder)

    return {
        "NAFNet-32": lambda: nafnet(32),
        "NAFNet-64": lambda: nafnet(64),
        "FFTformer": FFTformer,
        "KBNet-s": KBNet_s,
        "Uformer-B": lambda: Uformer(depths=[1, 2, 8, 8, 2, 8, 8, 2, 1], modulator=True),
        "SwinIR-M": lambda: SwinIR(
            img_size=128,
            window_size=8,
            embed_dim=180,
            depths=[6] * 6,
            num_heads=[6] * 6,
            mlp_ratio=2.0,
            upscale=1,
            upsampler="",
        ),
        "RetinexFormer": lambda: RetinexFormer(stage=1, num_blocks=[1, 2, 2]),
        "HVI-CIDNet": HVICIDNet,
    }
