import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.errors import UsageError
from striate.ops.sizes import output_size

numbers = st.fixed_dictionaries(
    {
        "size": st.integers(1, 40),
        "kernel": st.integers(1, 7),
        "stride": st.integers(1, 4),
        "padding": st.integers(0, 4),
        "dilation": st.integers(1, 3),
    }
)


def test_the_first_convolution_of_resnet_halves_224() -> None:
    found = output_size(224, 7, stride=2, padding=3)
    assert found.output == 112
    assert found.reach == 7
    assert found.unused == 1
    assert found.worked == "floor((224 + 2·3 - 1·(7 - 1) - 1) / 2) + 1 = floor(111.5) + 1 = 112"


@settings(deadline=None)
@given(numbers)
def test_a_convolution_has_the_size_that_torch_gives(values: dict[str, int]) -> None:
    size, kernel = values.pop("size"), values.pop("kernel")
    try:
        expected = torch.nn.functional.conv1d(
            torch.zeros(1, 1, size), torch.zeros(1, 1, kernel), **values
        ).shape[2]
    except RuntimeError:
        with pytest.raises(UsageError):
            output_size(size, kernel, **values)
    else:
        assert output_size(size, kernel, **values).output == expected


@settings(deadline=None)
@given(numbers, st.booleans())
def test_a_pooling_has_the_size_that_torch_gives(values: dict[str, int], ceil: bool) -> None:
    size, kernel = values.pop("size"), values.pop("kernel")
    values["padding"] = min(values["padding"], kernel // 2)
    try:
        pooled = torch.nn.functional.max_pool1d(torch.zeros(1, 1, size), kernel, ceil_mode=ceil, **values)
    except RuntimeError:
        with pytest.raises(UsageError):
            output_size(size, kernel, kind="pool", ceil=ceil, **values)
    else:
        assert output_size(size, kernel, kind="pool", ceil=ceil, **values).output == pooled.shape[2]


def test_a_kernel_wider_than_the_input_is_refused_with_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"spans 9 pixels and the padded input has 8"):
        output_size(8, 5, dilation=2)
