"""Which object each anchor is to find, and which anchors a loss listens to."""

from typing import Literal

import torch
from torch import Tensor

from striate.ops.boxes import pairwise_share

__all__ = ["BACKGROUND", "IGNORED", "highest", "match", "sampled", "spared_in_crowds"]

BACKGROUND = -1
"""Of an anchor that is to find nothing."""

IGNORED = -2
"""Of an anchor that is neither right nor wrong."""

_MOSTLY = 0.5

Claim = Literal["none", "best", "forced"]


def match(overlaps: Tensor, valid: Tensor, positive: float, negative: float, claim: Claim = "none") -> Tensor:
    """The row of the object that each anchor is matched to, BACKGROUND or IGNORED: (B, A) int64.

    overlaps (B, N, A) in 0..1 of N objects with A anchors; valid (B, N) bool, rows that hold an object. An
    anchor goes to the object it overlaps most, if by at least `positive`; it is background under `negative`.

    claim: so that no object goes without, `best` also matches the anchors that overlap some object as much
    as any does, each to its own object (Ren et al. 2015, section 3.1.2); `forced` gives each object the one
    anchor that overlaps it most (Liu et al. 2016, section 2.2; the later object where two want the same).
    An object that no anchor overlaps claims none.
    """
    overlaps = torch.where(valid[..., None], overlaps, -1.0)
    if not overlaps.shape[1]:
        return overlaps.new_full((overlaps.shape[0], overlaps.shape[2]), BACKGROUND, dtype=torch.int64)
    most, own = overlaps.max(1)
    matched = torch.where(most >= positive, own, IGNORED)
    matched = torch.where(most < negative, BACKGROUND, matched)
    if claim == "none":
        return matched
    best, anchor = overlaps.max(2)
    wants = valid & (best > 0)
    if claim == "best":
        claimed = ((overlaps == best[..., None]) & wants[..., None]).any(1)
        return torch.where(claimed, own, matched)
    rows = torch.arange(overlaps.shape[1], device=overlaps.device).expand_as(anchor)
    claims = matched.new_full((overlaps.shape[0], overlaps.shape[2] + 1), -1)
    # Rows that want none write into a column too many.
    claims.scatter_reduce_(1, torch.where(wants, anchor, overlaps.shape[2]), rows, "amax")
    claims = claims[:, :-1]
    return torch.where(claims >= 0, claims, matched)


def spared_in_crowds(matched: Tensor, anchors: Tensor, boxes: Tensor, crowd: Tensor) -> Tensor:
    """`matched` (B, A) with IGNORED for BACKGROUND where more than half of the anchor lies in a crowd's box.

    There may be objects in it that were not told apart. anchors (A, 4) or (B, A, 4), boxes (B, N, 4) of which
    `crowd` (B, N) says whether they are.
    """
    if not crowd.any():  # hardly a picture has one, and the shares take as long as the overlaps
        return matched
    inside = (pairwise_share(anchors, boxes) > _MOSTLY) & crowd[:, None, :]  # (B, A, N)
    return torch.where((matched == BACKGROUND) & inside.any(2), IGNORED, matched)


def sampled(matched: Tensor, count: int, positive_share: float) -> Tensor:
    """At most `count` anchors of each picture drawn at random: (B, A) bool.

    At most `positive_share` of `count` are matched ones, the rest is filled with background, as far as there
    is any. matched (B, A) is that of `match`; IGNORED ones are never drawn.
    """
    lots = torch.rand(matched.shape, device=matched.device)
    positives = highest(matched >= 0, lots, torch.full_like(matched[:, :1], int(count * positive_share)))
    negatives = highest(matched == BACKGROUND, lots, count - positives.sum(1, keepdim=True))
    return positives | negatives


def highest(candidates: Tensor, values: Tensor, counts: Tensor) -> Tensor:
    """Of each row of `candidates` (B, A) bool as many as `counts` (B, 1) says, those of the highest `values`.

    (B, A) bool; fewer where there are fewer.
    """
    order = torch.where(candidates, values, -torch.inf).argsort(1, descending=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    return candidates & (rank < counts)
