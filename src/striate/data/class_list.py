"""Names of classes, with the numbers or the colours that mean them in masks, from a text file.

    sky                      a name a line: 0, 1, 2, ...
    7 road                   or with its number: 7: road
    64,128,64,animal         or with its colour, before the name or after it: animal,64,128,64
    road:128,64,128::        or as CVAT writes it
    classes:                 or, in a .yaml, below classes or names
      7: road

Lines that begin with # and a header (name,r,g,b) are no classes. A class called void, unlabelled or ignore
is none either: its pixels are left out.
"""

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from striate.data.masks import Color
from striate.data.tree import Tree, text_of
from striate.errors import DataError
from striate.structures import IGNORE

__all__ = ["NAMES", "YAML", "ClassList", "Listed", "find_class_list", "is_void", "parsed"]

NAMES = (
    "label_colors.txt",
    "class_dict.csv",
    "labelmap.txt",
    "classes.txt",
    "class_names.txt",
    "labels.txt",
    "label_names.txt",
    "codes.txt",
    "obj.names",
    "obj_names.txt",
)
"""Files that may list the classes, those with colours first."""

YAML = (".yaml", ".yml")

LONGEST = 300  # characters of a line
MOST = 255  # classes: a mask is uint8, and one value is IGNORE

_VOID = frozenset({"void", "unlabelled", "unlabeled", "ignore", "ignored", "dontcare", "don't care"})
_HEADERS = frozenset(("name", "class", "class_name", "label", "id", "r", "g", "b", "red", "green", "blue"))

_SEPARATED = r"\s*[\s,;:]\s*"
_NAME = r"(?P<name>.*?[^\d\s,;:].*?)"
_COLOR = r"(?P<red>\d+)\s*[\s,;]\s*(?P<green>\d+)\s*[\s,;]\s*(?P<blue>\d+)"
_LINES = (  # the first that fits every line
    re.compile(rf"{_COLOR}{_SEPARATED}{_NAME}"),
    re.compile(rf"{_NAME}{_SEPARATED}{_COLOR}\s*(?::.*)?"),
    re.compile(rf"(?P<value>\d+){_SEPARATED}{_NAME}"),
    re.compile(r"(?P<name>.*)"),
)


class Listed(NamedTuple):
    """One line: a name, and what means it in masks."""

    line: int
    name: str
    value: int
    color: Color | None


@dataclass(frozen=True, slots=True)
class ClassList:
    """The lines of one file."""

    file: str
    listed: tuple[Listed, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of those that are no void; their places are the class ids."""
        return tuple(row.name for row in self.listed if not is_void(row.name))

    @property
    def by_value(self) -> dict[int, int]:
        """The number of each line, to its class id or IGNORE; 255 is void unless it is listed."""
        return {IGNORE: IGNORE} | {row.value: class_id for row, class_id in self._with_ids()}

    @property
    def by_color(self) -> dict[Color, int]:
        """The colour of each line, to its class id or IGNORE; empty where the file has none."""
        return {row.color: class_id for row, class_id in self._with_ids() if row.color is not None}

    def _with_ids(self) -> list[tuple[Listed, int]]:
        ids = {name: number for number, name in enumerate(self.classes)}
        return [(row, ids.get(row.name, IGNORE)) for row in self.listed]


def is_void(name: str) -> bool:
    """Whether a class of this name means that nothing is known."""
    return name.strip().lower() in _VOID


def find_class_list(tree: Tree, folders: Iterable[str], most: int = MOST) -> ClassList | None:
    """The list of classes in the first of `folders` that holds one, by the order of NAMES; None without.

    Raises DataError naming the file and the line that is no class.
    """
    files = set(tree.files)
    for folder in folders:
        for name in NAMES:
            if (path := posixpath.join(folder, name)) in files:
                return parsed(text_of(tree, path), path, most)
        beside = [path for path in tree.files if path.endswith(YAML) and posixpath.dirname(path) == folder]
        for path in beside:
            if block := _yaml_block(text_of(tree, path)):
                return parsed(block, path, most)
    return None


def _yaml_block(text: str) -> str:
    """The lines below `classes:` or `names:`, the others empty; "" if there are none."""
    block, is_inside = [], False
    for line in text.splitlines():
        is_key = bool(line.strip()) and not line.startswith((" ", "-", "#"))
        if is_key:
            is_inside = line.split("#")[0].strip() in ("classes:", "names:")
        block.append(line.strip().removeprefix("- ") if is_inside and not is_key else "")
    return "\n".join(block) if any(block) else ""


def parsed(text: str, file: str, most: int = MOST) -> ClassList:
    """The classes in the text of `file`, `most` at most.

    Raises DataError naming the file and the line that is wrong.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if lines and _is_header(lines[0][1]):
        lines = lines[1:]
    if not lines:
        raise DataError(file, "it lists no class", "write a name a line")
    for number, line in lines:
        if len(line) > LONGEST:
            raise DataError(f"{file}:{number}", f"its {len(line):,} characters name no class", "shorten it")
    found = next(found for pattern in _LINES if (found := _all_matched(pattern, lines)))
    rows = tuple(_listed(match, number, place) for place, (number, match) in enumerate(found))
    _check(rows, file, most)
    return ClassList(file, rows)


def _is_header(line: str) -> bool:
    cells = [cell.strip().strip('"').lower() for cell in re.split(r"[,;\t]", line)]
    return len(cells) > 1 and all(cell in _HEADERS for cell in cells)


def _all_matched(
    pattern: re.Pattern[str], lines: Iterable[tuple[int, str]]
) -> list[tuple[int, re.Match[str]]]:
    """The numbers of the lines with their matches; empty unless all match."""
    found = []
    for number, line in lines:
        match = pattern.fullmatch(line)
        if match is None:
            return []
        found.append((number, match))
    return found


def _listed(match: re.Match[str], number: int, place: int) -> Listed:
    cells = match.groupdict()
    color = (int(cells["red"]), int(cells["green"]), int(cells["blue"])) if "red" in cells else None
    return Listed(number, _name(cells["name"]), int(cells.get("value", place)), color)


def _name(text: str) -> str:
    return text.strip().strip("\"'").strip()


def _check(rows: Sequence[Listed], file: str, most: int) -> None:
    names: set[str] = set()
    values: set[int] = set()
    colors: set[Color] = set()
    for row in rows:
        where = f"{file}:{row.line}"
        if not row.name or row.name in names:
            raise DataError(where, f"{row.name!r} is listed twice or empty", "name each class once")
        if row.value in values or row.value > 65_535:
            raise DataError(where, f"the number {row.value} is listed twice or too large", "correct it")
        if row.color is not None and (row.color in colors or max(row.color) > 255):
            shown = ", ".join(map(str, row.color))
            raise DataError(where, f"the colour {shown} is listed twice or no colour", "correct it")
        names.add(row.name)
        values.add(row.value)
        if row.color is not None:
            colors.add(row.color)
    if not 0 < sum(not is_void(row.name) for row in rows) <= most:
        raise DataError(file, f"it lists {len(rows)} classes", f"list 1 to {most:,}, beside void")
