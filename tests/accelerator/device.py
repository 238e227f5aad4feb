"""A make-believe accelerator: tensors that say they are on it, and hold the processor's memory.

As on a GPU, an operation refuses tensors of two devices, and values are only seen after a wait. So
a tensor made in the wrong place is found without a GPU, and so is what a GPU would have to wait
for. Speed, rounding and which kernels there are for a type: nothing is known of these.

    with counting() as counts:
        restore(image, generator.to(DEVICE))
    print(counts.table())

Copies *to* it make a GPU's host wait too, unless from pinned memory; they are counted on their own.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import backend_registration

NAME = "pretend"
"""Its device type."""

ROOT = Path(__file__).resolve().parents[2]

Kind = Literal["kernel", "view", "allocation", "upload", "download", "wait"]
"""What an operation does: computes; only looks at memory in another way; only takes memory; copies
to the device; copies from it, for which the host waits; lets the host wait for a value."""

aten = torch.ops.aten
setup: Callable[..., None] | None = getattr(
    backend_registration, "_setup_privateuseone_for_python_backend", None
)
AVAILABLE = setup is not None
"""Older versions of PyTorch let no device be written in Python."""

WAITS = frozenset(
    [
        "_local_scalar_dense",
        "equal",
        "nonzero",
        "masked_select",
        "_unique2",
        "unique_dim",
        "unique_consecutive",
        "bincount",
        "repeat_interleave",
    ]
)
"""Operations whose result, or its size, the host has to know."""

ALLOCATIONS = frozenset(["empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided"])

INDEXING = frozenset(["index", "index_put", "index_put_", "_index_put_impl_"])
"""Operations that take indices from the processor, too, and count the pixels of masks first."""


@dataclass
class Counts:
    """Operations that were issued, by kind, name and place in the code ("file:line")."""

    seen: Counter[tuple[Kind, str, str]] = field(default_factory=Counter)

    def of(self, *kinds: Kind) -> int:
        return sum(n for (kind, _, _), n in self.seen.items() if kind in kinds)

    @property
    def operations(self) -> int:
        """All that is issued for the device's tensors, views included, but for taking memory."""
        return self.of("kernel", "view", "upload", "download", "wait")

    @property
    def launches(self) -> int:
        """Those of them that start something on the device."""
        return self.of("kernel", "upload", "download", "wait")

    @property
    def waits(self) -> int:
        """How often the host waits for results."""
        return self.of("download", "wait")

    def table(self) -> str:
        """One line for each kind, name and place, the most frequent first."""
        rows = [f"{n:6} {' '.join(key)}" for key, n in self.seen.most_common()]
        return "\n".join(rows)


@dataclass
class Device:
    """What goes on on the device."""

    counters: list[Counts] = field(default_factory=list)
    memory: list[tuple[StorageWeakRef, int]] = field(default_factory=list)
    watched: bool = False
    allocations: int = 0
    peak: int = 0
    fails: Callable[[int], bool] = field(default=lambda number: False)

    def count(self, kind: Kind, name: str) -> None:
        if self.counters:
            key = kind, name, place()
            for counts in self.counters:
                counts.seen[key] += 1

    def allocate(self, memory: Tensor) -> None:
        """Takes note of new memory.

        Raises:
            torch.OutOfMemoryError: it is to fail.
        """
        self.allocations += 1
        storage = memory.untyped_storage()
        if self.fails(self.allocations):
            raise torch.OutOfMemoryError(
                f"{NAME} out of memory. Tried to allocate {storage.nbytes()} bytes."
            )
        self.memory.append((StorageWeakRef(storage), storage.nbytes()))
        if self.watched or len(self.memory) > 10_000:
            self.peak = max(self.peak, self.in_use())

    def in_use(self) -> int:
        """Bytes that are taken now."""
        self.memory = [entry for entry in self.memory if not entry[0].expired()]
        return sum(nbytes for _, nbytes in self.memory)


STATE = Device()


