"""The confusion matrix and its scores against hand counts and scikit-learn."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from striate.metrics.confusion import Confusion, worst_pairs
from striate.structures import Classification


def counted(truths: list[int], predicted: list[int], classes: int) -> Confusion:
    names = tuple(map(str, range(classes)))
    rows = np.eye(classes, dtype=np.float32)[np.array(predicted, np.int64)]
    metric = Confusion(classes)
    metric.update([Classification(f"{i}", row, names) for i, row in enumerate(rows)], truths)
    return metric


def test_hand_counted_matrix_has_truths_in_rows() -> None:
    scores = counted([0, 0, 0, 1], [0, 0, 1, 1], 2).compute()
    assert scores.matrix.tolist() == [[2, 1], [0, 1]]
    assert scores.precision.tolist() == [1, 0.5]
    assert scores.recall.tolist() == [2 / 3, 1]
    assert scores.f1.tolist() == [0.8, 2 / 3]
    assert scores.support.tolist() == [3, 1]
    assert scores.macro_precision == 0.75


def test_an_unseen_class_scores_0_and_stays_out_of_the_averages() -> None:
    scores = counted([0, 1], [0, 1], 3).compute()
    assert scores.f1.tolist() == [1, 1, 0]
    assert (scores.macro_precision, scores.macro_recall, scores.macro_f1) == (1, 1, 1)


def test_a_class_only_ever_predicted_pulls_the_average_down() -> None:
    scores = counted([0, 0], [0, 2], 3).compute()
    assert scores.recall.tolist() == [0.5, 0, 0]
    assert scores.macro_recall == 0.25


def test_nothing_counted_scores_0() -> None:
    scores = Confusion(2).compute()
    assert scores.matrix.sum() == 0
    assert scores.macro_f1 == 0


@given(st.integers(1, 7).flatmap(lambda k: st.tuples(st.just(k), st.lists(
    st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=40
))))  # fmt: skip
def test_equals_scikit_learn(case: tuple[int, list[tuple[int, int]]]) -> None:
    classes, pairs = case
    truths, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ours = counted(truths, predicted, classes).compute()
    labels = list(range(classes))
    if classes > 1:  # scikit-learn warns of a single label
        assert (ours.matrix == confusion_matrix(truths, predicted, labels=labels)).all()
    each = precision_recall_fscore_support(truths, predicted, labels=labels, zero_division=0)
    for mine, theirs in zip((ours.precision, ours.recall, ours.f1, ours.support), each, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-15)
    macro = precision_recall_fscore_support(truths, predicted, average="macro", zero_division=0)
    np.testing.assert_allclose(
        (ours.macro_precision, ours.macro_recall, ours.macro_f1), macro[:3], rtol=1e-14
    )


def test_halves_merge_to_the_whole_exactly() -> None:
    truths, predicted = [0, 1, 2, 2, 1, 0, 2], [0, 2, 2, 1, 1, 1, 0]
    first, second = counted(truths[:3], predicted[:3], 3), counted(truths[3:], predicted[3:], 3)
    first.merge(second.state())
    whole = counted(truths, predicted, 3)
    assert (first.compute().matrix == whole.compute().matrix).all()
    assert first.compute().macro_f1 == whole.compute().macro_f1


def test_scores_and_metric_do_not_share_memory() -> None:
    metric = counted([0], [1], 2)
    scores = metric.compute()
    metric.merge(metric.state())
    assert scores.matrix.tolist() == [[0, 1], [0, 0]]
    scores.matrix[:] = 9
    unshared = metric.compute()
    unshared.matrix[:] = 9
    assert metric.compute().matrix.tolist() == [[0, 2], [0, 0]]


def test_worst_pairs_are_the_largest_mistakes_in_order() -> None:
    matrix = np.array([[90, 3, 0], [5, 70, 3], [0, 0, 10]], np.int64)
    assert worst_pairs(matrix) == ((1, 0, 5), (0, 1, 3), (1, 2, 3))
    assert worst_pairs(matrix, 1) == ((1, 0, 5),)
    assert matrix[0, 0] == 90


def test_a_faultless_model_has_no_worst_pair() -> None:
    assert worst_pairs(np.diag([3, 4]).astype(np.int64)) == ()
