"""Recipes, the command line over them, and which values are refused."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from tests.training.training_run import make_sharp, staged
from training.config import Config, ConfigError
from training.config.check import RANGES, check_ranges, settings_of
from training.config.ranges import Range
from training.config.recipes import RECIPES, load_recipe, parse_overrides, recipe_names, to_toml
from training.config.stages import stage_configs, with_changes
from training.run.schedule import Schedule
from training.train import main

PAPER = Config()


def numbers_of(kind: type, prefix: str = "") -> Iterator[str]:
    """The names of all settings that hold numbers, from the annotations."""
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from numbers_of(hint, f"{prefix}{name}.")  # pyright: ignore[reportArgumentType]
            continue
        flat, stack = set(), [hint]
        while stack:
            one = stack.pop()
            if get_origin(one) in (tuple, Union, UnionType):
                stack += get_args(one)
            else:
                flat.add(one)
        if flat & {int, float}:
            yield prefix + name


NUMBERS = sorted(numbers_of(Config))


def set_to(name: str, value: Any) -> Config:
    """The default settings with one changed; pairs get the value twice."""
    pairs = ("data.curve", "data.reblur_length")  # None by default
    is_pair = isinstance(dict(settings_of(PAPER))[name], tuple) or name in pairs
    return with_changes(PAPER, {name: (value, value) if is_pair else value})


def test_every_number_has_a_range():
    assert set(NUMBERS) == set(RANGES)
    check_ranges(PAPER)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_out_of_their_range_are_refused(name: str):
    allowed = RANGES[name]
    wrong = [math.nan, math.inf, -math.inf, -1, 10**400, allowed.low - 1, allowed.high * 2 + 1]
    wrong += [allowed.low] * allowed.open_low + [allowed.high] * allowed.open_high
    for value in wrong:
        with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
            check_ranges(set_to(name, value))
    inside = [allowed.low] * (not allowed.open_low) + [allowed.high] * (not allowed.open_high)
    for value in inside:
        check_ranges(set_to(name, value))


@pytest.mark.parametrize(
    "name", ["data.frames_window", "data.short_side", "data.blur_length", "data.reblur_length",
             "data.jpeg_quality", "data.tone", "data.curve"]
)  # fmt: skip
def test_swapped_pairs_are_refused(name: str):
    check_ranges(with_changes(PAPER, {name: (1, 2)}))
    with pytest.raises(ConfigError, match="smaller number first"):
        check_ranges(with_changes(PAPER, {name: (2, 1)}))


def test_ranges_say_what_they_allow():
    assert str(Range(0, 1)) == "at least 0 and at most 1"
    assert str(Range(0, 1, True, True)) == "above 0 and below 1"
    assert "a" not in Range(0, 1) and 1 not in Range(0, 1, open_high=True) and 0.5 in Range(0, 1)


WRONG = [
    ("--schedule.lr", "1e300", "schedule.lr = 1e+300 should be above 0 and at most 1"),
    ("--data.noise", "nan", "data.noise = nan"),
    ("--data.synthetic-blur-share", "-0.1", "data.synthetic_blur_share = -0.1"),
    ("--speed.threads", "-1", "speed.threads = -1"),
    ("--pool", "-1", "pool = -1"),
    ("--model.D-width", "0", "model.D_width = 0"),
    ("--record.save-every", "-1", "record.save_every = -1"),
    ("--data.cache-gb", "1e300", "data.cache_gb"),
    ("--loss.recon", "1e39", "loss.recon"),
    ("--schedule.accumulate", "3", "batch must be a multiple of schedule.accumulate"),
    ("--data.tone", "2 1", "smaller number first"),
    ("--data.blur-length", "5 2", "smaller number first"),
    ("--data.short-side", "0 10", "data.short_side = 0"),
    ("--data.crop", "23", "data.crop = 23"),
    ("--data.frames-share", "0.5", "needs data.frames"),
    ("--data.straight-share", "0.9", "must not exceed 1 together"),
    ("--data.coarse-inputs", "True", "needs the global shortcut"),
    ("--data.exposure", "as is", "data.tone needs data.exposure"),
    ("--data.reblur-length", "None", "need data.reblur_length"),
    ("--loss.reblur-scales", "9", "loss.reblur_scales is too large"),
    ("--validation.tasks", "sharpen", "validation.tasks must be of"),
    ("--data.held-out", "0", "needs data.held_out"),
    ("--validation.degraded", "somewhere", "belong together"),
    ("--schedule.length", "20", "change all by schedule.scale"),
]


@pytest.fixture(scope="module")
def shipped_recipe(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run's arguments, to which one that is wrong is added."""
    return staged("devudp", tmp_path_factory.mktemp("data"), 0.002)


