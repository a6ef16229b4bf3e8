"""A network's input in the colours that the picture had."""

from typing import Any

import numpy as np
import pytest

from striate.data.preprocess import apply
from striate.explain.colours import as_seen
from striate.structures import Preprocess


@pytest.mark.parametrize("color", ["rgb", "gray", "hsv"])
def test_what_is_prepared_is_shown_in_the_colours_it_had(color: Any) -> None:
    red_and_gray = np.array([[[200, 0, 0], [90, 90, 90]]], np.uint8)
    one = (0.5,) if color == "gray" else (0.5, 0.5, 0.5)
    spec = Preprocess(fit="none", color=color, mean=one, std=one)
    shown = as_seen(spec, apply(spec, red_and_gray)[0])
    luma = np.array([[[60], [90]]], np.uint8)  # of ITU-R 601
    np.testing.assert_array_equal(shown, luma if color == "gray" else red_and_gray)
