"""How the pack behaves in a host, old or new: without a host, with stand-ins for its modules."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.host.environment import ROOT
from tests.host.fakes import CorePatcher, Interrupted, Pack, Patcher, restore_node
from tests.host.restoring import options, restore_images, shape_of


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
    for name, schema in schemas.items():
        shows = getattr(schema, "has_intermediate_output", None)
        assert shows == ((name != "DEvUDPDegrade") if new else None)
        assert schema.is_deprecated == (name == "DEvUDPLoadUpscaleModel")
    precision = next(i for i in schemas["DEvUDPRestore"].inputs if i.id == "precision")
    assert getattr(precision, "advanced", None) == (True if new else None)


def test_a_newer_host_is_told_what_replaces_the_upscale_model(pack: Pack) -> None:
    if shape_of(pack) == "old":
        assert pack.calls.replaced == []
        return
    [told] = pack.calls.replaced
    assert (told.old, told.new) == ("DEvUDPLoadUpscaleModel", "DEvUDPRestore")
    assert {each["old_id"] for each in told.input_mapping} - {"image"} < set(told.old_widget_ids)


class File:
    """The host's VIDEO that is a file, of 2 seconds."""

    def __init__(self, source: str, seconds: float = 2.0):
        self.source, self.seconds = source, seconds

    def get_stream_source(self) -> str:
        return self.source

    def get_duration(self) -> float:
        return self.seconds


class TellingFile(File):
    """The same in a host that says what it is."""

    def get_active_trim_window(self) -> tuple[float, float]:
        return 0.5, self.seconds

    def get_bit_depth(self) -> int:
        return 10

    def get_color_space(self) -> str:
        return "HDR"


def test_what_hosts_tell_of_videos(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    host = pack.module("nodes.host")

    class Frames:
        def __init__(self, components: object, bit_depth: int = 8):
            self.components, self.bit_depth = components, bit_depth

    class OldFrames:
        def __init__(self, components: object):
            self.components = components

    monkeypatch.setattr(host, "video_types", lambda: (File, Frames))
    assert host.trim_window(File("a")) == (0.0, 0.0)
    assert host.trim_window(File("a", 1.0)) is None, "cut, but nobody knows where"
    assert host.trim_window(TellingFile("a", 1.0)) == (0.5, 1.0)
    assert [host.is_hdr(video) for video in (File("a"), TellingFile("a"))] == [False, True]
    assert host.video_from_frames("c", TellingFile("a")).bit_depth == 10
    assert host.video_from_frames("c", File("a")).bit_depth == 8
    monkeypatch.setattr(host, "video_types", lambda: (File, OldFrames))
    assert host.video_from_frames("c", TellingFile("a")).components == "c"


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


@pytest.mark.usefixtures("small_weights")
def test_auto_does_what_each_image_needs_and_says_so(pack: Pack) -> None:
    rng = torch.Generator().manual_seed(0)
    squares = torch.rand(1, 8, 8, 3, generator=rng).repeat_interleave(8, 1).repeat_interleave(8, 2)
    # Mere noise would be left alone in the dark, and squares without any as a drawing.
    good = 0.95 * squares + 0.05 * torch.rand(1, 64, 64, 3, generator=rng)
    batch = torch.cat([good, good * 0.1])
    output = restore_node(pack, batch, task="auto")
    [text] = output.ui["text"]
    assert "1. bright enough" in text and "left as it is" in text
    assert "2. very dark" in text and "low light" in text
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
    monkeypatch.setattr(pack.module("devudp_model.restoring.progress"), "SECONDS", 0.0)
    restore_images(pack, torch.rand(2, 64, 48, 3))
    told = pack.calls.progress
    assert told == sorted(told) and told[-1] == 2 and len(told) > 30
    assert sum(0 < value < 1 for value in told) > 10 and 1 in told


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
    generator = pack.module("devudp_model.network.generator").Generator("devudp", 8, 1).eval()
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
