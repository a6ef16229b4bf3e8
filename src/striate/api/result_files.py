"""What files of results of several kinds share: their names, their folder, cells that no spreadsheet runs."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

from striate.errors import UsageError

__all__ = ["names_below", "refuse_filled", "spreadsheet_safe"]


def refuse_filled(folder: Path) -> None:
    """Raise UsageError where `folder` is there already with anything in it, or is a file."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--out {folder}", "there is something there already", "choose a new folder")


def names_below(keys: Sequence[str]) -> dict[str, str]:
    """A name for each key: its path below what all share; with the suffix where two would be the same."""
    paths = [PurePath(os.path.abspath(key)) for key in keys]
    shared = os.path.commonpath([path.parent for path in paths]) if paths else ""
    names = [path.relative_to(shared).with_suffix("").as_posix() for path in paths]
    often = Counter(names)
    return {
        key: name if often[name] == 1 else path.relative_to(shared).as_posix()
        for key, name, path in zip(keys, names, paths, strict=True)
    }


def spreadsheet_safe(text: str) -> str:
    """`text`, quoted where it begins like a formula: a spreadsheet would run it."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
