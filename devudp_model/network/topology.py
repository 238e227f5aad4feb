"""A network as a list of operations: written once, run by whoever knows how.

`Generator.body` runs the list on whole features, for training; the engine's two executions run it
on whole features and strip by strip, for images. None of them knows more of a network than
`Architecture` says, so another network needs no other engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar

from torch import Tensor, nn

from .instance_norm import InstanceNorm

Kind = Literal["stem", "same", "down", "up"]
"""Change of size by a convolution: the `stem` reads the image and pads it by
reflection, the others pad with zeros; `down` has stride 2, `up` doubles the size before, by
repeating pixels."""


class Operation(NamedTuple):
    """One convolution and what goes with it, in this order.

    Attributes:
        conv: name of the convolution among the network's modules.
        norm: name of the normalisation of its output; None for none.
        kind: see `Kind`.
        relu: True if a ReLU follows.
        keep: True if the input is kept, to be added later.
        add: True if what was kept last, and not added yet, is added at the end.
    """

    conv: str
    norm: str | None = None
    kind: Kind = "same"
    relu: bool = True
    keep: bool = False
    add: bool = False


Operations = tuple[Operation, ...]


class Architecture(Protocol):
    """The side of a network that the engine needs: an `nn.Module` with the operations' modules.

    Attributes:
        stride: sides inside the network are multiples of this many pixels.
        min_side: the smallest side inside the network.
        standardized: True if the input is brought to mean 0 and variance 1 over the whole image.
        has_droplets: True if its output may have droplets (see engine/droplets.py).
    """

    stride: int
    min_side: int

    @property
    def operations(self) -> Operations:
        """From the stem to the head; see `check_operations`."""
        ...

    @property
    def standardized(self) -> bool: ...

    @property
    def has_droplets(self) -> bool: ...

    def activate(self, out: Tensor, x: Tensor) -> Tensor:
        """Returns the output in [-1, 1], of what the head gives and the padded input, B,3,H,W."""
        ...

    def get_submodule(self, target: str) -> nn.Module: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def buffers(self) -> Iterator[Tensor]: ...


SomeNetwork = TypeVar("SomeNetwork", bound=Architecture)


def residual_block(name: str) -> Operations:
    """Returns the two operations of a residual block, on `conv1`, `norm1`, `conv2` and `norm2`."""
    return (
        Operation(f"{name}.conv1", f"{name}.norm1", keep=True),
        Operation(f"{name}.conv2", f"{name}.norm2", relu=False, add=True),
    )


def check_operations(operations: Sequence[Operation]) -> None:
    """Checks that a list can be run.

    Raises:
        ValueError: it does not begin with the only stem, or not end with a head (a bare convolution
            of kind `same`), or something is added that was not kept, or the other way round.
    """
    kinds = [operation.kind for operation in operations]
    if kinds[:1] != ["stem"] or kinds.count("stem") > 1 or operations[0].keep:
        raise ValueError("the first operation must be the only stem, and cannot keep its input")
    if operations[-1] != Operation(operations[-1].conv, relu=False) or len(operations) < 2:
        raise ValueError("the last operation must be a convolution without norm, ReLU or sum")
    kept = 0
    for operation in operations:
        kept += operation.keep - operation.add
        if kept < 0:
            raise ValueError(f"{operation.conv}: nothing is kept that could be added")
    if kept:
        raise ValueError(f"{kept} inputs are kept and never added")


def convolution(network: Architecture, operation: Operation) -> nn.Conv2d:
    """Returns an operation's convolution.

    Raises:
        TypeError: it is none that the engine can run as this kind.
    """
    conv = network.get_submodule(operation.conv)
    assert isinstance(conv, nn.Conv2d)
    side, stride = conv.kernel_size[0], 2 if operation.kind == "down" else 1
    mode = "reflect" if operation.kind == "stem" else "zeros"
    usual = (
        conv.kernel_size == (side, side)
        and side % 2 == 1
        and (side == 3 or operation.kind in ("stem", "same"))
        and conv.stride == (stride, stride)
        and conv.padding == (side // 2, side // 2)
        and (conv.padding_mode == mode or side == 1)
        and conv.groups == 1
        and conv.dilation == (1, 1)
    )
    if not usual:
        raise TypeError(f"{operation.conv} cannot be run as {operation.kind!r}: {conv}")
    return conv


def is_normalized(network: Architecture, operation: Operation) -> bool:
    """True if an operation's output is normalised with its own statistics (InstanceNorm).

    Raises:
        TypeError: it has another norm. BatchNorm must be folded into the convolution.
    """
    if operation.norm is None:
        return False
    norm = network.get_submodule(operation.norm)
    if not isinstance(norm, InstanceNorm | nn.Identity):
        raise TypeError(f"{operation.norm} is {norm}: InstanceNorm and BatchNorm can be run")
    return isinstance(norm, InstanceNorm)


def has_batchnorm(network: Architecture) -> bool:
    """True if some norm of a network is BatchNorm."""
    norms = (operation.norm for operation in network.operations if operation.norm is not None)
    return any(isinstance(network.get_submodule(norm), nn.BatchNorm2d) for norm in norms)
