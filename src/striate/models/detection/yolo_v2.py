"""YOLO v2: boxes as changes of anchors, on a network without fully connected layers.

Redmon and Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, arXiv:1612.08242, section 2. `yolo_v2`
has the anchors found on PASCAL VOC, `yolo_v2_coco` those of COCO, `tiny_yolo_v2` the small trunk without the
passthrough; `yolo_v2_mobilenet_v2` is a form for small machines, whose backbone has published weights. At
416x416, Darknet-19:

    images (3, 416, 416) -> stage5 (512, 26, 26) -> stage6 (1024, 13, 13) -> head, two 3x3 (1024, 13, 13)
    stage5 -> passthrough 1x1 (64, 26, 26) -> reorg (256, 13, 13) -> beside the head's -> merge 3x3
    (1024, 13, 13) -> output 1x1 (5 (5 + K), 13, 13)

The paper gives no loss. It is darknet's: squared errors of the sigmoid of x and y, of w and h, and of the
objectness, which ought to be the IoU of the box with its object; cross-entropy of the classes. Squares are
halved, so that gradients are darknet's. Any size of a multiple of 32 will do.
"""

from itertools import pairwise
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
from striate.ops.boxes import overlap
from striate.ops.reorg import reorg
from striate.structures import BoxTargets, Preprocess

__all__ = [
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "YoloV2",
    "backbone_of",
    "build",
    "from_backbone",
    "recipe",
]

_FOLD = 2  # of the passthrough: from stride 16 to 32
_FOUND = 0.6  # IoU: a box above it is not told that there is no object
_OBJECT = 5.0  # weight of outputs with an object, in the loss; all else has 1
_LIKELY = 0.1  # objectness at the start: squared errors of a sigmoid far below hardly teach

VOC_ANCHORS = (
    (1.3221, 1.73145),
    (3.19275, 4.00944),
    (5.05587, 8.09892),
    (9.47112, 4.84053),
    (11.2364, 10.0071),
)
COCO_ANCHORS = (
    (0.57273, 0.677385),
    (1.87446, 2.06253),
    (3.33843, 5.47434),
    (7.88282, 3.52778),
    (9.77052, 9.16828),
)
TINY_VOC_ANCHORS = ((1.08, 1.19), (3.42, 4.41), (6.63, 11.38), (9.42, 5.11), (16.62, 10.52))


class Config(AnchorConfig, frozen=True, kw_only=True):
    """Settings of a YOLO v2."""

    anchors: Anchors = VOC_ANCHORS  # in cells of 32 pixels
    head: Annotated[tuple[Count, ...], Meta(min_length=1)] = (1024, 1024)  # maps of the 3x3 on stage6
    passthrough: Annotated[int, Meta(ge=0)] = 64  # its maps before their folding, a multiple of 4; 0: none
    merge: Annotated[int, Meta(ge=0)] = 1024  # maps of the 3x3 behind the passthrough; 0 where there is none

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.passthrough % _FOLD**2:
            raise UsageError(
                "network.passthrough", f"{self.passthrough} is no multiple of {_FOLD**2}", "round it up"
            )
        if bool(self.passthrough) != bool(self.merge):
            raise UsageError(
                "network.merge",
                f"{self.merge} does not go with a passthrough of {self.passthrough}",
                "set both to 0, or both above it",
            )


class Raw(NamedTuple):
    """What `forward` gives."""

    outputs: Tensor  # (B, A * (5 + K), H / 32, W / 32): x, y, w, h, object, classes of each anchor


