"""docs/training.md: its tables are current, and what it shows exists."""

import re
import shlex

from tests.training.training_run import ROOT
from tools import make_settings
from training.config import Config
from training.config.check import settings_of
from training.config.recipes import load_recipe, named_settings, recipe_names
from training.evaluation.arguments import make_parser
from training.train import COMMANDS

PAGE = (ROOT / "docs/training.md").read_text(encoding="utf-8")


def test_the_tables_of_settings_are_current():
    assert make_settings.page() == PAGE, "run python -m tools.make_settings"


def test_every_setting_is_explained():
    for name, _ in settings_of(Config()):
        row = next(line for line in PAGE.splitlines() if f"`--{name.replace('_', '-')}`" in line
                   and line.startswith("| "))  # fmt: skip
        assert len(row.split("|")[-2].strip()) > 10, name


def commands(program: str) -> list[list[str]]:
    """The commands of a program in the page's code blocks, without comments."""
    code = "\n".join(re.findall(r"```\w*\n(.*?)```", PAGE, re.S)).replace("\\\n", " ")
    lines = [line.strip() for line in code.splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if line.startswith(program)]
    assert found
    return found


def test_its_training_commands_name_what_exists():
    known = {name for name, _ in settings_of(Config())}
    own = {"out", "sheet", "manifest", "write_manifest", "sources", "onnx", "images"}
    own.add("speed.compile")
    for command in commands("devudp-train"):
        word = command[1]
        assert word in COMMANDS or word in recipe_names(), command
        assert named_settings(command) <= known | own, command


def test_its_evaluation_commands_are_accepted():
    for command in commands("devudp-evaluate"):
        make_parser().parse_args(command[1:])


def test_every_recipe_is_listed():
    for name in recipe_names():
        assert f"`{name}`" in PAGE and load_recipe(name)


def test_one_word_for_one_thing():
    words = re.findall(r"\b(picture|pictures|spread|extent|again)\b", PAGE, re.IGNORECASE)
    assert not words
