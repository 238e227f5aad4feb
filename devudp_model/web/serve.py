"""`devudp web`: starts the page and opens it in the browser."""

from __future__ import annotations

import argparse
import getpass
import logging
import os
import sys
import tempfile
from pathlib import Path

PASSWORD = "DEVUDP_PASSWORD"
"""The environment variable with the password for others in the network."""

USER = "devudp"
"""The name to log in with, beside the password."""

LOOPBACK = "127.0.0.1"

FIRST_TASK = "joint"
"""Of those that a checkpoint given by name is for, which are all."""


def serve(args: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C; returns the exit status.

    Raises:
        ValueError: the extra "web" is not installed, or there is no password for others.
        CheckpointError: the file of weights cannot be used.
        OSError: the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from .page import Page, launch, make_page
    except ImportError as error:
        raise ValueError(
            f"The page needs gradio ({error}). Install it with pip install 'devudp[web]', in a "
            "clone pip install '.[web]'."
        ) from error
    from PIL import Image

    from ..task_weights import weights_of

    Image.MAX_IMAGE_PIXELS = None  # as in `devudp restore`: the memory is the limit
    auth = None if args.listen is None else (USER, read_password())
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of each request
    with tempfile.TemporaryDirectory(prefix="devudp-web-") as folder:
        os.environ.setdefault("GRADIO_TEMP_DIR", str(Path(folder) / "given"))
        weights = weights_of(args.checkpoint, args.device)
        if args.checkpoint:
            weights(FIRST_TASK)  # what is wrong with a file shows at once
        page = Page(weights, args.out.resolve(), Path(folder) / "previews", samples())
        blocks = make_page(page)
        where = {"server_name": args.listen or LOOPBACK, "server_port": args.port}
        try:
            launch(blocks, page, auth=auth, inbrowser=not args.no_browser, **where)
        except OSError as error:
            if args.port is None or "empty port" not in str(error):
                raise
            raise OSError(
                f"port {args.port} is taken, perhaps by a page that still runs. Choose another "
                "with --port, or leave it out."
            ) from error
        print(f"The page is at {blocks.local_url} (stop it with Ctrl-C).", flush=True)
        try:
            blocks.block_thread()
        finally:
            for session in page.sessions.values():
                session.cancel()
    return 0


def read_password() -> str:
    """Returns the password of a page that others can reach: from the environment, or typed.

    Raises:
        ValueError: there is none.
    """
    password = os.environ.get(PASSWORD, "")
    if not password and sys.stdin.isatty():
        password = getpass.getpass("A password for the page: ")
    if not password:
        raise ValueError(
            f"With --listen, others in the network can reach the page, so it needs a password. Put "
            f"one into the environment variable {PASSWORD}, or leave --listen out."
        )
    return password


def samples() -> list[Path]:
    """Returns the sample images, of an installed package or a clone."""
    package = Path(__file__).parents[1]
    for folder in (package / "samples", package.parent / "samples"):
        found = sorted(folder.glob("*.jpg"))
        if found:
            return found
    return []
