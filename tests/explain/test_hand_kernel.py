"""A kernel by hand on a picture, sums checked by hand."""

import numpy as np
import pytest

from striate.errors import DataError, UnknownName, UsageError
from striate.explain.hand_kernel import KERNELS, hand_kernel, parse_kernel


def step() -> np.ndarray:  # type: ignore[type-arg]
    """4 x 6, dark at the left and bright from column 3 on."""
    image = np.zeros((4, 6, 1), np.uint8)
    image[:, 3:] = 100
    return image


def test_sobel_answers_at_the_edge_with_its_sum() -> None:
    found = hand_kernel(step(), "sobel-x")
    # (1 + 2 + 1) x 100 where the window's right column is bright and its left dark.
    assert found.map.tolist() == [[0, 400, 400, 0], [0, 400, 400, 0]]
    best = found.answers[0]
    assert (best.row, best.column, best.total) == (0, 1, 400.0)
    assert best.window.tolist() == [[0, 0, 100]] * 3
    text = "\n".join(found.lines())
    assert "rows 0-2, columns 1-3" in text
    assert "-2*0 + 0*0 + 2*100 = 200" in text
    assert "total = 400" in text


def test_windows_that_are_told_do_not_overlap() -> None:
    found = hand_kernel(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8), "sharpen", most=5)
    places = [(answer.row, answer.column) for answer in found.answers]
    assert len(places) == 5
    for number, (row, column) in enumerate(places):
        for other_row, other_column in places[:number]:
            assert abs(row - other_row) >= 3 or abs(column - other_column) >= 3
    totals = [abs(answer.total) for answer in found.answers]
    assert totals == sorted(totals, reverse=True)


def test_blur_keeps_a_flat_picture_and_colours_become_luma() -> None:
    flat = np.full((5, 5, 3), (255, 0, 0), np.uint8)
    found = hand_kernel(flat, "blur")
    np.testing.assert_allclose(found.map, 76)  # round(0.299 x 255)
    assert sum(map(sum, KERNELS["blur"])) == 1.0


def test_the_kernel_is_not_flipped() -> None:
    dot = np.zeros((3, 3, 1), np.uint8)
    dot[0, 2] = 1
    matrix = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert hand_kernel(dot, matrix).map.item() == 3.0


def test_a_file_is_rows_of_numbers() -> None:
    parsed = parse_kernel("# edge\n-1, 0, 1\n\n-2 0 2  # middle\n-1 0 1\n", "k.txt")
    np.testing.assert_array_equal(parsed, KERNELS["sobel-x"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 2\nthree 4", "line 2 is not numbers alone"),
        ("1 2\n3", r"its rows have \[1, 2\] numbers"),
        ("# nothing\n", "it has no rows of numbers"),
        ("1 nan", "one of its numbers is not finite"),
        (" ".join(["1"] * 32), "it has 1x32 values, 31 a side is most"),
    ],
)
def test_what_is_no_kernel_is_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=f"k.txt: {problem}"):
        parse_kernel(text, "k.txt")


def test_unknown_names_and_small_pictures_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean sobel-y or sobel-x"):
        hand_kernel(step(), "sobel-z")
    with pytest.raises(DataError, match="it has 2x2 pixels, the kernel 3x3"):
        hand_kernel(np.zeros((2, 2, 1), np.uint8), "blur")
    with pytest.raises(DataError, match="float64"):
        hand_kernel(np.zeros((4, 4, 1)), "blur")  # type: ignore[arg-type]


def test_a_picture_without_an_answer_has_none() -> None:
    found = hand_kernel(np.full((4, 4, 1), 9, np.uint8), "sobel-y")
    assert found.answers == ()
    assert found.to_dict()["map"] == {"size": [2, 2], "min": 0.0, "max": 0.0}
