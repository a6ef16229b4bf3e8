"""A table of files and labels beside the pictures.

    file,label                              optional third column: part (train, val or test)
    images/1.jpg,cat

The file column is called file, filename, image, path or image_path, the label's label, class or category;
commas, semicolons or tabs between them; UTF-8. `train.csv`, `val.csv` and `test.csv` are parts. Files are
given relative to the table, or to a folder beside it that is called `images` or like the table.
Class ids follow the labels sorted by code point, by value where all are whole numbers.
"""

import csv
import io
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from striate.data.dataset import Dataset, Finding, Item, Part
from striate.data.formats import is_picture, part_of, shown
from striate.data.tree import Tree, listed_tree, text_of
from striate.errors import DataError
from striate.structures import Task

__all__ = ["ACCEPTS", "NAME", "PRECEDENCE", "SUFFIXES", "TASK", "read", "read_file", "recognise"]

NAME = "csv"
ACCEPTS = "a .csv with the header file,label beside the pictures (or train.csv, val.csv, test.csv)"
PRECEDENCE = 3
TASK: Task = "classification"
SUFFIXES = (".csv", ".tsv")

_COLUMNS = {
    "file": ("file", "filename", "image", "path", "image_path"),
    "label": ("label", "class", "category"),
    "part": ("part", "split"),
}


