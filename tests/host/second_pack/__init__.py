"""Another pack in the same ComfyUI: a careless neighbour, and the tests' hands inside the server.

It puts itself first on sys.path, with a `devudp_model` of its own. Its node rounds images to 8
bits; its routes make memory run out, and tell what is held in memory.
"""

import gc
import sys

import comfy.model_management  # pyright: ignore[reportMissingImports]
import torch
from aiohttp import web  # pyright: ignore[reportMissingImports]
from server import PromptServer  # pyright: ignore[reportAttributeAccessIssue]

sys.path.insert(0, __path__[0])


class RoundTo8Bits:
    """Images as a file would keep them, so that a file of them loses nothing."""

    CATEGORY, FUNCTION = "tests", "run"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    def run(self, image):
        return ((image * 255).round().clamp(0, 255) / 255,)


NODE_CLASS_MAPPINGS = {"TestsRoundTo8Bits": RoundTo8Bits}


def modules(ending):
    """Loaded modules of the pack under test, whatever its folder is called."""
    return [m for name, m in list(sys.modules.items()) if name.endswith(ending)]


class Scarce:
    """Stands in for `restore` and runs out of memory, with much of it in hand, `times` times."""

    def __init__(self, restore, times):
        self.restore, self.times = restore, times

    def __call__(self, *args, **kwargs):
        if self.times > 0:
            self.times -= 1
            in_hand = torch.ones(100 * 2**20, dtype=torch.uint8)
            raise torch.OutOfMemoryError(f"out of memory, with {len(in_hand)} bytes in hand")
        return self.restore(*args, **kwargs)


@PromptServer.instance.routes.post("/tests/scarce")
async def make_memory_scarce(request):
    times = (await request.json())["times"]
    for module in modules(".devudp_model.restorer"):
        true = getattr(module.restore, "restore", module.restore)
        setattr(module, "restore", Scarce(true, times) if times else true)  # noqa: B010
    return web.json_response({})


@PromptServer.instance.routes.get("/tests/memory")
async def memory(request):
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.device.type != "meta":
            if thing.is_mkldnn:  # packed weights have no storage that Python sees
                storages[id(thing)] = thing.numel() * thing.element_size()
                continue
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    loaded = len(comfy.model_management.current_loaded_models)
    return web.json_response({"tensors": sum(storages.values()), "loaded_models": loaded})
