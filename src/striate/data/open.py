"""A dataset by what the user calls it: a built-in or public name, or a path whose format is recognised."""

import os
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from striate import plugins
from striate.config import Settings
from striate.data import builtin, formats, public
from striate.data.class_list import YAML
from striate.data.dataset import Dataset, Item
from striate.data.formats import labels_csv, shown
from striate.data.split import SplitConfig
from striate.data.tree import Tree, below, open_tree
from striate.errors import DataError, UnknownName, UsageError, nearest
from striate.structures import Task

__all__ = ["DataConfig", "open_dataset", "recognise_format"]

_LABELS = {"classification": "a class each", "detection": "boxes", "segmentation": "masks"}
_FILES = {"labels_csv": labels_csv.SUFFIXES, "yolo_boxes": YAML}  # reader -> suffixes of its files
_LEVELS = 3  # how many folders may lie around the data: archive.zip/dataset/pictures


class DataConfig(Settings, frozen=True):
    """Which pictures to use."""

    source: str  # a built-in name, a public name, or a path; `./digits` is always a path
    root: str | None = None  # folder that public sets lie in or are downloaded to
    format: str | None = None  # how to read a path; None: recognised
    task: Task | None = None  # what the labels must be for, where there are several kinds; None: any
    classes: tuple[str, ...] | None = None  # only these, in this order; None: all
    split: SplitConfig = SplitConfig()


def open_dataset(config: DataConfig) -> Dataset:
    """The dataset that `config.source` means, its parts as the source states them: not yet split.

    Raises DataError where there is nothing that can be read, UnknownName for an unknown format or class,
    UsageError for settings that this source cannot honour.
    """
    dataset = _open(config)
    _refuse_other_task(f"{dataset.name} ({dataset.format})", dataset.task, config.task)
    return dataset if config.classes is None else _of_classes(dataset, config.classes)


