"""Lists what is compared: this project, fixed curves, classical methods, other networks.

Each is a function from an image, H,W,3 float32 in [0, 1], to the same. Its package is imported when
it is made, so that each needs only its own: see `python -m benchmarks.comparison --help`.
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false
# Most packages are optional.

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]

DARK, BOTH, BLURRED = "low light", "dark and blurred", "blurred"
GAMMA = 0.26
"""The fixed curve of docs/results.json."""

MAXIM = "MAXIM_FOLDER"
"""Environment variable: the folder node_modules/@upscalerjs of npm."""


@dataclass(frozen=True)
class Method:
    """One row of a table.

    Attributes:
        name: of the row.
        sets: the sets that it is meant for.
        packages: what has to be installed from PyPI.
        make: gives the function.
        learned: whether it is a network.
        tensorflow: whether it runs in the Python that has TensorFlow.
        weights: bytes of weights that are in none of the packages.
    """

    name: str
    sets: tuple[str, ...]
    packages: tuple[str, ...]
    make: Callable[[], Function]
    learned: bool = False
    tensorflow: bool = False
    weights: Callable[[], int] = int


def devudp() -> Function:
    """This project with its defaults: `auto`, precision included."""
    import torch

    from devudp_model import Restorer

    restorer = Restorer(device="cpu")
    return lambda image: (
        restorer(torch.from_numpy(image).movedim(-1, 0)[None])[0].movedim(0, -1).numpy()
    )


def bundled_bytes() -> int:
    from devudp_model.checkpoint import bundled

    return sum(bundled(variant).stat().st_size for variant in ("devudp", "devudp-dt"))


def gamma() -> Function:
    return lambda image: image**GAMMA


def clahe_of_skimage() -> Function:
    from skimage.exposure import equalize_adapthist

    return lambda image: equalize_adapthist(image).astype(np.float32)


def clahe_of_opencv() -> Function:
    """On the lightness, as usual for photographs."""
    import cv2

    equalizer = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8))

    def run(image: np.ndarray) -> np.ndarray:
        lab = cv2.cvtColor(to_8_bits(image), cv2.COLOR_RGB2LAB)
        lab[..., 0] = equalizer.apply(lab[..., 0])
        return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(np.float32) / 255

    return run


def non_local_means() -> Function:
    """OpenCV's, at its default strength, after the fixed gamma."""
    import cv2

    def run(image: np.ndarray) -> np.ndarray:
        bright = np.ascontiguousarray(to_8_bits(image**GAMMA)[..., ::-1])
        cleaned = cv2.fastNlMeansDenoisingColored(bright, None, 3, 3, 7, 21)
        return cleaned[..., ::-1].astype(np.float32) / 255

    return run


def unsharp_mask() -> Function:
    """By OpenCV's Gaussian; of scikit-image 0.26's own, colours come out wrong here."""
    import cv2

    return lambda image: 2 * image - cv2.GaussianBlur(image, (0, 0), 2.0)


def gaussian(sigma: float = 1.5) -> np.ndarray:
    """Returns the blur that deconvolution assumes: the true one is not known."""
    at = np.arange(-6, 7)
    line = np.exp(-(at**2) / (2 * sigma**2))
    kernel = np.outer(line, line)
    return kernel / kernel.sum()


