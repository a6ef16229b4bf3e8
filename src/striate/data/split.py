"""Parts for a dataset that lacks some: stratified, seeded, whatever the order of the files.

Within each class, pictures are ordered by a hash of (seed, key) and the first of them are taken, so a
picture that is added later moves few of the others. A picture with boxes of several classes counts as one of
the rarest of them, so that rare classes get into every part; those without any box are a class of their own.
Pictures with masks, of many classes each, are ordered all together. How many each class gives is apportioned
by largest remainder, so that the total is exact; every class keeps at least one picture in train. Pictures of
equal content stay together. Parts that the source states are never changed.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from striate.config import Settings
from striate.data.dataset import PARTS, Dataset, Item, Part
from striate.errors import UsageError

__all__ = ["SplitConfig", "complete"]

_UNLABELLED = -1
# Equal pictures with different labels are a mistake in the data: nothing should be measured on them.
_CONTRADICTED = -2
_WITHOUT_BOXES = -3
_LONG_NAMES = {"train": "training", "val": "validation", "test": "test"}


class SplitConfig(Settings, frozen=True):
    """How much of the training pictures becomes a part that is missing."""

    val_fraction: float = 0.1  # 0..1; of the pictures there are to train on; 0: none
    test_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UsageError(f"split.{name}", f"{value!r} is out of range", "give a fraction of 0 to 1")
        if self.val_fraction + self.test_fraction >= 1:
            raise UsageError(
                "split",
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave no training",
                "let their sum stay below 1",
            )


class _Unit(NamedTuple):
    """Pictures that go together: one, or several of equal content."""

    order: bytes  # hash that decides who is taken first
    label: int  # _UNLABELLED where there is none
    indices: tuple[int, ...]


def complete(dataset: Dataset, config: SplitConfig, groups: NDArray[np.int64] | None = None) -> Dataset:
    """`dataset` with a part for every item, and a note that says what was done.

    A part that no item has is taken from the training pictures: those of part "train" and those that
    state none. A dataset of nothing but test or validation pictures stays as it is. `groups` (len(dataset),)
    marks equal content by equal values, -1 for pictures that are like no other.
    """
    if groups is not None and len(groups) != len(dataset):
        raise ValueError(f"{len(groups)} groups for {len(dataset)} items")
    stated = {item.part for item in dataset.items}
    pool = [index for index, item in enumerate(dataset.items) if item.part in ("train", "")]
    fractions: dict[Part, float] = {"test": config.test_fraction, "val": config.val_fraction}
    wanted = {part: fraction for part, fraction in fractions.items() if part not in stated and fraction}
    if not pool:
        return _noted(dataset, _no_training_note(stated)) if dataset.items else dataset
    units = _units(dataset, pool, groups, config.seed)
    taken: dict[int, Part] = {}
    # Test first, so that another val_fraction leaves the test part as it was.
    for part, fraction in wanted.items():
        taken |= dict.fromkeys(_take(units, taken, round(fraction * len(pool)), config.seed), part)
    if not wanted and "" not in stated:
        return dataset
    items = list(dataset.items)
    for index in pool:
        part = taken.get(index, "train")
        if items[index].part != part:
            items[index] = replace(items[index], part=part)
    strata = "the rarest class of each picture" if dataset.task == "detection" else "class"
    return _noted(replace(dataset, items=tuple(items)), _note(stated, wanted, taken, units, config, strata))


def _units(dataset: Dataset, pool: Sequence[int], groups: NDArray[np.int64] | None, seed: int) -> list[_Unit]:
    """The pool as units, in the order in which they are taken."""
    items, labels_of = dataset.items, _labels(dataset, pool)
    together: dict[int, list[int]] = defaultdict(list)
    for index in pool:
        group = -1 if groups is None else int(groups[index])
        together[group if group >= 0 else -1 - index].append(index)
    units = []
    for indices in together.values():
        labels = {labels_of[index] for index in indices}
        label = _CONTRADICTED if len(labels) > 1 else labels.pop()
        order = min(_hash(seed, items[index].key) for index in indices)
        units.append(_Unit(order, label, tuple(indices)))
    return sorted(units, key=lambda unit: unit.order)


def _labels(dataset: Dataset, pool: Sequence[int]) -> dict[int, int]:
    """The class by which each picture of the pool is split."""
    if dataset.task == "detection":
        return _rarest(dataset.items, pool)
    labels = ((index, dataset.items[index].label) for index in pool)
    return {index: _UNLABELLED if label is None else label for index, label in labels}


def _rarest(items: Sequence[Item], pool: Sequence[int]) -> dict[int, int]:
    """For each picture of the pool, of the classes it shows, the one that the fewest pictures show."""
    shown = {
        index: set(objects.labels.tolist()) for index in pool if (objects := items[index].objects) is not None
    }
    pictures = Counter(chain.from_iterable(shown.values()))
    rarest = {
        index: min(labels, key=lambda label: (pictures[label], label), default=_WITHOUT_BOXES)
        for index, labels in shown.items()
    }
    return {index: rarest.get(index, _UNLABELLED) for index in pool}


def _take(units: list[_Unit], taken: Mapping[int, Part], total: int, seed: int) -> list[int]:
    """Indices of about `total` pictures not yet `taken`, in proportion to the classes."""
    free: dict[int, list[_Unit]] = defaultdict(list)
    sizes, left = Counter[int](), Counter[int]()
    for unit in units:
        sizes[unit.label] += len(unit.indices)
        if unit.indices[0] not in taken:
            left[unit.label] += len(unit.indices)
            free[unit.label].append(unit)
    room = {label: 0 if label == _CONTRADICTED else max(0, left[label] - 1) for label in sizes}
    quotas = _apportion(max(total, 1), sizes, room, seed)
    chosen: list[int] = []
    for label, quota in quotas.items():
        count = 0
        for unit in free[label]:
            # One that is too large for what is left stays in train, and the next smaller one goes.
            if count + len(unit.indices) <= quota:
                chosen += unit.indices
                count += len(unit.indices)
    return chosen


def _apportion(total: int, sizes: Mapping[int, int], room: Mapping[int, int], seed: int) -> dict[int, int]:
    """How many of `total` each class gives: its share rounded by largest remainder, at most its room."""
    every = sum(sizes.values())
    shares = {label: total * size / every for label, size in sizes.items()}
    quotas = {label: min(math.floor(share), room[label]) for label, share in shares.items()}

    def urgency(label: int) -> tuple[float, bytes]:
        # Equal remainders are the rule where classes are equally large: a hash decides then.
        return quotas[label] - shares[label], _hash(seed, f"class {label}")

    while missing := total - sum(quotas.values()):
        open_labels = sorted((label for label in sizes if quotas[label] < room[label]), key=urgency)
        if not open_labels:
            break
        for label in open_labels[:missing]:
            quotas[label] += 1
    return quotas


def _hash(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=8).digest()


def _note(
    stated: set[Part],
    wanted: Mapping[Part, float],
    taken: Mapping[int, Part],
    units: list[_Unit],
    config: SplitConfig,
    strata: str,
) -> str:
    sizes = Counter(taken.values())
    pool_size = sum(len(unit.indices) for unit in units)
    shares = [
        f"{100 * wanted[part]:g} % {part} ({_pictures(sizes[part])})" for part in PARTS if part in wanted
    ]
    is_stratified = any(unit.label != _UNLABELLED for unit in units)
    how = f"{f'stratified by {strata}' if is_stratified else 'at random'}, seed {config.seed}"
    if together := sum(len(unit.indices) for unit in units if len(unit.indices) > 1):
        how += f", {_pictures(together)} of repeated content kept together"
    if stated == {""}:
        rest = _pictures(pool_size - len(taken))
        return f"no parts found: split into {', '.join([f'train ({rest})', *shares])}, {how}"
    sentences = []
    if shares:
        names = " and ".join(_LONG_NAMES[part] for part in PARTS if part in wanted)
        sentences.append(f"no {names} part found: took {' and '.join(shares)} from train, {how}")
    if "" in stated:
        sentences.append("pictures without a stated part belong to train")
    return "; ".join(sentences)


def _no_training_note(stated: set[Part]) -> str:
    names = " and ".join(_LONG_NAMES[part] for part in PARTS if part in stated)
    return f"there are only {names} pictures: nothing to train on"


def _pictures(count: int) -> str:
    return f"{count:,} picture{'' if count == 1 else 's'}"


def _noted(dataset: Dataset, note: str) -> Dataset:
    return replace(dataset, notes=(*dataset.notes, note))
