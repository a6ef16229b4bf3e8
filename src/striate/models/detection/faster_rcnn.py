"""Faster R-CNN: a network that says where something may be, and one that says what it is, on shared maps.

Ren, He, Girshick, Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks",
NIPS 2015, arXiv:1506.01497. `faster_rcnn_vgg16` is the paper's with approximate joint training (section 3.2).
`faster_rcnn_resnet50_fpn` is torchvision's: a feature pyramid (Lin et al. 2017, arXiv:1612.03144) whose every
map has anchors of one size, regions that are interpolated instead of rounded, and batch normalisation that
stays as it was learned. The two with smaller backbones are the same, made narrower for a CPU.

    images -> conv5_3 (512, H / 16, W / 16), or layer1 ... layer4 -> FPN 4 x (256) and a fifth, subsampled
        -> RPN: scores and boxes of all anchors -> the best 300, or 1000 -> regions (7 x 7) -> fc6, fc7
        -> scores (K + 1), boxes 4 (K + 1)

The paper keeps conv1_1 to conv2_2 as ImageNet made them: freeze `backbone.trunk.conv1_?.*` and
`backbone.trunk.conv2_?.*` where they begin with those weights.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor

from striate.errors import UsageError
from striate.layers.fpn import FPN
from striate.models.detection._regions import GRAY, recipe_for_regions
from striate.models.detection._roi_heads import (
    Answers,
    BoxHead,
    HeadConfig,
    label_regions,
    region_losses,
    region_predictions,
)
from striate.models.detection._rpn import RPN, Count, ProposalConfig, Regions, Share
from striate.models.detection._trunk import backbone_weights, trunk
from striate.models.network import Detector, DetectorConfig
from striate.models.stage import Stage
from striate.models.unweighted import unweighted
from striate.ops.matching import IGNORED, sampled
from striate.ops.roi import max_pooled, pyramid_aligned
from striate.structures import BoxTargets, Preprocess

__all__ = [
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "FasterRCNN",
    "RawFasterRCNN",
    "backbone_of",
    "build",
    "from_backbone",
    "from_torchvision",
    "recipe",
]


class Config(DetectorConfig, frozen=True, kw_only=True):
    """Settings of a Faster R-CNN."""

    preprocess: Preprocess = Preprocess(
        size=(600, 600), fit="shorter", max_size=1000, pad_to=16, pad_value=GRAY
    )
    score_threshold: float = 0.05
    nms_threshold: float = 0.3
    backbone: str = "vgg16"  # a VGG, a ResNet or a MobileNet v2, by its public name
    backbone_settings: dict[str, Any] = msgspec.field(default_factory=dict)  # its own: {"width": 32}
    strides: Annotated[tuple[Count, ...], Meta(min_length=1)] = (16,)  # of its maps that are read
    norm: Literal["batch", "frozen"] = "batch"  # of the backbone; frozen: as it begins, with learned weights
    norm_eps: Annotated[float, Meta(ge=0)] = 1e-5  # that it is frozen with
    pyramid: Count | None = None  # maps of each level of a pyramid over them; None: one map, as it is
    rpn: ProposalConfig = ProposalConfig()
    rois: Count = 128  # proposals and true boxes of a picture that training reads
    rois_foreground: Share = 0.25  # of them at most that show an object
    head: HeadConfig = HeadConfig()
    in_stages: bool = False  # the paper's four steps, one after the other; else all at once

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = 1 if self.pyramid is None else len(self.strides) + 1
        if len(self.rpn.anchor_sizes) != levels or (self.pyramid is None and len(self.strides) > 1):
            raise UsageError(
                "network.rpn.anchor_sizes",
                f"they are for {len(self.rpn.anchor_sizes)} maps, and anchors are on {levels} of "
                f"{len(self.strides)}",
                "without a pyramid give one stride and sizes for one map, with one a size more than strides",
            )


class RawFasterRCNN(NamedTuple):
    """What `forward` gives: the maps that regions are cut out of, and the regions."""

    maps: tuple[Tensor, ...]  # (B, C, H / stride, W / stride), finest first
    regions: Regions
    picture: Tensor  # (4,) box of the whole input


class FasterRCNN(Detector):
    """Backbone -> (pyramid) -> region proposal network -> regions -> head."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        frozen = config.norm_eps if config.norm == "frozen" else None
        self.backbone = trunk(
            config.backbone, config.strides, config.preprocess, config.backbone_settings, frozen
        )
        self.map_names = tuple(feature.name for feature in self.backbone.feature_info)
        channels = [feature.channels for feature in self.backbone.feature_info]
        self.fpn = None if config.pyramid is None else FPN(channels, config.pyramid)
        width = channels[-1] if config.pyramid is None else config.pyramid
        self.rpn = RPN(width, config.rpn)
        self.head = BoxHead(width, len(self.classes), config.head)

    @property
    def training_stages(self) -> tuple[Stage, ...]:
        """All at once; or proposals, then the head, and both again on shared maps (section 3.2, 4 steps).

        The second step goes on from the maps of the first, where the paper starts from ImageNet's weights
        again.
        """
        if not self.config.in_stages:
            return super().training_stages
        shared, rpn, head = ("backbone.*", "fpn.*"), ("rpn.*",), ("head.*",)
        proposing, telling = ("objectness", "proposals"), ("classes", "boxes")
        return (
            Stage("proposals", trainable=shared + rpn, terms=proposing),
            Stage("head", trainable=shared + head, terms=telling),
            Stage("proposals on shared maps", trainable=rpn, terms=proposing),
            Stage("head on shared maps", trainable=head, terms=telling),
        )

    def forward(self, images: Tensor) -> RawFasterRCNN:  # type: ignore[override]
        height, width = images.shape[-2:]
        features = self.backbone.features(self.normalize(images))
        maps = tuple(features[name] for name in self.map_names)
        levels = maps
        if self.fpn is not None:
            maps = self.fpn(maps)
            # The coarsest level has anchors alone.
            levels = (*maps, F.max_pool2d(maps[-1], 1, 2))
        picture = torch.tensor([0.0, 0.0, width, height], device=images.device)
        regions = self.rpn(levels, picture, (height, width), self.config.strides[-1])
        return RawFasterRCNN(maps, regions, picture)

    def loss(self, raw: RawFasterRCNN, targets: BoxTargets[Tensor]) -> dict[str, Tensor]:
        boxes, matched = self._drawn(raw.regions.proposals, targets)
        answers = self._read(raw.maps, boxes)
        return {
            **self.rpn.loss(raw.regions, targets, raw.picture),
            **region_losses(answers, boxes, matched, targets, self.config.head.beta),
        }

    def predictions(self, raw: RawFasterRCNN) -> tuple[Tensor, Tensor]:
        proposals = raw.regions.proposals
        return region_predictions(self._read(raw.maps, proposals), proposals, raw.picture)

    def _read(self, maps: tuple[Tensor, ...], boxes: Tensor) -> Answers:
        """What the head says of `boxes` (B, P, 4)."""
        grid, strides = self.config.head.grid, self.config.strides
        if self.fpn is None:
            cut = max_pooled(maps[0], boxes, grid, strides[0])
        else:
            cut = pyramid_aligned(maps, boxes, grid, strides)
        answers: Answers = self.head(cut, boxes.shape[1])
        return answers

    @torch.no_grad()
    def _drawn(self, proposals: Tensor, targets: BoxTargets[Tensor]) -> tuple[Tensor, Tensor]:
        """Regions to learn from, (B, R, 4), and the row of the object in each, BACKGROUND or IGNORED: (B, R).

        They are drawn among proposals and true boxes (section 3.2, as published).
        """
        truths = torch.where(targets.valid[..., None], targets.boxes.float(), 0.0)
        boxes = torch.cat((proposals, truths), 1)
        matched = label_regions(boxes, targets, self.config.head.overlap)
        drawn = sampled(matched, self.config.rois, self.config.rois_foreground)
        counts, places = drawn.float().topk(min(self.config.rois, boxes.shape[1]), 1)
        kept = torch.where(counts > 0, matched.gather(1, places), IGNORED)
        return boxes.gather(1, places[..., None].expand(-1, -1, 4)), kept


