"""Where pictures come from, what samples are made of them, and what check-data says."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from devudp_model.degrade import to_linear, to_srgb
from tests.training.training_run import TINY, make_images, make_sides
from training.data.check_data import main as check_data
from training.data.dataset import (
    UnpairedPictures,
    develop,
)
from training.data.domains import DataConfig, find_sides, listing_hash
from training.data.exposure import COMMON_MEAN, COMMON_SPREAD, exposure_of
from training.data.image_cache import ImageCache, UnreadableImage, decode
from training.data.layouts import folder_pairs, list_clips, list_images, official_pairs
from training.data.loader import StepSampler, collate
from training.data.video_frames import extract
from training.train import main as train

CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    make_sides(tmp_path)
    return DataConfig(
        sharp=(str(tmp_path / "sharp"),),
        blurry=(str(tmp_path / "blurry"),),
        made_blur=0.5,
        crop=32,
        short_side=(36, 48),
        noise=0.2,
        tone=(0.7, 2.0),
        exposure="common",
    )


def samples(config: DataConfig, numbers: range, seed: int = 0) -> torch.Tensor:
    """All that a run would see: samples,4,3,crop,crop."""
    data = UnpairedPictures(config, 100, seed)
    return torch.stack(
        [torch.cat(list(develop([data[number]], config, CPU)[:4])) for number in numbers]
    )


def test_a_sample_depends_on_seed_and_number_alone(config: DataConfig):
    forwards = samples(config, range(8))
    backwards = samples(config, range(7, -1, -1)).flip(0)
    assert torch.equal(forwards, backwards)
    assert not torch.equal(forwards, samples(config, range(8), seed=1))
    assert len({float(s[0].mean()) for s in forwards}) > 4


def test_samples_are_crops_in_range(config: DataConfig):
    seen = samples(replace(config, noise=0.0, tone=(1.0, 1.0)), range(12))
    assert seen.shape == (12, 4, 3, 32, 32)
    assert seen.min() >= -1 and seen.max() <= 1
    assert torch.equal(seen[:, :2], seen[:, 2:])  # without noise G gets what the losses see


def test_noise_and_tone_are_on_the_inputs_alone(config: DataConfig):
    plain = samples(replace(config, noise=0.0, tone=(1.0, 1.0)), range(1))
    for changed in (
        replace(config, noise_share=1.0, tone=(1.0, 1.0)),
        replace(config, noise=0.0, tone=(2.0, 2.0)),
        replace(config, noise=0.0, tone=(1.0, 1.0), clip=0.4),
    ):
        seen = samples(changed, range(1))
        assert torch.equal(seen[:, :2], plain[:, :2])
        assert (seen[:, 2:] - seen[:, :2]).abs().amax((2, 3, 4)).min() > 0.01


def test_common_exposure():
    x = torch.rand(3, 32, 32) * 1.2 - 0.95
    y = exposure_of(x).map(x).clamp(-1, 1)
    assert y.mean().item() == pytest.approx(COMMON_MEAN, abs=0.02)
    assert y.std().item() == pytest.approx(COMMON_SPREAD, abs=0.03)
    nearly_flat = torch.full((3, 8, 8), 0.7) + 1e-3 * torch.randn(3, 8, 8)
    flat = exposure_of(nearly_flat).map(nearly_flat).clamp(-1, 1)
    assert flat.std() < 0.01  # a wall stays a wall


def test_unequal_counts_are_all_seen(config: DataConfig):
    data = UnpairedPictures(replace(config, made_blur=0.0), 0, 0)
    files = [data[number].files for number in range(120)]
    assert len({A for A, _ in files}) == 3 and len({B for _, B in files}) == 6


def test_to_be_blurred_and_sharp_side_share_no_picture(config: DataConfig):
    sides = find_sides(config)
    assert len(sides.to_blur) == len(sides.sharp) == 3
    assert not set(sides.to_blur) & set(sides.sharp)
    data = UnpairedPictures(replace(config, blurry=()), 0, 0)  # sharp photographs alone
    drawn = [data[number] for number in range(40)]
    assert all(sample.A.blur is not None for sample in drawn)
    assert not {s.files[0] for s in drawn} & {s.files[1] for s in drawn}


def test_share_of_made_blur(config: DataConfig):
    data = UnpairedPictures(replace(config, made_blur=0.8), 0, 0)
    made = sum(data[number].A.blur is not None for number in range(200)) / 200
    assert made == pytest.approx(0.8, abs=0.08)


def test_pictures_are_downsized_and_never_enlarged(config: DataConfig, tmp_path: Path):
    make_images(tmp_path / "big", 1, size=(400, 300))
    one = replace(config, sharp=(str(tmp_path / "big"),), made_blur=0.0, exposure="as is",
                  noise=0.0, tone=(1.0, 1.0), short_side=(100, 100))  # fmt: skip
    with Image.open(tmp_path / "big/000.png") as image:
        small = np.asarray(image.resize((133, 100), Image.Resampling.LANCZOS))
        full = np.asarray(image)
    data = UnpairedPictures(one, 0, 0)
    crops = [data.crop(full, (100.0, top, left), 32).permute(1, 2, 0).numpy()
             for top, left in ((0.0, 0.0), (0.5, 0.25))]  # fmt: skip
    assert np.array_equal(crops[0], small[:32, :32])
    assert np.array_equal(crops[1], small[34:66, 25:57])
    untouched = UnpairedPictures(replace(one, downsize=False), 0, 0).crop(
        full, (100.0, 0.0, 0.0), 32
    )
    assert np.array_equal(untouched.permute(1, 2, 0).numpy(), full[:32, :32])
    kept = UnpairedPictures(replace(one, short_side=(900, 900)), 0, 0).crop(full, (900.0, 0, 0), 32)
    assert np.array_equal(kept.permute(1, 2, 0).numpy(), full[:32, :32])


def test_a_picture_smaller_than_the_crop_is_enlarged_to_it(config: DataConfig):
    pixels = np.zeros((10, 300, 3), dtype=np.uint8)
    assert UnpairedPictures(config, 0, 0).crop(pixels, (36.0, 0.9, 0.9), 32).shape == (3, 32, 32)


def test_frames_are_averaged_in_linear_light(config: DataConfig, tmp_path: Path):
    clip = tmp_path / "clips/one"
    clip.mkdir(parents=True)
    for number, level in enumerate((0, 255, 255, 0)):
        Image.new("RGB", (40, 40), (level,) * 3).save(clip / f"{number}.png")
    plain = replace(config, exposure="as is", noise=0.0, tone=(1.0, 1.0))
    clips = (str(tmp_path / "clips"),)
    frames = replace(plain, frames=clips, frames_share=1.0, frames_window=(4, 4))
    A = samples(frames, range(1))[0, 0]
    expected = to_srgb(to_linear(torch.tensor([0.0, 1.0, 1.0, 0.0])).mean()) * 2 - 1
    assert A.mean().item() == pytest.approx(expected.item(), abs=1e-3)  # 0.47, not 0
    assert [len(c) for c in list_clips([tmp_path / "clips"])] == [4]


def test_a_video_becomes_a_clip(tmp_path: Path):
    av = pytest.importorskip("av")
    video = tmp_path / "clip.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(0, 250, 25):
            pixels = np.full((48, 64, 3), level, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    train(["frames", str(video), "--out", str(tmp_path / "frames")])
    (clip,) = list_clips([tmp_path / "frames"])
    assert len(clip) == 10 and decode(clip[4]).mean() == pytest.approx(100, abs=4)
    assert extract(video, tmp_path / "few", every=3, limit=2) == 2
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match="cannot be read as a video"):
        extract(tmp_path / "text.mp4", tmp_path / "none")


def test_one_corrupt_picture_among_a_thousand_is_skipped_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    make_images(tmp_path / "sharp", 1, size=(40, 40))
    for number in range(1, 1000):
        shutil.copyfile(tmp_path / "sharp/000.png", tmp_path / f"sharp/{number:03d}.png")
    broken = tmp_path / "sharp/500.png"
    broken.write_bytes(broken.read_bytes()[:60])
    make_images(tmp_path / "blurry", 2)
    config = DataConfig((str(tmp_path / "sharp"),), (str(tmp_path / "blurry"),), crop=32)
    data = UnpairedPictures(config, 0, 0)
    assert len(data.cache.places) == 1001
    near = [(str(broken), n) for n in range(4000) if data_index(data, n) == 500]
    sample = data[near[0][1]]
    assert sample.files[1].endswith("501.png") and "500.png" in sample.faults[0]
    # The same in a run, where each step draws the corrupt one and another one.
    for path in (tmp_path / "sharp").iterdir():
        if path.name not in ("500.png", "501.png"):
            path.unlink()
    sides = ["--data.sharp", *config.sharp, "--data.blurry", *config.blurry]
    options = ["--schedule.length", "6", "--data.made-blur", "0"]
    train(["unpaired", "--out", str(tmp_path / "run"), *sides, *TINY, *options])
    said = [m for m in caplog.messages if "Skipped a picture" in m]
    assert len(said) == 1 and "500.png" in said[0] and "(1 so far)" in said[0]
    assert any(m.startswith("1 pictures could not be read") for m in caplog.messages)


def data_index(data: UnpairedPictures, number: int) -> int:
    """Which of the sharp pictures this sample wants, made_blur being off."""
    rng = torch.Generator().manual_seed(data.seed * 1_000_003 + number)
    torch.randint(len(data.sides.real_blurry), (), generator=rng)
    torch.rand(3, generator=rng)
    return int(torch.randint(len(data.sides.sharp), (), generator=rng))


def test_only_unreadable_pictures_stop_the_training(config: DataConfig, tmp_path: Path):
    for path in (tmp_path / "sharp").iterdir():
        path.write_text("not a picture")
    data = UnpairedPictures(config, 0, 0)
    with pytest.raises(UnreadableImage, match="check-data"):
        data[0]


def test_cache_keeps_to_its_bound_and_changes_nothing(config: DataConfig):
    paths = list_images([*config.sharp, *config.blurry])
    size = 64 * 48 * 3
    for bound, kept in ((0, 0), (3 * size + 5, 3), (10**9, 9)):
        cache = ImageCache(paths, bound)
        assert len(cache.places) == kept and cache.block.numel() <= bound
        assert all(np.array_equal(cache.read(path), decode(path)) for path in paths)
    small = samples(replace(config, cache_gb=2 * size / 1e9), range(6))
    assert torch.equal(small, samples(replace(config, cache_gb=0.0), range(6)))


def test_processes_share_out_a_step(config: DataConfig):
    whole = list(StepSampler(3, 6, 4))
    halves = [list(StepSampler(3, 6, 4, rank, 2)) for rank in (0, 1)]
    assert whole == [[12, 13, 14, 15], [16, 17, 18, 19], [20, 21, 22, 23]]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole


def test_loader_workers_change_nothing(config: DataConfig):
    data = UnpairedPictures(config, 8, 0)

    def load(workers: int) -> torch.Tensor:
        loader = DataLoader(data, batch_sampler=StepSampler(0, 2, 2), num_workers=workers,  # pyright: ignore
                            collate_fn=lambda s: collate(s, config, here=True))  # fmt: skip
        return torch.stack([torch.stack(list(loaded.pictures[:4])) for loaded in loader])

    assert torch.equal(load(0), load(1))


def touch_images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(root / name)


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
    sides = find_sides(DataConfig(layout="gopro", root=str(tmp_path)))
    assert len(sides.real_blurry) == len(sides.sharp) == 2
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


def test_listing_and_its_hash(config: DataConfig, tmp_path: Path):
    listing = find_sides(config).listing()
    assert sorted({line.split("\t")[0] for line in listing}) == ["A", "A made", "B"]
    shutil.copytree(tmp_path / "sharp", tmp_path / "else/sharp")
    moved = find_sides(replace(config, sharp=(str(tmp_path / "else/sharp"),))).listing()
    assert listing_hash(moved) == listing_hash(listing)  # wherever the folders lie
    (tmp_path / "else/sharp/000.png").unlink()
    fewer = find_sides(replace(config, sharp=(str(tmp_path / "else/sharp"),))).listing()
    assert listing_hash(fewer) != listing_hash(listing)


def checked(arguments: list[str]) -> int:
    """The exit status of check-data."""
    try:
        check_data(arguments)
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        return ended.code
    return 0


def test_check_data_names_what_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    sheet = tmp_path / "sheet.png"
    arguments = ["paper-gopro", "--sheet", str(sheet), *make_sides(tmp_path), *TINY,
                 "--data.layout", "folders"]  # fmt: skip
    assert checked(arguments) == 0
    assert "A, blurry: 3 pictures (3 png); short side 48" in caplog.messages[0]
    with Image.open(sheet) as image:
        assert image.size == (6 * 32, 6 * 32)
    shutil.copyfile(tmp_path / "sharp/001.png", tmp_path / "blurry/twin.png")
    make_images(tmp_path / "blurry/small", 1, size=(50, 20), seed=9)
    (tmp_path / "sharp/text.png").write_text("not a picture")
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(tmp_path / "sharp/deep.png")
    caplog.clear()
    assert checked(arguments) == 1
    said = "\n".join(caplog.messages)
    for words in ("same picture on both sides", "twin.png and", "smaller than the crop of 32",
                  "50x20", "text.png", "more than 8 bits", "4 things are wrong"):  # fmt: skip
        assert words in said, words


def test_check_data_of_an_empty_side(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "none").mkdir()
    with pytest.raises(SystemExit) as ended:
        train(["check-data", "unpaired", "--data.sharp", str(tmp_path / "none")])
    assert ended.value.code == 1 and "holds no images" in caplog.messages[-1]


def test_random_numbers_outside_do_not_matter(config: DataConfig):
    first = samples(config, range(2))
    torch.manual_seed(5)
    random.seed(5)
    assert torch.equal(first, samples(config, range(2)))
