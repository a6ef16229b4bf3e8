"""The vocabulary refuses what is inconsistent, and its small sums are right."""

import json
from typing import Any

import numpy as np
import pytest

from striate.errors import DataError, UnknownName, UsageError
from striate.structures import (
    IGNORE,
    Batch,
    Classification,
    ClassTargets,
    Geometry,
    MaskTargets,
    Objects,
    Preprocess,
    Sample,
    Segmentation,
)

# Preprocess ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fit", "squash"),
        ("interpolation", "area"),
        ("color", "cmyk"),
        ("channel_order", "grb"),
        ("size", (0, 10)),
        ("size", (10, 16_385)),
        ("size", (1, 2, 3)),
        ("resize_to", 223),
        ("max_size", 0),
        ("border", -1),
        ("border", 112),
        ("pad_to", 0),
        ("pad_value", 256),
        ("pad_value", -1),
        ("mean", (0.5,)),
        ("mean", (0.5, 0.5, float("nan"))),
        ("std", (0.2, 0.2, 0.0)),
        ("std", (0.2, 0.2)),
        ("scale", 0.0),
        ("scale", float("inf")),
    ],
)
def test_preprocess_refuses_a_wrong_value_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        Preprocess(**{field: value})
    assert caught.value.where in (f"preprocess.{field}", "preprocess.size")
    assert caught.value.fix


def test_preprocess_takes_lists_as_json_gives_them() -> None:
    spec = Preprocess(size=[32, 48], mean=[0, 0, 0], std=[1, 1, 1])  # type: ignore[arg-type]
    assert spec == Preprocess(size=(32, 48), mean=(0, 0, 0), std=(1, 1, 1))
    assert hash(spec) == hash(Preprocess(size=(32, 48), mean=(0, 0, 0), std=(1, 1, 1)))


def test_preprocess_counts_channels_and_the_size_inside_the_border() -> None:
    spec = Preprocess(size=(32, 40), border=2, color="gray", mean=(0.5,), std=(0.5,))
    assert spec.channels == 1
    assert spec.inner_size == (28, 36)
    assert Preprocess(color="hsv").channels == 3


def test_fits_that_end_at_one_size_are_fixed() -> None:
    fixed = {
        fit: Preprocess(fit=fit).is_fixed  # type: ignore[arg-type]
        for fit in ("crop", "stretch", "letterbox", "shorter", "none")
    }
    assert fixed == {"crop": True, "stretch": True, "letterbox": True, "shorter": False, "none": False}


def test_resize_to_need_not_hold_the_border() -> None:
    assert Preprocess(size=(32, 32), border=2, resize_to=28).resize_to == 28
    with pytest.raises(UsageError, match="resize_to"):
        Preprocess(size=(32, 32), border=2, resize_to=27)


# Geometry -----------------------------------------------------------------------------------------------

# A 20 x 10 picture (height 20) at half its height and twice its width, 3 pixels in, 4 down.
MOVED = Geometry(source=(20, 10), input=(18, 26), scale_x=2.0, scale_y=0.5, left=3.0, top=4.0)


def test_boxes_follow_scale_and_offset() -> None:
    box = np.array([[1, 2, 5, 20]], np.float32)
    assert MOVED.boxes_to_input(box).tolist() == [[5, 5, 13, 14]]
    assert MOVED.boxes_to_source(MOVED.boxes_to_input(box)).tolist() == box.tolist()


def test_boxes_are_clipped_to_the_source_and_stay_float32() -> None:
    box = MOVED.boxes_to_source(np.array([[0, 0, 26, 18]], np.float32))
    assert box.tolist() == [[0, 0, 10, 20]]
    assert box.dtype == np.float32


def test_no_boxes_stay_no_boxes() -> None:
    assert MOVED.boxes_to_input(np.zeros((0, 4), np.float32)).shape == (0, 4)


def test_mask_outside_the_picture_is_ignored() -> None:
    mask = MOVED.mask_to_input(np.ones((20, 10), np.uint8))
    expected = np.full((18, 26), IGNORE, np.uint8)
    expected[4:14, 3:23] = 1
    np.testing.assert_array_equal(mask, expected)


def test_mask_comes_back_where_it_was() -> None:
    mask = np.zeros((20, 10), np.uint8)
    mask[6:12, 2:7] = 3
    np.testing.assert_array_equal(MOVED.mask_to_source(MOVED.mask_to_input(mask)), mask)


def test_mask_that_was_cropped_away_comes_back_as_ignored() -> None:
    geometry = Geometry(source=(4, 4), input=(2, 2), left=-1.0, top=-1.0)
    expected = [[255] * 4, [255, 7, 7, 255], [255, 7, 7, 255], [255] * 4]
    assert geometry.mask_to_source(np.full((2, 2), 7, np.uint8)).tolist() == expected


# Objects and samples ------------------------------------------------------------------------------------


def objects(count: int) -> Objects:
    boxes = np.arange(4 * count, dtype=np.float32).reshape(count, 4)
    return Objects(boxes, np.arange(count), np.zeros(count, np.bool_))


def test_objects_count_and_slice_by_row() -> None:
    assert len(objects(3)) == 3
    kept = objects(3)[np.array([True, False, True])]
    assert kept.labels.tolist() == [0, 2]
    assert kept.boxes[1].tolist() == [8, 9, 10, 11]
    assert len(objects(3)[:0]) == 0


