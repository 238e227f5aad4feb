"""The page itself: what is on it, and what happens when something is pressed."""

# pyright: reportMissingImports=false
# gradio is optional: the extra "web".

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ..images.formats import SUFFIXES
from ..restoring.auto import AUTO
from ..restoring.options import Options
from ..restoring.tasks import MAX_DENOISE, ROWS
from ..system.untrusted import printable
from ..task_weights import Weights
from .compare import FITTED, FULL, view
from .session import Cancelled, Photo, Session
from .style import CSS, theme

TITLE = "DEvUDP"

INTRODUCTION = """# DEvUDP: deblur and brighten photos

Drop photos below. They are restored on this computer; nothing is uploaded. Results are saved in
**{out}**."""

TASKS = [("auto: picks the task for each photo, or leaves it alone", AUTO)] + [
    (f"{spec.word}: {spec.help}", spec.name) for spec in ROWS
]

BLEND = "0 = original, 1 = fully restored"
EXPOSURE = "0 keeps the photo's exposure, 1 corrects it"
DENOISE = "0 keeps grain, 1 = the task's default, 2 = smoothest"

CLICK = """() => setTimeout(() => {{
  const place = document.getElementById("{}");
  (place.closest("a") || place.querySelector("a, button") || place).click();
}}, 100)"""
"""Presses a hidden button once its file is there."""


EMPTY = '<p class="empty">The restored photo appears here, before | after.</p>'

SHOW_RESULT = """(...given) => {
  document.getElementById("result").scrollIntoView({block: "nearest", behavior: "smooth"});
  return given;
}"""
"""On a phone the result is below the controls."""


class Page:
    """The page and the sessions of those who have it open.

    Args:
        weights: of each task.
        out: the folder of the results.
        previews: a temporary folder.
        samples: photographs to try; may be empty.
    """

    def __init__(self, weights: Weights, out: Path, previews: Path, samples: list[Path]):
        self.weights, self.out, self.previews, self.samples = weights, out, previews, samples
        self.sessions: dict[str, Session] = {}
        self.numbers = itertools.count()

    def session(self, request: gr.Request) -> Session:
        """Returns the session of whoever asks."""
        key = str(request.session_hash)
        if key not in self.sessions:
            previews = self.previews / f"session-{next(self.numbers)}"
            self.sessions[key] = Session(self.weights, self.out, previews)
        return self.sessions[key]

    def restore(
        self,
        files: list[str] | None,
        chosen: str | None,
        task: str,
        strength: float,
        own_exposure: bool,
        exposure: float,
        denoise: float,
        size: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (the library looks for it here)
    ) -> Iterator[tuple[Any, ...]]:
        """Restores all photos; yields what the page shows: view, gallery, text, choice."""
        if not files:
            raise gr.Error("There are no photos yet. Drop some, or take a sample.", duration=8)
        session, sources = self.session(request), [Path(name) for name in files]
        wanted = None if own_exposure else exposure
        options = Options(strength=strength, exposure=wanted, denoise=denoise)
        total = len(sources)

        def report(done: float, name: str) -> None:
            progress(min(done / total, 1.0), desc=f"{min(int(done) + 1, total)} of {total}: {name}")

        text = ""
        try:
            session.restore_all(sources, task, options, report)
        except Cancelled:
            text = "Stopped. What was finished is saved.\n\n"
        photos = [session.photos[path] for path in sources if path in session.photos]
        session.listed = photos
        restored = [photo for photo in photos if photo.result]
        shown = next((p for p in restored if str(p.source) == chosen), None)
        shown = shown or (restored[0] if restored else None)
        named = [(str(photo.after), photo.source.name) for photo in restored]
        several = gr.update(value=named, visible=len(restored) > 1)
        yield self.shown(shown, size), several, text + summary(photos), name_of(shown)

    def change(
        self,
        chosen: str | None,
        task: str,
        strength: float,
        own_exposure: bool,
        exposure: float,
        denoise: float,
        size: str,
        request: gr.Request,
    ) -> tuple[Any, ...]:
        """Restores the photo that is shown with other settings; the network's output is kept."""
        session = self.session(request)
        photo = session.photos.get(Path(chosen)) if chosen else None
        if photo is None or photo.result is None:
            return gr.skip(), gr.skip()
        wanted = None if own_exposure else exposure
        options = Options(strength=strength, exposure=wanted, denoise=denoise)
        photo = session.restore(photo.source, task, options)
        return self.shown(photo, size), summary(session.listed)

    def choose(
        self, size: str, request: gr.Request, event: gr.SelectData
    ) -> tuple[str, str | None]:
        """Shows the photo that was clicked in the gallery."""
        photos = [photo for photo in self.session(request).listed if photo.result]
        photo = photos[event.index]
        return self.shown(photo, size), name_of(photo)

    def show_again(self, chosen: str | None, size: str, request: gr.Request) -> str:
        """Returns the same photo, fitted or at 100 %."""
        return self.shown(self.session(request).photos.get(Path(chosen or "")), size)

    def shown(self, photo: Photo | None, size: str) -> str:
        """Returns the view of a photo; without one, a line that says so."""
        if photo is None or photo.before is None or photo.after is None:
            return EMPTY
        return view(photo.source.name, photo.before, photo.after, size)

    def cancel(self, request: gr.Request) -> None:
        """Stops the work of a session."""
        self.session(request).cancel()

    def close(self, request: gr.Request) -> None:
        """The tab is gone: so is the work."""
        session = self.sessions.pop(str(request.session_hash), None)
        if session is not None:
            session.cancel()

    def zip_all(self, request: gr.Request) -> str:
        """Returns all results in one file."""
        try:
            return str(self.session(request).zip_all())
        except ValueError as error:
            raise gr.Error(str(error), duration=8) from error

    def one(self, chosen: str | None, request: gr.Request) -> str:
        """Returns the result that is shown."""
        photo = self.session(request).photos.get(Path(chosen or ""))
        if photo is None or photo.result is None:
            raise gr.Error("There is no result yet. Restore a photo first.", duration=8)
        return str(photo.result)


