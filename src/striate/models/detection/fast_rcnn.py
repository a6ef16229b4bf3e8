"""Fast R-CNN: one pass of the convolutions over a picture, and boxes found beforehand cut out of their maps.

Girshick, "Fast R-CNN", ICCV 2015, arXiv:1504.08083. `fast_rcnn_vgg16` is the paper's; the two others have
smaller backbones, read at the same stride. Where something may be is an input beside the picture (selective
search finds it), in training too: the regions of each picture are drawn before, and here only labelled.

    images -> conv5_3 (512, H / 16, W / 16) ┐
    proposals (P, 4) ───────────────────────┴-> 7 x 7 maxima of each -> fc6, fc7
        -> scores (K + 1), boxes 4 (K + 1)

The paper keeps conv1_1 to conv2_2 as ImageNet made them: freeze `backbone.trunk.conv1_?.*` and
`backbone.trunk.conv2_?.*` where they begin with those weights.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from striate.errors import UsageError
from striate.models.detection._regions import GRAY, recipe_for_regions
from striate.models.detection._roi_heads import (
    Answers,
    BoxHead,
    HeadConfig,
    label_regions,
    region_losses,
    region_predictions,
)
from striate.models.detection._rpn import Count
from striate.models.detection._trunk import backbone_weights, trunk
from striate.models.network import Detector, DetectorConfig
from striate.models.unweighted import unweighted
from striate.ops.roi import max_pooled
from striate.structures import BoxTargets, Preprocess

__all__ = [
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "FastRCNN",
    "RawFastRCNN",
    "backbone_of",
    "build",
    "compressed",
    "from_backbone",
    "recipe",
]


class Config(DetectorConfig, frozen=True, kw_only=True):
    """Settings of a Fast R-CNN."""

    preprocess: Preprocess = Preprocess(
        size=(600, 600), fit="shorter", max_size=1000, pad_to=16, pad_value=GRAY, proposals=2000
    )
    score_threshold: float = 0.05
    nms_threshold: float = 0.3
    backbone: str = "vgg16"  # a VGG, a ResNet or a MobileNet v2, by its public name
    backbone_settings: dict[str, Any] = msgspec.field(default_factory=dict)  # its own: {"width": 32}
    stride: Count = 16  # of its map that is read
    head: HeadConfig = HeadConfig()
    svd: tuple[Count, Count] | None = None  # fc6 and fc7 in two steps over so many units; see `compressed`

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.preprocess.proposals:
            raise UsageError(
                "network.preprocess.proposals",
                "this network finds nothing without them",
                "say how many boxes a picture gets: 2000",
            )


class RawFastRCNN(NamedTuple):
    """What `forward` gives: what the head says of each region, and the regions."""

    answers: Answers
    proposals: Tensor  # (B, P, 4); rows that are unused are 0
    picture: Tensor  # (4,) box of the whole input


class FastRCNN(Detector):
    """Backbone -> maxima of each region -> head."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.backbone = trunk(config.backbone, (config.stride,), config.preprocess, config.backbone_settings)
        (self.read,) = self.backbone.feature_info
        self.head = BoxHead(self.read.channels, len(self.classes), config.head, config.svd)

    def forward(self, images: Tensor, proposals: Tensor) -> RawFastRCNN:  # type: ignore[override]
        """`proposals` (B, P, 4) in input pixels, of any number P; rows that are unused are 0."""
        height, width = images.shape[-2:]
        maps = self.backbone.features(self.normalize(images))[self.read.name]
        boxes = proposals.float()
        cut = max_pooled(maps, boxes, self.config.head.grid, self.config.stride)
        picture = torch.tensor([0.0, 0.0, width, height], device=images.device)
        return RawFastRCNN(self.head(cut, boxes.shape[1]), boxes, picture)

    def loss(self, raw: RawFastRCNN, targets: BoxTargets[Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            matched = label_regions(raw.proposals, targets, self.config.head.overlap)
        return region_losses(raw.answers, raw.proposals, matched, targets, self.config.head.beta)

    def predictions(self, raw: RawFastRCNN) -> tuple[Tensor, Tensor]:
        return region_predictions(raw.answers, raw.proposals, raw.picture)


_SMALL = Config(
    preprocess=Preprocess(size=(384, 512), fit="letterbox", pad_value=GRAY, proposals=500),
    backbone="resnet18",
    head=HeadConfig(hidden=512, dropout=0.0),
)

VARIANTS = {
    "fast_rcnn_vgg16": Config(),
    "fast_rcnn_resnet18": _SMALL,
    "fast_rcnn_mobilenet_v2": msgspec.structs.replace(_SMALL, backbone="mobilenet_v2"),
}

TINY = msgspec.structs.replace(
    _SMALL,
    classes=3,
    preprocess=Preprocess(size=(64, 64), fit="letterbox", pad_value=GRAY, proposals=24),
    backbone_settings={"depths": [1, 1, 1, 1], "width": 8},
    per_class=20,
    head=HeadConfig(grid=3, hidden=32, dropout=0.0),
)

TINIES = {
    "compressed": msgspec.structs.replace(
        TINY,
        backbone="vgg16",
        backbone_settings={"depths": [1, 1, 1, 1, 1], "width": 4},
        svd=(16, 8),
    ),
}


def build(config: Config) -> FastRCNN:
    """A Fast R-CNN: the backbone with its own starting weights, the head's drawn."""
    return FastRCNN(config)


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for photos.

    64 regions of each picture, a quarter of them with an object, are the paper's, and what overlaps an object
    by a tenth to a half is background (section 2.3).
    """
    augment: dict[str, object] = {
        "flip": 0.5,
        "rois": 64,
        "rois_foreground": 0.25,
        "rois_overlap": 0.5,
        "rois_background": [0.1, 0.5],
    }
    return recipe_for_regions(config.backbone.startswith("vgg"), augment)


def backbone_of(config: Config) -> str:
    """The public name of the classification network whose weights the backbone takes."""
    return config.backbone


def from_backbone(state_dict: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights of the classification network `backbone_of(config)` under the names used here.

    Of a VGG fc6 and fc7 too, as in the paper; those behind the map that is read have no place here.
    """
    with unweighted():
        here = build(config).state_dict()
    return backbone_weights(state_dict, here, "head.")


def compressed(network: FastRCNN, ranks: tuple[int, int] = (1024, 256)) -> FastRCNN:
    """A network that gives about the same with fc6 and fc7 in two steps over `ranks` units (section 3.1).

    A layer's weights become the product of two matrices by their largest singular values: with the
    paper's ranks a VGG's two layers have less than a third of their weights. Raises UsageError where they are
    in two steps already, or a rank is above that of the weights.
    """
    if network.config.svd is not None:
        raise UsageError("network.svd", "fc6 and fc7 are in two steps already", "compress the whole network")
    weights = network.state_dict()
    for layer, rank in zip(("head.fc6", "head.fc7"), ranks, strict=True):
        weight, bias = weights.pop(f"{layer}.weight"), weights.pop(f"{layer}.bias")
        if not 0 < rank <= min(weight.shape):
            raise UsageError(
                "network.svd", f"{rank} is no rank for {layer}", f"give 1 to {min(weight.shape)}"
            )
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        weights[f"{layer}.0.weight"] = values[:rank, None] * right[:rank]
        weights[f"{layer}.1.weight"], weights[f"{layer}.1.bias"] = left[:, :rank].clone(), bias
    smaller = build(msgspec.structs.replace(network.config, svd=ranks))
    smaller.load_state_dict(weights)
    smaller.name = network.name
    return smaller.to(network.head.cls_score.weight.device).train(network.training)