class YoloV2(Detector):
    """Backbone -> head -> (beside it the passthrough, merge) -> 1x1."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.size_multiple = SizeMultiple(config.preprocess, LAST_STRIDE)
        self.backbone = encoder(config, LAST_STRIDE // _FOLD)
        fine, coarse = self.backbone.feature_info
        self.fine, self.coarse = fine.name, coarse.name
        widths = (coarse.channels, *config.head)
        self.head = nn.Sequential(*(convolution(before, after, 3) for before, after in pairwise(widths)))
        self.passthrough = self.merge = None
        last = config.head[-1]
        if config.passthrough:
            self.passthrough = convolution(fine.channels, config.passthrough, 1)
            self.merge = convolution(last + config.passthrough * _FOLD**2, config.merge, 3)
            last = config.merge
        self.output = nn.Conv2d(last, len(config.anchors) * (5 + len(self.classes)), 1)

    def forward(self, images: Tensor) -> Raw:  # type: ignore[override]
        features = self.backbone.features(self.normalize(self.size_multiple(images)))
        maps = self.head(features[self.coarse])  # (B, 1024, H / 32, W / 32)
        if self.passthrough is not None and self.merge is not None:
            folded = reorg(self.passthrough(features[self.fine]), _FOLD)
            maps = self.merge(torch.cat((folded, maps), 1))
        return Raw(self.output(maps))

    def predictions(self, raw: Raw) -> tuple[Tensor, Tensor]:
        grid = self._grid(raw)
        return grid.boxes(), grid.objectness().sigmoid()[..., None] * grid.classes().softmax(2)

    def loss(self, raw: Raw, targets: BoxTargets[Tensor]) -> dict[str, Tensor]:
        """`box`, `object`, `no_object`, `class`: sums over a picture, averaged over the batch."""
        grid = self._grid(raw)
        anchor = shape_iou(sides_of(targets.boxes), grid.anchors).argmax(2)
        matches = match_cells(grid, targets, anchor, counted(targets), _FOUND)
        none = 0.5 * grid.objectness().sigmoid().square()
        return {
            **_found_terms(matches, targets),
            "no_object": mean_over_pictures(none, matches.idle, targets),
        }

    def _grid(self, raw: Raw) -> Grid:
        anchors = tuple((width * LAST_STRIDE, height * LAST_STRIDE) for width, height in self.config.anchors)
        return grid_of(raw.outputs, anchors, LAST_STRIDE)


def _found_terms(matches: Matches, targets: BoxTargets[Tensor]) -> dict[str, Tensor]:
    """The terms of the outputs that have an object."""
    x_y, w_h, classes = matches.outputs[:, :2], matches.outputs[:, 2:4], matches.outputs[:, 5:]
    box = torch.cat((x_y.sigmoid() - matches.place, w_h - matches.growth), 1).square().sum(1)
    sure = matches.outputs[:, OBJECT].sigmoid() - overlap(matches.boxes, matches.truth)
    values = {
        "box": 0.5 * matches.scale * box,
        "object": 0.5 * _OBJECT * sure.square(),
        "class": F.cross_entropy(classes, matches.labels, reduction="none"),
    }
    return {name: mean_over_pictures(value, matches.weight, targets) for name, value in values.items()}


VARIANTS = {
    "yolo_v2": Config(),
    "yolo_v2_coco": Config(classes=80, anchors=COCO_ANCHORS),
    "tiny_yolo_v2": Config(
        backbone="darknet_tiny", anchors=TINY_VOC_ANCHORS, head=(1024,), passthrough=0, merge=0
    ),
    "yolo_v2_mobilenet_v2": Config(
        # Its backbone's weights were made with these means and deviations.
        preprocess=Preprocess(size=(416, 416), fit="letterbox", pad_value=127),
        backbone="mobilenet_v2",
        head=(256,),
        passthrough=32,
        merge=256,
    ),
}

TINY = Config(
    classes=3,
    preprocess=prepared((64, 96)),
    backbone_settings={"width": 0.0625},
    anchors=((0.5, 0.5), (1.0, 0.7), (1.5, 1.8)),
    head=(32, 32),
    passthrough=8,
    merge=32,
)

TINIES = {
    "pooled": msgspec.structs.replace(TINY, backbone="darknet_tiny", head=(32,), passthrough=0, merge=0),
}


def build(config: Config) -> YoloV2:
    """A YOLO v2 with the backbone's own starting weights, He's for the rest and N(0, 0.01) for the last."""
    network = YoloV2(config)
    draw_head(network, {network.output: len(config.anchors)}, _LIKELY)
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings; sizes change as the paper's do, from 320 to 608 for 416."""
    del config
    return recipe_for_photos(jitter=0.3, sizes=[0.75, 1.5])
