"""Outlines: which pixels a polygon and run lengths hold, worked by hand, and what lies on top."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from striate.data.outlines import (
    Annotation,
    Outlined,
    OutlineMasks,
    inside_polygon,
    inside_runs,
    unpacked_counts,
)
from striate.errors import DataError

SQUARE = [1, 1, 3, 1, 3, 3, 1, 3]


def painted(*annotations: tuple[int, object, bool], height: int = 4, width: int = 5) -> list[list[int]]:
    """The mask of objects (class id, outline, crowd), numbered from 0."""
    objects = tuple(
        Annotation(str(number), class_id, json.dumps(outline).encode(), is_crowd)
        for number, (class_id, outline, is_crowd) in enumerate(annotations)
    )
    rows: list[list[int]] = (
        OutlineMasks({"a": Outlined("list.json", height, width, objects)}).mask("a").tolist()
    )
    return rows


def test_a_pixel_is_inside_if_its_centre_is() -> None:
    assert inside_polygon(np.array([(1, 1), (3, 1), (3, 3), (1, 3)], float), 4, 4).astype(int).tolist() == [
        [0, 0, 0, 0],
        [0, 1, 1, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 0],
    ]
    # From 0.6 to 2.4: the centres 0.5 and 2.5 are outside.
    narrow = np.array([(0.6, 0), (2.4, 0), (2.4, 1), (0.6, 1)])
    assert inside_polygon(narrow, 1, 4).astype(int).tolist() == [[0, 1, 0, 0]]


def test_a_triangle_is_cut_along_its_slope() -> None:
    # The line x = 4 - y: at y = 0.5 up to 3.5, where the last centre lies just on it.
    triangle = np.array([(0, 0), (4, 0), (0, 4)], float)
    assert inside_polygon(triangle, 4, 4).astype(int).tolist() == [
        [1, 1, 1, 0],
        [1, 1, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_a_part_that_is_run_round_twice_is_outside() -> None:
    # By the even-odd rule two equal turns cancel.
    twice = np.array([(0, 0), (2, 0), (2, 2), (0, 2)] * 2, float)
    assert not inside_polygon(twice, 2, 2).any()


def test_a_polygon_that_leaves_the_picture_is_cut() -> None:
    assert painted((1, [[-5, -5, 2, -5, 2, 2, -5, 2]], False), height=3, width=3) == [
        [1, 1, 0],
        [1, 1, 0],
        [0, 0, 0],
    ]
    assert not np.any(painted((1, [[10, 10, 20, 10, 20, 20]], False)))


def test_several_polygons_are_one_object() -> None:
    assert painted((3, [SQUARE, [4, 0, 5, 0, 5, 1, 4, 1]], False)) == [
        [0, 0, 0, 0, 3],
        [0, 3, 3, 0, 0],
        [0, 3, 3, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_run_lengths_go_down_the_columns_background_first() -> None:
    assert inside_runs([1, 2, 3], 3, 2).astype(int).tolist() == [[0, 0], [1, 0], [1, 0]]
    assert inside_runs([0, 1, 5], 3, 2).astype(int).tolist() == [[1, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize("counts", [[1, 2, 4], [1, 2], [7, -1], []])
def test_run_lengths_that_do_not_fill_the_picture_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="run lengths come to"):
        inside_runs(counts, 3, 2)


def test_packed_run_lengths_are_unpacked() -> None:
    # Five bits a character above "0", bit 5 for more to come, bit 4 of the last one for the sign:
    # 5 -> "5"; 32 = 0 + more, 1 -> "P1"; 20 = 20 + more, 0 -> "d0". The fourth is 32 - 3: -3 = 29 -> "M".
    assert unpacked_counts("5P1d0M") == [5, 32, 20, 29]


@pytest.mark.parametrize("text", ["P", "5\x7f", "5 ", "P" * 20])
def test_packed_run_lengths_that_are_cut_or_strange_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="run lengths are"):
        unpacked_counts(text)


def test_smaller_objects_lie_on_larger_ones_and_later_on_earlier() -> None:
    row = [0, 0, 5, 0, 5, 1, 0, 1]
    two, also_two = [0, 0, 2, 0, 2, 1, 0, 1], [1, 0, 3, 0, 3, 1, 1, 1]
    mask = painted((4, [two], False), (1, [row], False), (2, [also_two], False), height=1)
    assert mask == [[4, 2, 2, 1, 1]]


def test_crowds_lie_at_the_bottom_however_small() -> None:
    crowd = {"size": [1, 5], "counts": [1, 1, 3]}
    row = [0, 0, 3, 0, 3, 1, 0, 1]
    assert painted((7, crowd, True), (1, [row], False), height=1) == [[1, 1, 1, 0, 0]]
    wide = {"size": [1, 5], "counts": [0, 5]}
    assert painted((7, wide, True), (1, [row], False), height=1) == [[1, 1, 1, 7, 7]]


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[1, 1, 3, 1]], "a polygon of it has 4 numbers"),
        ([[1, 1, 3, 1, 2, 3, 4]], "a polygon of it has 7 numbers"),
        ([[1, 1, 3, 1, 2, 1e300]], "corners far outside"),
        ({"size": [5, 4], "counts": [20]}, "run lengths are of 4x5 pixels, the picture is 5x4"),
        ({"size": [4, 5], "counts": [19]}, "come to 19 of 20 pixels"),
        ({"size": [4, 5], "counts": "P"}, "are cut"),
        ("text", "is no outline"),
        ([["a"]], "is no outline"),
    ],
)
def test_an_outline_that_is_none_is_named_with_its_annotation(outline: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        painted((1, [SQUARE], False), (1, outline, False))
    assert caught.value.where == "list.json: annotation 1"


def test_areas_of_cocos_polygons_are_those_that_it_states(shared_data: Callable[[str], Path]) -> None:
    listed = json.loads((shared_data("coco128") / "instances.json").read_text())
    pictures = {picture["id"]: picture for picture in listed["images"]}
    found, stated = [], []
    for each in listed["annotations"]:
        picture = pictures[each["image_id"]]
        alone = Annotation("", 1, json.dumps(each["segmentation"]).encode(), False)
        size = picture["height"], picture["width"]
        mask = OutlineMasks({"a": Outlined("", *size, (alone,))}).mask("a")
        if each["iscrowd"]:  # its area is counted otherwise; its box is not
            rows, columns = np.nonzero(mask)
            assert [columns.min(), rows.min(), np.ptp(columns), np.ptp(rows)] == each["bbox"]
        elif each["area"] > 1000:
            found.append(int(mask.sum()))
            stated.append(each["area"])
    assert len(found) > 400
    assert sum(found) == pytest.approx(sum(stated), rel=1e-3)
    assert found == pytest.approx(stated, rel=0.05)
