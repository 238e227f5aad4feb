"""The loop: what it computes, what it leaves behind, how it ends."""

import copy
import hashlib
import json
import logging
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training.method.discriminator import Discriminator

from devudp_model.checkpoint import load_checkpoint
from devudp_model.generator import Generator
from devudp_model.restoration import restore
from tests.training.training_run import TINY, launch, make_images, make_sides, recipe_and_sides
from training.config import Config, ConfigError, ModelConfig, ScheduleConfig
from training.data.dataset import UNUSED_FROM, UnpairedPictures, develop
from training.method.step import Networks, train_step
from training.run.distributed import make_accelerator
from training.run.schedule import Schedule
from training.run.trainer import Trainer
from training.settings import load_recipe, parse_overrides, recipe_names, to_toml
from training.train import main

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_read_back_as_they_were_written(name: str, tmp_path: Path):
    config = load_recipe(name)
    path = tmp_path / "c.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load_recipe(path) == config


def test_paths_with_any_character_survive(tmp_path: Path):
    config = parse_overrides(
        load_recipe("unpaired"),
        ["--data.sharp", "C:\\new\\table", "it's", 'a "b"', "--data.blurry"],
    )
    path = tmp_path / "c.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load_recipe(path) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sed = 1", "did you mean 'seed'"),
        ("[data]\ncropp = 64", "did you mean 'crop'"),
        ("[modle]\nwidth = 3", "did you mean 'model'"),
        ('[data]\nexposure = "comon"', "did you mean 'common'"),
        ('[data]\ncrop = "big"', "data.crop = 'big' should be int"),
        ("[data]\nshort_side = [1, 2, 3]", "short_side"),
        ("batch = 0", "batch must be at least 1"),
        ("seed = ", "not valid TOML"),
    ],
)
def test_recipe_with_a_mistake(text: str, words: str, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_recipe(path)


def test_the_paper_s_schedule_in_steps():
    schedule = Schedule(load_recipe("paper-gopro"), 2103)
    assert (schedule.epoch, schedule.steps, schedule.halve_every) == (526, 105_200, 26_300)
    rates = [schedule.lr(step) for step in (0, 26_299, 26_300, 105_199)]
    assert rates == pytest.approx([2e-4, 2e-4, 1e-4, 2.5e-5])


def test_a_schedule_in_steps():
    config = Config(schedule=ScheduleConfig("steps", 100, 40, freeze_norm=60))
    schedule = Schedule(config, 999)
    assert (schedule.steps, schedule.halve_every, schedule.freeze_norm) == (100, 40, 60)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["devudp", "devudp-dt"])
