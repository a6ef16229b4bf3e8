"""What is done with regions: which object each shows, what that costs, and what becomes of it."""

import math

import pytest
import torch
from torch import Tensor

from striate.models.detection._roi_heads import (
    Answers,
    BoxHead,
    HeadConfig,
    label_regions,
    region_losses,
    region_predictions,
)
from striate.ops.matching import BACKGROUND, IGNORED
from striate.structures import BoxTargets

PICTURE = torch.tensor([0.0, 0.0, 100.0, 80.0])


def targets(
    boxes: list[list[float]], labels: list[int], crowd: list[bool] | None = None
) -> BoxTargets[Tensor]:
    """Of one picture, with a row without an object."""
    return BoxTargets(
        torch.tensor([[*boxes, [0.0] * 4]]),
        torch.tensor([[*labels, 0]]),
        torch.tensor([[True] * len(boxes) + [False]]),
        torch.tensor([[*(crowd or [False] * len(boxes)), False]]),
        torch.ones(1),
    )


TRUTHS = targets([[0, 0, 40, 40], [50, 0, 90, 40]], [1, 0])
REGIONS = torch.tensor(
    [[[50.0, 0.0, 90.0, 40.0], [0.0, 0.0, 40.0, 20.0], [0.0, 0.0, 40.0, 19.0], [0.0, 0.0, 0.0, 0.0]]]
)


def test_a_region_shows_the_object_that_it_overlaps_by_half() -> None:
    assert label_regions(REGIONS, TRUTHS, 0.5).tolist() == [[1, 0, BACKGROUND, IGNORED]]


def test_a_region_in_a_crowd_is_neither_the_object_nor_background() -> None:
    truths = targets([[0, 0, 40, 40], [50, 0, 90, 40]], [1, 0], [True, False])
    assert label_regions(REGIONS, truths, 0.5).tolist() == [[1, IGNORED, IGNORED, IGNORED]]


def test_without_objects_all_regions_are_background() -> None:
    assert label_regions(REGIONS, targets([], []), 0.5).tolist() == [[BACKGROUND] * 3 + [IGNORED]]


def answers(classes: int = 2) -> Answers:
    return Answers(torch.zeros(1, 4, classes + 1), torch.zeros(1, 4, classes + 1, 4))


def test_losses_are_means_over_the_regions_that_are_there() -> None:
    found = answers()
    found.scores[0, 0, 1] = 2.0  # right: the object's class 0 is output 1
    found.scores[0, 3] = 50.0  # an unused row
    found.numbers[0, 0, 1] = torch.tensor([0.5, 2.0, 0.0, 0.0])
    found.numbers[0, 0, 2] = 99.0  # of another class
    found.numbers[0, 2] = 99.0  # of background
    regions = REGIONS.clone()
    regions[0, 1] = torch.tensor([0.0, 0.0, 40.0, 40.0])
    matched = label_regions(regions, TRUTHS, 0.5)
    terms = region_losses(found, regions, matched, TRUTHS, beta=1.0)
    sure = math.log(math.exp(2) + 2) - 2
    assert terms["classes"].item() == pytest.approx((sure + 2 * math.log(3)) / 3)
    assert terms["boxes"].item() == pytest.approx((0.5**2 / 2 + (2 - 1 / 2)) / 3)


def test_numbers_are_those_that_move_the_region_onto_the_object_by_their_deviations() -> None:
    found, matched = answers(), torch.tensor([[BACKGROUND, 0, BACKGROUND, IGNORED]])
    regions = REGIONS.clone()
    regions[0, 1] = torch.tensor([0.0, 0.0, 10.0, 20.0])
    # From 10 x 20 at (5, 10) to 40 x 40 at (20, 20): 15 / 10 and 10 / 20 over .1, log 4 and log 2 over .2.
    found.numbers[0, 1, 2] = torch.tensor([15.0, 5.0, 5 * math.log(4), 5 * math.log(2)])
    assert region_losses(found, regions, matched, TRUTHS, 1.0)["boxes"].item() == pytest.approx(0, abs=1e-6)


