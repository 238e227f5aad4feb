"""The manifest of training data: writing and verifying it, and the one that is shipped."""

import hashlib
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.training.test_check_data import check, make_data, write_recipe
from tests.training.training_run import make_images
from training.config import ConfigError, DataConfig
from training.config.recipes import RECIPES
from training.data.layouts import list_images
from training.data.manifest import (
    Entry,
    Source,
    compare,
    make_manifest,
    name_files,
    read_manifest,
    read_sources,
    write_manifest,
)

SHIPPED = RECIPES / "data-manifest.tsv"


@pytest.fixture
def arguments(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.set_level("INFO")
    sheet = ["--sheet", str(tmp_path / "sheet.png")]
    return [write_recipe(tmp_path), *make_data(tmp_path), *sheet]


@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_written_and_verified(
    suffix: str, arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    file, sources = tmp_path / f"new/manifest.{suffix}", tmp_path / "sources.tsv"
    table = 'prefix\tsource\tlicence\nsharp/\tmy camera\tCC0\nsharp/00\ta, "b"\tCC BY 4.0\n'
    sources.write_text(table, encoding="utf-8")
    assert check([*arguments, "--write-manifest", str(file), "--sources", str(sources)]) == 0
    assert "3 files have no source" in "\n".join(caplog.messages)
    entries = {entry.file: entry for entry in read_manifest(file)}
    assert len(entries) == 9
    sha256 = hashlib.sha256((tmp_path / "sharp/004.png").read_bytes()).hexdigest()
    assert entries["sharp/004.png"] == Entry("sharp/004.png", sha256, 'a, "b"', "CC BY 4.0", 64, 48)
    assert entries["blurry/000.png"][2:] == ("", "", 80, 60)
    assert check([*arguments, "--manifest", str(file)]) == 0
    assert any(message.startswith("All 9 files are as in") for message in caplog.messages)


def test_differences_are_errors_and_named(
    arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    file = tmp_path / "manifest.tsv"
    check([*arguments, "--write-manifest", str(file)])
    (tmp_path / "sharp/001.png").unlink()
    make_images(tmp_path / "sharp", 1, seed=77)  # another 000.png
    make_images(tmp_path / "blurry/more", 1, seed=5, size=(80, 60))
    caplog.clear()
    assert check([*arguments, "--manifest", str(file)]) == 1
    said = "\n".join(caplog.messages)
    assert re.search(r"1 x missing, .*\n    sharp/001\.png\n", said)
    assert re.search(r"1 x extra, .*\n    blurry/more/000\.png\n", said)
    assert re.search(r"1 x changed, .*\n    sharp/000\.png\n", said)
    assert "3 errors" in said


def test_entries_of_a_use_that_is_not_asked_for_are_ignored(tmp_path: Path):
    make_data(tmp_path)
    both = DataConfig(sharp=(str(tmp_path / "sharp"),), blurry=(str(tmp_path / "blurry"),))
    named = name_files(both, list_images([*both.sharp, *both.blurry]))
    manifest = make_manifest(named)
    sharp = {name: path for name, path in named.items() if name.startswith("sharp/")}
    assert compare(manifest, sharp) == ([], [], [])
    assert compare(manifest[1:], named).extra == [manifest[0].file]


def test_names_with_several_folders_and_in_a_tree(tmp_path: Path):
    for folder in ("a/x", "b/x", "b/y"):
        make_images(tmp_path / folder, 1)
    folders = (str(tmp_path / "a/x"), str(tmp_path / "b/y"))
    named = name_files(DataConfig(sharp=folders), list_images(folders))
    assert list(named) == ["sharp/x/000.png", "sharp/y/000.png"]
    tree = DataConfig(layout="gopro", root=str(tmp_path / "b"))
    assert list(name_files(tree, list_images([tmp_path / "b"]))) == ["x/000.png", "y/000.png"]
    folders = (str(tmp_path / "a/x"), str(tmp_path / "b/x"))
    with pytest.raises(ConfigError, match=r"would both be sharp/x/000\.png"):
        name_files(DataConfig(sharp=folders), list_images(folders))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name\tsha256\n", "lacks the column file"),
        ("file\tsha256\na\n", "line 2: too many or too few columns"),
        ("file\tsha256\twidth\na\tb\tc\n", "line 2: width and height must be numbers"),
    ],
)
def test_what_is_no_manifest(text: str, words: str, tmp_path: Path):
    (tmp_path / "m.tsv").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_manifest(tmp_path / "m.tsv")


def test_a_manifest_that_is_not_there(arguments: list[str], caplog: pytest.LogCaptureFixture):
    assert check([*arguments, "--manifest", "no/such.tsv"]) == 1
    assert "no/such.tsv cannot be read" in caplog.messages[-1].replace("\\", "/")
    assert check([*arguments, "--sources", "no/such.tsv"]) == 2


def test_the_shipped_manifest(tmp_path: Path):
    entries = read_manifest(SHIPPED)
    counts = Counter(entry.file.partition("/")[0] for entry in entries)
    assert counts == {"sharp": 578, "blurry": 55}
    assert len({entry.file for entry in entries}) == len({entry.sha256 for entry in entries}) == 633
    for entry in entries:
        assert re.fullmatch("[0-9a-f]{64}", entry.sha256) and entry.source and entry.licence
        assert min(entry.width, entry.height) > 0 and max(entry.width, entry.height) <= 640
    write_manifest(entries, tmp_path / "again.tsv")
    assert (tmp_path / "again.tsv").read_bytes() == SHIPPED.read_bytes()


def test_the_shipped_sources_are_those_of_the_manifest():
    sources = read_sources(RECIPES / "data-sources.tsv")
    for entry in read_manifest(SHIPPED):
        matching = [source for source in sources if entry.file.startswith(source.prefix)]
        best = max(matching, key=lambda source: len(source.prefix))
        assert best == Source(best.prefix, entry.source, entry.licence)
