"""scikit-learn's digits as a dataset."""

import sys

import numpy as np
import pytest

from striate.data.builtin import digits
from striate.errors import EnvironmentProblem


def test_digits_are_1797_gray_scans_of_ten_classes_without_parts() -> None:
    dataset = digits.read()
    assert len(dataset) == 1797
    assert dataset.classes == tuple("0123456789")
    assert {item.part for item in dataset.items} == {""}
    assert np.bincount(dataset.labels()).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert dataset.sample(17).image.shape == (8, 8, 1)
    assert dataset.sample(17).key == "digits[17]"


def test_the_values_0_to_16_become_0_to_255() -> None:
    from sklearn.datasets import load_digits

    dataset = digits.read()
    pixels = np.stack([dataset.sample(index).image[..., 0] for index in range(len(dataset))])
    scans = load_digits().images
    assert pixels[scans == 0].max() == 0
    assert pixels[scans == 16].min() == 255
    assert set(pixels[scans == 3]) == {48}  # 3 * 255 / 16 = 47.8


def test_missing_scikit_learn_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(EnvironmentProblem, match=r"fix: pip install 'striate\[train\]'"):
        digits.read()
