"""What is used of boxes that do not fit their picture: clipped, left out, and nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from striate.data.box_findings import BoxTable, contents_of, table_of, usable_objects
from striate.data.dataset import Dataset, Item
from striate.data.storage import ArrayStorage
from striate.structures import Objects

SIZE = (10, 20)  # height, width


def objects(*boxes: tuple[float, ...], labels: list[int] | None = None) -> Objects:
    count = len(boxes)
    flags = np.arange(count) % 2 == 1
    ids = np.arange(count) if labels is None else np.array(labels, np.int64)
    return Objects(np.array(boxes, np.float32).reshape(-1, 4), ids, flags, ~flags)


def test_boxes_are_clipped_to_width_and_height_and_those_without_area_left_out() -> None:
    found = usable_objects(
        objects(
            (1, 2, 3, 4),
            (-5, -6, 25, 15),  # beyond every edge
            (20, 0, 30, 5),  # right of the picture
            (4, 4, 4, 8),  # no width
            (6, 6, 5, 9),  # inside out
            (19.5, 9.5, 21, 11),
        ),
        SIZE,
    )
    assert found.boxes.tolist() == [[1, 2, 3, 4], [0, 0, 20, 10], [19.5, 9.5, 20, 10]]
    assert found.labels.tolist() == [0, 1, 5]
    assert found.crowd.tolist() == [False, True, True]
    assert found.difficult.tolist() == [True, False, False]
    assert found.boxes.dtype == np.float32


def test_no_boxes_stay_no_boxes() -> None:
    assert usable_objects(objects(), SIZE).boxes.shape == (0, 4)
    assert len(usable_objects(objects((30, 30, 40, 40)), SIZE)) == 0


@given(st.lists(st.tuples(*[st.floats(-50, 50, width=32)] * 4), max_size=6))
def test_what_is_used_lies_in_the_picture_and_stays_as_it_is(boxes: list[tuple[float, ...]]) -> None:
    found = usable_objects(objects(*boxes), SIZE)
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= [20, 10]).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    again = usable_objects(found, SIZE)
    assert np.array_equal(again.boxes, found.boxes)


def test_a_table_says_of_each_box_whose_it_is() -> None:
    items = (
        Item("a", objects=objects((0, 0, 5, 5), (0, 0, 5, 50))),
        Item("b"),
        Item("c", objects=objects()),
        Item("d", objects=objects((0, 0, 5, 5))),
        Item("e", objects=objects((-5, 0, 5, 5), (30, 0, 40, 5), (1, 1, 2, 2), labels=[2, 1, 2])),
    )
    storage = ArrayStorage(np.zeros((1, 1, 1, 1), np.uint8), "none")
    dataset = Dataset("x", "test", "detection", ("p", "q", "r"), items, storage)
    shapes = np.array([[10, 20, 3], [5, 5, 3], [5, 5, 3], [0, 0, 0], [7, 9, 3]])
    table = table_of(dataset, shapes, shapes[:, 0] > 0)
    assert table.items.tolist() == [0, 0, 4, 4, 4]
    assert table.rows.tolist() == [0, 1, 0, 1, 2]
    assert table.clipped.tolist()[1:4] == [[0, 0, 5, 10], [0, 0, 5, 5], [9, 0, 9, 5]]
    assert table.usable.tolist() == [True, True, True, False, True]
    assert table.of_items(np.array([4])).rows.tolist() == [0, 2]
    assert table.of_items(np.array([0, 4])).first_of_class().labels.tolist() == [0, 1, 2]


def test_a_table_of_no_boxes_is_like_any_other() -> None:
    table = BoxTable.empty()
    assert len(table.of_items(np.array([0])).first_of_class()) == 0


def test_equal_sets_of_boxes_have_equal_contents_in_any_order() -> None:
    one, other = (0, 0, 5, 5), (1, 1, 2, 2)
    first = contents_of(Objects(*_columns([one, other], [0, 1])))
    assert contents_of(Objects(*_columns([other, one], [1, 0]))) == first
    assert contents_of(Objects(*_columns([other, one], [0, 1]))) != first
    assert contents_of(Objects(*_columns([one], [0]))) != first
    crowded = Objects(*_columns([one, other], [0, 1])[:2], np.array([False, True]))
    assert contents_of(crowded) != first


def _columns(boxes: list[tuple[int, ...]], labels: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array(boxes, np.float32), np.array(labels, np.int64), np.zeros(len(boxes), np.bool_)
