"""Tells publish.yml what it has to know, and writes what it has to write.

python .github/scripts/release.py check refs/tags/v1.2.3
python .github/scripts/release.py address https://github.com owner/name COMMIT
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
TAG = "refs/tags/v"


def version() -> str:
    """The project's version."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]["version"]


def check(ref: str) -> None:
    """Ends with an error unless `ref` is the tag of the version, and the changelog has it."""
    expected = f"{TAG}{version()}"
    if ref != expected:
        sys.exit(
            f"This run is for {ref}, but pyproject.toml has version {version()}: only {expected} "
            "is published. Tag the commit that has the version, or choose that tag."
        )
    heading = f"## {version()} ("
    if heading not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        sys.exit(f"CHANGELOG.md has no heading '{heading}YYYY-MM-DD)' yet.")


def with_address(text: str, server: str, repository: str, commit: str) -> str:
    """pyproject.toml's text as the registry wants it.

    Paths of images become addresses (of this very commit), and [project.urls] names the repository.
    Not kept in the file, since a fork has other addresses.
    """
    raw = f"https://raw.githubusercontent.com/{repository}/{commit}"
    text = text.replace('= "assets/', f'= "{raw}/assets/')
    if "[project.urls]" in text:
        return text
    home = f"{server}/{repository}"
    urls = {
        "Repository": home,
        "Documentation": f"{home}#readme",
        "Changelog": f"{home}/blob/main/CHANGELOG.md",
        "Bug Tracker": f"{home}/issues",
    }
    lines = [f'"{name}" = "{url}"' for name, url in urls.items()]
    return "\n".join([text.rstrip("\n"), "", "[project.urls]", *lines, ""])


def main(command: str, *arguments: str) -> None:
    if command == "check":
        check(*arguments)
        return
    path = ROOT / "pyproject.toml"
    path.write_text(with_address(path.read_text(encoding="utf-8"), *arguments), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
