"""Does the page's work without the page: photographs in, results and previews out.

It restores by the same steps as `devudp restore`, so a result has the same bytes. The network's
outputs are kept for the photographs looked at last: changing strength, exposure or denoise does not
run it again.
"""

from __future__ import annotations

import logging
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..batch.plan import Job, find_images, jobs_for
from ..batch.restore_files import ImageFiles
from ..engine.output_cache import OutputCache
from ..images.raster import RasterImage
from ..images.writing import to_pillow
from ..restorer import Restorer
from ..restoring.facts import Model, generator_of
from ..restoring.options import Options
from ..restoring.progress import ImageProgress
from ..restoring.restoration import make_network
from ..restoring.tasks import Task
from ..system.thread_logging import HeldRecords
from ..system.untrusted import printable
from ..task_weights import Weights

log = logging.getLogger("devudp")

CACHED_PHOTOS = 4
"""So many photographs keep the network's outputs, those looked at last."""

CACHE_BYTES = 256 * 2**20
"""Of each of them: some 20 megapixels."""

PREVIEW = {"quality": 95, "subsampling": 0}
"""How the page's own copies are encoded, as JPEG."""


class Cancelled(Exception):
    """The user does not want the result any more, or has closed the page."""


@dataclass
class Photo:
    """A photograph of this session.

    Attributes:
        source: the file.
        result: the restored file; None before, and where `error` says why there is none.
        before, after: what the page shows, JPEG files of the full size.
        reason: what `auto` found and did, and what is converted, lost or damaged.
        ran: how many outputs of the network are new; 0 where all were kept.
    """

    source: Path
    result: Path | None = None
    before: Path | None = None
    after: Path | None = None
    reason: str = ""
    error: str = ""
    ran: int = 0


