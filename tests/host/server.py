"""Starts ComfyUI with the pack in it, and talks to it as its page does."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.host.environment import ROOT, Host

Prompt = dict[str, dict[str, Any]]
"""A workflow as the server takes it: {node's number: {"class_type": ..., "inputs": ...}}."""

START_S, RUN_S, ANSWER_S = 600, 600, 300
"""Much longer than it takes: other work on the machine may hold it up."""


class RefusedError(Exception):
    """The server did not accept a prompt; `errors` is its answer."""

    def __init__(self, answer: dict[str, Any]):
        super().__init__(json.dumps(answer)[:2000])
        self.errors = answer.get("node_errors", {})


@dataclass
class Run:
    """What became of a prompt.

    Attributes:
        status: "success", "error" or "interrupted".
        error: the failed node's message.
        outputs: {node's number: {kind: [...]}}.
        cached: numbers of the nodes that did not have to run again.
        seconds: from start to end.
    """

    status: str
    error: str = ""
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Server:
    """A running ComfyUI."""

    def __init__(self, url: str, base: Path, log: Path, pid: int):
        self.url, self.base, self.log, self.pid = url, base, log, pid

    def get(self, path: str) -> Any:
        """The JSON behind a path."""
        return json.loads(self.download(path))

    def download(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=ANSWER_S) as answer:
            return answer.read()

    def post(self, path: str, content: Any) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def submit(self, prompt: Prompt) -> str:
        """Queues a prompt and returns its id.

        Raises:
            RefusedError: any part of it was refused (the server itself would run the rest).
        """
        try:
            answer = self.post("/prompt", {"prompt": prompt, "client_id": "tests"})
        except urllib.error.HTTPError as error:
            raise RefusedError(json.loads(error.read())) from None
        if answer.get("node_errors"):
            raise RefusedError(answer)
        return answer["prompt_id"]

    def wait(self, prompt_id: str) -> Run:
        """Waits until a prompt is through."""
        end = time.monotonic() + RUN_S
        while time.monotonic() < end:
            history = self.get(f"/history/{prompt_id}").get(prompt_id)
            if history:
                return read_history(history)
            time.sleep(0.05)
        raise TimeoutError(f"prompt not done after {RUN_S} s; the server's log is {self.log}")

    def run(self, prompt: Prompt) -> Run:
        """Queues a prompt and waits for it."""
        return self.wait(self.submit(prompt))

    def images(self, run: Run, node: str) -> list[np.ndarray]:
        """The images that an output node saved: H,W,C uint8."""
        return [
            np.asarray(Image.open(io.BytesIO(self.file(described))))
            for described in run.outputs[node]["images"]
        ]

    def file(self, described: dict[str, str]) -> bytes:
        return self.download("/view?" + urllib.parse.urlencode(described))

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def read_history(history: dict[str, Any]) -> Run:
    messages = dict(history["status"]["messages"])
    run = Run(history["status"]["status_str"], outputs=history["outputs"])
    run.cached = messages.get("execution_cached", {}).get("nodes", [])
    times = [message["timestamp"] for message in messages.values() if "timestamp" in message]
    run.seconds = (max(times) - min(times)) / 1000 if times else 0.0
    if "execution_interrupted" in messages:
        run.status = "interrupted"
    if "execution_error" in messages:
        run.error = messages["execution_error"]["exception_message"]
    return run


def packed_files() -> list[Path]:
    """What the registry's archive holds: git's files without those of .comfyignore."""
    if not (ROOT / ".git").exists():
        left_out = {".cache", ".ci", ".github", ".venv", "__pycache__"}
        left_out |= {"benchmarks", "tests", "training"}
        files = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        return [path for path in files if not left_out & set(path.parts)]
    ignored = git("ls-files", "-c", "-i", "--exclude-from=.comfyignore")
    files = set(git("ls-files", "-c", "-o", "--exclude-standard")) - set(ignored)
    untracked_but_ignored = git("ls-files", "-o", "-i", "--exclude-from=.comfyignore")
    names = sorted(files - set(untracked_but_ignored))
    return [Path(name) for name in names if (ROOT / name).is_file()]


def git(*arguments: str) -> list[str]:
    command = ["git", "-c", "core.quotepath=off", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def install_pack(folder: Path) -> None:
    """Copies the pack, as the registry would unpack it, into `folder`."""
    for path in packed_files():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target)


def make_base(base: Path) -> None:
    """The folders that a ComfyUI keeps its things in."""
    for name in ("custom_nodes", "input", "output", "temp", "user", "models/devudp"):
        (base / name).mkdir(parents=True, exist_ok=True)


@contextmanager
def serve(host: Host, base: Path, arguments: Iterable[str] = ()) -> Iterator[Server]:
    """Runs ComfyUI on a free loopback port for as long as the block lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = base / "server.log"
    command = [
        str(host.python), "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port),
        "--disable-auto-launch", "--base-directory", str(base),
        "--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}", *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)  # the pack must not be found by any way but the host's
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=host.tree, stdout=stream, stderr=stream, env=environment
        )
    server = Server(f"http://127.0.0.1:{port}", base, log, process.pid)
    try:
        wait_until_up(server, process)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_up(server: Server, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"ComfyUI ended while starting:\n{server.log_text()[-4000:]}")
        try:
            server.get("/system_stats")
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"ComfyUI not up after {START_S} s:\n{server.log_text()[-4000:]}")
