"""How the pack behaves in a host, old or new: without a host, with stand-ins for its modules."""

from __future__ import annotations

import inspect
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.host.conftest import small_generator
from tests.host.environment import ROOT
from tests.host.fakes import CorePatcher, Interrupted, Pack, Patcher, Shape, restore_node


def shape_of(pack: Pack) -> Shape:
    return "new" if hasattr(pack.management, "raise_non_oom") else "old"


def options(pack: Pack, **changes: Any) -> Any:
    return pack.module("devudp_model.restoration").Options(**changes)


def restore_images(
    pack: Pack, image: torch.Tensor, masks: torch.Tensor | None = None, **changes: Any
) -> torch.Tensor:
    generator = pack.module("devudp_model.generator").Generator("devudp", 8, 1).eval()
    generator.load_state_dict(small_generator(1).state_dict())
    run = pack.module("nodes.run_on_host").restore_images
    return run(image, generator, options(pack, **changes), masks)


def test_nothing_of_the_host_is_imported_before_it_asks(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('a-b_x_c', {str(ROOT / '__init__.py')!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "assert module.WEB_DIRECTORY and module.comfy_entrypoint\n"
        "assert not {'comfy', 'comfy_api', 'folder_paths', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_schemas_use_what_the_host_knows(pack: Pack) -> None:
    schemas = {name: node.define_schema() for name, node in pack.nodes.items()}
    assert set(schemas) == {s.node_id for s in schemas.values()}
    new = shape_of(pack) == "new"
    assert all(hasattr(schema, "search_aliases") == new for schema in schemas.values())
    precision = next(i for i in schemas["DEvUDPRestore"].inputs if i.id == "precision")
    assert getattr(precision, "advanced", None) == (True if new else None)


def test_the_folder_lists_checkpoints_only(pack: Pack, tmp_path: Path) -> None:
    paths, suffixes = sys.modules["folder_paths"].folder_names_and_paths["devudp"]
    assert paths == [str(tmp_path / "devudp")] and (tmp_path / "devudp").is_dir()
    assert suffixes == {".safetensors", ".pth"}


def test_images_are_made_of_the_hosts_numbers(pack: Pack) -> None:
    wanted = torch.float16 if shape_of(pack) == "new" else torch.float32
    image = torch.rand(2, 12, 20, 3).to(wanted)
    restored = restore_images(pack, image)
    assert restored.dtype == wanted and restored.shape == image.shape
    degraded = pack.nodes["DEvUDPDegrade"].execute(image, 5.0, 0.5, 0.01, 3).args[0]
    assert degraded.dtype == wanted and degraded.shape == image.shape
    assert pack.calls.whole == [1, 2, 1, 2]


def test_the_hosts_choice_of_numbers_is_respected(pack: Pack) -> None:
    pack.management.vae_dtype = lambda device, allowed: torch.bfloat16
    choose = pack.module("nodes.run_on_host").host_precision
    assert choose("auto") == "bf16"
    assert choose("fp32") == "fp32"  # the user's own choice comes first
    pack.management.vae_dtype = lambda device, allowed: torch.float16
    assert choose("auto") == "auto"  # of nearly every GPU: the checkpoint decides
    pack.management.vae_dtype = lambda device, allowed: torch.float32
    assert choose("auto") == "auto"  # the host knows nothing of this processor
    sys.modules["comfy.cli_args"].args.force_fp32 = True
    assert choose("auto") == "fp32"


def test_room_is_made_first_and_the_network_leaves_the_device_whatever_happens(
    pack: Pack,
) -> None:
    moves: list[Any] = []

    class Spy(torch.nn.Linear):
        def to(self, *args: Any, **kwargs: Any) -> Any:
            moves.append(args[0])
            assert pack.calls.freed  # room was made before
            return self

    pack.management.get_torch_device = lambda: torch.device("meta")
    on_device = pack.module("nodes.host").on_device
    with pytest.raises(Interrupted), on_device(Spy(10, 10), 1000):
        raise Interrupted
    assert moves == [torch.device("meta"), torch.device("cpu")]
    assert pack.calls.freed == [(1000 + 440, torch.device("meta"))]


def test_weights_that_move_stay_normal_tensors(pack: Pack) -> None:
    """In inference mode they would lose their version counter, and layers could not be kept."""
    module = torch.nn.Linear(3, 2)
    pack.management.get_torch_device = lambda: torch.device("meta")
    pack.management.vae_offload_device = lambda: torch.device("meta")
    with torch.inference_mode(), pack.module("nodes.host").on_device(module, 0):
        assert not any(p.is_inference() for p in module.parameters())
        assert module.weight.device.type == "meta"
    assert not any(p.is_inference() for p in module.parameters())


def test_cancel_passes_through_and_stops_the_batch(pack: Pack) -> None:
    pack.calls.interrupt_at = 3
    with pytest.raises(Interrupted):
        restore_images(pack, torch.rand(20, 8, 8, 3))
    assert pack.calls.whole == [1, 2, 3]


def test_cancel_is_noticed_within_a_image(pack: Pack) -> None:
    asked: list[int] = []

    def throw() -> None:
        asked.append(1)
        if len(asked) == 10:
            raise Interrupted

    pack.management.throw_exception_if_processing_interrupted = throw
    with pytest.raises(Interrupted):
        restore_images(pack, torch.rand(4, 64, 64, 3), statistics="shared")
    assert pack.calls.progress == []
    torch.nn.Identity()(torch.ones(1))  # nobody asks any more
    assert len(asked) == 10


@pytest.mark.parametrize(
    ("error", "scarce"),
    [
        (torch.OutOfMemoryError("whatever it says"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 99 bytes"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried 99 bytes"), True),
        (ValueError("the mask does not fit"), False),
        (Interrupted(), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_what_counts_as_out_of_memory(pack: Pack, error: BaseException, scarce: bool) -> None:
    assert pack.module("nodes.host").is_out_of_memory(error) == scarce


def test_a_host_that_cannot_tell_is_not_believed(pack: Pack) -> None:
    """On some devices the host's kind of out-of-memory error is every exception."""
    pack.management.OOM_EXCEPTION = Exception
    assert not pack.module("nodes.host").is_out_of_memory(ValueError("the mask does not fit"))


def test_out_of_memory_is_retried_within_the_hosts_memory(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first limit leaves a fifth of the free memory to others."""
    limits: list[int] = []
    module = pack.module("nodes.run_on_host")
    true = module.restore

    def restore(part: torch.Tensor, generator: Any, options: Any, **details: Any) -> Any:
        limits.append(options.memory)
        if len(limits) < 4:
            raise torch.OutOfMemoryError
        return true(part, generator, options, **details)

    monkeypatch.setattr(module, "restore", restore)
    restore_images(pack, torch.rand(9, 8, 8, 3))
    first = int(0.8 * 8 * 2**30)
    assert limits == [first, first // 2, first // 4, first // 8, first // 8]
    assert pack.calls.emptied == 3


def test_out_of_memory_in_the_end_says_what_to_do(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restore(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(pack.module("nodes.run_on_host"), "restore", restore)
    with pytest.raises(MemoryError, match=r"even with a limit of 256 MiB.*smaller"):
        restore_images(pack, torch.rand(1, 8, 8, 3))


def test_weights_are_read_once_and_go_with_the_image(
    pack: Pack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The host frees memory by letting the images go that nodes gave."""
    checkpoints, read = pack.module("nodes.checkpoints"), []
    (tmp_path / "a").touch()

    class Loaded:
        pass

    def load_checkpoint(path: Path) -> Loaded:
        read.append(path.name)
        return Loaded()

    monkeypatch.setattr(checkpoints, "load_checkpoint", load_checkpoint)
    find = sys.modules["folder_paths"]
    monkeypatch.setattr(find, "get_full_path_or_raise", lambda _, n: str(tmp_path / n), False)
    image = torch.rand(1, 8, 8, 3)
    kept_for = pack.module("nodes.kept").kept_for
    kept_for(image).hold(checkpoints.load("a", "joint"))
    gone = weakref.ref(checkpoints.load("a", "low light"))
    assert read == ["a"] and gone() is not None
    del image
    assert gone() is None
    checkpoints.load("a", "joint")
    assert read == ["a", "a"]


@pytest.mark.usefixtures("small_weights")
@pytest.mark.parametrize("change", ["strength", "exposure", "mask", "task", "denoise"])
def test_the_network_does_not_run_again_for_what_comes_after_it(
    pack: Pack, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    execution = pack.module("devudp_model.engine.strips").StripExecution
    image = torch.rand(1, 40, 48, 3, generator=torch.Generator().manual_seed(0))
    changes = {
        "strength": {"strength": 0.5},
        "exposure": {"exposure": 0.3},
        "mask": {"mask": torch.rand(1, 40, 48)},
        "task": {"task": "low light"},
        "denoise": {"denoise": 0.2},
    }[change]
    usual = restore_node(pack, image).args[0]
    runs: list[int] = []
    true = execution.run
    monkeypatch.setattr(execution, "run", lambda self, out: [runs.append(1), true(self, out)])
    kept = restore_node(pack, image, **changes).args[0]
    assert runs == []
    fresh = restore_node(pack, image.clone(), **changes).args[0]
    assert runs == [1]
    assert torch.equal(kept, fresh)
    assert not torch.equal(kept, usual)
    image[0, 3, 4] = 0.5  # what a careless node may do
    restore_node(pack, image)
    assert runs == [1, 1]


@pytest.mark.usefixtures("small_weights")
def test_auto_does_what_each_image_needs_and_says_so(pack: Pack) -> None:
    good = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    batch = torch.cat([good, good * 0.1])
    output = restore_node(pack, batch, task="auto")
    [text] = output.ui["text"]
    assert "1. bright enough" in text and "left as it is" in text
    assert "2. dark" in text and "low light" in text
    torch.testing.assert_close(output.args[0][:1].float(), good, atol=1e-3, rtol=0)
    alone = restore_node(pack, batch[1:], task="low light").args[0]
    assert torch.equal(output.args[0][1:], alone)
    assert pack.calls.whole[:2] == [1, 2]
    assert restore_node(pack, good, task="auto").args[0].shape == good.shape


@pytest.mark.usefixtures("small_weights")
def test_black_masks_and_numbers_that_are_none_are_told(pack: Pack) -> None:
    image = torch.rand(1, 20, 24, 3)
    output = restore_node(pack, image, mask=torch.zeros(1, 20, 24))
    torch.testing.assert_close(output.args[0].float(), image, atol=1e-3, rtol=0)
    assert "mask is black everywhere" in output.ui["text"][0]
    for broken in ({"image": image * float("nan")}, {"mask": torch.full((1, 9, 9), float("nan"))}):
        name = next(iter(broken))
        with pytest.raises(ValueError, match=f"The {name} has pixels that are not numbers"):
            restore_node(pack, broken.get("image", image), mask=broken.get("mask"))


def test_the_host_hears_of_progress_within_an_image(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack.module("devudp_model.progress"), "SECONDS", 0.0)
    restore_images(pack, torch.rand(2, 64, 48, 3))
    told = pack.calls.progress
    assert told == sorted(told) and told[-1] == 2 and len(told) > 30
    assert sum(0 < value < 1 for value in told) > 10 and 1 in told


def test_a_long_batch_is_not_held_twice(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes to the library are views of the input, a few images at a time."""
    image = torch.rand(300, 4, 4, 3)
    seen: list[int] = []

    def restore(part: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        assert part.untyped_storage().data_ptr() == image.untyped_storage().data_ptr()
        seen.append(len(part))
        return part.clone()

    monkeypatch.setattr(pack.module("nodes.run_on_host"), "restore", restore)
    restored = restore_images(pack, image)
    torch.testing.assert_close(restored.float(), image, atol=1e-3, rtol=0)
    assert sum(seen) == 300 and max(seen) <= 8


@pytest.mark.slow
def test_the_frames_of_a_long_video_are_restored_one_by_one(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the statistics of a few: the features of all together would fit into no memory."""
    restoring = pack.module("nodes.run_on_host")
    made: list[Any] = []

    class Video(restoring.VideoRestorer):
        def __init__(self, generator: Any, sample: torch.Tensor, options: Any):
            super().__init__(generator, sample, options)
            made.append(sample)

    monkeypatch.setattr(restoring, "VideoRestorer", Video)
    image = torch.rand(300, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    masks = torch.ones(300, 1, 8, 8)
    masks[17] = 0
    restored = restore_images(pack, image, masks, statistics="shared").float()
    [sample] = made
    assert sample.shape == (8, 3, 8, 8)
    assert pack.calls.whole == list(range(1, 301))
    changed = (restored - image).abs().amax((1, 2, 3)) > 0.01
    assert changed.logical_not().nonzero().flatten().tolist() == [17]
    torch.testing.assert_close(restored[17], image[17], atol=1e-3, rtol=0)


def test_each_image_of_a_long_batch_has_its_own_mask(pack: Pack) -> None:
    image = torch.rand(20, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(20, 1, 8, 8)
    masks[13] = masks[17] = 1
    restored = restore_images(pack, image, masks)
    changed = (restored.float() - image).abs().amax((1, 2, 3)) > 0.01
    assert changed.nonzero().flatten().tolist() == [13, 17]


def test_widgets_become_options(pack: Pack) -> None:
    make = pack.module("nodes.inputs").make_options
    assert make("joint", 0.5, 0.3, "fp32", "shared") == options(
        pack, strength=0.5, exposure=0.3, precision="fp32", statistics="shared"
    )
    assert make("low light", 1.0, 0.0, "auto").exposure == 0
    assert make("joint", 1.0, 1.0, "auto").exposure is None  # the task's own
    assert make("deblur", 1.0, 0.3, "auto").exposure is None  # keeps the image's in any case
    assert make("joint", 1.0, 1.0, "auto").denoise == 1  # the task's own
    assert make("joint", 1.0, 1.0, "auto", denoise=1.6).denoise == 1.6


def test_measure_averages_over_a_batch(pack: Pack) -> None:
    measure = pack.nodes["DEvUDPMeasure"].execute
    grey = torch.full((1, 16, 16, 3), 0.5)
    off = torch.cat([grey + 10 / 255, grey + 30 / 255])
    to_one = measure(off, grey)
    assert to_one.args[2] == pytest.approx(20) and "mean of 2 images" in to_one.ui
    to_each = measure(off, torch.cat([grey, off[1:]]))
    assert to_each.args[2] == pytest.approx(5)
    with pytest.raises(ValueError, match="2 images and 3 references"):
        measure(off, grey.repeat(3, 1, 1, 1))


def test_masks(pack: Pack) -> None:
    clean = pack.module("nodes.images").clean_mask
    assert clean(None, 2) is None
    assert clean(torch.zeros(1, 64, 64), 2) is None  # Load Image's, for an image without alpha
    assert clean(torch.zeros(64, 64), 1) is None
    assert clean(torch.zeros(1, 32, 32), 2).shape == (1, 1, 32, 32)  # black on purpose
    assert clean(torch.ones(1, 64, 64), 2).shape == (1, 1, 64, 64)
    assert clean(torch.ones(2, 1, 5, 7), 2).shape == (2, 1, 5, 7)
    with pytest.raises(ValueError, match="3 masks for 2 images"):
        clean(torch.ones(3, 8, 8), 2)
    with pytest.raises(ValueError, match="not a mask"):
        clean(torch.ones(1, 8, 8, 3), 1)


def test_an_upscale_model_for_old_and_new_hosts(pack: Pack) -> None:
    """Old hosts call `.to`, new ones load `.patcher`; both call it with tiles."""
    upscaling = pack.module("nodes.upscale_model")
    generator = pack.module("devudp_model.generator").Generator("devudp", 8, 1).eval()
    image = torch.rand(1, 3, 40, 60)
    model = upscaling.TiledRestorer(generator, options(pack, precision="fp32"), image)
    assert model.scale == 1
    assert type(model.patcher) is (CorePatcher if shape_of(pack) == "new" else Patcher)
    assert model.patcher.model is model.model
    assert model.to("cpu") is model
    whole = model(image)
    part = model(image[..., 8:32, 13:50])
    torch.testing.assert_close(part, whole[..., 8:32, 13:50], atol=2e-5, rtol=0)
    assert all(p is not q for p in generator.parameters() for q in model.model.parameters())


def test_only_the_checkpoint_is_checked_by_the_node(pack: Pack) -> None:
    """The host repeats what the node says for each argument that it names."""
    for name in ("DEvUDPRestore", "DEvUDPLoadUpscaleModel"):
        validate = pack.nodes[name].validate_inputs
        assert list(inspect.signature(validate).parameters) == ["checkpoint"]
        assert validate(checkpoint="bundled") is True
        assert validate(checkpoint=None) is True  # comes from another node
        assert "no checkpoint 'gone.pth'" in validate(checkpoint="gone.pth")