@pytest.mark.parametrize(("option", "values", "words"), WRONG, ids=[w[0] for w in WRONG])
def test_what_is_wrong_is_said_before_anything_is_written(
    option: str,
    values: str,
    words: str,
    shipped_recipe: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    given = [values] if option == "--data.exposure" else values.split()
    if option == "--data.coarse-inputs":
        option, given = "--data.coarse-inputs", []
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        main([*shipped_recipe, "--out", str(out), option, *given])
    assert ended.value.code == 1 and words in caplog.messages[-1]
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sed = 1", "did you mean 'seed'"),
        ("[data]\ncropp = 64", "did you mean 'crop'"),
        ("[modle]\nwidth = 3", "did you mean 'model'"),
        ("model = 3", "model is a table"),
        ('[data]\nexposure = "comon"', "did you mean 'common'"),
        ('[data]\ncrop = "big"', "data.crop = 'big' should be int"),
        ("[data]\ncrop = true", "data.crop = True should be int"),
        ("[data]\nshort_side = [1, 2, 3]", "short_side"),
        ("batch = 0", "batch = 0 should be at least 1"),
        ("seed = ", "not valid TOML"),
        ("stages = 3", r"\[\[stages\]\] tables"),
        ("[[stages]]\nname = 'a'", "needs a name and a length"),
        ("[[stages]]\nname = 'a'\nlength = true", "needs a name and a length"),
        ("[[stages]]\nname = 'a'\nlength = 0", "stage 'a' needs a length of at least 1"),
        ("[[stages]]\nname = 'a'\nlength = 1\ndata.crp = 3", "stage 'a': unknown key data.'crp'"),
        ("[[stages]]\nname = 'a'\nlength = 1\nmodel.width = 3", "which holds for the whole run"),
        ("[[stages]]\nname = 'a'\nlength = 1\nschedule.muon = 3.0", "holds for the whole run"),
        ("[[stages]]\nname = 'a'\nlength = 1\ndata.noise = -1.0", "in stage 'a': data.noise"),
    ],
)
def test_recipe_with_a_mistake(text: str, words: str, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_recipe(path)


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_read_back_as_they_were_written(name: str, tmp_path: Path):
    config = load_recipe(name)
    path = tmp_path / "c.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load_recipe(path) == config


def test_the_paper_s_recipes_say_what_differs():
    for name in ("paper-gopro", "paper-gopro-dt"):
        config = load_recipe(name)
        text = (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
        assert config.speed.precision == "bf16" and "run in bf16" in text
        assert (config.batch, config.loss.recon, config.loss.sr, config.ema) == (4, 10, 5, 0)
    assert not load_recipe("paper-gopro-dt").model.zero_head


def test_paths_with_any_character_survive(tmp_path: Path):
    names = ["C:\\new\\table", "it's", 'a "b"', "new\nline's", "Größe '日本'"]
    config = parse_overrides(load_recipe("unpaired"), ["--data.sharp", *names])
    path = tmp_path / "c.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load_recipe(path) == config and config.data.sharp == tuple(names)


def test_a_typing_mistake_on_the_command_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["unpaired", "--data.cropp", "64"])
    assert ended.value.code == 2 and "--data.crop" in capsys.readouterr().err


def test_help_explains_the_settings(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["unpaired", "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ended.value.code == 0
    assert "--data.black-level" in said and "0.12" in said and "as a sensor does" in said


def test_stages_change_settings_and_the_command_line_has_the_last_word(tmp_path: Path):
    recipe = load_recipe("devudp-dt")
    streaks, every, last = stage_configs(recipe)
    assert (streaks.loss.t_branch, every.loss.t_branch, last.loss.t_branch) == (False, True, False)
    assert streaks.data.reblur_length == (4, 12) and last.schedule.decay == "cosine"
    assert (streaks.schedule.length, last.schedule.length) == tuple(
        recipe.stages[k].length for k in (0, -1)
    )
    sharp = make_sharp(tmp_path)
    # 1.0 and "none" are the recipe's own values; named, they hold in all stages all the same.
    given = ["--loss.reblur", "2", "--schedule.decay", "none", "--loss.no-t-branch"]
    changed = stage_configs(parse_overrides(recipe, [*sharp, *given]))
    assert [c.loss.reblur for c in changed] == [2, 2, 2]
    assert [c.schedule.decay for c in changed] == ["none"] * 3
    assert [c.loss.t_branch for c in changed] == [False] * 3
    on = stage_configs(parse_overrides(recipe, [*sharp, "--loss.t-branch"]))
    assert [c.loss.t_branch for c in on] == [True] * 3
    assert changed[0].data.straight_share == 1.0  # what was not named stays


def schedule_of(**settings: Any) -> Schedule:
    changes = {f"schedule.{k}": v for k, v in {"unit": "steps", "lr": 1.0, **settings}.items()}
    return Schedule(with_changes(PAPER, changes), 999)


def rates(schedule: Schedule) -> list[float]:
    return [schedule.at(step).lr(step) for step in range(schedule.steps)]


def test_the_paper_s_schedule_in_steps():
    schedule = Schedule(load_recipe("paper-gopro"), 2103)
    (span,) = schedule.stages
    assert (schedule.epoch, schedule.steps, span.halve_every) == (526, 105_200, 26_300)
    found = [span.lr(step) for step in (0, 26_299, 26_300, 105_199)]
    assert found == pytest.approx([2e-4, 2e-4, 1e-4, 2.5e-5])


def test_warm_up_rises_from_the_first_step_to_its_last():
    found = rates(schedule_of(length=6, warm_up=4, decay="none"))
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


def test_decays():
    assert rates(schedule_of(length=6, halve_every=2)) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    cosine = rates(schedule_of(length=4, decay="cosine"))
    assert cosine == pytest.approx([0.5 + 0.5 * math.cos(math.pi * k / 4) for k in range(4)])
    linear = rates(schedule_of(length=10, decay="linear", decay_from=0.6))
    assert linear == pytest.approx([1] * 6 + [1, 0.75, 0.5, 0.25])
    assert rates(schedule_of(length=3, decay="none")) == [1, 1, 1]


def test_units_and_scale():
    epochs = schedule_of(unit="epochs", length=2, halve_every=1, freeze_norm=1, warm_up=30)
    (span,) = epochs.stages
    assert epochs.epoch == 250 and epochs.steps == 500  # 999 images, 4 a step
    assert (span.halve_every, span.freeze_norm, span.warm_up) == (250, 250, 30)
    (span,) = schedule_of(length=1000, scale=0.01, halve_every=100, freeze_norm=0, warm_up=2).stages
    assert (span.stop, span.halve_every, span.freeze_norm, span.warm_up) == (10, 1, 0, 1)
    assert span.norm_is_frozen(0)
    (span,) = schedule_of(length=10, freeze_norm=4).stages
    assert [span.norm_is_frozen(step) for step in (3, 4)] == [False, True]
    assert not schedule_of(length=10).stages[0].norm_is_frozen(9)


def test_stages_in_steps(tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text(
        "batch = 2\n[schedule]\nunit = 'steps'\ndecay = 'cosine'\nlr = 1.0\nwarm_up = 2\n"
        "[[stages]]\nname = 'one'\nlength = 3\n[[stages]]\nname = 'two'\nlength = 2\nbatch = 4\n"
        "data.crop = 64\nschedule.decay = 'none'\nschedule.warm_up = 0\n"
    )
    schedule = Schedule(load_recipe(path), 10)
    assert [(s.name, s.start, s.stop, s.first_sample) for s in schedule.stages] == [
        ("one", 0, 3, 0), ("two", 3, 5, 6)]  # fmt: skip
    assert list(schedule.samples(1)) == [(0, 2, 2), (0, 4, 2), (1, 6, 4), (1, 10, 4)]
    assert rates(schedule) == pytest.approx([0.5, 0.75, 0.25, 1, 1])
    assert [schedule.at(step).name for step in (0, 2, 3, 4, 99)] == ["one"] * 2 + ["two"] * 3
    # 2 x 256^2 pixels a step before, 4 x 64^2 after: an eighth of the time.
    assert schedule.seconds_left(1, 8.0) == pytest.approx(2 * 8 + 2 * 1)
    with pytest.raises(ConfigError, match="cannot be split evenly over 4 processes"):
        schedule.check_processes(4)
    schedule.check_processes(2)
