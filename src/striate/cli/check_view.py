"""What `check` found, for people."""

from types import TracebackType
from typing import Any

from rich.progress import Progress
from rich.text import Text

from striate import api
from striate.cli.terminal import ACCENT, data_console, message_console, table
from striate.errors import printable

__all__ = ["CheckView"]

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
_MARKS = {"error": "error  ", "warning": "warning", "note": "note   "}


class CheckView:
    """Progress of a check, and its findings."""

    def __init__(self) -> None:
        self.console = message_console()
        self.bar = Progress(console=self.console, transient=True) if self.console.is_terminal else None
        self.task: Any = None

    def __enter__(self) -> "CheckView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stop()

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` pictures are decoded."""
        if self.bar is None:
            return
        if self.task is None:
            self.task = self.bar.add_task("checking", total=total)
            self.bar.start()
        self.bar.update(self.task, completed=done)

    def outcome(self, checked: "api.Checked") -> None:
        """Counts, sizes and findings on stdout, worst first."""
        self._stop()
        console = data_console()
        for heading, lines in checked.describe():
            for position, line in enumerate(lines):
                label = Text(f"{heading if position == 0 else '':<9}", style=f"bold {ACCENT}")
                console.print(label + Text(printable(line)), soft_wrap=True)
        console.print(table(("class", *checked.part_names), checked.class_rows(), numbers=range(1, 5)))
        levels = ("error", "warning", "note")
        for finding in sorted(checked.report.findings, key=lambda finding: levels.index(finding.level)):
            where = f"{finding.file}: " if finding.file else ""
            where += f"{finding.id}: " if finding.id else ""
            head = Text(_MARKS[finding.level], style=_STYLES[finding.level])
            console.print(head + Text(printable(f"  {where}{finding.message}")), soft_wrap=True)
            console.print(Text(printable(f"         fix: {finding.fix}"), style="dim"), soft_wrap=True)
        counts = {
            level: sum(finding.level == level for finding in checked.report.findings) for level in levels
        }
        summary = ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items())
        console.print(Text(summary, style="bold"))

    def _stop(self) -> None:
        if self.bar is not None and self.task is not None:
            self.bar.stop()
            self.task = None
