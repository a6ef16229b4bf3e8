import json
from collections.abc import Callable
from typing import Any


def test_the_formula_the_numbers_and_the_result_are_printed(striate: Callable[..., Any]) -> None:
    outcome = striate(
        "calc", "conv", "--in", 224, "--kernel", 7, "--stride", 2, "--padding", 3, "--dilation", 1
    )
    assert outcome.code == 0
    assert "out = floor((in + 2·padding - dilation·(kernel - 1) - 1) / stride) + 1" in outcome.out
    assert "floor((224 + 2·3 - 1·(7 - 1) - 1) / 2) + 1 = floor(111.5) + 1 = 112" in outcome.out


def test_a_pooling_steps_by_its_kernel(striate: Callable[..., Any]) -> None:
    found = json.loads(striate("calc", "pool", "--in", 13, "-k", 3, "--json").out)
    assert (found["stride"], found["output"], found["unused"]) == (3, 4, 1)


def test_an_impossible_window_is_refused(striate: Callable[..., Any]) -> None:
    outcome = striate("calc", "conv", "--in", 4, "-k", 5)
    assert outcome.code == 2
    assert "spans 5 pixels and the padded input has 4" in outcome.err