class Row(NamedTuple):
    """One line of a table."""

    table: str
    line: int
    file: str
    label: str
    part: str  # as written; the table's name where there is no column
    problem: str  # why the line cannot be used, or empty

    def finding(self, code: str, message: str, fix: str) -> Finding:
        return Finding(self.table, f"line {self.line}", "error", code, message, fix)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where a table has its cells."""

    delimiter: str
    count: int
    file: int
    label: int
    part: int | None


def recognise(tree: Tree) -> bool:
    """Whether a table at the top has the header that is needed."""
    return bool(_tables(tree))


def read(tree: Tree) -> Dataset:
    """The pictures that the tables at the top list. Raises DataError if none of them is there."""
    tables = _tables(tree)
    if not tables:
        raise DataError(tree.name, "has no table with a file and a label column", f"make it {ACCEPTS}")
    rows = [row for table in tables for row in _rows(tree, table)]
    dataset = _dataset(tree, tree.name, rows)
    listed = {item.key for item in dataset.items}
    unlisted = [path for path in tree.files if is_picture(path) and path not in listed]
    return dataset if not unlisted else _with_unlisted(dataset, unlisted, tables)


def read_file(path: Path) -> Dataset:
    """The pictures that one table lists, without looking at anything else in its folder."""
    alone = listed_tree(path.parent, [path.name])
    rows = list(_rows(alone, path.name))
    candidates = (place for row in rows if not row.problem for place in _places(row))
    return _dataset(listed_tree(path.parent, candidates), str(path), rows)


def _tables(tree: Tree) -> list[str]:
    """The tables at the top of `tree` with the columns that are needed."""
    tops = [path for path in tree.files if "/" not in path and path.lower().endswith(SUFFIXES)]
    return [path for path in tops if _columns(_first_line(tree, path))]


def _first_line(tree: Tree, path: str) -> str:
    """The header, as well as it can be read: `read` says what is wrong with the file."""
    content = tree.content(path)
    try:
        if isinstance(content, Path):
            with content.open("rb") as file:
                content = file.readline(65_536)
    except OSError:
        return ""
    lines = content.removeprefix(b"\xef\xbb\xbf").splitlines()
    return lines[0].decode(errors="replace") if lines else ""


def _columns(header: str) -> _Columns | None:
    for delimiter in ",;\t":
        names = [cell.strip().strip('"').lower() for cell in header.split(delimiter)]
        at = {
            column: next((names.index(name) for name in known if name in names), None)
            for column, known in _COLUMNS.items()
        }
        if at["file"] is not None and at["label"] is not None:
            return _Columns(delimiter, len(names), at["file"], at["label"], at["part"])
    return None


def _rows(tree: Tree, table: str) -> Iterator[Row]:
    """The lines of a table below its header. Raises DataError where it is no table."""
    text, where = text_of(tree, table), f"{tree.name}/{table}"
    columns = _columns(text.partition("\n")[0].rstrip("\r"))
    if columns is None:
        raise DataError(f"{where}:1", "has no file and label column", "start it with the line file,label")
    implied = part_of(posixpath.splitext(table)[0]) or ""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=columns.delimiter, strict=True)
    try:
        next(reader)
        for cells in reader:
            if cells:
                yield _row(table, reader.line_num, cells, columns, implied)
    except csv.Error as error:
        raise DataError(f"{where}:{reader.line_num}", f"is no CSV ({error})", "correct that line") from None


def _row(table: str, line: int, cells: list[str], columns: _Columns, implied: str) -> Row:
    if len(cells) != columns.count:
        problem = f"it has {len(cells)} cells and the header {columns.count}"
        return Row(table, line, "", "", implied, problem)
    file, label = cells[columns.file].strip(), cells[columns.label].strip()
    part = implied if columns.part is None else cells[columns.part].strip()
    return Row(table, line, file, label, part or implied, "")


def _places(row: Row) -> list[str]:
    """Where the picture of `row` may lie, likeliest first; none for a path that is not below the table."""
    file = row.file.replace("\\", "/")
    stem = posixpath.splitext(row.table)[0]
    path = posixpath.normpath(file)
    if not file or "\0" in file or path == ".." or path.startswith(("/", "../")):
        return []
    return [path, *(f"{folder}/{path}" for folder in (stem, "images", f"images/{stem}"))]


def _dataset(tree: Tree, name: str, rows: Iterable[Row]) -> Dataset:
    rows = list(rows)
    # macOS spells an umlaut in file names as two characters, tables spell it as one.
    files = {unicodedata.normalize("NFC", path): path for path in tree.files}
    findings = list(tree.findings)
    by_key: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        key = _key(row, files)
        if isinstance(key, Finding):
            findings.append(key)
        else:
            by_key[key].append(row)
    if not by_key:
        raise _nothing_found(name, rows, findings)
    chosen = {}
    for key, same in by_key.items():
        if finding := _conflict(key, same):
            findings.append(finding)
        else:
            chosen[key] = same
    classes = _sorted_labels({same[0].label for same in chosen.values()})
    ids = {label: index for index, label in enumerate(classes)}
    items = tuple(Item(key, _part(same), ids[same[0].label]) for key, same in sorted(chosen.items()))
    return Dataset(name, NAME, "classification", classes, items, tree, findings=tuple(findings))


def _key(row: Row, files: dict[str, str]) -> str | Finding:
    """The file that `row` means, or why it cannot be used."""
    if row.problem:
        return row.finding("row", row.problem, "correct that line")
    if not row.label:
        return row.finding("no-label", f"{row.file!r} has no label", "write its label or remove the line")
    if row.part and part_of(row.part) is None:
        return row.finding("part", f"{row.part!r} is no part", "write train, val or test")
    places = _places(row)
    if not places:
        fix = "write a path below the folder of the table"
        return row.finding("path", f"{row.file!r} is no path below the table", fix)
    for place in places:
        if found := files.get(unicodedata.normalize("NFC", place)):
            return found
    return row.finding("missing", f"there is no {row.file!r}", "correct the path or remove the line")


def _conflict(key: str, rows: list[Row]) -> Finding | None:
    """An error where two lines say different things of the same picture."""
    first, lines = rows[0], ", ".join(f"{row.table}:{row.line}" for row in rows[:4])
    if len({row.label for row in rows}) > 1:
        labels = " and ".join(repr(label) for label in sorted({row.label for row in rows}))
        message = f"{key!r} is labelled {labels} ({lines})"
        return first.finding("conflicting-labels", message, "keep the right line")
    if len({part_of(row.part) for row in rows if row.part}) > 1:
        message = f"{key!r} is in several parts ({lines})"
        return first.finding("conflicting-parts", message, "keep one line")
    return None


def _part(rows: list[Row]) -> Part:
    return next((part for row in rows if (part := part_of(row.part))), "")


def _sorted_labels(labels: set[str]) -> tuple[str, ...]:
    if all(label.isascii() and label.isdigit() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def _nothing_found(name: str, rows: list[Row], findings: list[Finding]) -> DataError:
    first = next((finding for finding in findings if finding.id), None)
    if not rows or first is None:
        return DataError(name, "lists no picture", "write a line for each picture")
    return DataError(
        f"{name}: {first.file}, {first.id}",
        f"none of its {len(rows):,} lines can be used; {first.message}",
        first.fix,
    )


def _with_unlisted(dataset: Dataset, unlisted: list[str], tables: list[str]) -> Dataset:
    message = f"{len(unlisted):,} pictures not listed in {' and '.join(tables)} left out: {shown(unlisted)}"
    finding = Finding(unlisted[0], "", "note", "unlisted", message, "add lines for them if they belong here")
    return replace(dataset, findings=(*dataset.findings, finding))