class Session:
    """Holds what one open page works on.

    Args:
        weights: of each task.
        out: the folder of the results; files of other sessions are not replaced.
        previews: a temporary folder.

    Attributes:
        photos: by their file.
        listed: those that the page lists: of the last time that photographs were given.
    """

    def __init__(self, weights: Weights, out: Path, previews: Path):
        self.weights, self.out, self.previews = weights, out, previews
        self.photos: dict[Path, Photo] = {}
        self.listed: list[Photo] = []
        self.caches: OrderedDict[Path, OutputCache] = OrderedDict()
        self.working = threading.Lock()
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        """Stops the work; files that are written stay."""
        self.cancelled.set()

    def restore_all(
        self,
        sources: Iterable[Path],
        task: Task,
        options: Options,
        report: Callable[[float, str], None] = lambda done, name: None,
    ) -> list[Photo]:
        """Restores photographs one after the other; one that fails does not stop the others.

        Args:
            task, options: as of `Restorer`.
            report: gets the number of photographs done, with a fraction, and the name of the next.

        Raises:
            Cancelled: `cancel` was called; what is done is in `photos`.
        """
        self.cancelled.clear()
        done = []
        for number, source in enumerate(dict.fromkeys(sources)):

            def report_image(images: float, number: int = number, name: str = source.name) -> None:
                if self.cancelled.is_set():
                    raise Cancelled
                report(number + min(images, 1.0), name)

            report_image(0.0)
            done.append(self.restore(source, task, options, report_image))
        return done

    def restore(
        self,
        source: Path,
        task: Task,
        options: Options,
        report: Callable[[float], None] = lambda done: None,
    ) -> Photo:
        """Restores one photograph; what is wrong with it is its `error`.

        Args:
            task, options: as of `Restorer`.
            report: gets how much of it is done, 0 to 1; what it raises goes through.
        """
        with self.working:  # also while a control is moved: two would take the same name
            return self.restore_alone(source, task, options, report)

    def restore_alone(
        self, source: Path, task: Task, options: Options, report: Callable[[float], None]
    ) -> Photo:
        """Does the work of `restore`."""
        photo = self.photos.setdefault(source, Photo(source))
        photo.error, photo.reason = "", ""
        cache = self.cache_of(source)
        kept = len(cache.outputs)

        def cached_weights(task: Task) -> Model:
            """Returns a network that does not run where its output is kept."""
            generator = generator_of(self.weights(task))
            return cache.network(generator, make_network(generator, "auto").dtype)

        restorer = Restorer(cached_weights, task, options)
        files = ImageFiles(restorer, overwrite=photo.result is not None)
        said: list[str] = []
        try:
            job = self.job_for(photo)
            with told_to(said):
                image = files.read(job, lambda size: None)
                assert image is not None
                result, _ = files.work(job, image, ImageProgress(report))
                files.write(job, result)
            photo.before = photo.before or self.preview(source, image, "before")
            photo.after = self.preview(source, result.restored, "after")
        except (ValueError, OSError, MemoryError, FloatingPointError) as error:
            photo.error = printable(named(error, source)) or type(error).__name__
            return photo
        texts = (text.removeprefix(f"{job.target}: ").replace(str(source), "It") for text in said)
        sentences = (f"{text[:1].upper()}{text[1:]}" for text in texts)
        photo.reason = " ".join(filter(None, (restorer.reason, *sentences)))
        photo.result, photo.ran = job.target, len(cache.outputs) - kept
        return photo

    def cache_of(self, source: Path) -> OutputCache:
        """The outputs for a photograph; those of the ones looked at before the last few go."""
        cache = self.caches.pop(source, None) or OutputCache(CACHE_BYTES)
        self.caches[source] = cache
        while len(self.caches) > CACHED_PHOTOS:
            self.caches.popitem(last=False)
        return cache

    def job_for(self, photo: Photo) -> Job:
        """The job of `devudp restore` for a photograph; its name with a number if it is taken.

        Raises:
            ValueError: it is no image.
        """
        found, _ = find_images([photo.source], self.out)
        jobs, problems = jobs_for(found, self.out)
        if not jobs:
            raise ValueError(next(iter(problems.values()), "It is no image."))
        if photo.result:
            return replace(jobs[0], target=photo.result)
        first = jobs[0].target
        taken = {other.result for other in self.photos.values()}
        names = (first.name, *(f"{first.stem} ({n}){first.suffix}" for n in range(2, 10000)))
        for target in map(self.out.joinpath, names):
            if target not in taken and not target.exists():
                return replace(jobs[0], target=target)
        raise OSError(f"{self.out} has 10,000 files named {first.name}: choose another with --out")

    def preview(self, source: Path, image: RasterImage, kind: str) -> Path:
        """Returns a JPEG of an image for the page, under a name that no other image has."""
        number = list(self.photos).index(source)
        target = self.previews / f"{number}-{kind}-{threading.get_ident()}.jpg"
        self.previews.mkdir(parents=True, exist_ok=True)
        shown = to_pillow(replace(image, alpha=None)).convert("RGB")
        shown.save(target, "jpeg", **PREVIEW)
        return target

    def zip_all(self) -> Path:
        """Returns all results in one file.

        Raises:
            ValueError: there are none.
        """
        results = [photo.result for photo in self.photos.values() if photo.result]
        if not results:
            raise ValueError("There are no results yet. Restore a photo first.")
        target = self.previews / "restored.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:  # they are compressed
            for path in results:
                archive.write(path, path.name)
        return target


@contextmanager
def told_to(said: list[str]) -> Iterator[None]:
    """Adds to `said` what this thread warns of within the block, besides logging it."""

    def take(record: logging.LogRecord) -> None:
        held.emit(record)
        if record.levelno >= logging.WARNING:
            said.append(record.getMessage())

    with HeldRecords(log) as held, held.going_to(take):
        yield


def named(error: Exception, source: Path) -> str:
    """Returns an error's text with the photograph's name, not the place of the page's copy."""
    text = str(error)
    if text.startswith(f"{source} "):
        return f"It {text.removeprefix(f'{source} ')}"
    return text.replace(str(source), source.name)
