"""Overlaps of masks against hand counts and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, jaccard_score

from striate.errors import DataError, UsageError
from striate.metrics import mean_iou
from striate.metrics.mean_iou import MeanIou
from striate.structures import IGNORE, Segmentation


def mask(*rows: list[int]) -> NDArray[np.uint8]:
    return np.array(rows, np.uint8)


def counted(predicted: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> MeanIou:
    metric = MeanIou(classes)
    names = tuple(map(str, range(classes)))
    metric.update([Segmentation("a.png", predicted, names)], [truth])
    return metric


def test_hand_counted_pixels() -> None:
    truth, predicted = mask([0, 0, 0], [1, 1, IGNORE]), mask([0, 0, 1], [1, 0, 0])
    scores = counted(predicted, truth, 2).compute()
    assert scores.matrix.tolist() == [[2, 1], [1, 1]]
    assert scores.pixels.tolist() == [3, 2]
    assert scores.iou.tolist() == [2 / 4, 1 / 3]
    assert scores.accuracy.tolist() == [2 / 3, 1 / 2]
    assert scores.precision.tolist() == [2 / 3, 1 / 2]
    assert scores.dice.tolist() == [4 / 6, 2 / 4]
    assert scores.mean_iou == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert scores.pixel_accuracy == 3 / 5
    assert scores.class_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.frequency_iou == pytest.approx(3 / 5 * 1 / 2 + 2 / 5 * 1 / 3)


def test_a_pixel_the_network_did_not_see_is_wrong() -> None:
    scores = counted(mask([0, IGNORE, 1]), mask([0, 0, 1]), 2).compute()
    assert scores.unseen.tolist() == [1, 0]
    assert scores.matrix.tolist() == [[1, 0], [0, 1]]
    assert scores.iou.tolist() == [0.5, 1]
    assert scores.pixel_accuracy == 2 / 3


def test_a_pixel_without_a_known_class_does_not_count_whatever_is_predicted() -> None:
    scores = counted(mask([0, 1, IGNORE]), mask([0, IGNORE, IGNORE]), 2).compute()
    assert scores.pixels.tolist() == [1, 0]
    assert scores.mean_iou == scores.pixel_accuracy == 1


def test_a_class_only_ever_predicted_lowers_mean_iou_but_has_no_accuracy() -> None:
    scores = counted(mask([0, 2]), mask([0, 0]), 4).compute()
    assert scores.mean_iou == 0.25
    assert scores.mean_dice == pytest.approx(1 / 3)
    assert scores.class_accuracy == 0.5


@given(st.integers(2, 6), st.integers(0, 2**31))
def test_equals_scikit_learn(classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, random.integers(1, classes + 1), 40, np.uint8).reshape(5, 8)
    predicted = random.integers(0, classes, (5, 8), np.uint8)
    truth[random.random((5, 8)) < 0.2] = IGNORE
    known = truth != IGNORE
    if not known.any():
        return
    scores, flat = counted(predicted, truth, classes).compute(), (truth[known], predicted[known])
    labels = np.arange(classes)
    assert (scores.matrix == confusion_matrix(*flat, labels=labels)).all()
    for mine, theirs in ((scores.iou, jaccard_score), (scores.dice, f1_score)):
        each = theirs(*flat, labels=labels, average=None, zero_division=0)
        np.testing.assert_allclose(mine, each, rtol=1e-14)
    # Without `labels` scikit-learn leaves out what is neither in the truth nor in the prediction.
    macro = [measure(*flat, average="macro", zero_division=0) for measure in (jaccard_score, f1_score)]
    np.testing.assert_allclose((scores.mean_iou, scores.mean_dice), macro, rtol=1e-14)
    present = scores.pixels > 0
    if set(flat[1].tolist()) <= set(flat[0].tolist()) and present.sum() > 1:  # it warns of others
        assert scores.class_accuracy == pytest.approx(balanced_accuracy_score(*flat), rel=1e-14)


def test_large_masks_are_counted_in_chunks_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    truth, predicted = random.integers(0, 3, (2, 7, 9), np.uint8)
    whole = counted(predicted, truth, 3).compute()
    monkeypatch.setattr(mean_iou, "_CHUNK", 10)
    assert (counted(predicted, truth, 3).compute().matrix == whole.matrix).all()


def test_255_classes_fit() -> None:
    truth = np.arange(255, dtype=np.uint8)[None]
    predicted = truth.copy()
    predicted[0, -1] = IGNORE
    scores = counted(predicted, truth, 255).compute()
    assert scores.matrix.diagonal().tolist() == [1] * 254 + [0]
    assert scores.unseen[254] == 1


def test_pictures_merge_to_the_whole_exactly() -> None:
    random = np.random.default_rng(5)
    masks = random.integers(0, 4, (2, 6, 5, 7), np.uint8)
    names = tuple("abcd")
    whole, first, second = MeanIou(4), MeanIou(4), MeanIou(4)
    results = [Segmentation(f"{i}", one, names) for i, one in enumerate(masks[0])]
    whole.update(results, list(masks[1]))
    first.update(results[:2], list(masks[1, :2]))
    second.update(results[2:], list(masks[1, 2:]))
    first.merge(second.state())
    assert (first.compute().matrix == whole.compute().matrix).all()
    assert first.compute().mean_iou == whole.compute().mean_iou


def test_scores_and_metric_do_not_share_memory() -> None:
    metric = counted(mask([0, 1]), mask([0, 1]), 2)
    metric.compute().matrix[:] = 9
    metric.state()["matrix"][:] = 9
    assert metric.compute().matrix.tolist() == [[1, 0], [0, 1]]


def test_another_size_is_refused_with_the_picture() -> None:
    with pytest.raises(DataError, match=r"^a\.png: .*\(1, 2\).*\(2, 1\)"):
        counted(mask([0, 1]), mask([0], [1]), 2)


def test_a_true_class_that_the_model_lacks_is_refused_with_the_picture() -> None:
    with pytest.raises(DataError, match=r"^a\.png: .*class id 2, and there are 2 classes"):
        counted(mask([0, 1]), mask([0, 2]), 2)


def test_scores_of_no_known_pixel_are_refused() -> None:
    with pytest.raises(DataError, match="no pixel of a known class"):
        counted(mask([0]), mask([IGNORE]), 2).compute()


def test_another_number_of_truths_is_refused() -> None:
    with pytest.raises(DataError, match="0 results and 1 truths"):
        MeanIou(2).update([], [mask([0])])


def test_a_state_of_other_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be added"):
        MeanIou(2).merge(MeanIou(3).state())
