"""Fills the tables of README and model card from one file of results.

    devudp-evaluate --task joint deblur low-light --gamma 0 ... --summary docs/results.json
    python -m tools.publish              # in a clone, from its root
    python -m tools.publish --check      # status 1 if a table is not current

A table stands between two comments, and NAME is one of `TABLES`:

    <!-- results:NAME -->
    <!-- /results -->
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from training.evaluation.tables import DECIMALS, METRICS, number

RESULTS = Path("docs/results.json")
DOCUMENTS = (Path("README.md"), Path("devudp_model/weights/README.md"))

BLOCK = re.compile(r"(<!-- results:(?P<name>[\w-]+) -->\n).*?(<!-- /results -->)", re.DOTALL)
OPENING = re.compile(r"<!-- results:")

NOTES = {
    "psnr": "PSNR over all values.",
    "ssim": "SSIM by an 11x11 Gaussian window, of each channel, without borders.",
    "mae": "MAE of 255.",
    "lpips": "LPIPS 0.1 with AlexNet.",
}
"""How each metric is measured; see `protocols.py`."""

LARGER_IS_BETTER = {"psnr": True, "ssim": True, "mae": False, "lpips": False}

Content = Mapping[str, Any]
"""What `devudp-evaluate --summary` wrote."""


def noted_table(content: Content, metrics: Sequence[str]) -> str:
    """`means_table`, and below it how the means were measured.

    Raises:
        ValueError: not by the paper's protocol, whose numbers these tables are.
    """
    protocol = content.get("protocol", {"name": "paper"})["name"]
    if protocol != "paper":
        raise ValueError(f"the results are by the protocol {protocol}, and not by the paper's")
    note = " ".join(NOTES[metric] for metric in metrics)
    return f"{means_table(content, metrics)}\n8-bit RGB, nothing cropped or aligned. {note}\n"


def means_table(content: Content, metrics: Sequence[str]) -> str:
    """Sets as rows, methods as columns; in bold what is best in its row by all `metrics`."""
    results: dict[str, dict[str, Content]] = {}
    for result in content["results"]:
        results.setdefault(result["set"], {})[result["method"]] = result
    methods = list(dict.fromkeys(result["method"] for result in content["results"]))
    lines = [f"| set | n | {' | '.join(methods)} |", "|---" * (len(methods) + 2) + "|"]
    for name, row in results.items():
        cells = [cell(row[m], list(row.values()), metrics) if m in row else "" for m in methods]
        count = next(iter(row.values()))["n"]
        lines.append(f"| {name} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(result: Content, row: Sequence[Content], metrics: Sequence[str]) -> str:
    """Returns a result's means, in bold if no other result of its row is better in any of them.

    An unknown or infinite mean in the row (equal images) leaves all of it plain.
    """

    def rounded(of: Content, metric: str) -> float | None:
        value = of["mean"][metric]
        return None if value is None else round(value, DECIMALS[metric])

    def is_best(metric: str) -> bool:
        known = [v for other in row if (v := rounded(other, metric)) is not None]
        best = max if LARGER_IS_BETTER[metric] else min
        return len(known) == len(row) and rounded(result, metric) == best(known)

    text = " / ".join(number(result["mean"][metric], metric) or "-" for metric in metrics)
    return f"**{text}**" if all(map(is_best, metrics)) else text


def weights_table(content: Content) -> str:
    """Returns the checkpoints with the tasks that used them, and their SHA-256."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for task, file in content["weights"].items():
        tasks.setdefault((file["file"], file["sha256"]), []).append(task)
    lines = ["| checkpoint | tasks | SHA-256 |", "|---|---|---|"]
    for (file, sha256), words in tasks.items():
        lines.append(f"| {file} | {', '.join(f'`{word}`' for word in words)} | `{sha256}` |")
    return "\n".join(lines) + "\n"


TABLES: dict[str, Callable[[Content], str]] = {
    "all": partial(noted_table, metrics=METRICS),
    **{metric: partial(noted_table, metrics=[metric]) for metric in METRICS},
    "weights": weights_table,
}
"""By NAME: all four means in a cell (PSNR / SSIM / MAE / LPIPS), one of them, or checkpoints."""


def fill(text: str, content: Content) -> str:
    """`text` with each of its marked tables regenerated.

    Raises:
        ValueError: an unknown name, or a comment without its closing one.
    """

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in TABLES:
            raise ValueError(f"no table {name!r}: known are {', '.join(TABLES)}")
        return match[1] + TABLES[name](content) + match[3]

    if len(OPENING.findall(text)) != len(BLOCK.findall(text)):
        raise ValueError("a line '<!-- results:NAME -->' has no '<!-- /results -->' after it")
    return BLOCK.sub(table, text)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    Raises:
        SystemExit: with a message if results or tables are wrong, or --check finds an old table.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="change nothing, see above")
    options = parser.parse_args(arguments)
    for path in DOCUMENTS:
        try:
            old = path.read_text(encoding="utf-8")
            new = fill(old, json.loads(RESULTS.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError) as error:
            raise SystemExit(f"Error: {path}: {error}") from error
        if new != old and options.check:
            raise SystemExit(f"{path} is not current: run python -m tools.publish")
        if new != old:
            path.write_text(new, encoding="utf-8", newline="\n")
            sys.stdout.write(f"{path}: tables replaced\n")


if __name__ == "__main__":
    main()
