"""Wrong labels planted among digits, and what out-of-fold probabilities make of them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import striate
from striate.api.label_checking import folds_of
from striate.data.builtin import digits
from striate.data.dataset import Dataset, Item
from striate.errors import DataError, UsageError


class Nothing:
    def content(self, key: str) -> bytes:
        raise AssertionError(key)


def dataset(labels: list[int]) -> Dataset:
    items = tuple(Item(str(number), "train", label) for number, label in enumerate(labels))
    return Dataset("made", "made", "classification", ("a", "b"), items, Nothing())


def test_every_class_is_spread_evenly_over_the_folds() -> None:
    made = dataset([0] * 10 + [1] * 5)
    fold_of = folds_of(made, 5, np.full(15, -1), seed=0)
    pairs = Counter(zip(made.labels().tolist(), fold_of.tolist(), strict=True))
    assert pairs == {(label, fold): 2 - label for label in (0, 1) for fold in range(5)}


def test_pictures_with_equal_pixels_share_a_fold() -> None:
    groups = np.array([0, -1, 0, -1, 4, 4, 0, -1, -1, -1])
    fold_of = folds_of(dataset([0] * 10), 5, groups, seed=3)
    assert len(set(fold_of[groups == 0].tolist())) == 1
    assert fold_of[4] == fold_of[5]
    assert (fold_of >= 0).all()


def test_folds_depend_on_the_seed_alone() -> None:
    made, groups = dataset([0, 1] * 20), np.full(40, -1)
    first, again, other = (folds_of(made, 4, groups, seed).tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """Digits in class folders, 5 % of them in a wrong one, and the paths of those."""
    root, chance, source = tmp_path_factory.mktemp("digits"), np.random.default_rng(7), digits.read()
    chosen = set(chance.choice(len(source), len(source) // 20, replace=False).tolist())
    wrong = set()
    for index, item in enumerate(source.items):
        assert item.label is not None
        label = (item.label + int(chance.integers(1, 10))) % 10 if index in chosen else item.label
        path = Path(str(label)) / f"{index}.png"
        (root / path).parent.mkdir(exist_ok=True)
        Image.fromarray(source.image(index)[:, :, 0]).save(root / path)
        if index in chosen:
            wrong.add(str(path))
    return root, wrong


def test_planted_labels_are_among_the_first_tenth(planted: tuple[Path, set[str]]) -> None:
    root, wrong = planted
    told: list[tuple[int, int]] = []
    options: dict[str, Any] = {"epochs": 2, "workers": 0, "progress": lambda *done: told.append(done)}
    found = striate.label_errors(root, "simple_cnn", folds=3, **options)
    first = {each.key for each in found.suspects[: found.pictures // 10]}
    assert len(first & wrong) >= len(wrong) / 2
    assert 0.85 < found.accuracy < 0.96  # of labels of which 5 % are wrong
    assert told == [(1, 3), (2, 3), (3, 3)]
    suspect = found.suspects[0]
    assert suspect.key.startswith(f"{suspect.label}/")
    assert suspect.probability < suspect.likelier_probability
    assert repr(found).startswith(str(root))


def test_one_fold_and_data_without_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leaves no picture unseen"):
        striate.label_errors("digits", folds=1)
    with pytest.raises(DataError, match="it is data for detection"):
        striate.label_errors("shapes_boxes", folds=2)
