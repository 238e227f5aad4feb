"""Finds a Chromium and lets `page.py` look at a running ComfyUI with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from tests.host.environment import CACHE, HERE, Host
from tests.host.server import Server

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """The program, after trying to install Debian's where that is possible (root, apt-get)."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found or not shutil.which("apt-get") or os.name == "nt" or os.geteuid() != 0:
        return found
    with FileLock(CACHE / "apt.lock"):
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "--no-install-recommends", "chromium", "fonts-noto-core"],
        ):
            subprocess.run(command, capture_output=True, timeout=600, check=False)
    return next(filter(None, map(shutil.which, NAMES)), None)


def look(
    host: Host,
    server: Server,
    chromium: str,
    out: Path,
    workflows: Sequence[Path],
    *,
    run: bool = True,
    help: Sequence[str] = (),
    locale: str = "en",
    size: tuple[int, int] = (1600, 1000),
    scale: float = 1,
    palette: str = "dark",
    nodes2: bool = False,
    tabs: Sequence[str] = (),
    search: Sequence[str] = (),
    filtered: str = "",
    cancel: Path | None = None,
    reload: Path | None = None,
) -> dict[str, Any]:
    """Opens workflows (and the help of nodes) in the page; screenshots go to `out`.

    Args:
        scale: pixels of the screenshots for one of the page.
        palette: "dark" or "light".
        nodes2: draw nodes as Nodes 2.0 does.
        tabs: two of the workflows; the second's tab is left for the first's, and opened again.
        search: words to look for in the node search.
        filtered: a filter of the search, with which all words are looked for once more.
        cancel: a workflow to stop as soon as it shows a preview.
        reload: a workflow to run before and after the page is loaded anew.
    """
    out.mkdir(parents=True, exist_ok=True)
    request = {
        "url": server.url,
        "chromium": chromium,
        "out": str(out),
        "workflows": [str(path) for path in workflows],
        "run": run,
        "help": list(help),
        "locale": locale,
        "width": size[0],
        "height": size[1],
        "scale": scale,
        "palette": palette,
        "nodes2": nodes2,
        "tabs": list(tabs),
        "search": list(search),
        "filtered": filtered,
        "cancel": str(cancel or ""),
        "reload": str(reload or ""),
    }
    done = subprocess.run(
        [str(host.python), str(HERE / "page.py")],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the browser's script failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout)
