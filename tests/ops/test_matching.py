from typing import get_args

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher, SSDMatcher

from striate.ops.matching import BACKGROUND, IGNORED, Claim, match, sampled, spared_in_crowds

CLAIMS: tuple[Claim, ...] = get_args(Claim)


def one_picture(rows: list[list[float]]) -> tuple[Tensor, Tensor]:
    """Overlaps (1, N, A) of N objects with A anchors, all of them objects."""
    overlaps = torch.tensor([rows])
    return overlaps, torch.ones(overlaps.shape[:2], dtype=torch.bool)


def test_an_anchor_goes_to_the_object_it_overlaps_most() -> None:
    overlaps, valid = one_picture([[0.6, 0.1, 0.7], [0.5, 0.2, 0.8]])
    assert match(overlaps, valid, 0.5, 0.4).tolist() == [[0, BACKGROUND, 1]]


def test_thresholds_are_at_least_and_under() -> None:
    overlaps, valid = one_picture([[0.75, 0.74, 0.25, 0.24]])
    assert match(overlaps, valid, 0.75, 0.25).tolist() == [[0, IGNORED, IGNORED, BACKGROUND]]


def test_of_objects_that_an_anchor_overlaps_alike_it_goes_to_the_first() -> None:
    overlaps, valid = one_picture([[0.6], [0.6]])
    assert match(overlaps, valid, 0.5, 0.5).tolist() == [[0]]


def test_rows_without_an_object_are_matched_by_none() -> None:
    overlaps, valid = one_picture([[0.9, 0.3], [0.6, 0.2]])
    valid[0, 0] = False
    for claim in CLAIMS:
        assert match(overlaps, valid, 0.5, 0.5, claim)[0, 0] == 1, claim


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("rows", [0, 2])
def test_without_objects_all_is_background(claim: Claim, rows: int) -> None:
    overlaps = torch.full((3, rows, 4), 0.9)
    found = match(overlaps, torch.zeros(3, rows, dtype=torch.bool), 0.5, 0.3, claim)
    assert found.shape == (3, 4)
    assert (found == BACKGROUND).all()


def test_one_box_of_a_single_pixel_gets_its_best_anchor_only_where_it_claims_one() -> None:
    overlaps, valid = one_picture([[0.01, 0.02, 0.0]])
    assert match(overlaps, valid, 0.5, 0.5).tolist() == [[BACKGROUND] * 3]
    for claim in CLAIMS[1:]:
        assert match(overlaps, valid, 0.5, 0.5, claim).tolist() == [[BACKGROUND, 0, BACKGROUND]], claim


def test_a_box_beyond_all_anchors_claims_none() -> None:
    overlaps, valid = one_picture([[0.0, 0.0], [0.0, 0.6]])
    for claim in CLAIMS[1:]:
        assert match(overlaps, valid, 0.5, 0.5, claim).tolist() == [[BACKGROUND, 1]], claim


def test_ties_claim_every_anchor_of_the_best_and_one_where_forced() -> None:
    overlaps, valid = one_picture([[0.4, 0.4, 0.1]])
    assert match(overlaps, valid, 0.5, 0.3, "best").tolist() == [[0, 0, BACKGROUND]]
    assert match(overlaps, valid, 0.5, 0.3, "forced").tolist() == [[0, IGNORED, BACKGROUND]]


def test_best_gives_an_anchor_its_own_object_and_forced_the_one_that_wants_it() -> None:
    # The second object overlaps none as much as the anchor that the first overlaps more.
    overlaps, valid = one_picture([[0.7, 0.1], [0.4, 0.2]])
    assert match(overlaps, valid, 0.5, 0.3, "best").tolist() == [[0, BACKGROUND]]
    assert match(overlaps, valid, 0.5, 0.3, "forced").tolist() == [[1, BACKGROUND]]


def test_of_two_objects_that_want_one_anchor_the_later_gets_it() -> None:
    overlaps, valid = one_picture([[0.4, 0.1], [0.4, 0.1]])
    assert match(overlaps, valid, 0.5, 0.3, "forced").tolist() == [[1, BACKGROUND]]


