"""Tables and what stands below them, on pages that are made of results."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["devices", "table"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a markdown table: the first column to the left, numbers to the right, all aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    first, *others = widths
    yield _line(head, widths)
    yield "|" + "|".join([":" + "-" * (first + 1), *("-" * (width + 1) + ":" for width in others)]) + "|"
    for row in rows:
        yield _line(row, widths)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    """One line of it."""
    first, *others = zip(row, widths, strict=True)
    return (
        "| " + " | ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]) + " |"
    )


def devices(found: Mapping[str, Any]) -> Iterator[str]:
    """On what and with what it was measured."""
    computed = ", ".join(sorted({row["device"] for row in found["rows"]}))
    if computed:
        versions = ", ".join(f"{name} {number}" for name, number in found["machine"]["versions"].items())
        yield f"Measured on {found['machine']['cpu']}: {computed}; {versions}."
