"""The region proposal network: where in a picture there may be anything at all.

Ren, He, Girshick, Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks",
NIPS 2015, arXiv:1506.01497, section 3.1.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from striate.config import Settings
from striate.errors import UsageError
from striate.ops.anchors import centred_anchors, published_anchors, spread
from striate.ops.boxes import BoxCoder, pairwise_iou
from striate.ops.candidates import unsuppressed
from striate.ops.matching import IGNORED, match, sampled, spared_in_crowds
from striate.structures import BoxTargets

__all__ = ["RPN", "Count", "ProposalConfig", "Regions", "Share", "within"]

Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Ratios = Annotated[tuple[Annotated[float, Meta(gt=0)], ...], Meta(min_length=1)]
Sizes = Annotated[tuple[Annotated[float, Meta(ge=1)], ...], Meta(min_length=1)]

_CODER = BoxCoder()
_BETA = 1 / 9  # where the loss of boxes turns from square to linear: sigma = 3
_LEAST = 1e-12  # of a batch without an anchor that counts


class ProposalConfig(Settings, frozen=True, kw_only=True):
    """Settings of a region proposal network."""

    # Sides of squares as large as the anchors, for each map; of one map those that were published with.
    anchor_sizes: Annotated[tuple[Sizes, ...], Meta(min_length=1)] = ((128.0, 256.0, 512.0),)
    anchor_ratios: Ratios = (0.5, 1.0, 2.0)  # height / width
    two_scores: bool = True  # for an object and against one, as in the paper, or their difference alone
    candidates: Count = 6000  # best anchors of each map that compete
    candidates_training: Count = 12000
    proposals: Count = 300  # of the winners, those that are read
    proposals_training: Count = 2000
    nms_threshold: Share = 0.7
    least_side: Annotated[float, Meta(ge=0)] = 16.0  # pixels of a proposal, either way
    positive: Share = 0.7  # an anchor finds the object that it overlaps so much ...
    negative: Share = 0.3  # ... and nothing where it overlaps none so much
    sampled: Count = 256  # anchors of a picture that the loss listens to
    positive_share: Share = 0.5  # of them at most
    crossing: bool = False  # whether it listens to anchors that cross the picture's border

    def __post_init__(self) -> None:
        if self.negative > self.positive:
            raise UsageError(
                "network.rpn.negative",
                f"{self.negative} is above rpn.positive = {self.positive}",
                "give less",
            )
        if len({len(sizes) for sizes in self.anchor_sizes}) > 1:
            raise UsageError(
                "network.rpn.anchor_sizes", "maps have different numbers of them", "give each map as many"
            )

    @property
    def anchors(self) -> int:
        """Of a cell."""
        return len(self.anchor_sizes[0]) * len(self.anchor_ratios)


class Regions(NamedTuple):
    """What the network says of each of A anchors, and where it says that there is something."""

    objectness: Tensor  # (B, A) logits
    numbers: Tensor  # (B, A, 4) that make a box of each anchor
    anchors: Tensor  # (A, 4)
    proposals: Tensor  # (B, P, 4) surest first; rows that are unused are 0


class RPN(nn.Module):
    """3x3 convolution -> 1x1 to a score and 1x1 to four numbers for each anchor, shared by all maps.

    Its weights begin as N(0, 0.01) (section 3.1.3).
    """

    def __init__(self, channels: int, config: ProposalConfig) -> None:
        super().__init__()
        self.config = config
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.cls_score = nn.Conv2d(channels, config.anchors * (2 if config.two_scores else 1), 1)
        self.bbox_pred = nn.Conv2d(channels, config.anchors * 4, 1)
        for layer in (self.conv, self.cls_score, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, maps: Sequence[Tensor], picture: Tensor, size: tuple[int, int], stride: int) -> Regions:
        """`maps` finest first, each (B, C, h, w); `picture` (4,) is the box of all of it, `size` its (H, W).

        `stride` is that of a single map; of several each has as many pixels a cell as fit into the picture.
        """
        answers = [self._answer(values) for values in maps]
        anchors = self._anchors(maps, size, stride)
        proposals = self._proposals(answers, anchors, picture)
        objectness, numbers = (torch.cat(parts, 1) for parts in zip(*answers, strict=True))
        return Regions(objectness, numbers, torch.cat(anchors), proposals)

    def _answer(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, h x w x A) and numbers (B, h x w x A, 4) for a map, in float32."""
        hidden = F.relu(self.conv(maps))
        scores = self.cls_score(hidden).float()
        if self.config.two_scores:
            # The softmax of two is the sigmoid of their difference.
            against, own = scores.chunk(2, 1)
            scores = own - against
        numbers = self.bbox_pred(hidden).float().permute(0, 2, 3, 1)  # (B, h, w, A x 4)
        return scores.permute(0, 2, 3, 1).flatten(1), numbers.flatten(1).unflatten(1, (-1, 4))

    def _anchors(self, maps: Sequence[Tensor], size: tuple[int, int], stride: int) -> list[Tensor]:
        """The anchors of each map."""
        sizes, ratios = self.config.anchor_sizes, self.config.anchor_ratios
        if len(maps) == 1:
            cell = published_anchors(sizes[0], ratios, stride).to(maps[0].device)
            return [spread(cell, _grid(maps[0]), (stride, stride))]
        found = []
        for values, own in zip(maps, sizes, strict=True):
            rows, columns = _grid(values)
            steps = (size[0] // rows, size[1] // columns)
            found.append(spread(centred_anchors(own, ratios).to(values.device), (rows, columns), steps))
        return found

    @torch.no_grad()
    def _proposals(
        self, answers: Sequence[tuple[Tensor, Tensor]], anchors: Sequence[Tensor], picture: Tensor
    ) -> Tensor:
        """The boxes (B, P, 4) that are surest to hold something, of those that overlap the surest one.

        No gradient passes through their coordinates: "approximate joint training", section 3.2.
        """
        config = self.config
        boxes, scores, levels = self._candidates(answers, anchors, picture)
        large = (boxes[..., 2:] - boxes[..., :2] >= config.least_side).all(2)
        # Those too small come last, so that they suppress nothing.
        scores = torch.where(large, scores, -1.0)
        stays = unsuppressed(torch.where(large[..., None], boxes, 0.0), scores, config.nms_threshold, levels)
        kept = config.proposals_training if self.training else config.proposals
        # Torch's `min`, here and below: of a free size Python's would be decided while the graph is made.
        count = torch.sym_min(kept, scores.shape[1])
        best, places = torch.where(stays, scores, -1.0).topk(count, 1)
        winners = boxes.gather(1, places[..., None].expand(-1, -1, 4))
        return torch.where((best >= 0)[..., None], winners, 0.0)

    def _candidates(
        self, answers: Sequence[tuple[Tensor, Tensor]], anchors: Sequence[Tensor], picture: Tensor
    ) -> tuple[Tensor, ...]:
        """Boxes (B, N, 4), probabilities (B, N) and maps (B, N) of the best anchors of each map."""
        most = self.config.candidates_training if self.training else self.config.candidates
        parts = []
        for level, ((objectness, numbers), own) in enumerate(zip(answers, anchors, strict=True)):
            best, places = objectness.topk(torch.sym_min(most, objectness.shape[1]), 1)
            chosen = numbers.gather(1, places[..., None].expand(-1, -1, 4))
            boxes = within(_CODER.decode(chosen, own[places]), picture)
            parts.append((boxes, best.sigmoid(), torch.full_like(places, level)))
        return tuple(torch.cat(columns, 1) for columns in zip(*parts, strict=True))

    def loss(self, regions: Regions, targets: BoxTargets[Tensor], picture: Tensor) -> dict[str, Tensor]:
        """`objectness` and `proposals`: means over the anchors drawn (equation 1), by the pictures' weights.

        Both parts are divided by the number of anchors drawn, as the published code does; with the paper's
        lambda of 10 and its N_reg that is about the same.
        """
        with torch.no_grad():
            matched = self._matched(regions.anchors, targets, picture)
            drawn = sampled(matched, self.config.sampled, self.config.positive_share)
            weight = drawn * targets.weight[:, None]
            rows = matched.clamp(min=0)[..., None].expand(-1, -1, 4)
            wanted = _CODER.encode(targets.boxes.float().gather(1, rows), regions.anchors)
        found = (matched >= 0).float()
        score = F.binary_cross_entropy_with_logits(regions.objectness, found, reduction="none")
        shift = F.smooth_l1_loss(regions.numbers, wanted, reduction="none", beta=_BETA).sum(2)
        total = weight.sum().clamp(min=_LEAST)
        return {
            "objectness": (score * weight).sum() / total,
            "proposals": (shift * weight * found).sum() / total,
        }

    def _matched(self, anchors: Tensor, targets: BoxTargets[Tensor], picture: Tensor) -> Tensor:
        """The row of the object that each anchor is to find, BACKGROUND or IGNORED: (B, A)."""
        config, boxes = self.config, targets.boxes.float()
        overlaps = pairwise_iou(boxes, anchors)
        if not config.crossing:
            inside = (anchors[:, :2] >= picture[:2]).all(1) & (anchors[:, 2:] <= picture[2:]).all(1)
            overlaps = torch.where(inside, overlaps, -1.0)
        objects = targets.valid & ~targets.crowd
        matched = match(overlaps, objects, config.positive, config.negative, "best")
        matched = spared_in_crowds(matched, anchors, boxes, targets.crowd)
        return matched if config.crossing else torch.where(inside, matched, IGNORED)


def within(boxes: Tensor, picture: Tensor) -> Tensor:
    """`boxes` (..., 4) cut off at the borders of `picture` (4,), the box 0 0 width height."""
    return boxes.clamp(min=0).minimum(picture[2:].repeat(2))


def _grid(maps: Tensor) -> tuple[int, int]:
    return maps.shape[-2], maps.shape[-1]