_FIVE_LEVELS = tuple((float(size),) for size in (32, 64, 128, 256, 512))

_RESNET50_FPN = Config(
    classes=90,  # of COCO, with the gaps in their numbers
    preprocess=Preprocess(size=(800, 800), fit="shorter", max_size=1333, pad_to=32, pad_value=GRAY),
    nms_threshold=0.5,
    backbone="resnet50",
    strides=(4, 8, 16, 32),
    norm="frozen",
    pyramid=256,
    rpn=ProposalConfig(
        anchor_sizes=_FIVE_LEVELS,
        two_scores=False,
        candidates=1000,
        candidates_training=2000,
        proposals=1000,
        proposals_training=2000,
        least_side=1e-3,
        crossing=True,
    ),
    rois=512,
    head=HeadConfig(hidden=1024, dropout=0.0, beta=1 / 9),
)

_SMALL = msgspec.structs.replace(
    _RESNET50_FPN,
    classes=20,
    preprocess=Preprocess(size=(320, 416), fit="letterbox", pad_value=GRAY),
    norm="batch",
    strides=(8, 16, 32),
    pyramid=128,
    rpn=msgspec.structs.replace(
        _RESNET50_FPN.rpn,
        anchor_sizes=tuple((float(size),) for size in (24, 48, 96, 192)),
        candidates=300,
        candidates_training=500,
        proposals=100,
        proposals_training=300,
    ),
    rois=64,
    head=HeadConfig(hidden=512, dropout=0.0, beta=1 / 9),
)

