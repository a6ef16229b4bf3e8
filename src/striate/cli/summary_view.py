"""A network's summary on a terminal: as wide as it is, and coloured where colours are wanted."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from striate.cli.terminal import ACCENT, data_console, print_labelled
from striate.errors import printable

if TYPE_CHECKING:
    from striate.api import Summary

__all__ = ["show_summary", "show_why"]

_HEAVY = 10.0  # percent of all MACs from where on a row stands out
_PIPED_WIDTH = 100  # characters where no terminal says its width


def show_summary(found: "Summary", depth: int | None = None) -> None:
    """The table of `found` on stdout, and below it what its columns mean."""
    console = data_console()
    width = console.width if console.is_terminal else _PIPED_WIDTH
    table = found.table(width, depth)
    console.print(Text(printable(found.title), style=f"bold {ACCENT}"), soft_wrap=True)
    heading, rule, *lines = table.lines()
    _print(console, heading, "bold")
    _print(console, rule, "dim")
    for line, cells in zip(lines, table.rows, strict=True):
        share = float(cells[-1].rstrip("%")) if cells[-1].endswith("%") else 0.0
        _print(console, line, "bold" if share >= _HEAVY and not line.startswith("  ") else "")
    console.print()
    for label, text in found.legend(table):
        print_labelled(console, label, [_encodable(console, text)])


def show_why(text: str) -> None:
    """The worked sums of one layer on stdout."""
    console = data_console()
    title, *lines = text.splitlines()
    _print(console, title, f"bold {ACCENT}")
    for line in lines:
        _print(console, line, "")


def _print(console: Console, line: str, style: str) -> None:
    console.print(Text(_encodable(console, printable(line)), style=style), soft_wrap=True)


def _encodable(console: Console, text: str) -> str:
    """`text` in the signs that the terminal has."""
    if console.encoding.lower().startswith("utf"):
        return text
    for sign, plain in (("≤", "<"), ("·", "*"), ("…", "~")):
        text = text.replace(sign, plain)
    return text
