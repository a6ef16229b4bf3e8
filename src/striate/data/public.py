"""Known public datasets by name: from a copy on this machine, else downloaded by torchvision.

They lie in `root`, by default $STRIATE_DATA or ~/.cache/striate, in torchvision's own layout.
torchvision checks what it downloads against checksums. Nothing is downloaded that is there already.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from striate.data.dataset import Dataset, Part
from striate.data.formats import idx, imagenet
from striate.data.storage import ArrayStorage
from striate.data.tree import open_tree
from striate.errors import DiskFull, EnvironmentProblem, UnknownName
from striate.structures import Task

__all__ = ["NAMES", "SETS", "TASK", "PublicSet", "data_root", "read"]


@dataclass(frozen=True, slots=True)
class PublicSet:
    """What the list of datasets says of one."""

    name: str
    pictures: int
    size: str  # height × width and colour
    classes: int
    source: str
    licence: str
    kind: Literal["idx", "cifar", "imagenet"]  # how it is read
    torchvision: str = ""  # its class in torchvision.datasets; empty: no download, a local copy only
    folder: str = ""  # below the root

    @property
    def description(self) -> str:
        """One line: pictures, size, classes, source, licence."""
        origin = "downloaded on first use" if self.torchvision else "from your own copy"
        facts = f"{self.pictures:,} pictures {self.size}, {self.classes} classes, {origin}"
        return f"{facts}; {self.source}; {self.licence}"


_CIFAR = "Krizhevsky 2009, cs.toronto.edu/~kriz/cifar.html"
_NONE = "no licence stated"

SETS: dict[str, PublicSet] = {
    public.name: public
    for public in (
        PublicSet(
            *("mnist", 70_000, "28×28 gray", 10, "LeCun, Cortes and Burges", _NONE, "idx"),
            torchvision="MNIST",
            folder="MNIST/raw",
        ),
        PublicSet(
            *("fashion-mnist", 70_000, "28×28 gray", 10, "Zalando, arXiv:1708.07747", "MIT", "idx"),
            torchvision="FashionMNIST",
            folder="FashionMNIST/raw",
        ),
        PublicSet(
            *("cifar10", 60_000, "32×32 RGB", 10, _CIFAR, _NONE, "cifar"),
            torchvision="CIFAR10",
            folder="cifar-10-batches-py",
        ),
        PublicSet(
            *("cifar100", 60_000, "32×32 RGB", 100, _CIFAR, _NONE, "cifar"),
            torchvision="CIFAR100",
            folder="cifar-100-python",
        ),
        PublicSet(
            *(
                "imagenet",
                1_331_167,
                "photos",
                1000,
                "ILSVRC 2012, image-net.org",
                "research only",
                "imagenet",
            ),
            folder="imagenet",
        ),
    )
}
NAMES = tuple(SETS)
TASK: Task = "classification"  # of all of them


def data_root(root: str | None = None) -> Path:
    """Where public sets lie: `root`, else $STRIATE_DATA, else ~/.cache/striate."""
    try:
        return Path(root or os.environ.get("STRIATE_DATA") or "~/.cache/striate").expanduser()
    except RuntimeError:
        raise EnvironmentProblem(
            "STRIATE_DATA", "is not set, and there is no home folder", "set it to a folder for datasets"
        ) from None


def read(name: str, root: str | None = None) -> Dataset:
    """The set `name` with parts train and test (imagenet: train and val), downloaded if it is nowhere.

    Raises UnknownName for a name that is not in NAMES, EnvironmentProblem saying where to put the files
    if they cannot be downloaded, DataError if those that are there are damaged.
    """
    if name not in SETS:
        raise UnknownName("public dataset", name, NAMES)
    public, folder = SETS[name], data_root(root)
    readers = {"idx": _read_idx, "cifar": _read_cifar, "imagenet": _read_imagenet}
    return replace(readers[public.kind](public, folder), name=name)


def _read_idx(public: PublicSet, root: Path) -> Dataset:
    for folder in (root / public.folder, root / public.name):
        if folder.is_dir() and idx.recognise(tree := open_tree(folder)):
            return idx.read(tree)
    _downloaded(public, root, lambda kind: kind(str(root), download=True))
    return idx.read(open_tree(root / public.folder))


def _read_imagenet(public: PublicSet, root: Path) -> Dataset:
    for folder in (root / public.folder, root):
        if folder.is_dir() and imagenet.recognise(tree := open_tree(folder)):
            return imagenet.read(tree)
    raise EnvironmentProblem(
        public.name,
        f"is not below {root}, and cannot be downloaded without an account at image-net.org",
        f"give your copy as a path (./imagenet), or link it as {root / public.folder}",
    )


def _read_cifar(public: PublicSet, root: Path) -> Dataset:
    parts: list[tuple[Part, ArrayStorage, Any]] = []
    classes: tuple[str, ...] = ()
    sides: tuple[tuple[Part, bool], ...] = (("train", True), ("test", False))
    for part, is_train in sides:
        source = _cifar_part(public, root, is_train)
        storage = ArrayStorage(np.ascontiguousarray(source.data), f"{public.name}-{part}")
        parts.append((part, storage, np.array(source.targets, np.uint8)))
        classes = tuple(source.classes)
    return idx.array_dataset(public.name, public.name, classes, parts)


def _cifar_part(public: PublicSet, root: Path, is_train: bool) -> Any:
    """torchvision's dataset; it compares every file with its checksum before it unpickles any."""

    def build(kind: Callable[..., Any], download: bool) -> Any:
        with warnings.catch_warnings():
            # NumPy 2.4 warns of how these files spell a data type; they cannot be changed.
            warnings.simplefilter("ignore")
            return kind(str(root), train=is_train, download=download)

    if (root / public.folder).is_dir():
        try:
            return build(_torchvision(public), download=False)
        except RuntimeError:
            pass  # incomplete: the download below says what it is worth
    return _downloaded(public, root, lambda kind: build(kind, download=True))


def _downloaded(public: PublicSet, root: Path, build: Callable[[Callable[..., Any]], Any]) -> Any:
    """What `build` makes of torchvision's class, with every failure in words."""
    kind = _torchvision(public)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Standard output is for results; progress goes where messages go.
        with contextlib.redirect_stdout(sys.stderr):
            return build(kind)
    except (OSError, RuntimeError, EOFError) as error:
        if isinstance(error, OSError) and DiskFull.is_cause(error):
            raise DiskFull(
                root, f"no room for {public.name}", "free some room or choose another root"
            ) from None
        reason = " ".join(str(error).split())[:200]
        raise EnvironmentProblem(
            public.name,
            f"is not complete below {root} and could not be downloaded ({reason})",
            f"put its files into {root / public.folder} by hand, or set STRIATE_DATA to where they are",
        ) from None


def _torchvision(public: PublicSet) -> Callable[..., Any]:
    try:
        import torchvision.datasets
    except ModuleNotFoundError:
        raise EnvironmentProblem(
            public.name, "fetching it needs torchvision", "pip install 'striate[train]'"
        ) from None
    kind: Callable[..., Any] = getattr(torchvision.datasets, public.torchvision)
    return kind
