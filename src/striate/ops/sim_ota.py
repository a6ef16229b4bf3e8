"""SimOTA: which object each cell is to find, decided by what the network itself says of the cell.

Ge et al. 2021, "YOLOX", arXiv:2107.08430, section 2.1; the number of cells an object gets is from "OTA",
arXiv:2103.14259, section 3.3 (dynamic k estimation).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.ops.boxes import areas, centred, pairwise_iou
from striate.ops.matching import BACKGROUND, spared_in_crowds
from striate.structures import BoxTargets

__all__ = ["Guesses", "sim_ota"]

_RADIUS = 1.5  # of an object's centre region, in strides
_OVERLAP_WEIGHT = 3.0  # of the overlap in the cost of a pair, beside the classes' 1
_MOST_CELLS = 10  # that one object gets
_SURE = -100.0  # the least logarithm of a probability
_OUTSIDE = 1e6  # added to the cost of a cell outside the object's centre region
# Objects times cells looked at together. Some ten arrays of that many numbers live at once.
_MOST_PAIRS = 1 << 22


class Guesses(NamedTuple):
    """What a network says of each of A cells."""

    boxes: Tensor  # (B, A, 4) in input pixels
    objectness: Tensor  # (B, A) logits
    classes: Tensor  # (B, A, K) logits


@torch.no_grad()
def sim_ota(guesses: Guesses, targets: BoxTargets[Tensor], cells: Tensor) -> Tensor:
    """The row of the object that each cell is to find, BACKGROUND or IGNORED: (B, A) int64.

    cells (A, 3): the column, the row and the stride in pixels of each. Only cells whose centre lies in an
    object's centre region, 1.5 strides to each side of its centre, are its own; it gets the k cheapest of
    them, k the sum of its 10 largest overlaps with guesses, at least 1. What a pair costs is the
    cross-entropy of the class, and 3 times the negative logarithm of the overlap. A cell that several
    objects got goes to the one for which it is cheapest. Of those that none got, cells that lie mostly in a
    crowd are ignored.
    """
    pairs = max(1, targets.boxes.shape[1] * len(cells))
    pictures = max(1, _MOST_PAIRS // pairs)
    starts = range(0, len(targets.boxes), pictures)
    parts = [slice(start, start + pictures) for start in starts]
    matched = [
        _matched(Guesses(*(each[part].float() for each in guesses)), _rows(targets, part), cells)
        for part in parts
    ]
    return torch.cat(matched)


def _rows(targets: BoxTargets[Tensor], part: slice) -> BoxTargets[Tensor]:
    return targets.map(lambda tensor: tensor[part])


def _matched(guesses: Guesses, targets: BoxTargets[Tensor], cells: Tensor) -> Tensor:
    centres, strides = (cells[:, :2] + 0.5) * cells[:, 2:], cells[:, 2]
    wanted = targets.valid & ~targets.crowd & (areas(targets.boxes) > 0)
    own = _in_centre_region(targets.boxes, centres, strides) & wanted[..., None]
    overlaps = pairwise_iou(targets.boxes, guesses.boxes)
    overlaps = torch.where(own.any(1, keepdim=True) & wanted[..., None], overlaps, 0)
    costs = _class_cost(guesses, targets.labels) - _OVERLAP_WEIGHT * torch.log(overlaps + 1e-8)
    claims = _claims(torch.where(own, costs, costs + _OUTSIDE), overlaps) & own
    cheapest = torch.where(claims, costs, torch.inf).argmin(1)
    matched = torch.where(claims.any(1), cheapest, BACKGROUND)
    squares = torch.cat((cells[:, :2], cells[:, :2] + 1), 1) * cells[:, 2:]
    return spared_in_crowds(matched, squares, targets.boxes, targets.crowd & targets.valid)


def _in_centre_region(boxes: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Whether each of `centres` (A, 2) is so near to the centre of each of `boxes` (B, N, 4): (B, N, A)."""
    away = (centred(boxes)[..., None, :2] - centres).abs()
    return (away < _RADIUS * strides[:, None]).all(-1)


def _class_cost(guesses: Guesses, labels: Tensor) -> Tensor:
    """Cross-entropy of the one-hot `labels` (B, N) with each cell's class probabilities: (B, N, A).

    Summed over the classes; a probability is the root of objectness times class.
    """
    present = (F.logsigmoid(guesses.classes) + F.logsigmoid(guesses.objectness)[..., None]) / 2
    absent = torch.log1p(-present.exp()).clamp(min=_SURE)
    # All classes absent, put right for the one that is there: no array of objects x cells x classes.
    correction = absent - present.clamp(min=_SURE)  # (B, A, K)
    chosen = correction.gather(2, labels[:, None].expand(-1, correction.shape[1], -1))
    return chosen.transpose(1, 2) - absent.sum(-1)[:, None]


def _claims(costs: Tensor, overlaps: Tensor) -> Tensor:
    """The k cheapest cells of each object, (B, N, A); k is the sum of its largest overlaps, at least 1."""
    most = min(_MOST_CELLS, costs.shape[2])
    count = overlaps.topk(most, dim=2).values.sum(2).int().clamp(min=1)
    places = costs.topk(most, dim=2, largest=False).indices
    cheap = torch.arange(most, device=costs.device) < count[..., None]
    return torch.zeros_like(costs, dtype=torch.bool).scatter(2, places, cheap)