def each_channel(function: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """With reflected borders: deconvolution would take the outside for black."""
    padded = np.pad(image, ((16, 16), (16, 16), (0, 0)), "reflect")
    done = np.stack([function(padded[..., c]) for c in range(3)], -1)
    return done[16:-16, 16:-16].astype(np.float32)


def richardson_lucy() -> Function:
    from skimage.restoration import richardson_lucy

    return partial(each_channel, lambda x: richardson_lucy(x, gaussian(), num_iter=10))


def wiener() -> Function:
    from skimage.restoration import unsupervised_wiener

    def run(channel: np.ndarray) -> np.ndarray:
        return np.asarray(unsupervised_wiener(channel, gaussian(), clip=False, rng=0)[0])

    return partial(each_channel, run)


def chain(*parts: Callable[[], Function]) -> Function:
    made = [part() for part in parts]

    def run(image: np.ndarray) -> np.ndarray:
        for function in made:
            image = function(image).clip(0, 1).astype(np.float32)
        return image

    return run


def zero_dce() -> Function:
    """The package's network and weights; the package itself needs OpenCV and torchvision too."""
    import torch

    folder = Path(str(metadata.distribution("neuro-low-light").locate_file("neuro_low_light")))
    spec = importlib.util.spec_from_file_location("zero_dce_model", folder / "model.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.ZeroDCEPP().eval()
    found = torch.load(folder / "weights" / "best_model.pth", "cpu", weights_only=True)
    network.load_state_dict(found["model_state_dict"])

    @torch.inference_mode()
    def run(image: np.ndarray) -> np.ndarray:
        result, _ = network(torch.from_numpy(image).movedim(-1, 0)[None])
        return result[0].movedim(0, -1).numpy()

    return run


def maxim_folder(model: str) -> Path:
    """Returns the folder of npm's package for `deblurring` or `enhancement`."""
    return Path(os.environ[MAXIM]) / f"maxim-{model}" / "models"


def maxim_bytes(*models: str) -> int:
    return sum(file.stat().st_size for m in models for file in maxim_folder(m).iterdir())


def maxim(model: str) -> Function:
    """MAXIM (Tu et al., 2022) as npm's package has it, a graph for TensorFlow.js, in TensorFlow."""
    import tensorflow as tf
    from google.protobuf import json_format

    folder = maxim_folder(model)
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    graph = tf.compat.v1.GraphDef()
    json_format.ParseDict(content["modelTopology"], graph, ignore_unknown_fields=True)
    values: dict[str, np.ndarray] = {}
    for group in content["weightsManifest"]:
        data, at = b"".join((folder / path).read_bytes() for path in group["paths"]), 0
        for entry in group["weights"]:
            dtype, count = np.dtype(entry["dtype"]), int(np.prod(entry["shape"]))
            value = np.frombuffer(data, dtype, count, at).reshape(entry["shape"])
            values[entry["name"]], at = value, at + value.nbytes
    for node in graph.node:
        if node.op == "Const" and node.name in values:
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values[node.name]))
    imported = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(graph, name=""), []
    )
    network = imported.prune("xs_0:0", "Identity:0")

    def run(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        padded = np.pad(image, ((0, -height % 64), (0, -width % 64), (0, 0)), "reflect")
        result = network(tf.constant(padded[None])).numpy()[0]  # pyright: ignore
        return result[:height, :width]

    return run


def to_8_bits(image: np.ndarray) -> np.ndarray:
    """[0, 1] to uint8, rounded."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


OURS = ("torch", "numpy", "pillow", "safetensors", "tqdm")
CV, SKIMAGE = "opencv-python-headless", "scikit-image"
PEER = {"learned": True, "tensorflow": True}

METHODS = (
    Method("DEvUDP, auto", (DARK, BOTH, BLURRED), OURS, devudp, True,
           weights=bundled_bytes),
    Method("gamma 0.26", (DARK, BOTH), ("numpy",), gamma),
    Method("CLAHE (scikit-image)", (DARK, BOTH), (SKIMAGE,), clahe_of_skimage),
    Method("CLAHE (OpenCV)", (DARK, BOTH), (CV,), clahe_of_opencv),
    Method("gamma + non-local means (OpenCV)", (DARK, BOTH), (CV,), non_local_means),
    Method("gamma + non-local means + unsharp", (BOTH,), (CV,),
           partial(chain, non_local_means, unsharp_mask)),
    Method("unsharp mask (OpenCV)", (BLURRED,), (CV,), unsharp_mask),
    Method("Richardson-Lucy (scikit-image)", (BLURRED,), (SKIMAGE,), richardson_lucy),
    Method("unsupervised Wiener (scikit-image)", (BLURRED,), (SKIMAGE,), wiener),
    Method("Zero-DCE++ (neuro-low-light)", (DARK, BOTH), ("torch", "neuro-low-light"), zero_dce,
           True),
    Method("MAXIM enhancement", (DARK, BOTH), ("tensorflow-cpu",), partial(maxim, "enhancement"),
           weights=partial(maxim_bytes, "enhancement"), **PEER),
    Method("MAXIM deblurring", (BLURRED,), ("tensorflow-cpu",), partial(maxim, "deblurring"),
           weights=partial(maxim_bytes, "deblurring"), **PEER),
)  # fmt: skip
