import pytest
import torch

from striate.errors import UsageError
from striate.layers.fixed_size import FixedSize
from striate.structures import Preprocess


def test_pictures_of_the_size_pass_unchanged() -> None:
    images = torch.zeros(2, 3, 8, 6, dtype=torch.uint8)
    assert FixedSize(Preprocess(size=(8, 6), fit="stretch"))(images) is images


def test_pictures_of_another_size_are_refused_with_both_sizes() -> None:
    with pytest.raises(UsageError, match="takes pictures of 8x6, got 6x8"):
        FixedSize(Preprocess(size=(8, 6), fit="stretch"))(torch.zeros(1, 3, 6, 8))


def test_a_size_that_leaves_no_map_is_refused_on_creation() -> None:
    FixedSize(Preprocess(size=(8, 9), fit="stretch"), at_least=8)
    with pytest.raises(UsageError, match="needs 9 pixels a side, got 8x9"):
        FixedSize(Preprocess(size=(8, 9), fit="stretch"), at_least=9)
