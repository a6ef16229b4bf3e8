"""Top-k accuracy against hand counts and scikit-learn, ties included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import top_k_accuracy_score

from striate.errors import DataError, UsageError
from striate.metrics.accuracy import Accuracy
from striate.structures import Classification


def results(probabilities: list[list[float]] | NDArray[np.float32]) -> list[Classification]:
    classes = tuple(f"c{index}" for index in range(len(probabilities[0])))
    return [Classification(f"{i}.png", np.array(p, np.float32), classes) for i, p in enumerate(probabilities)]


def accuracy(probabilities: list[list[float]], truths: list[int], *ks: int) -> dict[int, float]:
    metric = Accuracy(len(probabilities[0]), ks)
    metric.update(results(probabilities), truths)
    return metric.compute()


def test_hand_counted_ranks() -> None:
    rows = [[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]
    assert accuracy(rows, [0, 1, 2, 2], 1, 2, 3) == {1: 0.5, 2: 0.75, 3: 1.0}


def test_equal_probabilities_count_for_the_lowest_class_only() -> None:
    rows = [[0.25, 0.25, 0.25, 0.25]] * 4
    assert accuracy(rows, [0, 1, 2, 3], 1, 2) == {1: 0.25, 2: 0.5}


def test_k_above_the_number_of_classes_is_always_hit() -> None:
    assert accuracy([[0.9, 0.1]], [1], 1, 5) == {1: 0.0, 5: 1.0}


def test_a_hit_is_what_the_result_lists_first() -> None:
    rows = results([[0.3, 0.4, 0.3], [0.2, 0.4, 0.4], [1 / 3] * 3])
    metric = Accuracy(3, (1, 2))
    metric.update(rows, [row.index for row in rows])
    assert metric.compute() == {1: 1.0, 2: 1.0}
    second = Accuracy(3, (2,))
    second.update(rows, [row.classes.index(row.top(2)[1][0]) for row in rows])
    assert second.compute() == {2: 1.0}


@given(st.integers(1, 30), st.integers(3, 8), st.integers(1, 4), st.integers(0, 2**31))
def test_equals_scikit_learn_with_ties(count: int, classes: int, levels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, levels + 1, (count, classes)).astype(np.float32)
    truths = random.integers(0, classes, count)
    metric = Accuracy(classes, (1, 2))
    metric.update(results(scores), truths.tolist())
    # scikit-learn ranks equal scores by the highest class id: mirrored, it is our rule.
    for k, ours in metric.compute().items():
        theirs = top_k_accuracy_score(classes - 1 - truths, scores[:, ::-1], k=k, labels=list(range(classes)))
        assert ours == theirs


def test_halves_merge_to_the_whole() -> None:
    rows, truths = results(np.random.default_rng(0).random((11, 6), np.float32)), [0, 1, 2, 3, 4, 5] * 2
    whole, first, second = Accuracy(6), Accuracy(6), Accuracy(6)
    whole.update(rows, truths[:11])
    first.update(rows[:4], truths[:4])
    second.update(rows[4:], truths[4:11])
    first.merge(second.state())
    assert first.compute() == whole.compute()
    assert first.state()["pictures"] == 11


def test_a_state_does_not_change_with_the_metric() -> None:
    metric = Accuracy(2)
    state = metric.state()
    state["pictures"] += 7
    metric.update(results([[0.5, 0.5]]), [0])
    assert metric.state()["pictures"] == 1


def test_an_empty_batch_counts_nothing() -> None:
    metric = Accuracy(3)
    metric.update([], [])
    with pytest.raises(DataError, match="no picture was measured"):
        metric.compute()


@pytest.mark.parametrize("truth", [-1, 3])
def test_a_true_class_outside_is_refused_with_the_picture(truth: int) -> None:
    with pytest.raises(DataError, match=rf"0\.png: true class id {truth} and 3 probabilities"):
        Accuracy(3).update(results([[0.5, 0.3, 0.2]]), [truth])


def test_results_over_other_classes_are_refused() -> None:
    with pytest.raises(DataError, match=r"0\.png: .* 2 probabilities do not fit 3 classes"):
        Accuracy(3).update(results([[0.5, 0.5]]), [0])


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="1 results and 2 truths"):
        Accuracy(2).update(results([[0.5, 0.5]]), [0, 1])


def test_unlike_states_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot be added"):
        Accuracy(2, (1,)).merge(Accuracy(2, (1, 5)).state())
