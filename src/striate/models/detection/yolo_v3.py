"""YOLO v3: three grids, the finer ones built on the coarser, and classes that do not exclude each other.

Redmon and Farhadi, "YOLOv3: An Incremental Improvement", 2018, arXiv:1804.02767, section 2. `tiny_yolo_v3`
has the small trunk and two grids. At 416x416, Darknet-53:

    images (3, 416, 416) -> stage4 (256, 52, 52) -> stage5 (512, 26, 26) -> stage6 (1024, 13, 13)
    stage6 -> neck, five convolutions (512, 13, 13) -> 3x3 (1024, 13, 13) -> output 1x1 (3 (5 + K), 13, 13)
    neck   -> lateral 1x1 (256), twice as large, beside stage5 (768, 26, 26) -> neck (256, 26, 26) -> ...
    and likewise beside stage4: neck (128, 52, 52) -> output (3 (5 + K), 52, 52)

An object belongs to the one anchor of all grids whose shape is most like its own. The loss is darknet's:
halved squared errors of w and h, cross-entropies of the sigmoids of x and y, of the objectness and of each
class; a box that is not the object's own and overlaps it by an IoU above 0.7 (the paper says 0.5, darknet's
settings 0.7) is not told that there is none. Any size of a multiple of 32 will do.
"""

from typing import Annotated, NamedTuple

import msgspec
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from striate.errors import UsageError
from striate.layers.darknet import convolution
from striate.layers.size_multiple import SizeMultiple
from striate.models.detection._yolo import (
    LAST_STRIDE,
    OBJECT,
    AnchorConfig,
    Anchors,
    Count,
    Grid,
    Matches,
    backbone_of,
    counted,
    draw_head,
    encoder,
    from_backbone,
    grid_of,
    match_cells,
    mean_over_pictures,
    prepared,
    recipe_for_photos,
    sides_of,
)
from striate.models.network import Detector
from striate.ops.anchor_shapes import shape_iou
from striate.structures import BoxTargets

__all__ = [
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "YoloV3",
    "backbone_of",
    "build",
    "from_backbone",
    "recipe",
]

_FOUND = 0.7  # IoU: a box above it is not told that there is no object
_LIKELY = 0.01  # objectness at the start

