"""A local copy of ImageNet (ILSVRC 2012), or of a set in its layout: folders named by synset.

    train/n01440764/*.JPEG, and for validation val/n01440764/*.JPEG or a flat val/ with a list of labels:
    LOC_val_solution.csv, val.txt or val_annotations.txt (file and synset or index),
    ILSVRC2012_validation_ground_truth.txt (with map_clsloc.txt or meta.mat, which explain its numbers).

The pictures may lie deeper (ILSVRC/Data/CLS-LOC); lists are found anywhere. Class ids follow the sorted
synsets, as everywhere in this field. Class names are the first word of synset_words.txt,
LOC_synset_mapping.txt or words.txt, and the synset itself without them; two classes are called "crane"
and two "maillot", so equal names get their synset added. Source: doi:10.1007/s11263-015-0816-y.
"""

import bisect
import importlib
import io
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from striate.data.dataset import Dataset, Finding
from striate.data.formats import is_picture, other_files, part_of, shown
from striate.data.formats.class_folders import Placed, arrange, dataset_of
from striate.data.tree import Tree, below, text_of
from striate.errors import DataError, EnvironmentProblem
from striate.structures import Task

__all__ = ["ACCEPTS", "NAME", "PRECEDENCE", "TASK", "read", "recognise"]

NAME = "imagenet"
ACCEPTS = "ImageNet's folders named by synset (train/n01440764/*.JPEG, val likewise or flat with its list)"
PRECEDENCE = 1
TASK: Task = "classification"

_SYNSET = re.compile(r"n\d{8}")
_WORDS = ("synset_words.txt", "LOC_synset_mapping.txt", "words.txt")
_GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


def recognise(tree: Tree) -> bool:
    """Whether most folders at the level of the classes are named by synset."""
    return _base(tree) is not None


def read(tree: Tree) -> Dataset:
    """The pictures labelled by synset. Raises DataError naming a list and line that cannot be right."""
    base = _base(tree)
    if base is None:
        raise DataError(tree.name, "has no folders named by synset", f"make it {ACCEPTS}")
    inner = below(tree, base)
    arrangement = arrange(inner)
    by_folder = [picture for picture in arrangement.placed if _SYNSET.fullmatch(picture.category)]
    loose = [picture.path for picture in arrangement.placed if not _SYNSET.fullmatch(picture.category)]
    loose += arrangement.strays
    words = _words(tree)
    synsets = sorted({picture.category for picture in by_folder})
    by_list, unlabelled = _label(tree, loose, synsets, sorted(words) if 0 < len(words) <= 1000 else synsets)
    findings = [*inner.findings, *_unlabelled(unlabelled), *other_files(arrangement.others)]
    dataset = dataset_of(inner, NAME, by_folder + by_list, _class_names(synsets, words), findings)
    return dataset if not base else replace(dataset, notes=(f"the pictures lie in {base}",))


def _base(tree: Tree) -> str | None:
    """The folder that holds train and val, or the synset folders themselves; None if there is none."""
    parents = Counter(posixpath.dirname(path) for path in tree.folders)
    synsets = [path for path in tree.folders if _SYNSET.fullmatch(posixpath.basename(path))]
    named = Counter(posixpath.dirname(path) for path in synsets if _has_pictures(tree, path))
    bases = Counter[str]()
    for parent, count in named.items():
        if count > parents[parent] / 2:
            bases[posixpath.dirname(parent) if part_of(posixpath.basename(parent)) else parent] += count
    return max(sorted(bases), key=bases.__getitem__) if bases else None


def _has_pictures(tree: Tree, folder: str) -> bool:
    # Annotations lie in synset folders too. The files are sorted, so the folder's first is found at once.
    at = bisect.bisect_left(tree.files, f"{folder}/")
    return at < len(tree.files) and tree.files[at].startswith(f"{folder}/") and is_picture(tree.files[at])


def _unlabelled(paths: list[str]) -> list[Finding]:
    if not paths:
        return []
    message = f"{len(paths):,} pictures in no synset folder and no list left out: {shown(paths)}"
    return [Finding(paths[0], "", "warning", "no-label", message, "put the list of their labels beside them")]


# --- names ------------------------------------------------------------------------------------------


def _words(tree: Tree) -> dict[str, str]:
    """Synset -> its words, as far as a file says."""
    path = _find(tree, *_WORDS)
    lines = text_of(tree, path).splitlines() if path else []
    pairs = (line.strip().split(maxsplit=1) for line in lines)
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and _SYNSET.fullmatch(pair[0])}


def _class_names(synsets: Sequence[str], words: Mapping[str, str]) -> dict[str, str]:
    first = {synset: words.get(synset, synset).split(",")[0].strip() for synset in synsets}
    uses = Counter(first.values())
    return {synset: name if uses[name] == 1 else f"{name} ({synset})" for synset, name in first.items()}


