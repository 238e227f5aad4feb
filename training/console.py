"""Serves all of the training's command lines: help, and lines on standard output."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from devudp_model.system.terminal import drop_output

logger = logging.getLogger("devudp")

HELP = ("-h", "--help")

NAMED = {
    "RECIPE": "a shipped recipe or a .toml file",
    "RUN": "a run's folder, or the file of one of its states",
}
"""What has settings, and its line of help."""


class Lines(logging.StreamHandler):
    """To standard output, for as long as somebody reads it; a training goes on without."""

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            drop_output()
        else:
            super().handleError(record)


def log_lines() -> None:
    """Logs lines to standard output; of other libraries warnings only."""
    handlers = [Lines(sys.stdout)]
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=handlers)
    logger.setLevel(logging.INFO)


@contextmanager
def showing_help() -> Iterator[None]:
    """Whoever reads the help may stop in the middle of it, such as `head`."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
        raise SystemExit(0) from None


def help_in(docstring: str | None) -> tuple[str, str, str]:
    """Returns a command's name, description and examples, as its module's docstring has them."""
    first, examples, more = str(docstring).split("\n\n", 2)
    program, _, what = first.partition(": ")
    return program, f"{what[0].upper()}{what[1:]}\n\n{more.strip()}", examples


def plain_parser(docstring: str | None) -> argparse.ArgumentParser:
    """Returns the parser of a command without settings; see `help_in`."""
    program, description, examples = help_in(docstring)
    raw, epilog = argparse.RawDescriptionHelpFormatter, f"examples:\n{examples}"
    return argparse.ArgumentParser(program, None, description, epilog, formatter_class=raw)


def make_parser(
    program: str, named: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Returns the parser of a command that takes settings besides its own options.

    Args:
        program: its name.
        named: what comes first and has settings, a key of `NAMED`.
        description: one or two sentences.
        examples: lines of a shell.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} {named} [OPTIONS] [--section.field VALUE ...]",
        description=description,
        epilog=f"Settings, --section.field VALUE: {program} {named} --help lists them all.\n\n"
        f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    shown = f"show this help; after a {named}, every setting, too"
    parser.add_argument(named.lower(), metavar=named, help=NAMED[named])
    parser.add_argument("-h", "--help", action="store_true", help=shown)
    return parser


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
    """Returns the command's own options, and what is left for the settings.

    If help is asked for, shows the command's own, and leaves --help to the settings.

    Raises:
        SystemExit: help is shown, and there is nothing that has settings; a wrong command line.
    """
    asked = not set(HELP).isdisjoint(arguments)
    if asked:
        with showing_help():
            parser.print_help()
            if arguments[0].startswith("-"):
                raise SystemExit(0)
            print()
    known, rest = parser.parse_known_args(arguments)
    return known, [*rest, "--help"] if asked else rest
