"""Predictions of many pictures that may be stopped at any moment and gone on with."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from striate.api.inputs import Pictures
from striate.api.prediction_journal import Journal, Mark, Progress, journal_of, partial_of
from striate.api.prediction_output import Output
from striate.errors import DataError, DiskFull, Interrupted, ModelError, UsageError
from striate.files import sha256_of, write_error
from striate.modelfile import card_text
from striate.runtime.predictor import Predictor
from striate.training.interruption import Stop, catch_signals
from striate.training.lock import locked

__all__ = ["JobDone", "PredictionJob", "Watcher", "hashes_of", "job_header"]

_JOURNAL_VERSION = 1
_SYNC_SECONDS = 5.0  # how much work a power cut may cost


class Watcher(Protocol):
    """Is told how a job goes."""

    def failed(self, key: str, error: DataError | ModelError) -> None:
        """The picture `key` has no result. What this raises ends the job."""
        ...

    def advanced(self, done: int, total: int) -> None:
        """So many of the pictures are done, failed ones too."""
        ...


class JobDone(NamedTuple):
    """What came of a job."""

    worked: int  # pictures with a result, those of before included
    failed: int  # pictures without
    before: int = 0  # those with a result when it was gone on with
    was_complete: bool = False  # nothing was left to do


@dataclass(frozen=True, slots=True)
class PredictionJob:
    """The results of `pictures`, each written exactly once however often the job is stopped and gone on with.

    `output` is called when its place is known to be free. Beside `out` lies a journal until all is done.
    `header` holds what decides the results (`job_header`): only a job with the same is gone on with. Without
    `out`, as for stdout, nothing stays to go on with. `way_on` says what to do after a stop.
    """

    pictures: Pictures
    output: Callable[[], Output]
    out: Path | None = None
    header: Mapping[str, Any] = field(default_factory=dict)
    way_on: str = "run it again"

    def run(self, predictor: Predictor, watcher: Watcher, batch_size: int | None = None) -> JobDone:
        """Do all of it. Raises UsageError where the place is taken, Interrupted after Ctrl-C and SIGTERM.

        The second Ctrl-C raises KeyboardInterrupt at once. A ModelError about the first pictures of all is
        raised: it is about the model. Raises DiskFull, EnvironmentProblem where nothing can be written.
        """
        if self.out is None:
            return self._finished(_Run(self, predictor, watcher, batch_size, self.output()))
        with self._place(self.out):
            self._refuse_begun(self.out)
            output = self.output()
            with closing(Journal.begin(journal_of(self.out), self.header)) as journal:
                return self._finished(_Run(self, predictor, watcher, batch_size, output, journal))

    def resume(self, predictor: Predictor, watcher: Watcher, batch_size: int | None = None) -> JobDone:
        """Do what is left of a job that was stopped; pictures that failed are tried again.

        Raises UsageError where there is nothing to go on with, or another job; else as `run`.
        """
        if self.out is None:
            raise UsageError("--resume", "what was printed cannot be gone on with", "name a place: --out")
        with self._place(self.out):
            if not journal_of(self.out).exists():
                return self._nothing_left(self.out)
            output = self.output()
            journal, progress = Journal.go_on(journal_of(self.out), self.header, output.partial)
            with closing(journal):
                return self._finished(_Run(self, predictor, watcher, batch_size, output, journal, progress))

    def _finished(self, run: "_Run") -> JobDone:
        before, was_complete = run.progress.worked, run.progress.is_complete
        if not was_complete:
            try:
                self._work(run)
            except Exception as error:
                if not run.progress.worked and not isinstance(error, Interrupted | DiskFull):
                    run.forget()  # nothing is worth going on with
                raise
        run.output.finish()
        if run.journal is not None:
            run.journal.path.unlink()
        return JobDone(run.progress.worked, len(run.progress.failed), before, was_complete)

    def _work(self, run: "_Run") -> None:
        try:
            with closing(run.output), catch_signals() as stop:
                run.output.open(run.progress.mark)
                run.work(stop)
        except DiskFull as error:
            raise DiskFull(error.where, error.what, f"free some room; {self.way_on}") from error

    def _place(self, out: Path) -> AbstractContextManager[None]:
        """The folder of `out`, in which nobody else writes that meanwhile."""
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(out, error) from error
        return locked(out.parent, f".{out.name}.lock")

    def _refuse_begun(self, out: Path) -> None:
        begun = [path for path in (journal_of(out), partial_of(out)) if path.exists()]
        if begun:
            # Without its journal nobody knows what the rows are.
            way_on = "go on with it: --resume, or " if journal_of(out) in begun else ""
            removed = " and ".join(map(str, begun))
            raise UsageError(f"--out {out}", "a stopped job is waiting there", f"{way_on}remove {removed}")

    def _nothing_left(self, out: Path) -> JobDone:
        """What to say where no journal is: the job is complete, or there never was one."""
        if partial_of(out).exists():
            raise UsageError(
                "--resume", f"{partial_of(out)} has lost its journal", "remove it, and leave out --resume"
            )
        is_there = any(out.iterdir()) if out.is_dir() else out.exists()
        if not is_there:
            raise UsageError("--resume", f"{out} was never begun", "leave out --resume")
        return JobDone(len(self.pictures), 0, len(self.pictures), was_complete=True)


@dataclass(slots=True)
class _Run:
    """One process at a job."""

    job: PredictionJob
    predictor: Predictor
    watcher: Watcher
    batch_size: int | None
    output: Output
    journal: Journal | None = None
    progress: Progress = field(default_factory=Progress)
    _synced: float = field(default_factory=time.monotonic, init=False)

    def work(self, stop: Stop) -> None:
        """Try what failed, then what nobody tried."""
        total, begin = len(self.job.pictures), self.progress.next
        # The same pictures go together as if nobody had disturbed: neighbours may change the last bit.
        aligned = begin - begin % (self.batch_size or 1)
        self._try(sorted(self.progress.failed), 0, stop)
        self._try(range(aligned, total), begin, stop)
        if self.journal is not None:
            self.output.sync()
            self.journal.complete()

    def forget(self) -> None:
        """Leave the place as if the job had not begun."""
        begun = [self.output.partial, None if self.journal is None else self.journal.path]
        for path in begun:
            if path is not None:
                path.unlink(missing_ok=True)

    def _try(self, numbers: Sequence[int], begin: int, stop: Stop) -> None:
        """Write the results of the pictures `numbers`, but for those before `begin`."""
        order = iter(numbers)

        def failed(key: str, error: DataError | ModelError) -> None:
            if isinstance(error, ModelError) and not self.progress.worked:
                raise error
            if (number := next(order)) >= begin:
                self.watcher.failed(key, error)
                self._note(number, None, stop)

        pictures = self.job.pictures.of(numbers)
        with closing(self.predictor.stream(pictures, self.batch_size, on_error=failed)) as results:
            for result in results:
                if (number := next(order)) >= begin:
                    self._note(number, self.output.write(result), stop)

    def _note(self, number: int, mark: Mark | None, stop: Stop) -> None:
        """Picture `number` is done, and its rows end at `mark`; None: it failed. Raises Interrupted."""
        self.progress.add(number, mark)
        if self.journal is not None:
            self.journal.add(number, mark)
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                self.output.sync()  # before the journal, which must not promise what is not there
                self.journal.sync()
                self._synced = time.monotonic()
        self.watcher.advanced(self.progress.next, len(self.job.pictures))
        if stop:
            raise self._interrupted(stop)

    def _interrupted(self, stop: Stop) -> Interrupted:
        done, total = self.progress.next, len(self.job.pictures)
        return Interrupted(
            self.job.out or "predict",
            f"stopped by {stop.reason} when {done:,} of {total:,} pictures were done",
            self.job.way_on,
            stop.exit_code,
        )


def hashes_of(model: Path) -> list[str]:
    """SHA-256 of the files that `model` consists of."""
    files = [model, *[path for path in [model.with_suffix(".bin")] if model.suffix == ".xml"]]
    return [sha256_of(file) for file in files]


def job_header(
    hashes: Sequence[str], predictor: Predictor, pictures: Pictures, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What decides the results of a job, but for rounding: the hashes of the model's files and its card, the
    pictures' names and `options`, what was asked of how to look and what to write."""
    return {
        "journal": _JOURNAL_VERSION,
        "model": _digest([*hashes, card_text(predictor.card)]),
        "pictures": len(pictures),
        "list of pictures": _digest(key for key, _, _ in pictures.places),
        **options,
    }


def _digest(texts: Iterable[str]) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode("utf-8", "surrogateescape") + b"\0")
    return found.hexdigest()
