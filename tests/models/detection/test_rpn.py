"""The region proposal network: which anchors it listens to, what it loses, and what it proposes."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from striate.errors import UsageError
from striate.models.detection._rpn import RPN, ProposalConfig, Regions
from striate.structures import BoxTargets

PICTURE = torch.tensor([0.0, 0.0, 100.0, 80.0])
SIZE = (80, 100)
ALL = ProposalConfig(sampled=10_000, crossing=True)


class Told(RPN):
    """One that says what it is told of the anchors of each map."""

    def __init__(self, config: ProposalConfig, *answers: tuple[Tensor, Tensor], anchors: Sequence[Tensor]):
        super().__init__(1, config)
        self.answers, self.own = iter(answers), list(anchors)

    def _answer(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        del maps
        return next(self.answers)

    def _anchors(self, maps: Sequence[Tensor], size: tuple[int, int], stride: int) -> list[Tensor]:
        del maps, size, stride
        return self.own


def config(**changes: Any) -> ProposalConfig:
    return msgspec.structs.replace(ALL, **{"least_side": 5.0, **changes})


def logits(*probabilities: float) -> Tensor:
    return torch.logit(torch.tensor([probabilities]))


def proposals(settings: ProposalConfig, *levels: tuple[Tensor, Tensor], training: bool = False) -> Tensor:
    """What is proposed where each map has these anchors (A, 4) and probabilities (1, A), unchanged."""
    answers = [(scores, torch.zeros(1, len(anchors), 4)) for anchors, scores in levels]
    network = Told(settings, *answers, anchors=[anchors for anchors, _ in levels]).train(training)
    maps = [torch.zeros(1, 1, 1, 1)] * len(levels)
    regions: Regions = network(maps, PICTURE, SIZE, 16)
    return regions.proposals[0]


def targets(*boxes: tuple[float, ...], crowd: Sequence[bool] = ()) -> BoxTargets[Tensor]:
    """Of one picture with these objects, and a row without one."""
    rows = torch.tensor([*boxes, (0.0, 0.0, 0.0, 0.0)])[None]
    valid = torch.tensor([[True] * len(boxes) + [False]])
    crowds = torch.tensor([[*(crowd or [False] * len(boxes)), False]])
    return BoxTargets(rows, torch.zeros_like(valid, dtype=torch.int64), valid, crowds, torch.ones(1))


def told(anchors: Tensor, objectness: float = 0.0, batch: int = 1) -> Regions:
    """An answer that all anchors are as they should be, or none."""
    scores = torch.full((batch, len(anchors)), objectness, requires_grad=True)
    numbers = torch.zeros(batch, len(anchors), 4, requires_grad=True)
    return Regions(scores, numbers, anchors, torch.zeros(batch, 0, 4))


SQUARES = torch.tensor([[0.0, 0.0, 40.0, 40.0], [50.0, 0.0, 90.0, 40.0], [0.0, 40.0, 40.0, 80.0]])


def test_the_paper_s_has_as_many_parameters() -> None:
    with torch.device("meta"):
        network = RPN(512, ProposalConfig())
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_387_510


def test_its_weights_begin_small() -> None:
    torch.manual_seed(0)
    network = RPN(64, ProposalConfig())
    for layer in (network.conv, network.cls_score, network.bbox_pred):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert layer.bias is not None
        assert not layer.bias.any()


def test_of_two_scores_the_second_nine_are_for_an_object() -> None:
    network = RPN(4, ProposalConfig())
    with torch.no_grad():
        network.cls_score.weight.zero_()
        network.cls_score.bias.copy_(torch.arange(18.0) ** 2)  # type: ignore[union-attr]
    found = network([torch.zeros(1, 4, 2, 3)], PICTURE, SIZE, 16)
    softmax = torch.stack((torch.arange(9.0) ** 2, torch.arange(9.0, 18) ** 2)).softmax(0)[1]
    assert found.objectness.shape == (1, 2 * 3 * 9)
    torch.testing.assert_close(found.objectness.sigmoid(), softmax.repeat(6)[None])


def test_numbers_belong_to_the_anchor_at_the_same_place() -> None:
    network = RPN(1, ALL)
    with torch.no_grad():
        network.conv.weight.zero_()
        network.conv.weight[0, 0, 1, 1] = 1
        network.bbox_pred.weight.fill_(1)
        network.bbox_pred.bias.copy_(100 * torch.arange(36.0))  # type: ignore[union-attr]
    found = network([torch.arange(6.0).view(1, 1, 2, 3)], PICTURE, SIZE, 16)
    # Cell (1, 2) says 5; anchor 7 of it has the numbers 28 to 31.
    assert found.numbers[0, 5 * 9 + 7].tolist() == [2805, 2905, 3005, 3105]
    assert found.anchors[5 * 9 + 7].tolist() == (found.anchors[7] + torch.tensor([32, 16, 32, 16])).tolist()


def test_the_surest_of_those_that_overlap_are_proposed_in_order() -> None:
    near = torch.cat((SQUARES, SQUARES[:1] + 2))
    found = proposals(config(proposals=4), (near, logits(0.3, 0.9, 0.5, 0.6)))
    assert found.tolist() == [[50, 0, 90, 40], [2, 2, 42, 42], [0, 40, 40, 80], [0, 0, 0, 0]]


def test_maps_do_not_compete_with_each_other() -> None:
    settings = config(proposals=3)
    found = proposals(settings, (SQUARES[:1], logits(0.3)), (SQUARES[:1] + 2, logits(0.6)))
    assert found.tolist() == [[2, 2, 42, 42], [0, 0, 40, 40]]


def test_only_the_best_of_each_map_compete() -> None:
    found = proposals(config(candidates=1), (SQUARES[:2], logits(0.8, 0.9)), (SQUARES[2:], logits(0.1)))
    assert found.tolist() == [[50, 0, 90, 40], [0, 40, 40, 80]]


def test_proposals_are_cut_off_at_the_border_and_what_is_too_small_then_suppresses_nothing() -> None:
    anchors = torch.tensor([[60.0, 40.0, 140.0, 90.0], [96.0, 0.0, 180.0, 40.0], [90.0, 0.0, 100.0, 40.0]])
    # The second is 4 pixels wide within the picture, and would suppress the third, which it lies in.
    settings = config(nms_threshold=0.2)
    found = proposals(settings, (anchors, logits(0.5, 0.9, 0.6)))
    assert found.tolist() == [[90, 0, 100, 40], [60, 40, 100, 80], [0, 0, 0, 0]]


def test_training_may_read_other_numbers_of_them() -> None:
    settings = config(candidates=2, proposals=2, candidates_training=3, proposals_training=1)
    levels = (SQUARES, logits(0.3, 0.9, 0.5))
    assert len(proposals(settings, levels)) == 2
    assert proposals(settings, levels, training=True).tolist() == [[50, 0, 90, 40]]


def test_no_gradient_passes_through_the_proposals() -> None:
    torch.manual_seed(0)
    found = RPN(2, config(least_side=0.0))([torch.randn(1, 2, 5, 6)], PICTURE, SIZE, 16)
    assert not found.proposals.requires_grad
    assert found.objectness.requires_grad


def test_the_loss_is_that_of_the_paper_s_equation() -> None:
    network = RPN(1, ALL)
    # 40 x 40 moved by 4: an overlap of 36 / 44 = 0.82 with the first, none with the others.
    found = told(SQUARES, 1.0)
    terms = network.loss(found, targets((4, 0, 44, 40)), PICTURE)
    right, wrong = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    assert terms["objectness"].item() == pytest.approx((right + 2 * wrong) / 3)
    # dx = 4 / 40 = 0.1 is below 1 / 9: the square of it times 9 / 2.
    assert terms["proposals"].item() == pytest.approx(0.01 * 9 / 2 / 3)


def test_between_the_thresholds_nothing_is_asked() -> None:
    network = RPN(1, ALL)
    # The second overlaps the objects by 29 / 51 and 19 / 61, the first the one by more and is the other.
    anchors = torch.tensor([[0.0, 0.0, 40.0, 40.0], [21.0, 0.0, 61.0, 40.0], [61.0, 40.0, 99.0, 79.0]])
    terms = network.loss(told(anchors, 3.0), targets((10, 0, 50, 40), (0, 0, 40, 40)), PICTURE)
    right, wrong = math.log(1 + math.exp(-3)), math.log(1 + math.exp(3))
    assert terms["objectness"].item() == pytest.approx((right + wrong) / 2)


def test_anchors_across_the_border_are_left_out_where_the_paper_does() -> None:
    anchors = torch.tensor([[-1.0, 0.0, 40.0, 40.0], [50.0, 0.0, 90.0, 40.0], [50.0, 45.0, 90.0, 81.0]])
    # The object is best seen by the first anchor; left out, it leaves that to none with any overlap.
    truths = targets((0, 0, 40, 40), (50, 0, 90, 40))
    right, wrong = math.log(1 + math.exp(-3)), math.log(1 + math.exp(3))
    inside = RPN(1, config(crossing=False)).loss(told(anchors, 3.0), truths, PICTURE)
    assert inside["objectness"].item() == pytest.approx(right)
    everywhere = RPN(1, ALL).loss(told(anchors, 3.0), truths, PICTURE)
    assert everywhere["objectness"].item() == pytest.approx((2 * right + wrong) / 3)


def test_an_object_goes_to_the_best_anchor_of_those_within_the_border() -> None:
    anchors = torch.tensor([[-1.0, 0.0, 40.0, 40.0], [0.0, 0.0, 40.0, 25.0]])
    # Overlaps of 40 / 41 and 25 / 40; the second is no hit by itself.
    terms = RPN(1, config(crossing=False)).loss(told(anchors, 3.0), targets((0, 0, 40, 40)), PICTURE)
    assert terms["objectness"].item() == pytest.approx(math.log(1 + math.exp(-3)))


def test_where_every_anchor_crosses_the_border_nothing_is_lost_and_nothing_learned() -> None:
    found = told(SQUARES - 1)
    terms = RPN(1, config(crossing=False)).loss(found, targets((0, 0, 100, 80)), PICTURE)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert [term.item() for term in terms.values()] == [0, 0]
    assert found.objectness.grad is not None
    assert not found.objectness.grad.any()


def test_what_lies_in_a_crowd_is_neither_found_nor_missed() -> None:
    truths = targets((50, 0, 90, 40), (0, 0, 45, 45), crowd=[False, True])
    terms = RPN(1, ALL).loss(told(SQUARES, 3.0), truths, PICTURE)
    right, wrong = math.log(1 + math.exp(-3)), math.log(1 + math.exp(3))
    assert terms["objectness"].item() == pytest.approx((right + wrong) / 2)


def test_without_objects_every_anchor_is_background() -> None:
    terms = RPN(1, ALL).loss(told(SQUARES, 3.0), targets(), PICTURE)
    assert terms["objectness"].item() == pytest.approx(math.log(1 + math.exp(3)))
    assert terms["proposals"].item() == 0


def test_pictures_count_by_their_weight() -> None:
    two = BoxTargets(
        torch.zeros(2, 1, 4),
        torch.zeros(2, 1, dtype=torch.int64),
        torch.zeros(2, 1, dtype=torch.bool),
        torch.zeros(2, 1, dtype=torch.bool),
        torch.tensor([3.0, 1.0]),
    )
    found = told(SQUARES, batch=2)
    found = found._replace(objectness=torch.tensor([[1.0] * 3, [2.0] * 3]))
    terms = RPN(1, ALL).loss(found, two, PICTURE)
    one, other = math.log(1 + math.exp(1)), math.log(1 + math.exp(2))
    assert terms["objectness"].item() == pytest.approx((3 * one + other) / 4)


def test_as_many_anchors_are_drawn_as_asked_and_half_of_them_at_most_with_an_object() -> None:
    torch.manual_seed(0)
    many = SQUARES[:1].expand(50, 4)
    anchors = torch.cat((many, SQUARES[1:].repeat(50, 1)))
    found = told(anchors)
    sum(RPN(1, config(sampled=16)).loss(found, targets((0, 0, 40, 40)), PICTURE).values()).backward()  # type: ignore[union-attr]
    assert found.objectness.grad is not None
    signs = found.objectness.grad.sign()[0]
    assert (signs[:50] == -1).sum() == 8
    assert (signs[50:] == 1).sum() == 8
    assert signs.count_nonzero() == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"negative": 0.8}, "0.8 is above rpn.positive"),
        ({"anchor_sizes": ((8.0,), (8.0, 16.0))}, "different numbers"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RPN(1, msgspec.structs.replace(ALL, **changes))