def random_case(seed: int) -> tuple[Tensor, Tensor]:
    """Overlaps (2, 6, 40), and four objects in the first picture, six in the second."""
    generator = torch.Generator().manual_seed(seed)
    overlaps = torch.rand((2, 6, 40), generator=generator)
    return overlaps, torch.arange(6).expand(2, 6) < torch.tensor([[4], [6]])


@pytest.mark.parametrize("seed", range(5))
def test_matches_equal_torchvisions(seed: int) -> None:
    overlaps, valid = random_case(seed)
    ours = {claim: match(overlaps, valid, 0.95, 0.9, claim) for claim in CLAIMS[:2]}
    forced = match(overlaps, valid, 0.9, 0.9, "forced")
    for picture, count in enumerate((4, 6)):
        own = overlaps[picture, :count]
        for claim, found in ours.items():
            theirs = Matcher(0.95, 0.9, allow_low_quality_matches=claim == "best")(own)
            assert torch.equal(found[picture], theirs), claim
        assert torch.equal(forced[picture], SSDMatcher(0.9)(own))


# crowds

ANCHORS = torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4], [3, 0, 7, 4], [20, 20, 24, 24]])
CROWD = torch.tensor([[[0.0, 0, 4, 9]], [[0.0, 0, 4, 9]]])


def test_background_mostly_in_a_crowd_is_ignored() -> None:
    # The second anchor lies in it by half, which is not most of it.
    matched = torch.full((2, 4), BACKGROUND)
    is_crowd = torch.tensor([[True], [False]])
    found = spared_in_crowds(matched, ANCHORS, CROWD, is_crowd)
    assert found.tolist() == [[IGNORED, BACKGROUND, BACKGROUND, BACKGROUND], [BACKGROUND] * 4]


def test_matched_and_ignored_anchors_in_a_crowd_stay_so() -> None:
    matched = torch.tensor([[3, IGNORED, BACKGROUND, 0], [0, 0, 0, 0]])
    found = spared_in_crowds(matched, ANCHORS.expand(2, 4, 4), CROWD, torch.ones(2, 1, dtype=torch.bool))
    assert torch.equal(found, matched)


def test_without_a_crowd_nothing_is_spared() -> None:
    matched = torch.full((2, 4), BACKGROUND)
    assert torch.equal(
        spared_in_crowds(matched, ANCHORS, CROWD, torch.zeros(2, 1, dtype=torch.bool)), matched
    )
    none = spared_in_crowds(matched, ANCHORS, torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.bool))
    assert torch.equal(none, matched)


# sampling


def counts(chosen: Tensor, matched: Tensor) -> list[tuple[int, int]]:
    """Matched and background anchors drawn from each picture."""
    pairs = zip(chosen, matched, strict=True)
    return [(int((own & (to >= 0)).sum()), int((own & (to == BACKGROUND)).sum())) for own, to in pairs]


def test_a_share_of_matched_anchors_and_background_for_the_rest() -> None:
    matched = torch.tensor([[0] * 10 + [BACKGROUND] * 10, [0] * 1 + [BACKGROUND] * 19])
    assert counts(sampled(matched, 8, 0.25), matched) == [(2, 6), (1, 7)]


def test_fewer_are_drawn_where_there_are_fewer() -> None:
    matched = torch.tensor([[0, 1, BACKGROUND, IGNORED, IGNORED]])
    assert counts(sampled(matched, 100, 0.5), matched) == [(2, 1)]
    assert counts(sampled(matched, 2, 0.0), matched) == [(0, 1)]


def test_ignored_anchors_are_never_drawn() -> None:
    matched = torch.tensor([[IGNORED] * 50 + [0, BACKGROUND]])
    for _ in range(20):
        assert sampled(matched, 40, 0.5).nonzero()[:, 1].tolist() == [50, 51]


def test_every_anchor_has_its_chance() -> None:
    torch.manual_seed(0)
    matched = torch.tensor([[0] * 6 + [BACKGROUND] * 6]).expand(600, -1)
    often = sampled(matched, 6, 0.5).sum(0)
    # 3 of 6 on each side: 300 of 600 on average, with a deviation of 12.
    assert (often - 300).abs().max() < 60


def test_the_seed_decides_the_draw() -> None:
    matched = torch.full((2, 100), BACKGROUND)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(sampled(matched, 10, 0.5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
