"""Results that grow row by row: a benchmark that was stopped goes on where its file ends."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["rows_of"]


def rows_of(path: Path, settings: Mapping[str, Any], again: bool) -> Any:
    """The rows in `path` that stay, those of the same settings; None where there are none.

    Rows of other settings are dropped with `again`, else refused by SystemExit.
    """
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    if found["settings"] == json.loads(json.dumps(settings)):
        return found["rows"]
    if again:
        return None
    raise SystemExit(f"{path}: its rows have {found['settings']}; give --again, or another --out")
