"""Progress of a report, and where it was written."""

from pathlib import Path

from rich.progress import Progress, TaskID

from striate import api
from striate.cli.terminal import data_console, message_console, percent, table

__all__ = ["ReportView"]


class ReportView:
    """A bar for each stage on a terminal, silent elsewhere."""

    def __init__(self) -> None:
        self.console = message_console()
        self._bar = Progress(console=self.console, transient=True) if self.console.is_terminal else None
        self._stages: dict[str, TaskID] = {}

    def __enter__(self) -> "ReportView":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def stage(self, name: str, done: int, total: int) -> None:
        """`done` of `total` pictures of the stage `name` are done."""
        if self._bar is None:
            return
        if name not in self._stages:
            self._stages[name] = self._bar.add_task(name, total=total)
        self._bar.update(self._stages[name], completed=done)

    def compared(self, found: "api.Compared") -> None:
        """Scores and pairs as tables on stdout, and the file."""
        console, made = data_console(), found.comparison
        labels = [score.label for score in made.candidates[0].scores]
        rows = [
            (each.name, *(percent(score.value) for score in each.scores), f"{each.parameters:,}")
            for each in made.candidates
        ]
        headings = ("model", *labels, "parameters")
        console.print(table(headings, rows, numbers=range(1, len(headings))))
        for pair in made.pairs:
            console.print(
                f"{pair.first} alone right {pair.only_first:,}, {pair.second} alone right "
                f"{pair.only_second:,}: p = {pair.p_value:.2g} ({pair.test})",
                markup=False,
                soft_wrap=True,
            )
        self.written(found.path)

    def written(self, path: Path) -> None:
        """The file, on stdout."""
        size = path.stat().st_size / 1e6
        data_console().print(f"{path}   {size:.1f} MB", markup=False, soft_wrap=True)