def summary(photos: list[Photo]) -> str:
    """Says what was found and done, a line for each photo, in Markdown; names are no markup."""
    lines = []
    for photo in photos:
        if photo.error:
            lines.append(f"- **{plain(photo.source.name)}**: not restored. {plain(photo.error)}")
        elif photo.result:
            reason = f": {plain(photo.reason)}" if photo.reason else ""
            lines.append(f"- **{plain(photo.source.name)}**{reason}")
    return "\n".join(lines)


def plain(text: str) -> str:
    """Text in which Markdown finds no markup."""
    return "".join(f"&#{ord(char)};" if char in "\\`*_{}[]()#+!|<>&~" else char
                   for char in printable(text).strip())  # fmt: skip


def name_of(photo: Photo | None) -> str | None:
    return None if photo is None else str(photo.source)


def make_page(page: Page) -> gr.Blocks:
    """Lays the page out."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        gr.Markdown(INTRODUCTION.format(out=plain(str(page.out))))
        chosen = gr.State(None)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                files = gr.File(
                    label="Photos",
                    file_count="multiple",
                    file_types=[*SUFFIXES],
                    height=180,
                    elem_id="photos",
                )
                if page.samples:
                    gr.Examples(
                        [[[str(path)]] for path in page.samples],
                        [files],
                        label="Samples",
                        example_labels=[path.stem.replace("_", " ") for path in page.samples],
                    )
                with gr.Row():
                    start = gr.Button("Restore", variant="primary")
                    stop = gr.Button("Cancel")
                task = gr.Radio(TASKS, value=AUTO, label="Task")
                strength = gr.Slider(0, 1, 1, step=0.05, label="Blend", info=BLEND)
                own = gr.Checkbox(True, label="The task's own exposure")
                exposure = gr.Slider(
                    0, 1, 1, step=0.05, label="Exposure", info=EXPOSURE, interactive=False
                )
                denoise = gr.Slider(0, MAX_DENOISE, 1, step=0.05, label="Denoise", info=DENOISE)
            with gr.Column(scale=3, min_width=320):
                size = gr.Radio([FITTED, FULL], value=FITTED, label="Size", container=False)
                compared = gr.HTML(EMPTY, label="Before and after", elem_id="result")
                notes = gr.Markdown(elem_classes="devudp-note")
                thumbnails = gr.Gallery(
                    label="Restored photos",
                    columns=4,
                    height="auto",
                    allow_preview=False,
                    buttons=[],
                    visible=False,
                )
                with gr.Row():
                    one = gr.Button("Download this photo")
                    download_all = gr.Button("Download all (zip)")
                one_file = gr.DownloadButton(visible="hidden", elem_id="one-file")
                every_file = gr.DownloadButton(visible="hidden", elem_id="every-file")
        controls = [task, strength, own, exposure, denoise, size]
        hidden: dict[str, Any] = {"api_visibility": "private"}
        start.click(
            page.restore,
            [files, chosen, *controls],
            [compared, thumbnails, notes, chosen],
            show_progress_on=[compared],
            js=SHOW_RESULT,
            **hidden,
        )
        stop.click(page.cancel, queue=False, **hidden)
        own.change(lambda on: gr.update(interactive=not on), own, exposure, queue=False, **hidden)
        for control in (strength, exposure, denoise):
            control.release(page.change, [chosen, *controls], [compared, notes], **hidden)
        for control in (own, task):
            control.input(page.change, [chosen, *controls], [compared, notes], **hidden)
        thumbnails.select(page.choose, [size], [compared, chosen], **hidden)
        size.input(page.show_again, [chosen, size], compared, **hidden)
        # The library's button downloads what it had before its click is answered.
        download = one.click(page.one, [chosen], one_file, **hidden)
        download.success(None, js=CLICK.format("one-file"), **hidden)
        download = download_all.click(page.zip_all, None, every_file, **hidden)
        download.success(None, js=CLICK.format("every-file"), **hidden)
        blocks.unload(page.close)
    return blocks


def launch(blocks: gr.Blocks, page: Page, **how: Any) -> None:
    """Serves the page until it is interrupted.

    Args:
        how: `server_name`, `server_port`, `inbrowser`, `auth`: as of the library.
    """
    blocks.queue(default_concurrency_limit=1).launch(
        share=False,
        quiet=True,
        show_error=True,
        footer_links=[],
        ssr_mode=False,
        css=CSS,
        theme=theme(),
        allowed_paths=[str(page.previews), str(page.out), *map(str, page.samples)],
        prevent_thread_lock=True,
        **how,
    )
