"""Greedy non-maximum suppression within classes."""

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.tasks._suppression import unsuppressed


def random_boxes(seed: int, count: int, classes: int, is_whole: bool) -> tuple[Any, Any, Any]:
    """Boxes that often lie on one another, with scores of which many are equal."""
    chance = np.random.default_rng(seed)
    low, sides = chance.uniform(0, 40, (count, 2)), chance.uniform(1, 30, (count, 2))
    if is_whole:  # then overlaps of just 1/2 or 1/3 occur
        low, sides = np.floor(low / 4) * 4, np.ceil(sides / 4) * 4
    boxes = np.concatenate((low, low + sides), 1).astype(np.float32)
    scores = (chance.integers(1, 12, count) / 12).astype(np.float32)
    return boxes, scores, chance.integers(0, classes, count)


@given(
    st.integers(0, 2**31),
    st.integers(0, 120),
    st.integers(1, 4),
    st.sampled_from([0.3, 0.45, 0.5, 0.6, 0.7, 1.0]),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_the_boxes_that_stay_are_torchvisions(
    seed: int, count: int, classes: int, threshold: float, is_whole: bool
) -> None:
    columns = random_boxes(seed, count, classes, is_whole)
    boxes, scores, labels = map(torch.from_numpy, columns)
    kept = unsuppressed(*columns, threshold, count + 1)
    # Class by class: `batched_nms` moves classes apart, which rounds the coordinates.
    expected = [
        rows[torchvision.ops.nms(boxes[rows], scores[rows], threshold)]
        for rows in ((labels == label).nonzero()[:, 0] for label in range(classes))
    ]
    assert sorted(kept.tolist()) == sorted(torch.cat(expected).tolist())
    assert (np.diff(columns[1][kept]) <= 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_it_is_batched_nms_with_its_order_where_scores_differ(seed: int) -> None:
    boxes, _, labels = random_boxes(seed, 300, 5, is_whole=True)
    scores = np.random.default_rng(seed).permutation(300).astype(np.float32) / 300
    tensors = map(torch.from_numpy, (boxes, scores, labels))
    expected = torchvision.ops.batched_nms(*tensors, 0.5)
    assert unsuppressed(boxes, scores, labels, 0.5, 300).tolist() == expected.tolist()


def test_of_equal_scores_the_earliest_stays_and_is_listed_first() -> None:
    boxes = np.array([[0, 0, 9, 9], [50, 0, 59, 9], [0, 0, 9, 9], [50, 0, 59, 9]], np.float32)
    scores, labels = np.full(4, 0.5, np.float32), np.zeros(4, np.int64)
    assert unsuppressed(boxes, scores, labels, 0.5, 9).tolist() == [0, 1]


def test_an_overlap_of_just_the_threshold_and_another_class_suppress_nothing() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 10]], np.float32)
    scores, labels = np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 0, 1])
    assert unsuppressed(boxes, scores, labels, 0.5, 9).tolist() == [0, 1, 2]
    assert unsuppressed(boxes, scores, labels, 0.49, 9).tolist() == [0, 2]


def test_a_share_that_single_precision_rounds_up_is_above_the_threshold_as_in_torchvision() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 6]], np.float32)  # an IoU of 0.6
    scores, labels = np.array([0.9, 0.8], np.float32), np.array([0, 0])
    expected = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.6)
    assert unsuppressed(boxes, scores, labels, 0.6, 9).tolist() == expected.tolist() == [0]


def test_a_suppressed_box_suppresses_none() -> None:
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    assert unsuppressed(boxes, scores, np.zeros(3, np.int64), 0.4, 9).tolist() == [0, 2]


def test_no_more_than_the_asked_are_given() -> None:
    columns = random_boxes(3, 100, 3, is_whole=False)
    every = unsuppressed(*columns, 0.5, 100)
    assert len(every) > 10
    assert unsuppressed(*columns, 0.5, 10).tolist() == every[:10].tolist()
