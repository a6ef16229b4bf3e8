"""Tables and what stands below them, on pages that are made of results."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["measured_on", "table"]


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


def measured_on(found: Mapping[str, Any], name_of: Callable[[Mapping[str, Any]], str]) -> Iterator[str]:
    """On what and with what it was measured: a line, or one for each machine with the names of its rows."""
    machines: dict[str, list[Mapping[str, Any]]] = {}
    for row in found["rows"]:
        machines.setdefault(json.dumps(row.get("machine", found["machine"])), []).append(row)
    for written, rows in machines.items():
        its = json.loads(written)
        told = f"{its['cpu']}, {its['cores']} cores, Python {its['python']}"
        computed = sorted({row["device"] for row in rows if "device" in row})
        versions = [f"{name} {number}" for name, number in its["versions"].items()]
        line = "; ".join(", ".join(part) for part in ([told], computed, versions) if part)
        if len(machines) > 1:
            yield f"- {', '.join(map(name_of, rows))}: {line}."
        else:
            yield f"Measured on {line}."
