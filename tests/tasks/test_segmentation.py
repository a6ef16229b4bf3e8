"""The segmentation task: targets, results at the picture's size, scores, mask files."""

import io
import json

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from striate.errors import DataError, ModelError, NotFiniteError, UsageError
from striate.structures import IGNORE, Geometry, Segmentation
from striate.tasks.segmentation import (
    COLUMNS,
    HEADLINE,
    SCORE,
    ResultOptions,
    SegmentationMetric,
    TargetOptions,
    draw,
    index_image,
    metric,
    palette,
    results,
    targets,
)

HERE = Geometry((2, 3), (2, 3))


def mask(*rows: list[int]) -> NDArray[np.uint8]:
    return np.array(rows, np.uint8)


# targets


def test_pixels_weigh_1_and_those_of_no_known_class_0() -> None:
    labels = mask([0, 1], [IGNORE, 1])[None]
    made = targets(labels, TargetOptions(2))
    assert made.labels is labels
    assert made.weight.tolist() == [[[1, 1], [0, 1]]]
    assert made.weight.dtype == np.float32


def test_class_weights_follow_the_pixel() -> None:
    made = targets(mask([0, 1, IGNORE])[None], TargetOptions(2, class_weights=(0.5, 3.0)))
    assert made.weight.tolist() == [[[0.5, 3.0, 0]]]


def test_a_class_id_outside_the_classes_is_refused() -> None:
    with pytest.raises(DataError, match=r"class id 2 is not in 0\.\.1"):
        targets(mask([0, 2, IGNORE])[None], TargetOptions(2))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("classes", {"classes": 0}),
        ("classes", {"classes": 256}),
        ("class_weights", {"classes": 2, "class_weights": (1.0,)}),
        ("class_weights", {"classes": 2, "class_weights": (1.0, float("nan"))}),
        ("label_smoothing", {"classes": 2, "smoothing": 0.1}),
    ],
)
def test_target_options_out_of_range_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"^{name}: "):
        TargetOptions(**options)  # type: ignore[arg-type]


# results


def test_the_largest_logit_is_the_class_of_the_pixel() -> None:
    logits = np.zeros((1, 3, 2, 3), np.float32)
    logits[0, 1, 0, 0] = logits[0, 2, 1, 2] = 1
    [result] = results({"logits": logits}, ["a.png"], [HERE], ResultOptions(("x", "y", "z")))
    assert result.mask.tolist() == [[1, 0, 0], [0, 0, 2]]
    assert (result.key, result.classes) == ("a.png", ("x", "y", "z"))


def test_pictures_of_one_batch_keep_their_own_sizes() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 2, 8, 8))
    sizes = [Geometry((4, 16), (8, 8), 0.5, 2.0), Geometry((8, 8), (8, 8))]
    found = results({"logits": logits}, ["a", "b"], sizes, ResultOptions(("x", "y")))
    assert [result.mask.shape for result in found] == [(4, 16), (8, 8)]
    assert (found[1].mask == logits[1].argmax(0)).all()


def test_half_precision_and_other_memory_orders_give_the_same_mask() -> None:
    logits = np.random.default_rng(0).normal(0, 4, (1, 5, 6, 7)).astype(np.float16)
    where, options = [Geometry((12, 14), (6, 7), 0.5, 0.5)], ResultOptions(tuple("abcde"))
    plain = results({"logits": logits.astype(np.float32)}, ["a"], where, options)
    channels_last = np.ascontiguousarray(logits.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert (results({"logits": channels_last}, ["a"], where, options)[0].mask == plain[0].mask).all()


def test_a_logit_that_is_not_finite_is_refused_with_its_picture() -> None:
    logits = np.zeros((2, 2, 2, 3), np.float32)
    logits[1, 0, 1, 1] = np.nan
    with pytest.raises(NotFiniteError, match=r"^b\.png: "):
        results({"logits": logits}, ["a.png", "b.png"], [HERE, HERE], ResultOptions(("x", "y")))


@pytest.mark.parametrize("shape", [(1, 3, 2, 3), (2, 2, 2, 3), (1, 2, 3)])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"expected \(1, 2, 'H', 'W'\)"):
        results({"logits": np.zeros(shape)}, ["a"], [HERE], ResultOptions(("x", "y")))


# scores


def scored(predicted: NDArray[np.uint8], truth: NDArray[np.uint8], classes: str = "ab") -> SegmentationMetric:
    seen = metric(tuple(classes))
    seen.update([Segmentation("a.png", predicted, tuple(classes))], [truth])
    return seen


def test_scores_worked_by_hand() -> None:
    scores = scored(mask([0, 0, 1], [1, 2, 2]), mask([0, 0, 0], [1, 2, IGNORE]), "abc").compute()
    assert scores.values == {
        "mean_iou": pytest.approx((2 / 3 + 1 / 2 + 1) / 3),
        "pixel_accuracy": pytest.approx(4 / 5),
        "class_accuracy": pytest.approx((2 / 3 + 1 + 1) / 3),
        "dice": pytest.approx((4 / 5 + 2 / 3 + 1) / 3),
        "frequency_iou": pytest.approx(3 / 5 * 2 / 3 + 1 / 5 * 1 / 2 + 1 / 5),
    }
    assert scores.classes[0] == {
        "name": "a",
        "iou": pytest.approx(2 / 3),
        "accuracy": pytest.approx(2 / 3),
        "precision": 1.0,
        "dice": pytest.approx(4 / 5),
        "share": 3 / 5,
        "pixels": 3,
    }
    assert scores.worst_pairs() == (("a", "b", 1),)


