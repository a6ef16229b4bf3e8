"""An explanation on a terminal: part by part, and where its pictures are."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from striate.cli.terminal import ACCENT, data_console, message_console
from striate.errors import printable

if TYPE_CHECKING:
    from striate.api import Explanation

__all__ = ["default_folder", "show_explanation", "show_written"]


def show_explanation(found: "Explanation") -> None:
    """All parts of `found` on stdout, as they are: nothing is wrapped."""
    console = data_console()
    _print(console, f"{found.model} on {found.picture}", f"bold {ACCENT}")
    for section in found.sections:
        console.print()
        _print(console, section.title, "bold")
        for line in section.told.lines():
            _print(console, line, "")


def show_written(paths: Sequence[Path]) -> None:
    """Which pictures were written, on stderr."""
    if paths:
        names = ", ".join(path.name for path in paths)
        message_console().print(Text(printable(f"pictures in {paths[0].parent}: {names}")), soft_wrap=True)


def default_folder(picture: str, asked: str) -> Path:
    """Where pictures go where no place was named: beside nothing else, in the folder of the command."""
    part = "" if asked == "page" else f"-{asked}"
    return Path(f"explained-{Path(picture).stem}{part}")


def _print(console: Console, line: str, style: str) -> None:
    text = printable(line)
    if not console.encoding.lower().startswith("utf"):
        text = text.encode(console.encoding, "replace").decode(console.encoding)
    console.print(Text(text, style=style), soft_wrap=True)
