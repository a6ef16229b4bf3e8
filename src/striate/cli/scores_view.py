"""An evaluation for people: the numbers, the classes, the confusion matrix, the worst mistakes."""

from collections.abc import Iterator
from typing import Any

from rich.style import Style
from rich.table import Table
from rich.text import Text

from striate import api
from striate.cli.terminal import ACCENT, CountingView, data_console, percent, table
from striate.errors import DataError, printable

__all__ = ["EvalView", "mistakes", "score_line"]

_WIDEST_MATRIX = 20  # classes; a larger matrix is no picture any more


def score_line(scores: Any) -> str:
    """The scores in one line."""
    return "   ".join(f"{label} {percent(value)}" for label, value in scores.headline)


def mistakes(scores: Any, count: int = 3) -> Iterator[str]:
    """The most frequent mistakes, a line each."""
    pairs = scores.worst_pairs(count)
    if not pairs:
        yield "no mistakes"
    for truth, predicted, often in pairs:
        unit = scores.unit if often > 1 else scores.unit.removesuffix("s")
        yield f"{truth} taken for {predicted}: {often:,} {unit}"


class EvalView(CountingView):
    """Progress of an evaluation, and its outcome."""

    title = "evaluating"

    def unreadable(self, _: str, error: DataError) -> None:
        """A picture that cannot be read, left out of the evaluation."""
        self.console.print(f"error: {error}", markup=False, soft_wrap=True)

    def outcome(self, found: "api.Evaluation") -> None:
        """The scores as tables, on stdout."""
        self.stop()
        for note in found.notes:
            self.console.print(f"note: {printable(note)}", markup=False, soft_wrap=True)
        console = data_console()
        left_out = f", {found.unreadable} unreadable" if found.unreadable else ""
        title = f"{found.source}: {found.pictures:,} pictures{left_out}"
        console.print(Text(printable(title), style=f"bold {ACCENT}"), soft_wrap=True)
        console.print(Text(score_line(found.scores), style="bold"))
        rows = [
            (row["name"], *(_cell(row[key]) for key, _ in found.scores.columns))
            for row in found.scores.classes
        ]
        headings = ("class", *(heading for _, heading in found.scores.columns))
        console.print(table(headings, rows, numbers=range(1, len(headings))))
        if len(rows) <= _WIDEST_MATRIX:
            console.print(confusion_table(found.scores))
        console.print(
            Text("most frequent mistakes: ", style="bold") + Text("; ".join(mistakes(found.scores, 5)))
        )


def _cell(value: float | int | None) -> str:
    if value is None:
        return "–"
    return percent(value) if isinstance(value, float) else f"{value:,}"


def confusion_table(scores: Any) -> Table:
    """Rows are the truth, columns the prediction; the darker, the larger the share of the row."""
    in_percent = scores.unit == "pixels"  # too many to be read
    shown = ", in % of the truth" if in_percent else ""
    title = f"confusion (rows: truth, columns: prediction{shown})"
    grid = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    grid.add_column("", justify="right")
    for name in scores.class_names:
        grid.add_column(Text(printable(name)[:8]), justify="right")
    for truth, row in enumerate(scores.confusion.tolist()):
        total = sum(row) or 1
        cells = [
            _shaded(round(100 * count / total) if in_percent else count, count / total, truth == column)
            for column, count in enumerate(row)
        ]
        grid.add_row(Text(printable(scores.class_names[truth])[:16]), *cells)
    return grid


def _shaded(count: int, share: float, right: bool) -> Text:
    """Blue on the diagonal, orange beside it, both readable without telling red from green."""
    if not count:
        return Text("·", style="dim")
    depth = 0.25 + 0.75 * share
    red, green, blue = (int(channel * depth) for channel in ((40, 110, 220) if right else (230, 120, 20)))
    return Text(f" {count:,} ", style=Style(color="white", bgcolor=f"rgb({red},{green},{blue})"))
