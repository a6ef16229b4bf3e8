"""What is done with each region of interest, in Fast R-CNN and Faster R-CNN: its class, and its box anew.

Girshick, "Fast R-CNN", ICCV 2015, arXiv:1504.08083, section 2.
"""

from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from striate.config import Settings
from striate.layers.initialise import he_normal
from striate.models.detection._rpn import Count, Share, within
from striate.ops.boxes import BoxCoder, pairwise_iou
from striate.ops.matching import IGNORED, match, spared_in_crowds
from striate.structures import BoxTargets

__all__ = [
    "CODER",
    "Answers",
    "BoxHead",
    "HeadConfig",
    "label_regions",
    "region_losses",
    "region_predictions",
]

CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))  # numbers are divided by deviations of .1 .1 .2 .2
_LEAST_SIDE = 1e-2  # pixels of a box that is anything
_LEAST = 1e-12  # of a batch without a region that counts


class HeadConfig(Settings, frozen=True, kw_only=True):
    """Settings of the layers that read a region."""

    grid: Count = 7  # cells a side that a region is resampled to
    hidden: Count = 4096  # units of fc6 and of fc7
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.5  # behind fc6 and fc7
    overlap: Share = 0.5  # a region shows the object that it overlaps so much, else background
    beta: Annotated[float, Meta(gt=0)] = 1.0  # where the loss of boxes turns from square to linear


class FactoredLinear(nn.Sequential):
    """A linear layer in two steps over `rank` units: the first has no bias (section 3.1)."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs))


class BoxHead(nn.Module):
    """fc6 -> fc7 -> scores of the K classes and the background, and four numbers for each of them.

    Class 0 is the background. The last layers begin as N(0, 0.01) and N(0, 0.001) (section 2.3). `ranks` are
    those of fc6 and fc7 where they are in two steps.
    """

    def __init__(
        self, channels: int, classes: int, config: HeadConfig, ranks: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        inputs = channels * config.grid**2
        if ranks is None:
            self.fc6: nn.Module = nn.Linear(inputs, config.hidden)
            self.fc7: nn.Module = nn.Linear(config.hidden, config.hidden)
        else:
            self.fc6 = FactoredLinear(inputs, config.hidden, ranks[0])
            self.fc7 = FactoredLinear(config.hidden, config.hidden, ranks[1])
        self.dropout = nn.Dropout(config.dropout)
        self.cls_score = nn.Linear(config.hidden, classes + 1)
        self.bbox_pred = nn.Linear(config.hidden, (classes + 1) * 4)
        he_normal((*self.fc6.modules(), *self.fc7.modules()))
        for layer, deviation in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, cut: Tensor, regions: int) -> "Answers":
        """cut (B x P, C, grid, grid) of P `regions` a picture."""
        fc6 = self.dropout(F.relu(self.fc6(cut.flatten(1))))
        fc7 = self.dropout(F.relu(self.fc7(fc6)))
        scores, numbers = self.cls_score(fc7).float(), self.bbox_pred(fc7).float()
        return Answers(
            scores.unflatten(0, (-1, regions)), numbers.unflatten(1, (-1, 4)).unflatten(0, (-1, regions))
        )


class Answers(NamedTuple):
    """What the head says of P regions in each picture."""

    scores: Tensor  # (B, P, K + 1) logits, the background's first
    numbers: Tensor  # (B, P, K + 1, 4) that make a box of the region, for each class


def label_regions(boxes: Tensor, targets: BoxTargets[Tensor], overlap: float) -> Tensor:
    """The row of the object that each of `boxes` (B, P, 4) shows, BACKGROUND or IGNORED: (B, P).

    IGNORED are rows without a box, and what lies mostly in a crowd.
    """
    truths = targets.boxes.float()
    overlaps = pairwise_iou(truths, boxes)
    matched = match(overlaps, targets.valid & ~targets.crowd, overlap, overlap)
    matched = spared_in_crowds(matched, boxes, truths, targets.crowd)
    return torch.where(boxes.any(2), matched, IGNORED)


def region_losses(
    answers: Answers, boxes: Tensor, matched: Tensor, targets: BoxTargets[Tensor], beta: float
) -> dict[str, Tensor]:
    """`classes` and `boxes`: means over the regions that `matched` (B, P) does not ignore, by the weights.

    Equations 1 to 3: cross-entropy, and for what shows an object the smooth L1 distance of the four numbers
    of its class. boxes (B, P, 4) are the regions.
    """
    rows, found = matched.clamp(min=0), (matched >= 0).float()
    weight = (matched != IGNORED) * targets.weight[:, None]
    labels = torch.where(matched >= 0, targets.labels.gather(1, rows) + 1, 0)
    each = F.cross_entropy(answers.scores.flatten(0, 1), labels.flatten(), reduction="none")
    truths = targets.boxes.float().gather(1, rows[..., None].expand(-1, -1, 4))
    own = labels[..., None, None].expand(-1, -1, 1, 4)
    numbers = answers.numbers.gather(2, own)[:, :, 0]
    shift = F.smooth_l1_loss(numbers, CODER.encode(truths, boxes), reduction="none", beta=beta).sum(2)
    total = weight.sum().clamp(min=_LEAST)
    return {
        "classes": (each.view_as(weight) * weight).sum() / total,
        "boxes": (shift * weight * found).sum() / total,
    }


def region_predictions(answers: Answers, boxes: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (B, P, K, 4) within `picture` (4,) and scores (B, P, K) of each class.

    The score is 0 where there is no region, or nothing is left of its box.
    """
    numbers = answers.numbers[:, :, 1:]
    found = within(CODER.decode(numbers, boxes[:, :, None]), picture)
    is_there = boxes.any(2)[..., None] & (found[..., 2:] - found[..., :2] >= _LEAST_SIDE).all(3)
    return found, answers.scores.softmax(2)[..., 1:] * is_there
