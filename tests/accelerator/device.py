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

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from tests.accelerator.counts import NAME, STATE, Kind
from tests.accelerator.torch_module import AVAILABLE, DEVICE, Generator, on_device, tensor

aten = torch.ops.aten

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
    name, composite = _known.get(id(func)) or look_at(func)
    if composite:  # in inference mode also these come here
        return func._op_dk(COMPOSITE, *args, **kwargs)
    tensors: list[Tensor] = []
    values = memory_of(args, tensors)
    inside = {key: memory_of(value, tensors) for key, value in kwargs.items()}
    ours = [x for x in tensors if isinstance(x, Pretended)]
    if len(ours) < len(tensors) or "generator" in kwargs:
        check_devices(func, args, kwargs, tensors)
    if name == "copy_":
        return copy(args[0], args[1])
    if inside.get("device") is not None:
        inside["device"] = torch.device("cpu")
    if name == "_to_copy" and kwargs.get("device") is not None and not on_device(kwargs["device"]):
        STATE.count("download", name)
        return func(*values, **inside)
    kernel: Any = KERNELS.get(name, func)
    result = kernel(*values, **inside)
    if STATE.counters:
        STATE.count(kind_of(name, args, result, ours), name)
    if type(result) in (list, tuple):
        return type(result)([on_the_device(x, ours) for x in result])
    return on_the_device(result, ours)


def memory_of(x: Any, tensors: list[Tensor]) -> Any:
    """`x` with the memory of the device's tensors in their place; adds all tensors to `tensors`."""
    if isinstance(x, Tensor):
        tensors.append(x)
        return x.memory if isinstance(x, Pretended) else x
    if type(x) in (list, tuple):
        return type(x)([memory_of(y, tensors) for y in x])
    return x


def look_at(func: Any) -> tuple[str, bool]:
    """An operation's name, and whether it is made of other operations on every device."""
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), COMPOSITE)
    _known[id(func)] = func._schema.name.removeprefix("aten::"), composite
    return _known[id(func)]


_known: dict[int, tuple[str, bool]] = {}
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
STRIDING = torch._C.DispatchKey.CompositeExplicitAutogradNonFunctional


def batch_norm_stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """What only GPUs have: mean and 1 / standard deviation for each channel, in float32."""
    var, mean = torch.var_mean(x.float(), dim=(0, *range(2, x.ndim)), correction=0)
    return mean, torch.rsqrt(var + eps)


KERNELS: dict[str, Callable[..., Any]] = {"batch_norm_stats": batch_norm_stats}
"""Plain implementations of operations that the processor lacks."""


def on_the_device(x: Any, inputs: list[Pretended]) -> Any:
    """A result as the device's tensor."""
    if not isinstance(x, Tensor):
        return x
    for same in inputs:
        if same.memory is x:  # what is changed in place comes back as it is
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
    return any(isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8) for x in args[1])


def check_devices(func: Any, args: Any, kwargs: dict[str, Any], tensors: list[Tensor]) -> None:
    """Raises RuntimeError where CUDA would."""
    generator = kwargs.get("generator")
    if generator is not None and generator._cdata not in Generator.known:
        raise RuntimeError(
            f"{func}: Expected a '{NAME}' device type for generator but found '{generator.device}'"
        )
    name, _ = look_at(func)
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
    ours, to, from_ = target, isinstance(target, Pretended), isinstance(source, Pretended)
    STATE.count("kernel" if to and from_ else "upload" if to else "download", "copy_")
    target, source = memory_of([target, source], [])
    target.copy_(source)
    return ours


def make_directly(func: Any) -> Callable[..., Tensor]:
    """PyTorch would make an empty tensor and let it grow, which those here cannot."""
    return lambda *args, **kwargs: run(func, args, kwargs)


if AVAILABLE:
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda func, *args, **kwargs: run(func, args, kwargs), "PrivateUse1")
    makers = torch.library.Library("aten", "IMPL")
    for maker in ("arange", "arange.start", "arange.start_step", "eye", "linspace", "randperm"):
        packet, _, overload = maker.partition(".")
        func = getattr(getattr(aten, packet), overload or "default")
        makers.impl(maker, make_directly(func), "PrivateUse1")
