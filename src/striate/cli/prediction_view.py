"""How predicting shows itself on stderr: pictures that fail, a bar with its speed, and what came of it."""

from pathlib import Path
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from striate.api.inputs import Pictures
from striate.api.prediction_job import JobDone
from striate.api.shards import Shard
from striate.cli.terminal import is_first_process, message_console
from striate.errors import DataError, ModelError

__all__ = ["PredictionView"]


class PredictionView:
    """A bar on a terminal while results go to `out`; silence where the results themselves show it.

    Of a job in shards each process tells of its own pictures, and the first has the bar.
    """

    def __init__(self, out: Path | None, total: int, shard: Shard | None) -> None:
        self.console = message_console(from_all=True)
        self._out = out
        self._total = total
        self._shard = shard
        self._bar: Progress | None = None
        if out is not None and self.console.is_terminal and is_first_process():
            columns = (
                TextColumn("predicting"),
                BarColumn(),
                MofNCompleteColumn(),
                _Speed(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self.console, transient=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, pictures: Pictures) -> None:
        """Say which of all pictures these are, and which files are none."""
        if self._shard is not None:
            where = f" -> {self._out}" if self._out else ""
            self._print(f"shard {self._shard}: {len(pictures):,} of {self._total:,} pictures{where}")
        for finding in pictures.findings:
            self.failed(finding.file, DataError(finding.file, finding.message, finding.fix))

    def failed(self, _: str, error: DataError | ModelError) -> None:
        """Say why a picture has no result."""
        self._print(f"error: {error}")

    def advanced(self, done: int, total: int) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        if not self._bar.tasks:
            self._bar.add_task(
                "", total=total, completed=done
            )  # what was done before says nothing of the speed
            self._bar.start()
        self._bar.update(self._bar.tasks[0].id, completed=done)

    def outcome(self, done: JobDone) -> None:
        """Say what came of it, where that does not show by itself."""
        if done.was_complete:
            self._print(f"{self._out} is complete: nothing was left to do")
        elif done.failed or self._out:
            before = f", {done.before:,} of them before" if done.before else ""
            failed = f", {done.failed:,} could not be read" if done.failed else ""
            where = f" -> {self._out}" if self._out else ""
            self._print(f"{done.worked:,} pictures{before}{failed}{where}")

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)


class _Speed(ProgressColumn):
    """Pictures per second."""

    def render(self, task: Task) -> Text:
        """The speed of late; nothing before there is one."""
        return Text(f"{task.speed:,.0f} pictures/s" if task.speed else "")
