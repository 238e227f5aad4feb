"""Images in WebDataset shards give the very samples, and runs, of the same images in a folder."""

from __future__ import annotations

import dataclasses
import tarfile
from pathlib import Path

import pytest
import torch

from tests.training.samples import seen
from tests.training.training_run import NARROW, TINY, kill_after, launch, log_of, make_images, same
from training.config import Config
from training.data.domains import find_domains, listing_hash
from training.data.image_cache import UnreadableImage, decode, size_of
from training.data.layouts import list_clips, list_images
from training.data.manifest import make_manifest, name_files
from training.data.shards import ShardError, expand, places_in
from training.run.state import load_state
from training.train import main


def pack(folder: Path, shards: Path, each: int = 4) -> Path:
    """The files of a folder as shards of so many, in their order; a text beside each image."""
    shards.mkdir()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for first in range(0, len(files), each):
        with tarfile.open(shards / f"{first // each:06}.tar", "w") as archive:
            for path in files[first : first + each]:
                archive.add(path, path.relative_to(folder).as_posix())
                archive.add(__file__, path.relative_to(folder).with_suffix(".txt").as_posix())
    return shards


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    for kind, seed in (("sharp", 1), ("blurry", 2)):
        make_images(tmp_path / kind, 6, seed=seed)
        pack(tmp_path / kind, tmp_path / f"{kind}-shards")
    return {kind: tmp_path / kind for kind in ("sharp", "blurry")}


def of_shards(config: Config, folders: dict[str, Path], shards: bool) -> Config:
    ending = "-shards" if shards else ""
    given = {kind: (f"{folder}{ending}",) for kind, folder in folders.items()}
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **given))


@pytest.mark.parametrize("cache", [0.0, 0.01])
def test_samples_are_those_of_the_folder(
    config: Config, folders: dict[str, Path], cache: float
) -> None:
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, cache_gb=cache))
    both = [of_shards(config, folders, shards) for shards in (False, True)]
    one, other = (seen(each, range(20)) for each in both)
    assert torch.equal(one, other)
    hashes = [listing_hash(find_domains(each).listing()) for each in both]
    assert hashes[0] == hashes[1]


def test_shards_are_named_in_several_ways(folders: dict[str, Path]) -> None:
    shards = folders["sharp"].with_name("sharp-shards")
    paths = list_images([shards])
    assert [path.name for path in paths] == [path.name for path in list_images([folders["sharp"]])]
    assert list_images([f"{shards}/{{000000..000001}}.tar"]) == paths
    assert list_images([shards / "000000.tar", shards / "000001.tar"]) == paths
    (folders["sharp"] / "backup.tar").write_bytes(b"of something else")
    assert len(list_images([folders["sharp"]])) == 6
    assert expand("a/{8..10}/{00..01}") == [f"a/{a}/0{b}" for a in (8, 9, 10) for b in (0, 1)]
    assert expand("a{x}.tar") == ["a{x}.tar"]


def test_shards_that_webdataset_writes(folders: dict[str, Path], tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="the library is one of the tests' extra")
    paths = list_images([folders["sharp"]])
    (tmp_path / "w").mkdir()
    pattern = (tmp_path / "w").as_uri() + "/%06d.tar"
    with webdataset.ShardWriter(pattern, maxcount=4, verbose=0) as writer:
        for path in paths:
            writer.write({"__key__": path.stem, "png": path.read_bytes(), "cls": 1})
    found = list_images([f"{tmp_path}/w/{{000000..000001}}.tar"])
    assert [path.name for path in found] == [path.name for path in paths]
    for one, other in zip(paths, found, strict=True):
        assert (decode(one) == decode(other)).all() and size_of(one) == size_of(other) == (64, 48)


def test_manifests_and_clips(config: Config, folders: dict[str, Path], tmp_path: Path) -> None:
    one, other = (of_shards(config, folders, shards) for shards in (False, True))
    here, there = (
        {Path(e.file).name: (e.sha256, e.width, e.height) for e in make_manifest(named)}
        for named in (
            name_files(c.data, [*find_domains(c).sharp, *find_domains(c).to_blur])
            for c in (one, other)
        )
    )
    assert here == there and len(here) == 6
    make_images(tmp_path / "clips/b", 2)
    make_images(tmp_path / "clips/a", 3)
    clips = list_clips([pack(tmp_path / "clips", tmp_path / "packed", each=9)])
    assert [[frame.name for frame in clip] for clip in clips] == [
        ["000.png", "001.png", "002.png"], ["000.png", "001.png"],
    ]  # fmt: skip


def test_what_is_wrong_with_shards(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.tar does not exist"):
        list_images([tmp_path / "none.tar"])
    with tarfile.open(tmp_path / "zipped.tar", "w:gz") as archive:
        archive.add(folders["sharp"] / "000.png", "000.png")
    with pytest.raises(ShardError, match="compressed"):
        list_images([tmp_path / "zipped.tar"])
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(FileNotFoundError, match=r"empty\.tar holds no images"):
        list_images([tmp_path / "empty.tar"])
    shard = folders["sharp"].with_name("sharp-shards") / "000000.tar"
    first = list_images([shard])[0]
    shard.write_bytes(shard.read_bytes()[: places_in(shard)["000.png"].offset + 9])
    with pytest.raises(UnreadableImage, match=r"000000\.tar is cut off within 000\.png"):
        decode(first)
    assert size_of(first) == (0, 0)


def test_a_damaged_member_is_named_by_its_path_in_the_shard(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(b"damaged")
    [path] = list_images([pack(tmp_path / "in", tmp_path / "shards")])
    with pytest.raises(UnreadableImage) as error:
        decode(path)
    assert str(path) in str(error.value) and "devudp-" not in str(error.value)


@pytest.mark.slow
def test_a_run_on_shards_is_that_on_the_folder_also_resumed(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Killed half-way, and resumed: the same bytes as straight through on the folder."""
    settings = [
        *(*TINY, *NARROW, "--schedule.length", "6"),
        *("--record.log-every", "1", "--record.save-every", "2"),
    ]

    def words(shards: bool) -> list[str]:
        ending = "-shards" if shards else ""
        given = [f"--data.{kind}={folder}{ending}" for kind, folder in folders.items()]
        return ["unpaired", *given, *settings]

    straight, broken = tmp_path / "straight", tmp_path / "broken"
    main([*words(shards=False), "--out", str(straight)])
    kill_after(launch(*words(shards=True), "--out", str(broken)), 3)
    assert load_state(broken)[1]["step"] < 6
    main(["resume", str(broken)])
    states = [load_state(run)[1] for run in (straight, broken)]
    for state in states:
        state.pop("run")
    same(states[0], states[1])
    assert log_of(straight) == log_of(broken)
