"""R-CNN: a classification network looks at each box that may hold something, one by one.

Girshick, Donahue, Darrell, Malik, "Rich feature hierarchies for accurate object detection and semantic
segmentation", CVPR 2014, arXiv:1311.2524. Where something may be is an input beside the picture (selective
search finds it), in training too. Each box is stretched to the network's input with 16 pixels around it:

    images    ┐
    proposals ┴──warp──> (P, 3, 227, 227) ──CNN──> pool5 (P, 9216) ──────────> box regression, 4 K
                                              └──> fc7 (P, 4096) ──> softmax over K classes and background
                                                            └──────> K linear SVMs

It is trained in stages (section 2.3, appendices B and C). Gradients fine-tune the network with the softmax.
Then the SVMs and the box regression are solved for on its features, in `training/closed_form.py`: until
`fitted`, scores are the softmax's, and boxes the proposals. The boxes of all candidates are regressed, before
overlapping ones are suppressed, where the paper does so after it.

`rcnn_alexnet` has AlexNet's one-tower form for the paper's CaffeNet; dropout is behind fc6 and fc7 as there.
The two others have backbones that read small squares, for machines without a GPU. Any classification network
with maps is taken: an AlexNet or a VGG up to fc7, of others the mean of their last maps.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.models.backbone import backbone, taken_over
from striate.models.classification.alexnet import AlexNet
from striate.models.classification.vgg import VGG
from striate.models.detection._regions import GRAY
from striate.models.detection._roi_heads import label_regions
from striate.models.network import Detector, DetectorConfig, Feature
from striate.models.unweighted import unweighted
from striate.ops.boxes import BoxCoder, areas
from striate.ops.context_crop import warped
from striate.ops.matching import IGNORED
from striate.structures import BoxTargets, Preprocess

__all__ = [
    "RCNN",
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "RawRCNN",
    "backbone_of",
    "build",
    "from_backbone",
    "recipe",
]

CODER = BoxCoder()
OVERLAP = 0.5  # of a proposal with an object that it is to be called by (appendix B)
_LEAST = 1e-12  # of a batch without a proposal that counts
_FOR_CLASSES = {"head"}  # maps that are too many to regress boxes from: MobileNet's last
_OWN = ("classes", "preprocess")


class Config(DetectorConfig, frozen=True, kw_only=True):
    """Settings of an R-CNN."""

    preprocess: Preprocess = Preprocess(size=(512, 512), fit="letterbox", pad_value=GRAY, proposals=2000)
    nms_threshold: float = 0.3
    backbone: str = "alexnet"  # a classification network by its public name
    backbone_settings: dict[str, Any] = msgspec.field(default_factory=dict)  # its own: {"width": 0.5}
    side: Annotated[int, Meta(ge=8)] = 227  # pixels of the square that each proposal is warped to
    context: Annotated[int, Meta(ge=0)] = 16  # pixels at each of its borders that show what is around
    at_a_time: Annotated[int, Meta(ge=1)] = 128  # proposals of all pictures that are looked at together

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.preprocess.proposals:
            raise UsageError(
                "network.preprocess.proposals",
                "this network finds nothing without them",
                "say how many boxes a picture gets: 2000",
            )
        if 2 * self.context >= self.side:
            raise UsageError(
                "network.context",
                f"{self.context} pixels at each border leave nothing of {self.side}",
                f"give at most {(self.side - 1) // 2}",
            )
        for name in _OWN:
            if name in self.backbone_settings:
                raise UsageError(
                    f"network.backbone_settings.{name}", "it is the network's own to set", "leave it out"
                )


class Seen(NamedTuple):
    """What a backbone says of squares."""

    features: Tensor  # (n, D) that the classes are told from
    pool5: Tensor  # (n, M) that boxes are regressed from


class FullyConnected(nn.Module):
    """An AlexNet or a VGG without its last layer: squares (n, C, side, side) -> fc7 and pool5."""

    def __init__(self, config: Config, spec: Preprocess) -> None:
        super().__init__()
        network = _whole(config, spec)
        assert isinstance(network, AlexNet | VGG)
        network.normalize = nn.Identity()
        del network.fc8
        self.network = network
        self.values, self.box_values = network.fc7.out_features, network.fc6.in_features

    def forward(self, squares: Tensor) -> Seen:
        network = self.network
        values = network.raw_values(squares) if isinstance(network, AlexNet) else squares
        pool5 = network.average(network.trunk(values)).flatten(1)
        fc6 = network.dropout(F.relu(network.fc6(pool5)))
        return Seen(network.dropout(F.relu(network.fc7(fc6))), pool5)


class Averaged(nn.Module):
    """A network without its classifier: squares (n, C, side, side) -> means of the last maps, and maps."""

    def __init__(self, config: Config, spec: Preprocess) -> None:
        super().__init__()
        with unweighted():
            whole = _whole(config, spec)
        info: tuple[Feature, ...] = getattr(whole, "feature_info", ())
        read = [feature for feature in info if feature.name not in _FOR_CLASSES]
        if not read:
            raise UsageError(
                "network.backbone",
                f"{config.backbone!r} has no maps to look at",
                "use an AlexNet, a VGG, a ResNet or a MobileNet, by its public name",
            )
        self.last, self.box_map = info[-1].name, read[-1].name
        self.network = backbone(config.backbone, self.last, spec, **config.backbone_settings)
        self.values = info[-1].channels
        self.box_values = read[-1].channels * (-(-config.side // read[-1].stride)) ** 2

    def forward(self, squares: Tensor) -> Seen:
        maps = self.network.features(squares)
        return Seen(maps[self.last].mean((2, 3)), maps[self.box_map].flatten(1))


def _backbone(config: Config) -> FullyConnected | Averaged:
    spec = dataclasses.replace(
        config.preprocess,
        size=(config.side, config.side),
        fit="stretch",
        resize_to=None,
        max_size=None,
        pad_to=1,
        border=0,
        proposals=0,
    )
    if models.variants().get(config.backbone) in ("alexnet", "vgg"):
        return FullyConnected(config, spec)
    return Averaged(config, spec)


def _whole(config: Config, spec: Preprocess) -> nn.Module:
    """The backbone as it classifies. Raises UsageError where the squares are too small for it."""
    try:
        settings = {**config.backbone_settings, "preprocess": msgspec.to_builtins(spec)}
        return models.create(config.backbone, **settings)
    except UsageError as error:
        if error.where != "preprocess.size":
            raise
        raise UsageError("network.side", error.what, "warp proposals to larger squares") from None


class Solved(nn.Module):
    """A linear layer whose weights are solved for, not learnt by gradients: values (..., D) -> (..., K)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs))
        self.register_buffer("bias", torch.zeros(outputs))

    def forward(self, values: Tensor) -> Tensor:
        return F.linear(values.to(self.weight.dtype), self.weight, self.bias)