def _find(tree: Tree, *names: str) -> str | None:
    """The first file of the tree with one of these names; an earlier name wins."""
    found = [path for path in tree.files if path.endswith(names)]
    for name in names:
        if path := next((path for path in found if posixpath.basename(path) == name), None):
            return path
    return None


# --- lists of a flat validation folder --------------------------------------------------------------


def _label(
    tree: Tree, loose: list[str], synsets: Sequence[str], reference: Sequence[str]
) -> tuple[list[Placed], list[str]]:
    """The loose pictures that a list gives a label of `synsets` to, and the others.

    `reference` are the synsets that an index in a list counts, sorted.
    """
    labels = _listed_labels(tree, reference) if any("val" in path.lower() for path in loose) else {}
    known = set(synsets)
    placed, unlabelled = [], []
    for path in loose:
        synset = labels.get(posixpath.splitext(posixpath.basename(path))[0])
        if synset in known and synset is not None and part_of(path.split("/")[0]) != "test":
            placed.append(Placed(path, "val", synset))
        else:
            unlabelled.append(path)
    return placed, unlabelled


def _listed_labels(tree: Tree, reference: Sequence[str]) -> dict[str, str]:
    """Picture (its file name without suffix) -> synset, from whichever list there is."""
    readers: dict[str, Callable[[Tree, str, Sequence[str]], Iterator[tuple[str, str]]]] = {
        "LOC_val_solution.csv": _from_solution,
        "val_annotations.txt": _from_pairs,
        "val.txt": _from_pairs,
        _GROUND_TRUTH: _from_ground_truth,
    }
    for name, reader in readers.items():
        if path := _find(tree, name):
            return dict(reader(tree, path, reference))
    return {}


def _from_solution(tree: Tree, path: str, reference: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text_of(tree, path).splitlines()[1:], 2):
        picture, _, boxes = line.partition(",")
        yield picture.strip(), _synset((boxes.split() or [""])[0], reference, f"{tree.name}/{path}:{number}")


def _from_pairs(tree: Tree, path: str, reference: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text_of(tree, path).splitlines(), 1):
        if not line.strip():
            continue
        cells = line.split()
        synset = _synset(cells[1] if len(cells) > 1 else "", reference, f"{tree.name}/{path}:{number}")
        yield posixpath.splitext(posixpath.basename(cells[0]))[0], synset


def _from_ground_truth(tree: Tree, path: str, _reference: Sequence[str]) -> Iterator[tuple[str, str]]:
    synset_of = _devkit_numbers(tree, path)
    for number, line in enumerate(text_of(tree, path).split(), 1):
        if line not in synset_of:
            raise DataError(
                f"{tree.name}/{path}:{number}",
                f"{line!r} is no class of the devkit",
                "use the devkit's files",
            )
        yield f"ILSVRC2012_val_{number:08d}", synset_of[line]


def _synset(text: str, reference: Sequence[str], where: str) -> str:
    """`text` as a synset: one already, or an index counted from 0 into `reference`."""
    if _SYNSET.fullmatch(text):
        return text
    if text.isascii() and text.isdigit() and int(text) < len(reference):
        return reference[int(text)]
    raise DataError(
        where,
        f"{text!r} is neither a synset nor an index below {len(reference):,}",
        "give a list of file and synset, or of file and index counted from 0",
    )


def _devkit_numbers(tree: Tree, path: str) -> dict[str, str]:
    """The devkit's number of each class -> synset. Its order is its own, not that of the sorted synsets."""
    if table := _find(tree, "map_clsloc.txt"):
        rows = (line.split() for line in text_of(tree, table).splitlines())
        return {row[1]: row[0] for row in rows if len(row) > 1}
    if table := _find(tree, "meta.mat"):
        return _from_matlab(tree, table)
    raise DataError(
        path,
        "its numbers have no meaning without the devkit's map_clsloc.txt or meta.mat",
        "put one of these beside it, or use LOC_val_solution.csv",
    )


def _from_matlab(tree: Tree, path: str) -> dict[str, str]:
    try:
        matlab = importlib.import_module("scipy.io")
    except ModuleNotFoundError:
        raise EnvironmentProblem(path, "reading it needs SciPy", "pip install 'striate[train]'") from None
    content = tree.content(path)
    try:
        raw = content.read_bytes() if isinstance(content, Path) else content
        rows = matlab.loadmat(io.BytesIO(raw), squeeze_me=True, variable_names=["synsets"])["synsets"]
        return {str(int(row["ILSVRC2012_ID"])): str(row["WNID"]) for row in rows}
    except Exception as error:  # SciPy promises no particular error for a damaged file
        raise DataError(path, f"is not the devkit's meta.mat ({error})", "copy it again") from None
