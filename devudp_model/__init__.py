"""DEvUDP: one generator that deblurs photographs and corrects their exposure.

    from devudp_model import Restorer, read_image
    restorer = Restorer()
    restored = restorer(read_image("photo.jpg").pixels)
    print(restorer.reason)

`restore` does one task with weights of your choice, without looking for what an image needs, and
`joint` without the second network that `Restorer` has for it with the bundled weights:

    from devudp_model import Options, bundled, load_checkpoint, restore
    sharp = restore(image, load_checkpoint(bundled("devudp")), Options("joint", strength=0.8))

The public names are loaded when they are first used: importing the package imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import bundled as bundled
    from .checkpoint import load_checkpoint as load_checkpoint
    from .images.reading import read_image as read_image
    from .images.writing import write_image as write_image
    from .restorer import Restorer as Restorer
    from .restoring.auto import Choice as Choice
    from .restoring.auto import choose as choose
    from .restoring.options import Options as Options
    from .restoring.restoration import restore as restore

    __version__: str

MODULES = {
    "Choice": "restoring.auto",
    "Options": "restoring.options",
    "Restorer": "restorer",
    "bundled": "checkpoint",
    "choose": "restoring.auto",
    "load_checkpoint": "checkpoint",
    "read_image": "images.reading",
    "restore": "restoring.restoration",
    "write_image": "images.writing",
}
"""Where each public name is defined."""

__all__ = ["__version__", *MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Public names, on their first use."""
    if name == "__version__":
        value: Any = import_module(".system.version", __name__).version()
    elif name in MODULES:
        value = getattr(import_module(f".{MODULES[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
