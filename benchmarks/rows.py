"""Results that grow row by row: a benchmark that was stopped goes on where its file ends."""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from startup import machine

from striate.files import atomic_write

__all__ = ["add_row", "begun", "known", "page_options", "parsed", "stored", "write"]

PACKAGES = ("striate", "torch", "torchvision", "timm", "numpy", "pillow")


def page_options(parser: argparse.ArgumentParser, name: str, page: str) -> None:
    """The options of a benchmark whose rows go to results/`name`.json and make docs/`page`."""
    parser.add_argument("--again", action="store_true", help="also what is in the file already")
    parser.add_argument("--page-only", action="store_true", help="train nothing")
    here = Path(__file__).parent
    parser.add_argument("--out", type=Path, default=here / "results" / f"{name}.json")
    parser.add_argument("--page", type=Path, default=here.parent / "docs" / page)


def parsed(parser: argparse.ArgumentParser, asked: str) -> argparse.Namespace:
    """The options on the command line; where they train and name no data, `asked` says what is missing."""
    options = parser.parse_args()
    if options.data is None and not options.page_only:
        parser.error(asked)
    return options


def known(
    options: argparse.Namespace, what: str | None, packages: Iterable[str] = (), **budget: Any
) -> dict[str, Any]:
    """What the file holds, or the beginning of it; rows to be added to must have the same budget.

    `what` is the benchmark's description, of which the first line is kept; the versions of `packages` stand
    beside those of PACKAGES.
    """
    if options.page_only:
        alone: dict[str, Any] = json.loads(options.out.read_text())
        return alone
    settings = {"data": Path(options.data).stem, **budget, "seed": 0}
    return begun(options, (what or "").partition("\n")[0], settings, (*PACKAGES, *packages))


def begun(
    options: argparse.Namespace, what: str, settings: Mapping[str, Any], packages: Iterable[str] = PACKAGES
) -> dict[str, Any]:
    """What `options.out` will hold, with the rows that it holds already, which must be of these settings.

    `machine` is this one; a row of another machine, or of other versions, has its own `machine`.
    """
    here = machine() | {"versions": {package: version(package) for package in packages}}
    before = stored(options.out, settings, options.again) or {"machine": here, "rows": []}
    rows = [_named({"machine": before["machine"]} | row, here) for row in before["rows"]]
    return {"what": what, "settings": settings, "machine": here, "rows": rows}


def _named(row: dict[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """`row` without its `machine` where that is `here`."""
    return {key: value for key, value in row.items() if key != "machine" or value != here}


def stored(path: Path, settings: Mapping[str, Any], again: bool) -> dict[str, Any] | None:
    """What `path` holds of the same settings, whose rows stay; None where it holds nothing of them.

    Rows of other settings are dropped with `again`, else refused by SystemExit.
    """
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    if found["settings"] == json.loads(json.dumps(settings)):
        return found
    if again:
        return None
    raise SystemExit(f"{path}: its rows have {found['settings']}; give --again, or another --out")


def add_row(
    found: dict[str, Any],
    subject: Mapping[str, Any],
    measure: Callable[[], Mapping[str, Any]],
    options: argparse.Namespace,
) -> dict[str, Any] | None:
    """Measure the row of `subject`, a few of its fields, and add it to `found` and to the file.

    None, and nothing is measured, where it is there already; with `--again` it takes that one's place. How
    busy the machine was before is measured too.
    """
    others = [row for row in found["rows"] if any(row[key] != subject[key] for key in subject)]
    if len(others) < len(found["rows"]) and not options.again:
        return None
    load = round(os.getloadavg()[0], 2)
    row = {**subject, **measure(), "load_average_before": load}
    found["rows"] = [*others, row]
    write(options.out, found)
    return row


def write(path: Path, found: Mapping[str, Any]) -> None:
    """`found` as JSON, whole or not at all: a benchmark that is killed keeps the rows from before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write((json.dumps(found, indent=1) + "\n").encode())