class RawRCNN(NamedTuple):
    """What `forward` gives: what was seen in each proposal, and what the softmax's layer says of it."""

    logits: Tensor  # (B, P, K + 1), the background's first
    features: Tensor  # (B, P, D)
    pool5: Tensor  # (B, P, M)
    proposals: Tensor  # (B, P, 4); rows that are unused are 0


class RCNN(Detector):
    """Warp -> backbone -> softmax layer; beside it the SVMs and the box regression, once they are fitted."""

    is_solved_last = True
    config: Config
    fitted: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        classes = len(self.classes)
        self.backbone = _backbone(config)
        self.cls_score = nn.Linear(self.backbone.values, classes + 1)
        self.svm = Solved(self.backbone.values, classes)
        self.box = Solved(self.backbone.box_values, 4 * classes)
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, images: Tensor, proposals: Tensor) -> RawRCNN:  # type: ignore[override]
        """`proposals` (B, P, 4) in input pixels, of any number P; rows that are unused are 0."""
        values, boxes = self.normalize(images), proposals.float()
        seen = [self._seen(values, part) for part in torch.split(boxes, self._together(boxes), 1)]
        features, pool5 = (torch.cat(parts, 1) for parts in zip(*seen, strict=True))
        return RawRCNN(self.cls_score(features), features, pool5, boxes)

    def _together(self, boxes: Tensor) -> int:
        """How many proposals of each picture in `boxes` (B, P, 4) are looked at together."""
        if self.training:  # batch normalisation is to see the whole batch
            return max(1, boxes.shape[1])
        # An exported graph is for batches of any size, and has as many parts for all.
        pictures = 1 if torch.compiler.is_exporting() else len(boxes)
        return max(1, self.config.at_a_time // max(1, pictures))

    def _seen(self, values: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """`features` and `pool5` of some proposals of each picture."""
        squares = warped(values, boxes, self.config.side, self.config.context)
        seen: Seen = self.backbone(squares.flatten(0, 1))
        features, pool5 = (rows.view(-1, boxes.shape[1], rows.shape[1]) for rows in seen)
        return features, pool5

    def loss(self, raw: RawRCNN, targets: BoxTargets[Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of the fine-tuning, a mean over the proposals by the pictures' weights.

        A proposal is to be called by the object that it overlaps most, if by half, else background; those
        mostly in a crowd, and unused rows, do not count (appendix B).
        """
        with torch.no_grad():
            matched = label_regions(raw.proposals, targets, OVERLAP)
        weight = (matched != IGNORED) * targets.weight[:, None]
        labels = torch.where(matched >= 0, targets.labels.gather(1, matched.clamp(min=0)) + 1, 0)
        logits = raw.logits.float().flatten(0, 1)
        each = F.cross_entropy(logits, labels.flatten(), reduction="none")
        return {"classes": (each * weight.flatten()).sum() / weight.sum().clamp(min=_LEAST)}

    def predictions(self, raw: RawRCNN) -> tuple[Tensor, Tensor]:
        """Boxes (B, P, K, 4) and scores (B, P, K); the SVMs' margins pass a sigmoid."""
        margins = self.svm(raw.features).float()
        softmax = raw.logits.float().softmax(2)[..., 1:]
        scores = torch.where(self.fitted, margins.sigmoid(), softmax)
        # All zeros until fitted: the proposals themselves.
        numbers = self.box(raw.pool5).float().view(*raw.proposals.shape[:2], -1, 4)
        boxes = CODER.decode(numbers, raw.proposals[:, :, None])
        return boxes, scores * (areas(raw.proposals) > 0)[..., None]


_SMALL = Config(
    preprocess=Preprocess(size=(384, 512), fit="letterbox", pad_value=GRAY, proposals=300),
    backbone="resnet18",
    side=96,
    context=7,  # the same share of the square as 16 pixels of 227
)

VARIANTS = {
    "rcnn_alexnet": Config(),
    "rcnn_resnet18": _SMALL,
    "rcnn_mobilenet_v2": msgspec.structs.replace(_SMALL, backbone="mobilenet_v2"),
}

TINY = msgspec.structs.replace(
    _SMALL,
    classes=3,
    preprocess=Preprocess(size=(64, 64), fit="letterbox", pad_value=GRAY, proposals=12),
    backbone="mobilenet_v2",
    backbone_settings={"width": 0.25, "head": 32},
    per_class=10,
    side=32,
    context=3,
    at_a_time=6,
)

TINIES = {
    "fully_connected": msgspec.structs.replace(
        TINY,
        backbone="alexnet_2012",
        backbone_settings={
            "widths": [8, 16, 16, 16, 16],
            "grid": 1,
            "hidden": 32,
            "first_padding": 2,
        },
        side=63,
    ),
}


def build(config: Config) -> RCNN:
    """An R-CNN: the backbone with its own starting weights, the last layer's from N(0, 0.01)."""
    network = RCNN(config)
    nn.init.normal_(network.cls_score.weight, std=0.01)
    nn.init.zeros_(network.cls_score.bias)
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings of the fine-tuning (section 2.3, appendix B).

    128 proposals a step, a quarter of them with an object, SGD at .001: the paper's, with a cosine instead of
    a rate cut by hand. Backbones with batch normalisation stand, and like, a rate ten times as high.
    """
    family = models.variants().get(config.backbone)
    training: dict[str, object] = {
        "optimiser": "sgd",
        "learning_rate": 0.001 if family in ("alexnet", "vgg") else 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "warmup_epochs": 1.0,
        "batch_size": 4,
        "epochs": 12,
    }
    augment: dict[str, object] = {
        "flip": 0.5,
        "rois": 32,
        "rois_foreground": 0.25,
        "rois_overlap": OVERLAP,
        "rois_background": [0.0, OVERLAP],
    }
    return {"training": training, "augment": augment}


def backbone_of(config: Config) -> str:
    """The public name of the classification network whose weights the backbone takes."""
    return config.backbone


def from_backbone(state_dict: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights of the classification network `backbone_of(config)` under the names used here.

    Those of its last layer have no place here and are left out.
    """
    return taken_over(state_dict, lambda: build(config), "backbone.network.")
