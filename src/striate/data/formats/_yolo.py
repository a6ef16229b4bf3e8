"""What lies beside YOLO's label files: data.yaml, lists of pictures, the names of the classes."""

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from striate.data.class_list import NAMES, YAML, parsed
from striate.data.dataset import PARTS, Finding, Part
from striate.data.formats import is_picture, part_of, shown
from striate.data.formats._boxes import MOST_CLASSES
from striate.data.tree import Tree, bytes_of, text_of
from striate.errors import DataError, EnvironmentProblem

__all__ = ["Description", "describe", "description_files"]

_MOST_BYTES = 4_000_000  # of a YAML; the names of ImageNet's 21,841 classes take 500 kB

_NAMING = re.compile(rb"^(?:names|nc)\s*:", re.MULTILINE)


@dataclass(slots=True)
class Description:
    """Which pictures are which part, and what the classes are called."""

    names: dict[str, str] = field(default_factory=dict)  # number as text -> name, in order; empty: not stated
    parts: dict[str, Part] = field(default_factory=dict)  # picture -> its part; empty: not stated
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, file: str, part: Part, pictures: Iterable[str]) -> None:
        """File the `pictures` of a part that `file` states; those of another part stay there."""
        twice = []
        for path in pictures:
            if self.parts.setdefault(path, part) != part:
                twice.append(path)
        if twice:
            other = self.parts[twice[0]]
            message = f"{len(twice):,} pictures of {part} are in {other} too, where they stay: {shown(twice)}"
            fix = "give each part pictures of its own"
            self.findings.append(Finding(file, part, "warning", "leak", message, fix))


def description_files(tree: Tree) -> list[str]:
    """The YAML files that name classes or say how many there are, the topmost first."""
    found = [path for path in tree.files if path.lower().endswith(YAML)]
    found.sort(key=lambda path: (path.count("/"), path))
    return [path for path in found if _is_description(tree, path)]


def _is_description(tree: Tree, path: str) -> bool:
    try:
        content = bytes_of(tree, path, _MOST_BYTES)
    except DataError:
        return False
    return _NAMING.search(content) is not None


def describe(tree: Tree, file: str | None = None) -> Description:
    """What the files of `tree` say: data.yaml (or the YAML `file`) before classes.txt, train.txt and such.

    Raises DataError naming the file that is wrong, EnvironmentProblem where PyYAML is missing.
    """
    found = Description()
    finder = _Finder(tree)
    for path in description_files(tree) if file is None else [file]:
        content = _loaded(tree, path)
        entries = {part: content[part] for part in PARTS if content.get(part)}
        # One that says more of a part than where it is describes something else: masks, for instance.
        if all(isinstance(entry, str | list) for entry in entries.values()):
            found.names = _names(tree, path, content, found)
            _add_parts(found, finder, path, content, entries)
            found.notes.append(f"parts and class names from {path}")
            break
        if file is not None:
            what, fix = "does not say where the pictures are", "write train: images"
            raise DataError(f"{tree.name}/{file}", what, fix)
    if not found.parts:
        _add_lists(found, finder)
    if not found.names:
        _add_listed_names(found, tree)
    return found


# --- data.yaml --------------------------------------------------------------------------------------


