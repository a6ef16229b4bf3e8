import numpy as np
import pytest

from striate.errors import DataError
from striate.metrics.label_errors import label_suspects


def test_a_picture_that_looks_more_like_another_class_than_usual_is_doubted() -> None:
    probabilities = np.array(
        [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], np.float32
    )  # thresholds: (0.9 + 0.8 + 0.1) / 3 = 0.6 and (0.8 + 0.7) / 2 = 0.75
    found = label_suspects(probabilities, np.array([0, 0, 0, 1, 1]))
    assert found.rows.tolist() == [2]
    assert found.likelier.tolist() == [1]
    assert found.margins == pytest.approx([0.1 - 0.9], abs=1e-6)


def test_one_that_is_merely_unsure_is_not_doubted() -> None:
    # Its likeliest class is 1, but others of class 1 have 0.9.
    probabilities = np.array([[0.4, 0.6], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]], np.float32)
    assert label_suspects(probabilities, np.array([0, 0, 1, 1])).rows.tolist() == []


def test_the_most_doubtful_come_first() -> None:
    probabilities = np.array(
        [[0.2, 0.8], [0.1, 0.9], [0.9, 0.1], [0.95, 0.05], [0.3, 0.7], [0.2, 0.8]], np.float32
    )
    found = label_suspects(probabilities, np.array([0, 0, 0, 0, 1, 1]))
    assert found.rows.tolist() == [1, 0]


def test_a_class_without_pictures_is_never_the_likelier_one() -> None:
    probabilities = np.array([[0.1, 0.0, 0.9], [0.9, 0.1, 0.0], [0.0, 1.0, 0.0]], np.float32)
    assert label_suspects(probabilities, np.array([0, 0, 1])).rows.tolist() == []


def test_nothing_gives_nothing() -> None:
    assert label_suspects(np.empty((0, 3), np.float32), np.empty(0, np.int64)).rows.tolist() == []


def test_planted_labels_are_found_among_noise() -> None:
    chance = np.random.default_rng(3)
    truth = chance.integers(0, 5, 1000)
    given = truth.copy()
    planted = chance.choice(1000, 50, replace=False)
    given[planted] = (given[planted] + chance.integers(1, 5, 50)) % 5
    logits = chance.normal(0, 1, (1000, 5)) + 3 * np.eye(5)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = set(label_suspects(probabilities.astype(np.float32), given).rows.tolist())
    right = found & set(planted.tolist())
    assert len(right) >= 25  # of 50
    assert len(right) >= 0.9 * len(found)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 5], [-1, 0]])
def test_labels_that_do_not_fit_are_refused(labels: list[int]) -> None:
    with pytest.raises(DataError, match="do not fit"):
        label_suspects(np.full((2, 2), 0.5, np.float32), np.array(labels))
