"""What becomes of boxes and objects, and which class is taken for which."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.metrics.box_matching import best_free, judged
from striate.metrics.boxes import BoxRecords, Comparison, compared
from striate.metrics.detection_confusion import detection_confusion, outcome
from striate.structures import Detections, Objects

LEFT, RIGHT, FAR, AWAY = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60), (80, 80, 90, 90)


def test_every_box_and_object_is_told_by_what_became_of_it(found: Any, truths: Any) -> None:
    result = found(
        [
            (RIGHT, 0.9, 0),  # on an object of the other class
            (LEFT, 0.8, 0),  # right
            (LEFT, 0.7, 0),  # a second one
            (FAR, 0.6, 1),  # on a crowd
            (FAR, 0.2, 0),  # not sure enough
        ]
    )
    objects = truths([(LEFT, 0), (RIGHT, 1), (FAR, 1), (AWAY, 0), (AWAY, 1)], crowd=[2], difficult=[4])
    what = outcome(compared(result, objects, 2), 0.5)
    assert what.hits.tolist() == [[1, 0]]
    assert what.confused.tolist() == [[0, 1]]
    assert what.false.tolist() == [2]
    assert what.excused.tolist() == [3]
    assert what.missed.tolist() == [3]


def test_the_right_class_has_the_first_say_even_where_the_wrong_one_is_surer(found: Any, truths: Any) -> None:
    what = outcome(compared(found([(LEFT, 0.9, 1), (LEFT, 0.3, 0)]), truths([(LEFT, 0)]), 2), 0.1)
    assert what.hits.tolist() == [[1, 0]]
    assert what.false.tolist() == [0]
    # Where the right one is not sure enough, the wrong one is taken for it.
    what = outcome(compared(found([(LEFT, 0.9, 1), (LEFT, 0.3, 0)]), truths([(LEFT, 0)]), 2), 0.5)
    assert what.confused.tolist() == [[0, 0]]


def test_the_matrix_has_what_is_nothing_and_what_is_not_found_last(found: Any, truths: Any) -> None:
    records = BoxRecords(2)
    records.update(
        [found([(RIGHT, 0.9, 0), (LEFT, 0.8, 0), (AWAY, 0.7, 1)], "a"), found([(LEFT, 0.9, 1)], "b")],
        [truths([(LEFT, 0), (RIGHT, 1), (FAR, 1)]), truths([(LEFT, 1), (FAR, 0), (FAR, 0)])],
    )
    assert detection_confusion(records.pictures, 2, 0.5).tolist() == [[1, 0, 2], [1, 1, 1], [0, 1, 0]]
    assert detection_confusion(records.pictures, 2, 0.95).tolist() == [[0, 0, 3], [0, 0, 3], [0, 0, 0]]
    assert detection_confusion((), 2, 0.5).tolist() == np.zeros((3, 3)).tolist()


def random_picture(seed: int) -> Comparison:
    chance = np.random.default_rng(seed)
    true, count = int(chance.integers(0, 8)), int(chance.integers(0, 25))

    def boxes(number: int) -> Any:
        low = chance.integers(0, 20, (number, 2))
        return np.concatenate((low, low + chance.integers(4, 20, (number, 2))), 1).astype(np.float32)

    objects = Objects(
        boxes(true), chance.integers(0, 3, true), chance.random(true) < 0.2, chance.random(true) < 0.2
    )
    scores = -np.sort(-chance.integers(1, 9, count) / 10).astype(np.float32)
    labels = chance.integers(0, 3, count)
    result = Detections(f"{seed}", boxes(count), scores, labels, ("a", "b", "c"), (60, 60), np.arange(count))
    return compared(result, objects, 3)


@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.3, 0.5, 0.75]))
@settings(max_examples=60, deadline=None)
def test_its_sums_are_the_objects_and_boxes_and_its_diagonal_the_hits(seed: int, score: float) -> None:
    picture = random_picture(seed)
    matrix, what = detection_confusion([picture], 3, score), outcome(picture, score)
    wanted = np.bincount(picture.truths.labels[~picture.excused], minlength=3)
    kept = picture.scores >= score
    counted = np.bincount(np.delete(picture.labels[kept], what.excused), minlength=3)
    assert matrix[:3].sum(axis=1).tolist() == wanted.tolist()
    assert matrix[:, :3].sum(axis=0).tolist() == counted.tolist()
    made = judged([picture], 3, best_free)
    right = np.bincount(made.labels[made.hits & (made.scores >= score)], minlength=3)
    assert matrix.diagonal()[:3].tolist() == right.tolist()
    rows = np.concatenate((what.hits[:, 0], what.confused[:, 0], what.false, what.excused))
    assert sorted(rows.tolist()) == list(range(int(kept.sum())))