class Pretended(torch.Tensor):
    """A tensor on the device; `memory` is the processor's that it really lies in."""

    memory: Tensor

    @staticmethod
    def __new__(cls, memory: Tensor) -> Pretended:
        alike = memory.is_inference() == torch.is_inference_mode_enabled()
        with nullcontext() if alike else torch.inference_mode(memory.is_inference()):
            made = torch.Tensor._make_wrapper_subclass(
                cls,
                memory.size(),
                strides=memory.stride(),
                storage_offset=memory.storage_offset(),
                dtype=memory.dtype,
                layout=memory.layout,
                device=DEVICE,
            )
        made.memory = memory
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"Pretended({tuple(self.shape)}, {self.dtype})"

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(indices(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(indices(index), value)

    def new_tensor(self, data: Any, **details: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return tensor(data, **{"dtype": self.dtype, "device": DEVICE, **details})

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Pretended:
        made: Any = self.detach().clone().requires_grad_(self.requires_grad)
        memo[id(self)] = made
        for name, value in self.__dict__.items():  # that it is a parameter, for instance
            if name != "memory":
                setattr(made, name, value)
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.memory.__reduce_ex__(protocol)  # a file has no devices

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        return run(func, args, kwargs or {})


def indices(index: Any) -> Any:
    """A list of indices goes to the device, as a tensor."""
    return tensor(index, device=DEVICE) if isinstance(index, list) else index


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation in which the device takes part."""
    if is_composite(func):  # in inference mode also these come here
        return func._op_dk(COMPOSITE, *args, **kwargs)
    tensors = tensors_in((args, tuple(kwargs.values())))
    ours = [x for x in tensors if isinstance(x, Pretended)]
    if len(ours) < len(tensors) or "generator" in kwargs:
        check_devices(func, args, kwargs, tensors)
    name = func._schema.name.removeprefix("aten::")
    if name == "copy_":
        return copy(args[0], args[1])
    inside = {key: each(memory_of, value) for key, value in kwargs.items()}
    if inside.get("device") is not None:
        inside["device"] = torch.device("cpu")
    if name == "_to_copy" and kwargs.get("device") is not None and not on_device(kwargs["device"]):
        STATE.count("download", name)
        return func(*each(memory_of, args), **inside)
    kernel: Any = KERNELS.get(name, func)
    result = kernel(*each(memory_of, args), **inside)
    if STATE.counters:
        STATE.count(kind_of(name, args, result, ours), name)
    known = {id(x.memory): x for x in ours}  # what is changed in place comes back as it is
    return each(lambda x: on_the_device(x, known, ours), result)


def each(function: Callable[[Any], Any], x: Any) -> Any:
    """`function` of a value, or of each that a list or tuple holds."""
    return type(x)([each(function, y) for y in x]) if type(x) in (list, tuple) else function(x)


def tensors_in(x: Any) -> list[Tensor]:
    if type(x) in (list, tuple):
        return [found for y in x for found in tensors_in(y)]
    return [x] if isinstance(x, Tensor) else []


def is_composite(func: Any) -> bool:
    """Whether it is made of other operations on every device."""
    if func not in _composite:
        _composite[func] = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), COMPOSITE)
    return _composite[func]


COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
STRIDING = torch._C.DispatchKey.CompositeExplicitAutogradNonFunctional
_composite: dict[Any, bool] = {}


def batch_norm_stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """What only GPUs have: mean and 1 / standard deviation for each channel, in float32."""
    var, mean = torch.var_mean(x.float(), dim=(0, *range(2, x.ndim)), correction=0)
    return mean, torch.rsqrt(var + eps)


KERNELS: dict[str, Callable[..., Any]] = {"batch_norm_stats": batch_norm_stats}
"""Plain implementations of operations that the processor lacks."""


def memory_of(x: Any) -> Any:
    return x.memory if isinstance(x, Pretended) else x


def on_device(device: torch.device | str) -> bool:
    return torch.device(device).type == NAME


def on_the_device(x: Any, known: dict[int, Pretended], inputs: list[Pretended]) -> Any:
    """A result as the device's tensor."""
    if not isinstance(x, Tensor):
        return x
    if id(x) in known:
        same = known[id(x)]
        if same.shape != x.shape:  # squeeze_ and the like
            size = x.size(), x.stride(), x.storage_offset()
            aten.as_strided_.default._op_dk(STRIDING, same, *size)
        return same
    if not any(shares(x, y.memory) for y in inputs):
        STATE.allocate(x)
    return Pretended(x)


def shares(x: Tensor, y: Tensor) -> bool:
    return x.untyped_storage()._cdata == y.untyped_storage()._cdata


def kind_of(name: str, args: Any, result: Any, inputs: list[Pretended]) -> Kind:
    if name in ALLOCATIONS:
        return "allocation"
    if name in WAITS or (name in INDEXING and has_mask(args)):
        return "wait"
    if isinstance(result, Tensor):
        parts = [result]
    else:
        parts = list(result) if isinstance(result, (list, tuple)) else []
    originals = [x.memory for x in inputs]
    if parts and all(
        isinstance(part, Tensor)
        and all(part is not x for x in originals)
        and any(shares(part, x) for x in originals)
        for part in parts
    ):
        return "view"
    return "kernel"


def has_mask(args: Any) -> bool:
    """Whether among the indices there is a mask, whose pixels have to be counted first."""
    return any(x.dtype in (torch.bool, torch.uint8) for x in tensors_in(list(args[1])))


def check_devices(func: Any, args: Any, kwargs: dict[str, Any], tensors: list[Tensor]) -> None:
    """Raises RuntimeError where CUDA would."""
    generator = kwargs.get("generator")
    if generator is not None and generator._cdata not in Generator.known:
        raise RuntimeError(
            f"{func}: Expected a '{NAME}' device type for generator but found '{generator.device}'"
        )
    name = func._schema.name.removeprefix("aten::")
    foreign = [x for x in tensors if not isinstance(x, Pretended)]
    if len(foreign) == len(tensors) or not foreign or name == "copy_":
        return
    changed = [
        args[i] if i < len(args) else kwargs.get(argument.name)
        for i, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    numbers = torch.Tag.pointwise in func.tags and all(x.ndim == 0 for x in foreign)
    indices = name in INDEXING and isinstance(args[0], Pretended)
    if not (numbers or indices) or any(x is y for x in foreign for y in changed):
        shapes = [f"{tuple(x.shape)} on {x.device}" for x in tensors]
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {func} got {', '.join(shapes)}"
        )


def copy(target: Tensor, source: Tensor) -> Tensor:
    """`target.copy_(source)`, at least one of which is on the device."""
    to, from_ = isinstance(target, Pretended), isinstance(source, Pretended)
    STATE.count("kernel" if to and from_ else "upload" if to else "download", "copy_")
    memory_of(target).copy_(memory_of(source))
    return target


def place() -> str:
    """Where in the project the running operation comes from."""
    frame = sys._getframe(1)
    while frame is not None:
        file = in_project(frame.f_code.co_filename)
        if file is not None:
            return f"{file}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


@cache
def in_project(file: str) -> str | None:
    """A file's path in the project; None if it is a test's or none of it."""
    path = Path(file)
    short = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return short if short and not short.startswith(("tests/", ".")) else None


@contextmanager
def counting() -> Iterator[Counts]:
    """Counts what is issued within the block."""
    counts = Counts()
    STATE.counters.append(counts)
    try:
        yield counts
    finally:
        STATE.counters.remove(counts)


def never(number: int) -> bool:
    return False


@contextmanager
def watching_memory(fails: Callable[[int], bool] = never) -> Iterator[Device]:
    """Within the block, allocations are counted from 1 on, and those fail for whose number `fails`
    holds; the peak is that of the block."""
    STATE.fails, STATE.allocations, STATE.peak, STATE.watched = fails, 0, STATE.in_use(), True
    try:
        yield STATE
    finally:
        STATE.fails, STATE.watched = never, False


class Generator(torch.Generator):
    """`torch.Generator`; the device's gives the processor's numbers."""

    known: ClassVar[set[int]] = set()
    """The device's, by their address."""

    def __new__(cls, device: torch.device | str = "cpu") -> Generator:
        made: Any = super().__new__(cls, "cpu" if on_device(device) else device)  # pyright: ignore
        if on_device(device):
            cls.known.add(made._cdata)
        return made

    def __init__(self, device: torch.device | str = "cpu") -> None: ...

    def __del__(self) -> None:
        self.known.discard(self._cdata)  # pyright: ignore[reportAttributeAccessIssue]


_tensor = torch.tensor


def tensor(data: Any, *, device: torch.device | str | None = None, **details: Any) -> Tensor:
    """`torch.tensor`, which makes its tensor where no other device has a say."""
    if device is not None and on_device(device):
        return _tensor(data, **details).to(device)
    return _tensor(data, device=device, **details)


class Module:
    """`torch.cuda`, for this device."""

    def __getattr__(self, name: str) -> Any:
        answers = {
            "is_available": True,
            "is_initialized": True,
            "device_count": 1,
            "current_device": 0,
            "_is_in_bad_fork": False,
            "manual_seed_all": None,
            "synchronize": None,
            "get_device_name": "make-believe accelerator",
            "get_amp_supported_dtype": [torch.bfloat16, torch.float16],
        }
        if name not in answers:
            raise AttributeError(name)
        return lambda *_, **__: answers[name]

    @staticmethod
    def memory_allocated() -> int:
        return STATE.in_use()

    @staticmethod
    def reset_peak_memory_stats() -> None:
        STATE.watched, STATE.peak = True, STATE.in_use()

    @staticmethod
    def max_memory_allocated() -> int:
        return STATE.peak


def make_directly(func: Any) -> Callable[..., Tensor]:
    """PyTorch would make an empty tensor and let it grow, which those here cannot."""
    return lambda *args, **kwargs: run(func, args, kwargs)


if setup is not None:
    setup(NAME, Module())
    DEVICE = torch.device(NAME, 0)
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda func, *args, **kwargs: run(func, args, kwargs), "PrivateUse1")
    makers = torch.library.Library("aten", "IMPL")
    for maker in ("arange", "arange.start", "arange.start_step", "eye", "linspace", "randperm"):
        packet, _, overload = maker.partition(".")
        func = getattr(getattr(aten, packet), overload or "default")
        makers.impl(maker, make_directly(func), "PrivateUse1")
else:
    DEVICE = torch.device("meta")
