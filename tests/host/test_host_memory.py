"""How the pack uses the host's memory, with stand-ins for its modules: no more than it may."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.host.fakes import Interrupted, Pack, restore_node
from tests.host.restoring import restore_images


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
    module = pack.module("devudp_model.restorer")
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

    monkeypatch.setattr(pack.module("devudp_model.restorer"), "restore", restore)
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
    cache_for = pack.module("nodes.output_cache").cache_for
    cache_for(image).hold(checkpoints.load("a", "joint"))
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


def test_a_long_batch_is_not_held_twice(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes to the library are views of the input, a few images at a time."""
    image = torch.rand(300, 4, 4, 3)
    seen: list[int] = []

    def restore(part: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        assert part.untyped_storage().data_ptr() == image.untyped_storage().data_ptr()
        seen.append(len(part))
        return part.clone()

    monkeypatch.setattr(pack.module("devudp_model.restorer"), "restore", restore)
    restored = restore_images(pack, image)
    torch.testing.assert_close(restored.float(), image, atol=1e-3, rtol=0)
    assert sum(seen) == 300 and max(seen) <= 8


@pytest.mark.slow
def test_the_frames_of_a_long_video_are_restored_one_by_one(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the statistics of a few: the features of all together would fit into no memory."""
    restoring = pack.module("devudp_model.restorer")
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


def test_outputs_of_four_images_are_kept_the_last_used(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, images = pack.module("nodes.output_cache"), [torch.zeros(1) for _ in range(5)]
    monkeypatch.setattr(module, "_caches", {})
    first, second, *_ = (module.cache_for(image) for image in images[:4])
    assert module.cache_for(images[0]) is first  # the one used last, from now on
    module.cache_for(images[4])
    assert module.cache_for(images[0]) is first
    assert module.cache_for(images[1]) is not second


@pytest.mark.parametrize(("numbers", "stays"), [(125, True), (126, False)])
def test_more_than_half_of_the_bytes_make_room_for_another_image(
    numbers: int, stays: bool, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, images = pack.module("nodes.output_cache"), [torch.zeros(1) for _ in range(2)]
    monkeypatch.setattr(module, "_caches", {})
    monkeypatch.setattr(module, "LIMIT", 1000)
    first = module.cache_for(images[0])
    first.put("key", torch.zeros(numbers))  # of four bytes
    other = module.cache_for(images[1])
    assert other.limit == (500 if stays else 1000)
    assert (module.cache_for(images[0]) is first) == stays


def test_an_image_may_go_while_outputs_are_counted(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python finds garbage at any moment, also within a sum over what is kept."""
    module, images = pack.module("nodes.output_cache"), [torch.zeros(1) for _ in range(3)]
    monkeypatch.setattr(module, "_caches", {})
    assert len([module.cache_for(image) for image in images]) == len(images)

    def nbytes(_cache: Any) -> int:
        images.clear()
        return 1

    monkeypatch.setattr(module.ImageCache, "nbytes", property(nbytes))
    assert module.total() == 3
    assert not module._caches