def test_loop_computes_what_a_plain_loop_does(variant: str, tmp_path: Path):
    """Five steps with averaging, frozen BatchNorm and a halved rate, bit for bit."""
    extra = [
        "--batch",
        "2",
        "--ema",
        "0.9",
        "--schedule.length",
        "5",
        "--schedule.halve-every",
        "2",
    ]
    extra += ["--schedule.freeze-norm", "3", "--data.noise", "0.1"]
    arguments = [*make_sides(tmp_path), *TINY, *extra, "--model.variant", variant]
    main(["unpaired", "--out", str(tmp_path / "run"), *arguments])
    state = torch.load(tmp_path / "run/states/state-00000005.pt", weights_only=True)

    config = parse_overrides(load_recipe("unpaired"), arguments)
    data = UnpairedPictures(config.data, 10, config.seed)
    torch.manual_seed(config.seed)
    G, G_inv, D = Generator(variant, 4, 1), Generator(variant, 4, 1), Discriminator(4)  # pyright: ignore
    ema = copy.deepcopy(G)
    opt_G = torch.optim.Adam([*G.parameters(), *G_inv.parameters()], 2e-4, (0.5, 0.999))
    opt_D = torch.optim.Adam(D.parameters(), 2e-4, (0.5, 0.999))
    for step in range(5):
        for group in (*opt_G.param_groups, *opt_D.param_groups):
            group["lr"] = 2e-4 * 0.5 ** (step // 2)
        if step >= 3:
            G.eval()
            G_inv.eval()
        batch = develop([data[2 * step], data[2 * step + 1]], config.data, torch.device("cpu"))
        train_step(Networks(G, G_inv, D, opt_G, opt_D), batch, config.loss)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, mean in ema.state_dict().items():
            value = G.state_dict()[name]
            mean.lerp_(value, 1 - decay) if mean.is_floating_point() else mean.copy_(value)
    for key, network in {"G": G, "G_inv": G_inv, "D": D, "ema": ema}.items():
        for name, value in network.state_dict().items():
            assert torch.equal(state[key][name], value), (key, name)


@pytest.mark.slow
def test_what_a_run_leaves_behind(tmp_path: Path):
    out = tmp_path / "run"
    extra = "--batch 2 --ema 0.9 --schedule.length 6 --record.log-every 2 --record.save-every 2"
    extra += " --record.sample-every 3 --record.weights-every 4 --record.tensorboard"
    main(["unpaired", "--out", str(out), *make_sides(tmp_path), *TINY, *extra.split()])
    states = sorted(path.name for path in (out / "states").iterdir())
    assert states == ["state-00000004.pt", "state-00000006.pt"]  # the last two
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert {"G", "D", "adv", "recon", "sr_A", "sr_B", "lr", "images_per_second"} <= set(lines[0])
    about = json.loads((out / "run.json").read_text())
    assert about["versions"]["torch"] == torch.__version__ and about["data"]["pictures"] == 9
    assert len((out / "data.txt").read_text().splitlines()) == 9
    with Image.open(out / "samples/00000003.png") as sheet:
        assert sheet.size == (5 * 32, 4 * 32)
    assert (out / "curve.png").stat().st_size > 5000
    assert list((out / "tensorboard").iterdir())
    load_checkpoint(out / "weights/00000004.safetensors")
    averaged, plain = (load_checkpoint(out / f"devudp{end}.safetensors") for end in ("", "-raw"))
    assert averaged.metadata["step"] == "6" and str(tmp_path) not in averaged.metadata["recipe"]
    assert not torch.equal(averaged.generator.head.weight, plain.generator.head.weight)
    digest = hashlib.sha256((out / "devudp.safetensors").read_bytes()).hexdigest()
    assert digest in (out / "devudp.safetensors.sha256").read_text()
    assert digest in (out / "devudp.md").read_text()


@pytest.mark.slow
def test_every_ablation_trains(tmp_path: Path):
    sides = make_sides(tmp_path)
    ablations = {
        "s": ["--loss.no-s-branch"],
        "t": ["--loss.no-t-branch"],
        "d": ["--data.no-downsize"],
        "n": ["--model.norm", "batch"],
        "c": ["--model.shortcut", "True", "--pool", "2"],
    }
    for name, options in ablations.items():
        out = tmp_path / name
        main(["paper-gopro", "--data.layout", "folders", "--out", str(out), *sides, *TINY, *options,
              "--batch", "2", "--schedule.length", "2"])  # fmt: skip
    generator = load_checkpoint(tmp_path / "c/devudp.safetensors").generator
    assert generator.shortcut and generator.norm == "instance"


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    out = tmp_path / "run"
    arguments = ["--out", str(out), *make_sides(tmp_path), *TINY, "--loss.recon", "1e39"]
    with pytest.raises(SystemExit) as ended:
        main(["unpaired", *arguments])
    assert ended.value.code == 1
    message = caplog.messages[-1]
    assert "Stopped at step 0" in message and ".png" in message and "resume" in message
    state = torch.load(out / "states/fault-00000000.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["G"].values())
    assert json.loads((out / "log.jsonl").read_text().splitlines()[-1])["files"]


@pytest.mark.slow
def test_full_disk_leaves_the_last_state_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    out, save = tmp_path / "run", torch.save

    def torn_save(content: dict, file) -> None:
        if content["step"] < 4:
            return save(content, file)
        file.write(b"half a state")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", torn_save)
    options = ["--schedule.length", "6", "--record.save-every", "2"]
    with pytest.raises(SystemExit) as ended:
        main(["unpaired", "--out", str(out), *make_sides(tmp_path), *TINY, *options])
    assert ended.value.code == 1
    assert "No space left" in caplog.messages[-1] and "is intact" in caplog.messages[-1]
    (kept,) = (out / "states").iterdir()
    assert torch.load(kept, weights_only=True)["step"] == 2


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals between processes")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_save_and_say_how_to_resume(kind: signal.Signals, tmp_path: Path):
    out = tmp_path / "run"
    process = launch("unpaired", "--out", str(out), *make_sides(tmp_path), *TINY,
                     "--schedule.length", "100000", "--record.log-every", "1")  # fmt: skip
    assert process.stdout
    for line in process.stdout:
        if line.startswith("step 3 "):
            process.send_signal(kind)
            break
    rest = process.stdout.read()
    assert process.wait(60) == 0
    assert f"devudp-train resume {out}" in rest
    (state,) = (out / "states").iterdir()
    assert torch.load(state, weights_only=True)["step"] >= 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["devupd"], "did you mean 'devudp'"),
        (["unpaired", "--data.sharp", "no/such"], "does not exist"),
        (["unpaired"], "no sharp pictures"),
        (["paper-gopro"], "give its data.root"),
        (["paper-gopro", "--data.root", "no/such"], "GoPro's tree"),
        (["unpaired", "--speed.device", "cuda"], "finds no GPU"),
        (["resume", "no/such"], "no state in"),
        (["resume"], "which run"),
    ],
)
def test_mistakes_are_said_in_one_line(
    arguments: list[str], words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if torch.cuda.is_available() and "cuda" in arguments:
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1 and words in caplog.messages[-1]


def test_a_typing_mistake_on_the_command_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["unpaired", "--data.cropp", "64"])
    assert ended.value.code == 2 and "--data.crop" in capsys.readouterr().err


