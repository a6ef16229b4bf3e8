import pytest
import torch

from striate.errors import UsageError
from striate.layers.size_multiple import SizeMultiple
from striate.structures import Preprocess


def test_multiples_pass_unchanged() -> None:
    images = torch.rand(1, 3, 64, 96)
    assert SizeMultiple(Preprocess(size=(32, 32)), 32)(images) is images


def test_other_sizes_are_refused_with_the_nearest() -> None:
    gate = SizeMultiple(Preprocess(size=(32, 32)), 32)
    with pytest.raises(UsageError, match=r"multiples of 32, got 64x100\. fix: use 64x96"):
        gate(torch.zeros(1, 3, 64, 100))
    with pytest.raises(UsageError, match=r"got 5x64\. fix: use 32x64"):
        gate(torch.zeros(1, 3, 5, 64))


def test_a_spec_of_another_size_is_refused_on_creation() -> None:
    with pytest.raises(UsageError, match=r"preprocess.size: .* got 300x320\. fix: use 288x320"):
        SizeMultiple(Preprocess(size=(300, 320)), 32)