VARIANTS = {
    "faster_rcnn_vgg16": Config(),
    "faster_rcnn_resnet50_fpn": _RESNET50_FPN,
    "faster_rcnn_resnet18_fpn": msgspec.structs.replace(_SMALL, backbone="resnet18"),
    "faster_rcnn_mobilenet_v2_fpn": msgspec.structs.replace(_SMALL, backbone="mobilenet_v2"),
}

# All that could be drawn is drawn, so that no chance is in the loss.
TINY = msgspec.structs.replace(
    _SMALL,
    classes=3,
    preprocess=Preprocess(size=(64, 64), fit="letterbox", pad_value=GRAY),
    backbone="resnet18",
    backbone_settings={"depths": [1, 1, 1, 1], "width": 8},
    strides=(4, 8, 16, 32),
    pyramid=16,
    per_class=20,
    rpn=msgspec.structs.replace(
        _SMALL.rpn,
        anchor_sizes=tuple((float(size),) for size in (8, 16, 24, 32, 48)),
        candidates=60,
        candidates_training=60,
        proposals=40,
        proposals_training=40,
        sampled=4000,
    ),
    rois=4000,
    head=HeadConfig(grid=3, hidden=32, dropout=0.0, beta=1 / 9),
)

TINIES = {
    "paper": msgspec.structs.replace(
        TINY,
        backbone="vgg16",
        backbone_settings={"depths": [1, 1, 1, 1, 1], "width": 8},
        strides=(16,),
        pyramid=None,
        rpn=msgspec.structs.replace(
            ProposalConfig(),
            anchor_sizes=((8.0, 16.0, 32.0),),
            candidates=60,
            candidates_training=60,
            proposals=40,
            proposals_training=40,
            least_side=4.0,
            sampled=4000,
        ),
        head=HeadConfig(grid=3, hidden=32, dropout=0.0),
    ),
    "frozen": msgspec.structs.replace(
        TINY, backbone="resnet50", norm="frozen", backbone_settings={"depths": [1, 1, 1, 1], "width": 4}
    ),
}


def build(config: Config) -> FasterRCNN:
    """A Faster R-CNN: the backbone with its own starting weights, the rest drawn as its parts say."""
    return FasterRCNN(config)


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for photos: mirror images are the papers' only change."""
    has_learned = config.pyramid is None or config.norm == "frozen"
    return recipe_for_regions(has_learned, {"flip": 0.5})


def backbone_of(config: Config) -> str:
    """The public name of the classification network whose weights the backbone takes."""
    return config.backbone


def from_backbone(state_dict: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights of the classification network `backbone_of(config)` under the names used here.

    Of a VGG fc6 and fc7 too, as in the paper; those behind the maps that are read have no place here.
    """
    with unweighted():
        here = build(config).state_dict()
    return backbone_weights(state_dict, here, "head.")


def from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's `fasterrcnn_resnet50_fpn` under the names used here, old files' as well.

    Its published COCO weights were made with a `norm_eps` of 0. Counters of batch normalisation are left out:
    what is frozen here counts nothing.
    """
    found = {}
    for name, tensor in state_dict.items():
        if not name.endswith(".num_batches_tracked"):
            found[_from_torchvision(name)] = tensor
    return found


# Where a name begins so there, and here.
_TORCHVISION = {
    "backbone.body.": "backbone.",
    "backbone.fpn.inner_blocks.": "fpn.inner.",
    "backbone.fpn.layer_blocks.": "fpn.layer.",
    "rpn.head.conv.": "rpn.conv.",
    "rpn.head.cls_logits.": "rpn.cls_score.",
    "rpn.head.bbox_pred.": "rpn.bbox_pred.",
    "roi_heads.box_head.": "head.",
    "roi_heads.box_predictor.": "head.",
}


def _from_torchvision(name: str) -> str:
    there = next((begin for begin in _TORCHVISION if name.startswith(begin)), "")
    here = _TORCHVISION.get(there, "") + name.removeprefix(there)
    if here.startswith(("fpn.", "rpn.conv.")):
        # Newer files number the parts of a convolution with its activation: fpn.inner.0.0, rpn.conv.0.0.
        *module, leaf = here.split(".")
        here = ".".join((*module[: 3 if module[0] == "fpn" else 2], leaf))
    return here