def test_objects_refuse_columns_of_unequal_length() -> None:
    with pytest.raises(DataError, match="columns disagree"):
        Objects(np.zeros((2, 4), np.float32), np.zeros(3, np.int64), np.zeros(2, np.bool_))
    with pytest.raises(DataError, match="columns disagree"):
        Objects(np.zeros((2, 5), np.float32), np.zeros(2, np.int64), np.zeros(2, np.bool_))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_objects_refuse_a_coordinate_that_is_not_finite(value: float) -> None:
    with pytest.raises(DataError, match="not finite"):
        Objects(np.array([[0, 0, 1, value]], np.float32), np.zeros(1, np.int64), np.zeros(1, np.bool_))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_sample_refuses_what_is_no_picture_with_its_key(image: Any) -> None:
    with pytest.raises(DataError, match=r"cats/1\.png"):
        Sample("cats/1.png", image)


def test_sample_refuses_a_mask_of_another_size() -> None:
    with pytest.raises(DataError, match=r"^a: its mask has 5x4 pixels, the picture 4x5"):
        Sample("a", np.zeros((5, 4, 3), np.uint8), mask=np.zeros((4, 5), np.uint8))


# Batches and results ------------------------------------------------------------------------------------


def test_batch_maps_every_array_and_nothing_else() -> None:
    batch = Batch(
        images=np.ones((2, 1, 3, 3), np.uint8),
        targets=ClassTargets(np.eye(2, dtype=np.float32), np.ones(2, np.float32)),
        keys=("a", "b"),
        geometry=(MOVED, MOVED),
        extras={"proposals": np.ones((2, 5, 4), np.float32)},
    )
    shapes = batch.map(lambda array: array.shape)
    assert len(batch) == 2
    assert shapes.images == (2, 1, 3, 3)
    assert shapes.targets == ClassTargets((2, 2), (2,))
    assert shapes.extras == {"proposals": (2, 5, 4)}
    assert (shapes.keys, shapes.geometry) == (batch.keys, batch.geometry)


RESULT = Classification("cat.jpg", np.array([0.25, 0.5, 0.25], np.float32), ("ant", "bee", "<cat>"))


def test_classification_lists_the_most_likely_first_and_ties_in_class_order() -> None:
    assert (RESULT.label, RESULT.index, RESULT.confidence) == ("bee", 1, 0.5)
    assert RESULT.top(2) == (("bee", 0.5), ("ant", 0.25))
    assert RESULT[0] == ("bee", 0.5)
    assert [name for name, _ in RESULT] == ["bee", "ant", "<cat>"]
    assert RESULT[1:] == (("ant", 0.25), ("<cat>", 0.25))
    assert len(RESULT) == 3


def test_classification_survives_json() -> None:
    back = Classification.from_dict(json.loads(json.dumps(RESULT.to_dict())))
    assert (back.key, back.classes) == (RESULT.key, RESULT.classes)
    np.testing.assert_array_equal(back.probabilities, RESULT.probabilities)
    assert back.probabilities.dtype == np.float32


def test_classification_refuses_a_probability_too_many() -> None:
    with pytest.raises(DataError, match=r"cat\.jpg.*2 classes and probabilities of shape \(3,\)"):
        Classification("cat.jpg", np.zeros(3, np.float32), ("ant", "bee"))


def test_classification_shows_itself_and_escapes_names() -> None:
    assert str(RESULT).startswith("cat.jpg: bee 50.0%, ant 25.0%")
    assert "&lt;cat&gt;" in RESULT._repr_html_()
    assert "<cat>" not in RESULT._repr_html_()
    assert "50.0%" in RESULT.__rich__()


MASK = Segmentation("street.png", np.array([[0, 0, 2], [2, IGNORE, 2]], np.uint8), ("road", "car", "sky"))


def test_a_mask_tells_the_shares_of_its_classes_largest_first_without_the_unknown() -> None:
    assert list(MASK.shares.items()) == [("sky", 0.6), ("road", 0.4)]
    assert MASK["sky"].tolist() == [[False, False, True], [True, False, True]]
    with pytest.raises(UnknownName, match="skye"):
        MASK["skye"]
    assert "3x2 pixels, 2 of 3 classes" in repr(MASK)
    assert "sky" in MASK._repr_html_()


@pytest.mark.parametrize("mask", [MASK.mask, np.zeros((1, 1), np.uint8), np.full((3, 2), IGNORE, np.uint8)])
def test_a_mask_comes_back_from_its_plain_data(mask: Any) -> None:
    plain = json.loads(json.dumps(Segmentation("a", mask, MASK.classes).to_dict()))
    again = Segmentation.from_dict(plain)
    np.testing.assert_array_equal(again.mask, mask)
    assert (again.key, again.classes) == ("a", MASK.classes)


def test_runs_of_a_mask_go_on_over_the_end_of_a_row() -> None:
    assert MASK.to_dict()["runs"] == [[0, 2], [2, 2], [IGNORE, 1], [2, 1]]


def test_a_mask_refuses_ids_without_a_class_and_other_shapes() -> None:
    with pytest.raises(DataError, match="class id 3, and there are 3 classes"):
        Segmentation("a", np.array([[3]], np.uint8), MASK.classes)
    with pytest.raises(DataError, match="uint8"):
        Segmentation("a", np.zeros((2, 2, 1), np.uint8), MASK.classes)


def test_mask_targets_map_both_arrays() -> None:
    found = MaskTargets(np.array([1]), np.array([0.5])).map(np.ndarray.tolist)
    assert (found.labels, found.weight) == ([1], [0.5])