def test_two_classes_have_a_pixel_error() -> None:
    scores = scored(mask([0, 1, 1, 1]), mask([0, 0, 1, 1])).compute()
    assert scores.values["pixel_error"] == pytest.approx(1 / 4)


def test_what_is_shown_first_and_in_the_table_is_there() -> None:
    scores = scored(mask([0, 1]), mask([0, 1])).compute()
    assert HEADLINE[0][0] == SCORE
    assert {key for key, _ in HEADLINE} <= set(scores.values)
    assert {key for key, _ in COLUMNS} < set(scores.classes[0])


def test_scores_survive_json() -> None:
    data = json.loads(
        json.dumps(scored(mask([0, IGNORE]), mask([0, 1])).compute().to_dict(), allow_nan=False)
    )
    assert set(data) == {"metrics", "classes", "confusion", "unseen"}
    assert data["confusion"] == [[1, 0], [0, 0]]
    assert data["unseen"] == [0, 1]
    assert [row["pixels"] for row in data["classes"]] == [1, 1]


def test_two_processes_merge_to_one_exactly() -> None:
    first, second = scored(mask([0, 1, 1]), mask([0, 0, 1])), scored(mask([1, 1]), mask([1, 0]))
    whole = scored(mask([0, 1, 1, 1, 1]), mask([0, 0, 1, 1, 0]))
    first.merge(second.state())
    assert first.compute().to_dict() == whole.compute().to_dict()


# mask files


def test_a_mask_file_gives_back_the_ids_and_carries_the_colours() -> None:
    result = Segmentation("a.png", mask([0, 1, 2], [IGNORE, 2, 0]), ("x", "y", "z"))
    file = io.BytesIO()
    index_image(result).save(file, "PNG")
    read = Image.open(file)
    assert read.mode == "P"
    assert (np.asarray(read) == result.mask).all()
    colors = np.asarray(read.convert("RGB"))
    assert (colors == palette(3)[result.mask]).all()


def test_every_class_has_a_colour_of_its_own_whatever_their_number() -> None:
    colors = palette(255)
    assert colors.shape == (256, 3)
    assert len({tuple(row) for row in colors.tolist()}) == 256
    assert (palette(5)[:5] == colors[:5]).all()
    assert not palette(5)[5:255].any()
    assert palette(2)[1].tolist() == [230, 159, 0]


# drawing


def tinted(size: tuple[int, int], ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return draw(
        np.full((*size, 3), 100, np.uint8), Segmentation("a.png", ids, ("x", "y", "a long name of it"))
    )


def test_pixels_are_mixed_with_the_colour_of_their_class_and_void_is_left() -> None:
    ids = np.zeros((300, 300), np.uint8)
    ids[:, 100:] = 1
    ids[200:] = IGNORE
    drawn = tinted((300, 300), ids)
    assert drawn[50, 50].tolist() == [50, 50, 50]
    assert drawn[50, 200].tolist() == [165, 130, 50]
    assert drawn[250, 50].tolist() == [100, 100, 100]


def test_classes_meet_in_a_dark_line_one_pixel_wide() -> None:
    ids = np.zeros((300, 300), np.uint8)
    ids[:, 100:] = 1
    row = tinted((300, 300), ids)[50].max(axis=1)
    assert row[98:102].tolist() == [50, 12, 165, 165]


@pytest.mark.parametrize("size", [(28, 28), (300, 400), (1, 1), (1500, 20), (20, 1500), (900, 1200)])
def test_a_drawing_is_rgb_of_a_readable_width_with_a_legend(size: tuple[int, int]) -> None:
    ids = np.zeros(size, np.uint8)
    ids[: size[0] // 2] = 2
    drawn = tinted(size, ids)
    assert drawn.dtype == np.uint8
    assert 256 <= drawn.shape[1] <= 1536
    assert drawn[-30:].max() > 200


def test_a_gray_picture_is_drawn_in_colour() -> None:
    ids = np.full((300, 300), 1, np.uint8)
    drawn = draw(np.full((300, 300, 1), 100, np.uint8), Segmentation("a", ids, ("x", "y")))
    assert drawn[50, 50].tolist() == [165, 130, 50]


def test_a_picture_without_any_known_class_is_drawn() -> None:
    drawn = tinted((300, 300), np.full((300, 300), IGNORE, np.uint8))
    assert (drawn[:300] == 100).all()


def test_a_mask_of_another_picture_is_not_drawn() -> None:
    with pytest.raises(DataError, match=r"^a\.png: .*\(300, 300\).*\(2, 2\)"):
        tinted((300, 300), np.zeros((2, 2), np.uint8))
