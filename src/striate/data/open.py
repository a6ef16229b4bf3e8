"""A dataset by what the user calls it: a built-in or public name, or a path whose format is recognised."""

import os
import posixpath
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from striate import plugins
from striate.config import Settings
from striate.data import builtin, formats, public
from striate.data.dataset import Dataset
from striate.data.formats import labels_csv, shown
from striate.data.split import SplitConfig
from striate.data.tree import Tree, below, open_tree
from striate.errors import DataError, UnknownName, UsageError, nearest

__all__ = ["DataConfig", "open_dataset", "recognise_format"]

_LEVELS = 3  # how many folders may lie around the data: archive.zip/dataset/pictures


class DataConfig(Settings, frozen=True):
    """Which pictures to use."""

    source: str  # a built-in name, a public name, or a path; `./digits` is always a path
    root: str | None = None  # folder that public sets lie in or are downloaded to
    format: str | None = None  # how to read a path; None: recognised
    classes: tuple[str, ...] | None = None  # only these, in this order; None: all
    split: SplitConfig = SplitConfig()


def open_dataset(config: DataConfig) -> Dataset:
    """The dataset that `config.source` means, its parts as the source states them: not yet split.

    Raises DataError where there is nothing that can be read, UnknownName for an unknown format or class,
    UsageError for settings that this source cannot honour.
    """
    dataset = _open(config)
    return dataset if config.classes is None else _of_classes(dataset, config.classes)


def _of_classes(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """`dataset` with the pictures of the classes `names` alone, which get the ids 0, 1, ... in that order."""
    if dataset.task != "classification":
        raise UsageError("data.classes", f"{dataset.name} has several classes a picture", "leave it out")
    for name in names:
        if name not in dataset.classes:
            raise UnknownName(f"class of {dataset.name}", name, dataset.classes)
    if len(set(names)) < len(names):
        raise UsageError("data.classes", f"{', '.join(names)} repeats a name", "name each class once")
    new_ids = {dataset.classes.index(name): number for number, name in enumerate(names)}
    kept = [replace(item, label=new_ids[item.label]) for item in dataset.items if item.label in new_ids]
    note = f"{len(names)} of {len(dataset.classes)} classes: {len(kept):,} of {len(dataset):,} pictures"
    return replace(dataset, classes=names, items=tuple(kept), notes=(*dataset.notes, note))


def _open(config: DataConfig) -> Dataset:
    source = config.source
    is_name = not any(separator in source for separator in (os.sep, os.altsep) if separator)
    if is_name and source in plugins.names(builtin):
        _refuse(config, "root", "format")
        return _warned(plugins.load(builtin, source).read(), source)
    if is_name and source in public.NAMES:
        _refuse(config, "format")
        return _warned(public.read(source, config.root), source)
    _refuse(config, "root")
    return replace(_open_path(config), name=source)


def recognise_format(tree: Tree) -> str:
    """The name of the format of `tree`. Raises DataError saying what is there and what is accepted."""
    for name in _by_precedence():
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
    if path.suffix.lower() in labels_csv.SUFFIXES and path.is_file():
        if forced not in (None, "labels_csv"):
            raise UsageError("data.format", f"{config.source} cannot be {config.format}", "leave it out")
        return labels_csv.read_file(path)
    tree = open_tree(path)
    if forced is not None:
        return _read(forced, tree)
    inner, folder = _with_data(tree)
    dataset = _read(recognise_format(inner), inner)
    if not folder:
        return dataset
    return replace(dataset, notes=(f"the data lies in the folder {folder}", *dataset.notes))


def _with_data(tree: Tree) -> tuple[Tree, str]:
    """The tree or the one folder in it, or in that, whose format is recognised; `tree` if there is none."""
    inner, folder = tree, ""
    for _ in range(_LEVELS):
        if any(_format(name).recognise(inner) for name in plugins.names(formats)):
            return inner, folder
        tops = {path.partition("/")[0] for path in inner.files if "/" in path}
        if len(tops) != 1:
            break
        (top,) = tops
        inner, folder = below(inner, top), posixpath.join(folder, top)
    return tree, ""


def _format(name: str) -> ModuleType:
    return plugins.load(formats, name)


def _by_precedence() -> list[str]:
    return sorted(plugins.names(formats), key=lambda name: _format(name).PRECEDENCE)


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
