"""Where text goes: data to stdout, everything else to stderr; plain when nobody is watching."""

import json
import os
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Self

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from striate.errors import printable

__all__ = [
    "ACCENT",
    "CountingView",
    "data_console",
    "duration",
    "emit_json",
    "is_first_process",
    "message_console",
    "percent",
    "print_labelled",
    "sparkline",
    "table",
]

ACCENT = "cyan"
_LABEL_WIDTH = 11  # of the column that says what a line is about
_BLOCKS, _ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "._-=+*#@"


def is_first_process() -> bool:
    """Whether this is the only process of its command, or the one of several (torchrun's) that speaks."""
    return os.environ.get("RANK", "0") == "0"


def data_console() -> Console:
    """For results: stdout. Wide enough for a table where no terminal says its width."""
    return _console(stderr=False)


def message_console(from_all: bool = False) -> Console:
    """For plans, progress and remarks: stderr. Of several processes the first speaks, or each `from_all`."""
    return _console(stderr=True, from_all=from_all)


def _console(stderr: bool, from_all: bool = False) -> Console:
    quiet = not (from_all or is_first_process())
    console = Console(stderr=stderr, highlight=False, emoji=False, quiet=quiet)
    if console.is_terminal:
        return console
    return Console(stderr=stderr, highlight=False, emoji=False, quiet=quiet, width=120)


def print_labelled(console: Console, label: str, lines: Iterable[str], style: str = f"bold {ACCENT}") -> None:
    """`lines` with `label` before the first; on a terminal long ones go on below their own beginning."""
    for line in lines:
        room = max(20, console.width - _LABEL_WIDTH)
        pieces = textwrap.wrap(printable(line), room) if console.is_terminal else [printable(line)]
        for piece in pieces or [""]:
            console.print(Text.assemble((f"  {label:<{_LABEL_WIDTH - 2}}", style), piece), soft_wrap=True)
            label = ""


def emit_json(value: Any) -> None:
    """One JSON document on stdout."""
    if is_first_process():
        click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def percent(fraction: float) -> str:
    """A fraction for people: 0.98765 is "98.8 %"."""
    return f"{100 * fraction:.1f} %"


def duration(seconds: float) -> str:
    """Seconds for people: "0.4 s", "41 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def sparkline(values: Sequence[float], width: int, encoding: str = "utf-8") -> str:
    """A curve of one line, lowest to highest; blocks where the terminal can show them."""
    blocks = _BLOCKS if encoding.lower().startswith("utf") else _ASCII_BLOCKS
    picked = [values[round(i * (len(values) - 1) / max(1, width - 1))] for i in range(width)]
    shown = picked if len(values) > width else list(values)
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(blocks[round((value - low) / span * (len(blocks) - 1))] for value in shown)


def table(columns: Iterable[str], rows: Iterable[Sequence[object]], numbers: Sequence[int] = ()) -> Table:
    """A plain table; the columns at the positions `numbers` stand to the right."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        made.add_column(name, justify="right" if position in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made


class CountingView:
    """A view with a bar that counts pictures on a terminal and is silent elsewhere."""

    title = ""

    def __init__(self) -> None:
        self.console = message_console()
        self._bar = Progress(console=self.console, transient=True) if self.console.is_terminal else None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` pictures are done."""
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task(self.title, total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None and self._task is not None:
            self._bar.stop()
            self._task = None
