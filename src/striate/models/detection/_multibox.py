"""What SSD's forms share: default boxes on maps of several sizes, a head on each, the multibox loss.

Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg, "SSD: Single Shot MultiBox Detector", ECCV 2016,
arXiv:1512.02325, sections 2.1 and 2.2.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from striate.errors import UsageError
from striate.models.network import Detector, DetectorConfig
from striate.ops.boxes import BoxCoder, clipped, cornered, pairwise_iou
from striate.ops.matching import BACKGROUND, highest, match, spared_in_crowds
from striate.structures import BoxTargets

__all__ = [
    "Count",
    "MultiBox",
    "MultiBoxConfig",
    "MultiBoxDetector",
    "MultiBoxHead",
    "boxes_per_cell",
    "default_boxes",
]

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]

_CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))  # the published code's variances 0.1 and 0.2
_OVERLAP = 0.5  # from which a default box is to find an object
_LEAST = 1e-12  # keeps the mean over pictures of no weight at 0


class MultiBoxConfig(DetectorConfig, frozen=True, kw_only=True):
    """What the settings of SSD's forms hold. The published code's thresholds are the defaults.

    On each map, finest first, default boxes of scale s have an area of (s * side)^2: one a ratio and its
    inverse, a square, and a square of scale sqrt(s * the next map's).
    """

    per_class: int = 400
    score_threshold: float = 0.01
    nms_threshold: float = 0.45
    detections: int = 200
    extras: tuple[Any, ...]  # what each further map behind the two of the encoder is made of
    scales: tuple[Positive, ...]  # shares of the picture's sides, of each map and a last one
    ratios: tuple[tuple[Positive, ...], ...]  # width over height, of each map
    steps: tuple[Annotated[float, Meta(ge=0)], ...]  # pixels from cell to cell; 0: picture's over map's side
    clip_sides: bool = False  # default boxes are at most as wide and high as the picture
    negatives: Positive = 3.0  # background boxes that the loss listens to, for each that finds an object

    def __post_init__(self) -> None:
        super().__post_init__()
        maps = 2 + len(self.extras)
        found = {"ratios": len(self.ratios), "steps": len(self.steps), "scales": len(self.scales) - 1}
        for name, count in found.items():
            if count != maps:
                raise UsageError(
                    f"network.{name}",
                    f"they are for {count} maps, and with the extras there are {maps}",
                    "give ratios and a step for each map, and one scale more than maps",
                )


def boxes_per_cell(config: MultiBoxConfig) -> list[int]:
    """How many default boxes lie around each cell of each map."""
    return [2 + 2 * len(ratios) for ratios in config.ratios]


def default_boxes(config: MultiBoxConfig, maps: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """The default boxes (A, 4) of maps of these heights and widths, in input pixels.

    Map by map, row by row, cell by cell; in a cell as `_sides` lists them. They may reach out of the picture.
    """
    height, width = config.preprocess.size
    found = []
    for sides, step, (rows, columns) in zip(_sides(config), config.steps, maps, strict=True):
        y = (torch.arange(rows, device=device) + 0.5) * (step or height / rows)
        x = (torch.arange(columns, device=device) + 0.5) * (step or width / columns)
        in_cell = [(share_x * width, share_y * height) for share_x, share_y in sides]
        shape = (rows, columns, len(sides), 2)
        centres = torch.stack((x.expand(rows, -1), y[:, None].expand(-1, columns)), -1)[:, :, None]
        boxes = torch.cat((centres.expand(shape), torch.tensor(in_cell, device=device).expand(shape)), -1)
        found.append(cornered(boxes).flatten(0, 2))
    return torch.cat(found)


def _sides(config: MultiBoxConfig) -> Iterator[list[tuple[float, float]]]:
    """Width and height of each box of a cell, as shares of the picture's, map by map."""
    most = 1.0 if config.clip_sides else math.inf
    for number, ratios in enumerate(config.ratios):
        scale, between = config.scales[number], math.sqrt(config.scales[number] * config.scales[number + 1])
        sides = [(scale, scale), (between, between)]
        for ratio in ratios:
            longer, shorter = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            sides += [(longer, shorter), (shorter, longer)]
        yield [(min(width, most), min(height, most)) for width, height in sides]


class MultiBox(NamedTuple):
    """What `forward` gives: for each of A default boxes where the object lies, and which it is."""

    offsets: Tensor  # (B, A, 4) relative to the default box, in float32
    logits: Tensor  # (B, A, 1 + K) unnormalised log probabilities, the background first, in float32
    default_boxes: Tensor  # (A, 4) in input pixels


class MultiBoxHead(nn.Module):
    """Two convolutions a map: `loc` to 4 numbers, `conf` to 1 + K, for each default box of each cell.

    `make(channels, outputs)` gives one that keeps the size; `channels` are those of the maps.
    """

    def __init__(
        self, config: MultiBoxConfig, classes: int, channels: Iterable[int], make: Callable[..., nn.Module]
    ) -> None:
        super().__init__()
        self.classes = classes
        counted = list(zip(channels, boxes_per_cell(config), strict=True))
        self.loc = nn.ModuleList(make(channels, 4 * boxes) for channels, boxes in counted)
        self.conf = nn.ModuleList(make(channels, (1 + classes) * boxes) for channels, boxes in counted)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Offsets (B, A, 4) and logits (B, A, 1 + K) of maps (B, C, H, W), in float32."""
        offsets = [_listed(layer(each), 4) for layer, each in zip(self.loc, maps, strict=True)]
        logits = [_listed(layer(each), 1 + self.classes) for layer, each in zip(self.conf, maps, strict=True)]
        return torch.cat(offsets, 1), torch.cat(logits, 1)


def _listed(outputs: Tensor, values: int) -> Tensor:
    """Outputs (B, boxes * values, H, W) of a map as (B, H * W * boxes, values)."""
    return outputs.permute(0, 2, 3, 1).reshape(outputs.shape[0], -1, values).float()


class MultiBoxDetector(Detector):
    """Base of SSD's forms; `forward` hands the maps to `multi_box`."""

    config: MultiBoxConfig
    head: MultiBoxHead

    def multi_box(self, maps: Sequence[Tensor]) -> MultiBox:
        """What the head makes of `maps` (B, C, H, W), finest first."""
        sizes = [(each.shape[-2], each.shape[-1]) for each in maps]
        offsets, logits = self.head(maps)
        return MultiBox(offsets, logits, default_boxes(self.config, sizes, maps[0].device))

    def predictions(self, raw: MultiBox) -> tuple[Tensor, Tensor]:
        boxes = _CODER.decode(raw.offsets, raw.default_boxes)
        return clipped(boxes, self.config.preprocess.size), raw.logits.softmax(2)[..., 1:]

    def loss(self, raw: MultiBox, targets: BoxTargets[Tensor]) -> dict[str, Tensor]:
        """Equation 1 of the paper: the sums over the boxes of each batch by the number of those matched.

        A picture in which none is matched counts, and gives as much background, as one with a single match;
        the paper does not listen to it at all.
        """
        matched = self.matched(raw.default_boxes, targets)
        positive = matched >= 0
        counts = positive.sum(1, keepdim=True).clamp(min=1)  # (B, 1)
        own = matched.clamp(min=0)
        labels = torch.where(positive, targets.labels.gather(1, own) + 1, 0)
        confidence = F.cross_entropy(raw.logits.flatten(0, 1), labels.flatten(), reduction="none")
        confidence = confidence.view_as(labels)
        hard = highest(matched == BACKGROUND, confidence.detach(), self.config.negatives * counts)
        localisation = torch.where(positive, self._localisation(raw, targets.boxes, own), 0)
        sums = {"localisation": localisation, "confidence": torch.where(positive | hard, confidence, 0)}
        number = (counts[:, 0] * targets.weight).sum().clamp(min=_LEAST)
        return {name: (each.sum(1) * targets.weight).sum() / number for name, each in sums.items()}

    def matched(self, anchors: Tensor, targets: BoxTargets[Tensor]) -> Tensor:
        """The row of the object that each default box is to find, or BACKGROUND, or IGNORED: (B, A)."""
        overlaps = pairwise_iou(targets.boxes, anchors)
        matched = match(overlaps, targets.valid & ~targets.crowd, _OVERLAP, _OVERLAP, "forced")
        return spared_in_crowds(matched, anchors, targets.boxes, targets.crowd)

    def _localisation(self, raw: MultiBox, boxes: Tensor, own: Tensor) -> Tensor:
        """Equation 2's smooth L1 of each default box, to row `own` (B, A) of `boxes` (B, N, 4): (B, A)."""
        aims = _CODER.encode(boxes.gather(1, own[..., None].expand(-1, -1, 4)), raw.default_boxes)
        return F.smooth_l1_loss(raw.offsets, aims, reduction="none").sum(2)