def _of_classes(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """`dataset` with the classes `names` alone, which get the ids 0, 1, ... in that order.

    Of other classes, pictures are left out and boxes are: a picture that has none left is background.
    """
    if dataset.task == "segmentation":
        raise UsageError("data.classes", f"{dataset.name} has several classes a picture", "leave it out")
    for name in names:
        if name not in dataset.classes:
            raise UnknownName(f"class of {dataset.name}", name, dataset.classes)
    if len(set(names)) < len(names):
        raise UsageError("data.classes", f"{', '.join(names)} repeats a name", "name each class once")
    new_ids = {dataset.classes.index(name): number for number, name in enumerate(names)}
    if dataset.task == "detection":
        return _with_boxes_of(dataset, names, new_ids)
    kept = [replace(item, label=new_ids[item.label]) for item in dataset.items if item.label in new_ids]
    note = f"{len(names)} of {len(dataset.classes)} classes: {len(kept):,} of {len(dataset):,} pictures"
    return replace(dataset, classes=names, items=tuple(kept), notes=(*dataset.notes, note))


def _with_boxes_of(dataset: Dataset, names: tuple[str, ...], new_ids: Mapping[int, int]) -> Dataset:
    """`dataset` with the boxes alone whose class has a new id."""
    items = tuple(_item_with(item, new_ids) for item in dataset.items)
    before, after = (
        np.array([0 if item.objects is None else len(item.objects) for item in some])
        for some in (dataset.items, items)
    )
    emptied = np.count_nonzero((before > 0) & (after == 0))
    note = f"{len(names)} of {len(dataset.classes)} classes: {after.sum():,} of {before.sum():,} boxes"
    if emptied:
        pictures = "1 picture" if emptied == 1 else f"{emptied:,} pictures"
        note += f"; {pictures} without any of these {'is' if emptied == 1 else 'are'} background"
    return replace(dataset, classes=names, items=items, notes=(*dataset.notes, note))


def _item_with(item: Item, new_ids: Mapping[int, int]) -> Item:
    """`item` with the objects that have a new id."""
    if item.objects is None:
        return item
    rows = np.flatnonzero(np.isin(item.objects.labels, list(new_ids)))
    kept = item.objects[rows]
    labels = np.array([new_ids[label] for label in kept.labels.tolist()], np.int64)
    ids = tuple(item.ids[row] for row in rows.tolist()) if item.ids else ()
    return replace(item, objects=replace(kept, labels=labels), ids=ids)


def _open(config: DataConfig) -> Dataset:
    source = config.source
    is_name = not any(separator in source for separator in (os.sep, os.altsep) if separator)
    if is_name and source in plugins.names(builtin):
        _refuse(config, "root", "format")
        return _warned(plugins.load(builtin, source).read(), source)
    if is_name and source in public.NAMES:
        _refuse(config, "format")
        _refuse_other_task(source, public.TASK, config.task)  # before anything is downloaded
        return _warned(public.read(source, config.root), source)
    _refuse(config, "root")
    return replace(_open_path(config), name=source)


def recognise_format(tree: Tree, task: Task | None = None) -> str:
    """The name of the format of `tree`, one for `task` where there is such.

    Raises DataError saying what is there and what is accepted.
    """
    for name in dict.fromkeys((*_by_precedence(task), *_by_precedence())):
        if _format(name).recognise(tree):
            return name
    raise DataError(tree.name, f"is in no known layout: {_described(tree)}", f"make it {_accepted()}")


def _open_path(config: DataConfig) -> Dataset:
    path = Path(config.source).expanduser()
    forced = None if config.format is None else config.format.strip().replace("-", "_").replace(" ", "_")
    if forced is not None:
        _format(forced)  # a name that does not exist is said before anything is read
    if not config.source or not os.path.lexists(path):
        raise _not_there(config.source, path)
    reader = next((name for name, suffixes in _FILES.items() if path.suffix.lower() in suffixes), None)
    if reader is not None and path.is_file():
        if forced not in (None, reader):
            raise UsageError("data.format", f"{config.source} cannot be {config.format}", "leave it out")
        dataset: Dataset = _format(reader).read_file(path)
        return dataset
    tree = open_tree(path)
    if forced is not None:
        return _read(forced, tree)
    orders = _by_precedence(config.task), _by_precedence()
    inner, folder = next(filter(None, (_with_data(tree, names) for names in orders)), (tree, ""))
    dataset = _read(recognise_format(inner, config.task), inner)
    if not folder:
        return dataset
    return replace(dataset, notes=(f"the data lies in the folder {folder}", *dataset.notes))


def _with_data(tree: Tree, names: Sequence[str]) -> tuple[Tree, str] | None:
    """The tree or the one folder in it, or in that, that is in one of these formats; None without any."""
    inner, folder = tree, ""
    for _ in range(_LEVELS):
        if any(_format(name).recognise(inner) for name in names):
            return inner, folder
        tops = {path.partition("/")[0] for path in inner.files if "/" in path}
        if len(tops) != 1:
            break
        (top,) = tops
        inner, folder = below(inner, top), posixpath.join(folder, top)
    return None


def _format(name: str) -> ModuleType:
    return plugins.load(formats, name)


def _by_precedence(task: Task | None = None) -> list[str]:
    """The names of the formats, or of those for `task`, in the order in which they are tried."""
    names = (name for name in plugins.names(formats) if task in (None, _format(name).TASK))
    return sorted(names, key=lambda name: _format(name).PRECEDENCE)


def _read(name: str, tree: Tree) -> Dataset:
    dataset: Dataset = _format(name).read(tree)
    return dataset


def _accepted() -> str:
    return "; or ".join(_format(name).ACCEPTS for name in reversed(_by_precedence()))


def _described(tree: Tree) -> str:
    """What a tree holds, in one sentence: files by suffix, top folders, the first names."""
    suffixes = Counter(posixpath.splitext(path)[1].lower() or "suffixless" for path in tree.files)
    kinds = [f"{count:,} {suffix}" for suffix, count in suffixes.most_common(5)]
    tops = [path for path in tree.folders if "/" not in path]
    parts = [
        f"{', '.join(kinds)} files" if kinds else "no files",
        f"folders {shown(tops, 5)}" if tops else "no folders",
        *([f"first {shown(tree.files)}"] if tree.files else []),
        *([f"{len(tree.findings):,} left out ({tree.findings[0].message})"] if tree.findings else []),
    ]
    return ", ".join(parts)


def _refuse_other_task(what: str, own: Task, asked: Task | None) -> None:
    """Raise UsageError where data for the task `own` are given and another is asked for."""
    if asked is not None and asked != own:
        fix = f"give pictures with {_LABELS[asked]}, or a model for {own}"
        raise UsageError(what, f"its pictures have {_LABELS[own]}, which {asked} does not learn from", fix)


def _refuse(config: DataConfig, *names: str) -> None:
    """Raise UsageError for a setting that this source would ignore."""
    for name in names:
        if getattr(config, name) is not None:
            raise UsageError(
                f"data.{name}", f"{config.source} cannot honour {getattr(config, name)!r}", "leave it out"
            )


def _warned(dataset: Dataset, name: str) -> Dataset:
    """`dataset` with a note where a folder of the same name lies beside."""
    if not Path(name).exists():
        return dataset
    note = f"{name} is the dataset of that name; write .{os.sep}{name} for the folder"
    return replace(dataset, notes=(note, *dataset.notes))


def _not_there(source: str, path: Path) -> DataError:
    try:
        siblings = [entry.name for entry in path.parent.iterdir()] if source else []
    except OSError:
        siblings = []
    names = [*plugins.names(builtin), *public.NAMES]
    close = [*nearest(source, names), *(str(path.parent / name) for name in nearest(path.name, siblings))]
    fix = (
        f"did you mean {' or '.join(close[:3])}?"
        if close
        else f"give a folder, or one of: {', '.join(names)}"
    )
    return DataError(source or "data", "does not exist", fix)