def _loaded(tree: Tree, path: str) -> Mapping[str, Any]:
    """The YAML at `path`, every scalar as text: YAML would take a class called `no` for False."""
    where = f"{tree.name}/{path}"
    try:
        import yaml
    except ModuleNotFoundError:
        raise EnvironmentProblem(where, "PyYAML is not installed", "pip install 'striate[train]'") from None
    try:
        # BaseLoader makes text, lists and mappings and nothing else.
        found = yaml.load(bytes_of(tree, path, _MOST_BYTES), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(where, f"is no YAML ({reason})", "correct that place") from None
    return found if isinstance(found, dict) else {}


def _names(tree: Tree, path: str, content: Mapping[str, Any], found: Description) -> dict[str, str]:
    """The classes that the YAML names, or as many numbers as it says there are."""
    where, names, count = f"{tree.name}/{path}", content.get("names"), content.get("nc")
    stated = int(count) if isinstance(count, str) and _is_number(count) else None
    if not names:
        return {str(number): str(number) for number in range(min(stated or 0, MOST_CLASSES))}
    rows = list(names.items()) if isinstance(names, dict) else []
    if isinstance(names, list):
        rows = [(str(number), name) for number, name in enumerate(names)]
    if not rows or not all(isinstance(name, str) and name and _is_number(number) for number, name in rows):
        fix = "write names: [cat, dog], or names: {0: cat, 1: dog}"
        raise DataError(where, "its names are no names with a number from 0 each", fix)
    rows.sort(key=lambda row: int(row[0]))
    if len({name for _, name in rows}) < len(rows) or len(rows) > MOST_CLASSES:
        raise DataError(where, "a class is named twice, or too many are", "name each class once")
    if stated not in (None, len(rows)):
        message = f"it has nc: {stated} and names {len(rows)} classes: the names count"
        found.findings.append(Finding(path, "nc", "warning", "class-count", message, "correct nc"))
    return {str(int(number)): name for number, name in rows}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _add_parts(
    found: Description,
    finder: "_Finder",
    path: str,
    content: Mapping[str, Any],
    entries: Mapping[Part, str | list[Any]],
) -> None:
    """The pictures of each part that the YAML at `path` states."""
    folder = posixpath.dirname(path)
    around = content.get("path")
    bases = [posixpath.join(folder, around) if isinstance(around, str) else folder, folder]
    for part, entry in entries.items():
        for text in map(str, entry if isinstance(entry, list) else [entry]):
            place = finder.find(bases, text)
            if place is None:
                message, fix = f"there is no {text!r}: {part} lacks it", "correct path or this entry"
                found.findings.append(Finding(path, part, "error", "missing", message, fix))
                continue
            if place != _joined(bases[0], text):
                stated = posixpath.join(around, text) if isinstance(around, str) else text
                where = place or "the whole folder"
                found.notes.append(f"{part} is {where}: {path} says {stated!r}, which is not there")
            found.add(path, part, finder.pictures(found, place))


# --- where no YAML says it --------------------------------------------------------------------------


def _add_lists(found: Description, finder: "_Finder") -> None:
    """The pictures that train.txt and the like name."""
    for path in finder.tree.files:
        stem, suffix = posixpath.splitext(posixpath.basename(path))
        part = part_of(stem) if suffix == ".txt" else None
        if part and (pictures := finder.pictures(Description(), path)):
            finder.pictures(found, path)
            found.add(path, part, pictures)
            found.notes.append(f"{part} is what {path} lists")


def _add_listed_names(found: Description, tree: Tree) -> None:
    """The classes that the topmost of the files called as in NAMES lists."""
    files = [path for path in tree.files if posixpath.basename(path) in NAMES]
    files.sort(key=lambda path: (path.count("/"), NAMES.index(posixpath.basename(path))))
    if files:
        rows = parsed(text_of(tree, files[0]), files[0], MOST_CLASSES).listed
        found.names = {str(row.value): row.name for row in sorted(rows, key=lambda row: row.value)}
        found.notes.append(f"class names from {files[0]}")


# --- paths ------------------------------------------------------------------------------------------


class _Finder:
    """Finds what a path in a text means inside a tree, and nothing outside of it."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._files = frozenset(tree.files)
        self._known = self._files | frozenset(tree.folders) | {""}

    def find(self, bases: Sequence[str], text: str) -> str | None:
        """The file or folder that `text` means seen from one of `bases`, else by the end of its path.

        A dataset is described where it was made: `/home/me/set/images/train` lies at `images/train` here.
        """
        for base in bases:
            if (path := _joined(base, text)) in self._known:
                return path
        pieces = [piece for piece in re.split(r"[\\/]", text) if piece not in ("", ".", "..")]
        shorter = ("/".join(pieces[start:]) for start in range(len(pieces)))
        candidates = (path for rest in shorter for base in bases[-1:] for path in (_joined(base, rest), rest))
        return next((path for path in candidates if path and path in self._known), None)

    def pictures(self, found: Description, place: str) -> list[str]:
        """The pictures in a folder, or those that a list names; what it names in vain is a finding."""
        if place not in self._files:
            prefix = f"{place}/" if place else ""
            return [path for path in self.tree.files if path.startswith(prefix) and is_picture(path)]
        if is_picture(place):
            return [place]
        listed: list[str] = []
        missing: list[str] = []
        for number, line in enumerate(text_of(self.tree, place).splitlines(), start=1):
            if text := line.strip():
                path = self.find([posixpath.dirname(place), ""], text)
                if path is not None and path in self._files and is_picture(path):
                    listed.append(path)
                else:
                    missing.append(f"line {number}")
        if missing:
            message = f"{len(missing):,} of its lines name no picture here: {shown(missing)}"
            fix = "correct or remove them"
            found.findings.append(Finding(place, missing[0], "error", "missing", message, fix))
        return listed


def _joined(base: str, text: str) -> str:
    """`text` seen from the folder `base`; what lies outside of the tree is none of its paths."""
    path = posixpath.normpath(posixpath.join(base, text.replace("\\", "/").strip()))
    return "" if path == "." else path
