"""The detection task: targets, results in the picture's pixels, scores."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.data.preprocess import apply
from striate.errors import DataError, ModelError, NotFiniteError, UsageError
from striate.structures import Detections, Geometry, Objects, Preprocess
from striate.tasks import classification, segmentation
from striate.tasks.detection import (
    COLUMNS,
    HEADLINE,
    SCORE,
    DetectionMetric,
    ResultOptions,
    TargetOptions,
    judge,
    metric,
    result_options,
    results,
    targets,
)

LEFT, RIGHT, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)
HERE = Geometry((64, 64), (64, 64))


def objects(*rows: tuple[tuple[float, ...], int], crowd: tuple[int, ...] = ()) -> Objects:
    return Objects(
        np.array([box for box, _ in rows], np.float32).reshape(-1, 4),
        np.array([label for _, label in rows], np.int64),
        np.isin(np.arange(len(rows)), crowd),
    )


def found(*rows: tuple[tuple[float, ...], float, int], key: str = "a.jpg", classes: str = "xy") -> Detections:
    return Detections(
        key,
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([label for _, _, label in rows], np.int64),
        tuple(classes),
        (64, 64),
        np.arange(len(rows)),
    )


# targets


def test_pictures_are_padded_to_the_fullest() -> None:
    made = targets(
        [objects((LEFT, 1)), objects(), objects((RIGHT, 0), (FAR, 2), crowd=(1,))], TargetOptions(3)
    )
    assert made.boxes.tolist() == [
        [list(LEFT), [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 0, 0]],
        [list(RIGHT), list(FAR)],
    ]
    assert made.labels.tolist() == [[1, 0], [0, 0], [0, 2]]
    assert made.valid.tolist() == [[True, False], [False, False], [True, True]]
    assert made.crowd.tolist() == [[False, False], [False, False], [False, True]]
    assert made.weight.tolist() == [1, 1, 1]
    dtypes = [array.dtype for array in (made.boxes, made.labels, made.valid, made.crowd, made.weight)]
    assert dtypes == [np.float32, np.int64, np.bool_, np.bool_, np.float32]


def test_a_batch_without_an_object_has_one_empty_row() -> None:
    made = targets([objects(), objects()], TargetOptions(1))
    assert made.boxes.shape == (2, 1, 4)
    assert not made.valid.any()
    assert targets([], TargetOptions(1)).boxes.shape == (0, 1, 4)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_class_id_outside_the_classes_is_refused(label: int) -> None:
    with pytest.raises(DataError, match=rf"class id {label} is not in 0\.\.2"):
        targets([objects((LEFT, 0)), objects((LEFT, label))], TargetOptions(3))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("classes", {"classes": 0}),
        ("label_smoothing", {"classes": 2, "smoothing": 0.1}),
        ("balance", {"classes": 2, "class_weights": (1.0, 2.0)}),
    ],
)
def test_target_options_that_boxes_do_not_have_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{name}: "):
        TargetOptions(**options)


# results


def dense(*rows: tuple[tuple[float, ...], float, int]) -> dict[str, NDArray[Any]]:
    """The candidates of one picture."""
    boxes, scores, labels = (np.array(column) for column in zip(*rows, strict=True))
    return {
        "boxes": boxes[None].astype(np.float32),
        "scores": scores[None].astype(np.float32),
        "labels": labels[None].astype(np.int64),
    }


def result_of(made: dict[str, NDArray[Any]], where: Geometry = HERE, **options: Any) -> Detections:
    [result] = results(made, ["a.jpg"], [where], ResultOptions(("x", "y"), **options))
    return result


def test_likely_boxes_that_no_surer_one_of_their_class_covers_stay() -> None:
    made = dense((LEFT, 0.25, 0), ((0, 0, 10, 9), 0.75, 0), (LEFT, 0.5, 1), (FAR, 0.125, 1), (FAR, 0.0, 0))
    result = result_of(made, score_threshold=0.2)
    assert result.boxes.tolist() == [[0, 0, 10, 9], list(LEFT)]
    assert result.scores.tolist() == [0.75, 0.5]
    assert result.labels.tolist() == [0, 1]
    assert result.candidate.tolist() == [1, 2]
    assert (result.key, result.classes, result.size) == ("a.jpg", ("x", "y"), (64, 64))


def test_a_score_of_just_the_threshold_stays_and_one_of_zero_never() -> None:
    made = dense((LEFT, 0.25, 0), (RIGHT, 0.2, 0), (FAR, 0.0, 0))
    assert result_of(made, score_threshold=0.25).candidate.tolist() == [0]
    assert result_of(made, score_threshold=0.0).candidate.tolist() == [0, 1]


def test_the_surest_of_all_classes_are_given_up_to_the_limit() -> None:
    made = dense((LEFT, 0.3, 0), (RIGHT, 0.9, 1), (FAR, 0.6, 0), ((40, 0, 50, 9), 0.9, 0))
    assert result_of(made, detections=3).candidate.tolist() == [1, 3, 2]


def test_boxes_are_in_the_pictures_pixels_and_end_at_its_border() -> None:
    # A picture of 100x200 is 32x64 after 16 rows of padding.
    _, where = apply(Preprocess(size=(64, 64), fit="letterbox"), np.zeros((100, 200, 3), np.uint8))
    made = dense(((-8, 16, 32, 32), 0.9, 0), ((32, 40, 64, 64), 0.8, 1))
    result = result_of(made, where)
    np.testing.assert_allclose(result.boxes, [[0, 0, 100, 50], [100, 75, 200, 100]], atol=1e-4)
    assert result.size == (100, 200)


def test_a_box_beside_the_picture_is_no_result_and_suppresses_none() -> None:
    _, where = apply(Preprocess(size=(64, 64), fit="letterbox"), np.zeros((32, 64, 3), np.uint8))
    made = dense(((0, 0, 64, 16), 0.9, 0), ((0, 0, 64, 17), 0.8, 0), ((70, 20, 90, 30), 0.9, 0))
    result = result_of(made, where)
    assert result.candidate.tolist() == [1]
    assert result.boxes.tolist() == [[0, 0, 64, 1]]


def test_suppression_measures_in_the_input() -> None:
    # Two boxes that reach out of the picture alike overlap by 1/3 in the input, and wholly in the picture.
    made = dense(((-40, 0, 8, 8), 0.9, 0), ((0, 0, 8, 8), 0.8, 0))
    assert len(result_of(made)) == 2


def test_a_picture_without_a_likely_box_has_an_empty_result() -> None:
    result = result_of(dense((LEFT, 0.001, 0)))
    assert len(result) == 0
    assert result.boxes.shape == (0, 4)


def test_each_picture_of_a_batch_has_its_own() -> None:
    one, other = dense((LEFT, 0.9, 0), (FAR, 0.5, 1)), dense((RIGHT, 0.4, 1), (FAR, 0.8, 1))
    both = {name: np.concatenate((one[name], other[name])) for name in one}
    where = [HERE, Geometry((128, 64), (64, 64), 1.0, 0.5)]
    first, second = results(both, ["a", "b"], where, ResultOptions(("x", "y")))
    assert first.boxes.tolist() == [list(LEFT), list(FAR)]
    assert second.boxes.tolist() == [[50, 100, 60, 120], [20, 0, 30, 20]]
    assert results({name: array[:0] for name, array in one.items()}, [], [], ResultOptions(("x",))) == []


@pytest.mark.parametrize("name", ["boxes", "scores"])
def test_a_value_that_is_not_finite_is_refused_with_its_picture(name: str) -> None:
    made = dense((LEFT, 0.9, 0))
    made[name][..., 0] = np.nan
    with pytest.raises(NotFiniteError, match=r"^a\.jpg: "):
        result_of(made)


def test_scores_and_labels_that_cannot_be_are_refused() -> None:
    with pytest.raises(ModelError, match=r"^a\.jpg: it gets scores of 0\.9 to 1\.5"):
        result_of(dense((LEFT, 0.9, 0), (LEFT, 1.5, 0)))
    with pytest.raises(ModelError, match=r"^a\.jpg: it gets class ids 0\.\.2 of 2 classes"):
        result_of(dense((LEFT, 0.9, 0), (LEFT, 0.5, 2)))


@pytest.mark.parametrize(
    ("name", "shape"), [("boxes", (1, 2, 5)), ("scores", (1, 3)), ("labels", (2,)), ("boxes", (2, 2, 4))]
)
def test_arrays_of_other_shapes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    made = dense((LEFT, 0.9, 0), (RIGHT, 0.5, 1))
    made[name] = np.zeros(shape, made[name].dtype)
    with pytest.raises(ModelError, match=r"give boxes \(B, M, 4\), scores and labels \(B, M\)"):
        result_of(made)


def test_options_come_from_the_networks_settings() -> None:
    settings = {"score_threshold": 0.2, "nms_threshold": 0.4, "detections": 7, "per_class": 3, "anchors": [1]}
    assert result_options(("x",), settings) == ResultOptions(("x",), 0.2, 0.4, 7)
    assert result_options(("x",), {}) == ResultOptions(("x",))
    assert classification.result_options(("x",), settings) == classification.ResultOptions(("x",))
    assert segmentation.result_options(("x",), settings) == segmentation.ResultOptions(("x",))


@pytest.mark.parametrize(
    "options", [{"score_threshold": 1.5}, {"score_threshold": -0.1}, {"nms_threshold": 0}, {"detections": 0}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{next(iter(options))}: "):
        ResultOptions(("x",), **options)


# scores


def scored() -> DetectionMetric:
    """Two of three x found, one of them as y; a y that is not there; z is nowhere."""
    seen = metric(("x", "y", "z"))
    seen.update(
        [
            found((LEFT, 0.75, 0), (RIGHT, 0.5, 1), (FAR, 0.25, 1), key="a.jpg", classes="xyz"),
            found(key="b.jpg", classes="xyz"),
        ],
        [objects((LEFT, 0), (RIGHT, 0), (FAR, 1)), objects((FAR, 0))],
    )
    return seen


def test_scores_worked_by_hand() -> None:
    scores = scored().compute()
    assert scores.classes == (
        {
            "name": "x",
            "ap": pytest.approx(34 / 101),  # precision 1 up to a recall of 1/3
            "ap50": pytest.approx(34 / 101),
            "precision": 1.0,
            "recall": 1 / 3,
            "threshold": 0.75,
            "objects": 3,
        },
        {
            "name": "y",
            "ap": pytest.approx(1 / 2),
            "ap50": pytest.approx(1 / 2),
            "precision": 1 / 2,
            "recall": 1.0,
            "threshold": 0.25,
            "objects": 1,
        },
        {
            "name": "z",
            "ap": None,
            "ap50": None,
            "precision": None,
            "recall": None,
            "threshold": None,
            "objects": 0,
        },
    )
    expected = {
        "ap50": (34 / 101 + 1 / 2) / 2,
        "voc07_ap50": (4 / 11 + 1 / 2) / 2,
        "voc10_ap50": (1 / 3 + 1 / 2) / 2,
        "ar100": (1 / 3 + 1) / 2,
        "best_threshold": 0.25,  # F1 2/5, 2/6, 4/7
    }
    assert {name: scores.values[name] for name in expected} == pytest.approx(expected)
    assert scores.class_names == ("x", "y", "z", "background")
    assert scores.confusion.tolist() == [[1, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert scores.worst_pairs() == (("x", "y", 1), ("x", "background", 1))


def test_what_is_not_defined_is_left_out() -> None:
    values = scored().compute().values
    assert {"ap_medium", "ap_large", "ar_large"}.isdisjoint(values)
    assert all(0 <= value <= 1 for value in values.values())


def test_where_nothing_is_right_no_threshold_is_best_and_every_box_is_a_mistake() -> None:
    seen = metric(("x", "y"))
    seen.update([found((FAR, 0.9, 0), (FAR, 0.1, 1))], [objects((LEFT, 0))])
    scores = seen.compute()
    assert "best_threshold" not in scores.values
    assert (scores.classes[0]["precision"], scores.classes[0]["recall"]) == (0.0, 0.0)
    assert scores.classes[0]["threshold"] is None
    assert scores.confusion.tolist() == [[0, 0, 1], [0, 0, 0], [1, 1, 0]]


def test_what_is_shown_first_and_in_the_table_is_there() -> None:
    scores = scored().compute()
    assert SCORE in {key for key, _ in HEADLINE} <= set(scores.values)
    assert {key for key, _ in COLUMNS} < set(scores.classes[0])
    assert [label for label, _ in scores.headline] == ["AP50", "AP", "AR100"]


def test_scores_are_plain_data_for_json() -> None:
    plain = json.loads(json.dumps(scored().compute().to_dict(), allow_nan=False))
    assert set(plain) == {"metrics", "classes", "confusion", "curves"}
    assert plain["classes"][2]["ap"] is None
    assert [curve["name"] for curve in plain["curves"]["classes"]] == ["x", "y", "z"]
    assert plain["curves"]["classes"][0]["precision"][:36:35] == [1.0, 0.0]
    assert len(plain["curves"]["recall"]) == 101


def test_a_metric_shared_out_has_the_scores_of_one() -> None:
    first, second = metric(("x", "y", "z")), metric(("x", "y", "z"))
    second.update([found(key="b.jpg", classes="xyz")], [objects((FAR, 0))])
    rows = ((LEFT, 0.75, 0), (RIGHT, 0.5, 1), (FAR, 0.25, 1))
    first.update([found(*rows, classes="xyz")], [objects((LEFT, 0), (RIGHT, 0), (FAR, 1))])
    second.merge(first.state())
    assert second.compute().to_dict() == scored().compute().to_dict()


@pytest.mark.parametrize("truths", [objects(), objects((LEFT, 0), crowd=(0,))])
def test_without_an_object_there_is_no_score(truths: Objects) -> None:
    seen = metric(("x", "y"))
    seen.update([found((LEFT, 0.9, 0))], [truths])
    with pytest.raises(DataError, match="no object was measured"):
        seen.compute()


def test_one_picture_is_judged_box_by_box() -> None:
    what = judge(found((LEFT, 0.9, 0), (RIGHT, 0.8, 1), (FAR, 0.2, 1)), objects((RIGHT, 0), (LEFT, 0)), 0.5)
    assert what.hits.tolist() == [[0, 1]]
    assert what.confused.tolist() == [[1, 0]]
    assert what.false.tolist() == what.missed.tolist() == []