def test_the_smooth_part_of_the_loss_is_as_wide_as_asked() -> None:
    found, matched = answers(), torch.tensor([[1, IGNORED, IGNORED, IGNORED]])
    found.numbers[0, 0, 1, 0] = 0.1
    for beta, expected in ((1.0, 0.005), (0.05, 0.1 - 0.025)):
        term = region_losses(found, REGIONS, matched, TRUTHS, beta)["boxes"]
        assert term.item() == pytest.approx(expected)


def test_pictures_count_by_their_weight() -> None:
    found = Answers(torch.zeros(2, 1, 2), torch.zeros(2, 1, 2, 4))
    found.scores[0, 0, 1], found.scores[1, 0, 1] = 1.0, 2.0
    truths = targets([], []).map(lambda tensor: torch.cat((tensor, tensor)))
    truths.weight[0] = 3.0
    matched = torch.tensor([[BACKGROUND], [BACKGROUND]])
    term = region_losses(found, REGIONS[:, :1].expand(2, -1, -1), matched, truths, 1.0)["classes"]
    one, other = math.log(1 + math.exp(1)), math.log(1 + math.exp(2))
    assert term.item() == pytest.approx((3 * one + other) / 4)


def test_no_region_that_counts_is_no_loss() -> None:
    matched = torch.full((1, 4), IGNORED)
    terms = region_losses(answers(), REGIONS, matched, TRUTHS, 1.0)
    assert [term.item() for term in terms.values()] == [0, 0]


def test_each_class_has_its_own_box_and_unused_rows_score_nothing() -> None:
    found = answers()
    found.scores[0, 0] = torch.tensor([0.0, math.log(2), math.log(5)])
    found.numbers[0, 0, 1] = torch.tensor([1.0, 0.0, 0.0, 5 * math.log(2)])
    boxes, scores = region_predictions(found, REGIONS, PICTURE)
    torch.testing.assert_close(scores[0, 0], torch.tensor([2 / 8, 5 / 8]))
    # Moved by a tenth of 40, twice as high, cut off above: class 0; class 1 as it was.
    torch.testing.assert_close(boxes[0, 0], torch.tensor([[54.0, 0, 94, 60], [50, 0, 90, 40]]))
    assert scores[0, 3].tolist() == [0, 0]


def test_a_box_of_which_nothing_is_left_in_the_picture_scores_nothing() -> None:
    found = answers()
    found.numbers[0, 0, 1, 0] = 100.0
    scores = region_predictions(found, REGIONS, PICTURE)[1][0, 0]
    assert scores.tolist() == [0, pytest.approx(1 / 3)]


def test_last_layers_begin_small_and_hidden_ones_with_he_s_weights() -> None:
    torch.manual_seed(0)
    head = BoxHead(16, 4, HeadConfig(grid=4, hidden=200))
    weights = head.state_dict()
    assert weights["fc6.weight"].std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert weights["cls_score.weight"].std().item() == pytest.approx(0.01, rel=0.1)
    assert weights["bbox_pred.weight"].std().item() == pytest.approx(0.001, rel=0.1)
    assert weights["bbox_pred.weight"].shape == (20, 200)


def test_regions_come_back_picture_by_picture() -> None:
    head = BoxHead(1, 1, HeadConfig(grid=1, hidden=3, dropout=0.0))
    cut = torch.rand(6, 1, 1, 1)
    whole, alone = head(cut, 3), head(cut[3:], 3)
    assert whole.scores.shape == (2, 3, 2)
    assert whole.numbers.shape == (2, 3, 2, 4)
    torch.testing.assert_close(whole.scores[1], alone.scores[0])
    torch.testing.assert_close(whole.numbers[1], alone.numbers[0])


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    head, cut = BoxHead(1, 1, HeadConfig(grid=1, hidden=100)), torch.ones(1, 1, 1, 1)
    assert not torch.equal(head(cut, 1).scores, head(cut, 1).scores)
    head.eval()
    assert torch.equal(head(cut, 1).scores, head(cut, 1).scores)