def test_a_folder_that_holds_a_run_is_not_overwritten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    arguments = ["--out", str(tmp_path / "r"), *make_sides(tmp_path), *TINY]
    main(["unpaired", *arguments, "--schedule.length", "1"])
    with pytest.raises(SystemExit):
        main(["unpaired", *arguments, "--schedule.length", "1"])
    assert "already holds a run" in caplog.messages[-1]


def test_a_state_of_another_architecture(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    out = tmp_path / "r"
    main(["unpaired", "--out", str(out), *make_sides(tmp_path), *TINY, "--schedule.length", "1"])
    with pytest.raises(SystemExit):
        main(["resume", str(out), "--model.width", "6"])
    assert "another architecture: width 4 there, 6 here" in caplog.messages[-1]


@pytest.mark.slow
def test_training_starts_from_a_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    sides = make_sides(tmp_path)
    once = [*sides, *TINY, "--schedule.length", "1"]
    main(["unpaired", "--out", str(tmp_path / "a"), *once])
    first = str(tmp_path / "a/devudp.safetensors")
    main(["unpaired", "--out", str(tmp_path / "b"), *once, "--model.init", first, "--schedule.lr",
          "1e-12", "--seed", "9"])  # fmt: skip
    mine = load_checkpoint(tmp_path / "b/devudp-raw.safetensors").generator.state_dict()
    its = load_checkpoint(first).generator.state_dict()
    assert all(torch.allclose(mine[name], its[name], atol=1e-3) for name in its)
    main(["unpaired", "--model.variant", "devudp-dt", "--out", str(tmp_path / "c"), *once,
          "--model.init", first, "--schedule.lr", "1e-12"])  # fmt: skip
    other = load_checkpoint(tmp_path / "c/devudp-dt-raw.safetensors", fold=False)
    other = other.generator.state_dict()
    assert all(torch.allclose(other[name], its[name], atol=1e-3) for name in its if "conv" in name)
    assert (other["head.weight"] == 0).all()  # still the identity
    with pytest.raises(SystemExit):
        main(["unpaired", "--out", str(tmp_path / "d"), *once, "--model.init", first,
              "--model.width", "6"])  # fmt: skip
    assert "model.init" in caplog.messages[-1] and "(4, 1)" in caplog.messages[-1]


def test_measured_statistics_are_the_batches_means(tmp_path: Path):
    """model.calibrate: one batch's running statistics are that batch's own, and stay."""
    options = ["--model.calibrate", "1", "--schedule.length", "2"]
    main([*recipe_and_sides("devudp-dt", tmp_path), "--out", str(tmp_path / "r"), *TINY, *options])
    config = load_recipe(tmp_path / "r/config.toml")
    data = UnpairedPictures(config.data, 0, config.seed)
    batch = develop([data[UNUSED_FROM + k] for k in range(config.batch)], config.data, CPU)
    torch.manual_seed(config.seed)
    G = Generator("devudp-dt", 4, 1)
    x = G.stem.conv(torch.cat([batch.A_input, batch.B_input]))
    state = torch.load(tmp_path / "r/states/state-00000002.pt", weights_only=True)["G"]
    torch.testing.assert_close(state["stem.norm.running_mean"], x.mean((0, 2, 3)))
    torch.testing.assert_close(state["stem.norm.running_var"], x.var((0, 2, 3)))


def test_training_on_what_coarser_scales_leave(tmp_path: Path):
    """In turn the inputs themselves, with a half, with a quarter and half; B's only if needed."""
    arguments = ["--model.coarse", "--loss.again", "1", "--loss.s-branch-every", "2"]
    config = parse_overrides(
        load_recipe("devudp-dt"), [*make_sides(tmp_path), *TINY, *arguments, "--batch", "2"]
    )
    trainer = Trainer(config, make_accelerator(config), UnpairedPictures(config.data, 20, 0))
    with torch.no_grad():
        for parameter in trainer.G.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # a new network is the identity
    trainer.G.train()
    before = copy.deepcopy(trainer.G.state_dict())
    batch = trainer.batch_of(next(iter(trainer.loader())))
    A: list[float] = []
    B: list[float] = []
    for trainer.step in range(6):
        given = trainer.from_coarser(batch)
        assert given.A is batch.A and given.B is batch.B
        A.append((given.A_input - batch.A_input).abs().mean().item())
        B.append((given.B_input - batch.B_input).abs().mean().item())
    assert A[0] == A[3] == 0 < min(A[1], A[2]) and A[1] != A[2] and A[1:3] == A[4:]
    assert B[2] > 0 and B[4] > 0 and B[0] == B[1] == B[3] == B[5] == 0
    assert trainer.G.training
    after = trainer.G.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(ConfigError, match="global shortcut"):
        Config(model=ModelConfig(coarse=True))


def test_known_blur_refuses_pictures_whose_blur_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main(["devudp", "--out", str(tmp_path / "r"), *make_sides(tmp_path), *TINY])
    assert ended.value.code == 2 and "unpaired takes them" in capsys.readouterr().err


def make_rain(clean: Path, rainy: Path) -> None:
    """Rain streaks: sparse noise, blurred along a slope, added (as in common synthetic sets)."""
    rainy.mkdir()
    rng = np.random.default_rng(0)
    for path in clean.iterdir():
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB")).astype(float)
        drops = (rng.random(picture.shape[:2]) > 0.985) * 200.0
        streaks = np.sum([np.roll(drops, (k, k // 3), (0, 1)) for k in range(9)], axis=0) / 3
        wet = np.clip(picture + streaks[..., None], 0, 255).astype(np.uint8)
        Image.fromarray(wet).save(rainy / path.name)


@pytest.mark.slow
def test_two_folders_of_rainy_and_clean_pictures_become_a_checkpoint(tmp_path: Path):
    """As a new user would: no code touched, a checkpoint that loads, a step on the way."""
    make_images(tmp_path / "clean", 6, seed=1)
    make_images(tmp_path / "others", 5, seed=2)
    make_rain(tmp_path / "others", tmp_path / "rainy")
    out = tmp_path / "run"
    main(["unpaired", "--data.blurry", str(tmp_path / "rainy"), "--data.sharp",
          str(tmp_path / "clean"), "--data.made-blur", "0", "--out", str(out), *TINY,
          "--model.width", "8", "--schedule.lr", "1e-3", "--schedule.length", "40",
          "--schedule.halve-every", "1000", "--record.log-every", "10"])  # fmt: skip
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["sr_B"] < 0.8 * lines[0]["sr_B"] and lines[-1]["G"] < 0.8 * lines[0]["G"]
    generator = load_checkpoint(out / "devudp.safetensors").generator
    image = torch.rand(1, 3, 50, 70)
    assert restore(image, generator).shape == image.shape