COCO_ANCHORS = (
    *((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
    *((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
    *((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
)
TINY_COCO_ANCHORS = (
    *((10.0, 14.0), (23.0, 27.0), (37.0, 58.0)),
    *((81.0, 82.0), (135.0, 169.0), (344.0, 319.0)),
)


class Config(AnchorConfig, frozen=True, kw_only=True):
    """Settings of a YOLO v3."""

    classes: tuple[str, ...] | int = 80  # of COCO
    backbone: str = "darknet53"
    anchors: Anchors = COCO_ANCHORS  # in pixels, from the finest grid's to the coarsest's, as many for each
    # Maps of each grid's neck, from stride 32 on; between its 1x1 convolutions are 3x3 ones of twice as many.
    widths: Annotated[tuple[Count, ...], Meta(min_length=1, max_length=4)] = (512, 256, 128)
    depths: tuple[Annotated[int, Meta(ge=0)], ...] = (5, 5, 5)  # convolutions of each neck

    def __post_init__(self) -> None:
        super().__post_init__()
        grids = len(self.widths)
        if len(self.depths) != grids or len(self.anchors) % grids:
            raise UsageError(
                "network.widths",
                f"there are {grids}, {len(self.depths)} depths and {len(self.anchors)} anchors",
                "give one width and depth a grid, and as many anchors for each",
            )

    @property
    def anchors_each(self) -> int:
        """Anchors of a grid."""
        return len(self.anchors) // len(self.widths)

    def stride(self, number: int) -> int:
        """Of the grid `number`, 0 the coarsest."""
        return LAST_STRIDE >> number

    def first_anchor(self, number: int) -> int:
        """The place among all anchors of the first one of the grid `number`."""
        return (len(self.widths) - 1 - number) * self.anchors_each


class Raw(NamedTuple):
    """What `forward` gives: (B, A * (5 + K), rows, columns) of each grid, the coarsest first."""

    outputs: tuple[Tensor, ...]


class GridHead(nn.Module):
    """A grid of its own: (the coarser neck beside the backbone's maps) -> neck -> 3x3 -> output."""

    def __init__(self, channels: int, coarser: int | None, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.lateral = None
        if coarser is not None:
            self.lateral = convolution(coarser, width, 1)
            channels += width
        layers = []
        for number in range(depth):
            maps, kernel = (2 * width, 3) if number % 2 else (width, 1)
            layers.append(convolution(channels, maps, kernel))
            channels = maps
        self.neck = nn.Sequential(*layers)
        self.neck_maps = channels
        self.prediction = convolution(channels, 2 * width, 3)
        self.output = nn.Conv2d(2 * width, outputs, 1)

    def forward(self, maps: Tensor, coarser: Tensor | None) -> tuple[Tensor, Tensor]:
        """The neck's maps, and the outputs."""
        if self.lateral is not None and coarser is not None:
            finer = F.interpolate(self.lateral(coarser), scale_factor=2, mode="nearest")
            maps = torch.cat((finer, maps), 1)
        neck = self.neck(maps)
        return neck, self.output(self.prediction(neck))


class YoloV3(Detector):
    """Backbone -> a head at each of the strides 32, 16, 8."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.size_multiple = SizeMultiple(config.preprocess, LAST_STRIDE)
        finer = (config.stride(number) for number in range(1, len(config.widths)))
        self.backbone = encoder(config, *sorted(finer))
        features = self.backbone.feature_info[::-1]  # the coarsest first
        self.reads = [feature.name for feature in features]
        self.heads, coarser = nn.ModuleList(), None
        outputs = config.anchors_each * (5 + len(self.classes))
        for feature, width, depth in zip(features, config.widths, config.depths, strict=True):
            head = GridHead(feature.channels, coarser, width, depth, outputs)
            self.heads.append(head)
            coarser = head.neck_maps

    def forward(self, images: Tensor) -> Raw:  # type: ignore[override]
        features = self.backbone.features(self.normalize(self.size_multiple(images)))
        outputs, neck = [], None
        for name, head in zip(self.reads, self.heads, strict=True):
            neck, output = head(features[name], neck)
            outputs.append(output)
        return Raw(tuple(outputs))

    def predictions(self, raw: Raw) -> tuple[Tensor, Tensor]:
        grids = self._grids(raw)
        boxes = torch.cat([grid.boxes() for grid in grids], 1)
        scores = [grid.objectness().sigmoid()[..., None] * grid.classes().sigmoid() for grid in grids]
        return boxes, torch.cat(scores, 1)

    def loss(self, raw: Raw, targets: BoxTargets[Tensor]) -> dict[str, Tensor]:
        """`box`, `object`, `class`, `no_object`: sums over a picture's grids, averaged over the batch."""
        grids, each = self._grids(raw), self.config.anchors_each
        shapes = torch.cat([grid.anchors for grid in reversed(grids)])
        best = shape_iou(sides_of(targets.boxes), shapes).argmax(2)  # (B, N)
        terms: list[dict[str, Tensor]] = []
        for number, grid in enumerate(grids):
            anchor = best - self.config.first_anchor(number)
            wanted = counted(targets) & (anchor >= 0) & (anchor < each)
            matches = match_cells(grid, targets, anchor, wanted, _FOUND)
            terms.append(_terms(grid, matches, targets))
        return {name: torch.stack([term[name] for term in terms]).sum() for name in terms[0]}

    def _grids(self, raw: Raw) -> list[Grid]:
        each = self.config.anchors_each
        firsts = (self.config.first_anchor(number) for number in range(len(raw.outputs)))
        return [
            grid_of(maps, self.config.anchors[first : first + each], self.config.stride(number))
            for number, (maps, first) in enumerate(zip(raw.outputs, firsts, strict=True))
        ]


def _terms(grid: Grid, matches: Matches, targets: BoxTargets[Tensor]) -> dict[str, Tensor]:
    """The terms of one grid."""
    x_y, w_h, sure = matches.outputs[:, :2], matches.outputs[:, 2:4], matches.outputs[:, OBJECT]
    classes = matches.outputs[:, 5:]
    own = F.one_hot(matches.labels, classes.shape[1]).to(classes.dtype)
    # Less the entropy of what it ought to be, which no output can undercut: 0 is right.
    entropy = torch.special.entr(matches.place) + torch.special.entr(1 - matches.place)
    place = (F.binary_cross_entropy_with_logits(x_y, matches.place, reduction="none") - entropy).sum(1)
    values = {
        "box": matches.scale * (place + 0.5 * (w_h - matches.growth).square().sum(1)),
        "object": F.softplus(-sure),  # the cross-entropy of a sigmoid that ought to be 1
        "class": F.binary_cross_entropy_with_logits(classes, own, reduction="none").sum(1),
    }
    return {
        **{name: mean_over_pictures(value, matches.weight, targets) for name, value in values.items()},
        "no_object": mean_over_pictures(F.softplus(grid.objectness()), matches.idle, targets),
    }


VARIANTS = {
    "yolo_v3": Config(),
    "tiny_yolo_v3": Config(
        backbone="darknet_tiny", anchors=TINY_COCO_ANCHORS, widths=(256, 128), depths=(1, 0)
    ),
}

TINY = Config(
    classes=3,
    preprocess=prepared((64, 96)),
    backbone="darknet53",
    backbone_settings={"width": 0.03125},
    anchors=((4.0, 6.0), (9.0, 7.0), (14.0, 20.0), (24.0, 18.0), (40.0, 30.0), (50.0, 60.0)),
    widths=(24, 16, 8),
    depths=(3, 2, 0),
)

TINIES = {
    "pooled": msgspec.structs.replace(
        TINY, backbone="darknet_tiny", backbone_settings={"width": 0.125}, widths=(16, 8), depths=(1, 0)
    ),
}


def build(config: Config) -> YoloV3:
    """A YOLO v3 with the backbone's own starting weights, He's for the rest, N(0, 0.01) for the outputs."""
    network = YoloV3(config)
    outputs = {head.output: config.anchors_each for head in network.heads if isinstance(head, GridHead)}
    draw_head(network, outputs, _LIKELY)
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings; sizes change as the paper's do, from 320 to 608 for 416."""
    del config
    return recipe_for_photos(jitter=0.3, sizes=[0.75, 1.5])
