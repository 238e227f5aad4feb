"""Where images lie, and in which domain each is."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.training.training_run import make_both
from training.config import Config, ConfigError, DataConfig, Stage
from training.config.recipes import load_recipe
from training.data.domains import excluded_names, find_domains, listing_hash
from training.data.layouts import folder_pairs, list_clips, list_images, official_pairs


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    make_both(tmp_path)
    sharp, blurry = ((str(tmp_path / name),) for name in ("sharp", "blurry"))
    return DataConfig(sharp, blurry, synthetic_blur_share=0.5)


def touch_images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(root / name)


def test_sharp_images_are_in_one_domain_each(data: DataConfig):
    domains = find_domains(Config(data=data))
    assert (len(domains.real_blurry), len(domains.to_blur), len(domains.sharp)) == (3, 3, 3)
    assert not set(domains.to_blur) & set(domains.sharp) and domains.A_size == 6
    without = find_domains(Config(data=replace(data, synthetic_blur_share=0.0)))
    assert (len(without.to_blur), len(without.sharp)) == (0, 6)


def test_one_stage_with_synthetic_blur_is_enough(data: DataConfig):
    """So that no image changes its domain in the middle of a run."""
    stages = (Stage("one", 1), Stage("two", 1, {"data.synthetic_blur_share": 1.0}))
    config = Config(data=replace(data, synthetic_blur_share=0.0), stages=stages)
    assert len(find_domains(config).to_blur) == 3


@pytest.mark.parametrize("count", [1, 2, 3])
def test_images_held_out_are_in_no_domain(count: int, data: DataConfig):
    domains = find_domains(Config(data=replace(data, held_out=count)))
    assert len(domains.held_out) == count
    assert not set(domains.held_out) & set(domains.trained_on)
    assert len(domains.to_blur) + len(domains.sharp) == 6 - count
    assert sum(line.startswith("held out") for line in domains.listing()) == count


def test_excluded_photographs_are_never_used(data: DataConfig, tmp_path: Path):
    """By their names, in either domain and among those held out; found by its path."""
    everything = find_domains(Config(data=replace(data, held_out=1)))
    images = everything.trained_on + everything.held_out
    out = {everything.held_out[0].name, everything.sharp[0].name}
    table = tmp_path / "out.tsv"
    table.write_text("file\tsha256\n" + "".join(f"{name}\t0\n" for name in sorted(out)))
    found = find_domains(Config(data=replace(data, held_out=1, exclude=str(table))))
    left = found.trained_on + found.held_out
    assert set(left) == {path for path in images if path.name not in out} < set(images)


def test_excluded_frames_are_never_used(data: DataConfig, tmp_path: Path):
    touch_images(tmp_path / "clips", "one/a.png", "one/b.png", "two/c.png")
    table = tmp_path / "out.csv"
    table.write_text("file\nb.png\nc.png\n")
    clips = replace(data, frames=(str(tmp_path / "clips"),), frames_share=0.5, exclude=str(table))
    assert [[p.name for p in clip] for clip in find_domains(Config(data=clips)).clips] == [
        ["a.png"]
    ]


def test_a_table_of_exclusions_that_cannot_be_used(data: DataConfig, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no such file.*untuned\.tsv"):
        find_domains(Config(data=replace(data, exclude="nowhere.tsv")))
    (tmp_path / "x.tsv").write_text("name\na.png\n")
    with pytest.raises(ConfigError, match="lacks the column file"):
        find_domains(Config(data=replace(data, exclude=str(tmp_path / "x.tsv"))))


@pytest.mark.parametrize("recipe", ["devudp", "devudp-dt", "devudp-night"])
def test_shipped_recipes_leave_the_untuned_set_out(recipe: str, tmp_path: Path):
    names = excluded_names("untuned.tsv")
    assert len(names) == 60
    others = [f"other{k}.png" for k in range(40)]
    touch_images(tmp_path / "all", *names, *others)
    data = replace(load_recipe(recipe).data, sharp=(str(tmp_path / "all"),))
    found = find_domains(replace(load_recipe(recipe), data=data))
    assert {p.name for p in found.trained_on + found.held_out} == set(others)


def test_too_many_held_out(data: DataConfig):
    with pytest.raises(ConfigError, match="keep at least half"):
        find_domains(Config(data=replace(data, held_out=4)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sharp": ()}, "no sharp images"),
        ({"blurry": (), "synthetic_blur_share": 0.0}, "no blurry images"),
        ({"layout": "gopro"}, "give its data.root"),
        ({"blurry": (), "held_out": 3, "one": True}, "no sharp images"),
        ({"blurry": (), "synthetic_blur_share": 0.0, "clips": 0.5}, "frames are the only blurry"),
    ],
)
def test_empty_domains(changes: dict, words: str, data: DataConfig, tmp_path: Path):
    if changes.pop("one", False):  # of six images three are held out; of the others one is left
        for name in ("001", "003", "005"):
            (tmp_path / f"sharp/{name}.png").unlink()
        changes["held_out"] = 1
        (tmp_path / "sharp/002.png").unlink()
    if share := changes.pop("clips", 0.0):
        touch_images(tmp_path / "clips", "a/1.png")
        changes |= {"frames": (str(tmp_path / "clips"),), "frames_share": share}
    with pytest.raises(ConfigError, match=words):
        find_domains(Config(data=replace(data, **changes)))


def test_frames_alone_are_enough_if_all_of_A_is_made_of_them(data: DataConfig, tmp_path: Path):
    touch_images(tmp_path / "clips", "a/1.png", "a/2.png", "b/1.png")
    changed = replace(data, blurry=(), synthetic_blur_share=0.0, frames_share=1.0,
                      frames=(str(tmp_path / "clips"),))  # fmt: skip
    domains = find_domains(Config(data=changed))
    assert [len(clip) for clip in domains.clips] == [2, 1] and domains.A_size == 3
    assert [len(clip) for clip in list_clips([tmp_path / "clips"])] == [2, 1]


def test_listing_and_its_hash(data: DataConfig, tmp_path: Path):
    listing = find_domains(Config(data=data)).listing()
    assert sorted({line.split("\t")[0] for line in listing}) == ["A", "A synthetic", "B"]
    shutil.copytree(tmp_path / "sharp", tmp_path / "else/sharp")
    elsewhere = Config(data=replace(data, sharp=(str(tmp_path / "else/sharp"),)))
    moved = find_domains(elsewhere).listing()
    assert listing_hash(moved) == listing_hash(listing)  # wherever the folders lie
    (tmp_path / "else/sharp/000.png").unlink()
    assert listing_hash(find_domains(elsewhere).listing()) != listing_hash(listing)


def test_listing_of_images(tmp_path: Path):
    touch_images(tmp_path, "b/2.PNG", "b/1.jpg", "a/3.tif", "a/._4.png")
    (tmp_path / "a/notes.txt").write_text("no image")
    found = list_images([tmp_path / "b", tmp_path / "a"])
    assert [path.name for path in found] == ["1.jpg", "2.PNG", "3.tif"]
    with pytest.raises(FileNotFoundError, match="does not exist"):
        list_images([tmp_path / "c"])
    (tmp_path / "c").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no images"):
        list_images([tmp_path / "c"])


def test_gopro_s_tree(tmp_path: Path):
    for kind in ("blur", "blur_gamma", "sharp"):
        touch_images(tmp_path, f"train/GOPR01/{kind}/1.png", f"train/GOPR02/{kind}/1.png",
                       f"test/GOPR03/{kind}/1.png")  # fmt: skip
    pairs = official_pairs("gopro", tmp_path, "train")
    assert [p.name for p in pairs] == ["GOPR01/1", "GOPR02/1"]
    assert pairs[0].degraded == tmp_path / "train/GOPR01/blur_gamma/1.png"
    assert pairs[0].reference == tmp_path / "train/GOPR01/sharp/1.png"
    (test,) = official_pairs("gopro", tmp_path, "test", "blur")
    assert test.degraded.parent.name == "blur"
    domains = find_domains(Config(data=DataConfig(layout="gopro", root=str(tmp_path))))
    assert len(domains.real_blurry) == len(domains.sharp) == 2
    with pytest.raises(ValueError, match="blur_gamma, blur"):
        official_pairs("gopro", tmp_path, "test", "blurr")
    shutil.rmtree(tmp_path / "train/GOPR02/sharp")
    with pytest.raises(FileNotFoundError, match="sharp frames of GOPR02"):
        official_pairs("gopro", tmp_path, "train")


def test_realblur_s_list_files(tmp_path: Path):
    tree = "RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene003"
    touch_images(tmp_path, f"{tree}/gt/gt_1.png", f"{tree}/blur/blur_1.png")
    listed = tmp_path / "RealBlur_J_test_list.txt"
    listed.write_text(f"{tree}/gt/gt_1.png {tree}/blur/blur_1.png \n\n")
    (pair,) = official_pairs("realblur-j", tmp_path, "test")
    assert (pair.degraded.name, pair.reference.name) == ("blur_1.png", "gt_1.png")
    assert pair.name == "scene003/blur_1"
    listed.write_text(f"{tree}/gt/gt_1.png {tree}/blur/blur_2.png\n")
    with pytest.raises(FileNotFoundError, match="line 1"):
        official_pairs("realblur-j", tmp_path, "test")
    listed.write_text("one_word_only\n")
    with pytest.raises(ValueError, match="line 1"):
        official_pairs("realblur-j", tmp_path, "test")


def test_lol_and_lol_blur(tmp_path: Path):
    touch_images(tmp_path, "eval15/low/1.png", "eval15/high/1.png")
    assert official_pairs("lol", tmp_path, "test")[0].degraded.parent.name == "low"
    touch_images(tmp_path, "test/low_blur/0012/1.png", "test/high_sharp_scaled/0012/1.png")
    (pair,) = official_pairs("lol-blur", tmp_path, "test")
    assert pair.name == "0012/1" and pair.reference.parts[-3] == "high_sharp_scaled"
    with pytest.raises(FileNotFoundError, match="our485"):
        official_pairs("lol", tmp_path, "train")


def test_pairs_of_folders_need_partners(tmp_path: Path):
    touch_images(tmp_path, "a/1.png", "a/2.png", "b/1.jpg")
    with pytest.raises(FileNotFoundError, match=r"no partner .* 2\)"):
        folder_pairs(tmp_path / "a", tmp_path / "b")
    touch_images(tmp_path, "b/2.bmp")
    assert [p.name for p in folder_pairs(tmp_path / "a", tmp_path / "b")] == ["1", "2"]
