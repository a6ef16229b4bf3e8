"""FCN over a ResNet, as torchvision has it: dilation instead of padding and skips.

The successor of Long et al.'s network (arXiv:1411.4038) that torchvision trains: a ResNet v1.5 that keeps
its maps at an eighth of the picture, a small head, bilinear interpolation to the picture's size, and in
training a second head on layer3.

    520x520 ──ResNet, output stride 8──> layer3 1024x65x65, layer4 2048x65x65 ──head──> 65x65 ──x8──> 520x520
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from torch import Tensor

from striate.layers.fcn_head import FCNHead
from striate.layers.initialise import he_normal
from striate.models.backbone import backbone, with_prefix
from striate.models.network import PixelLogits, Segmenter, SegmenterConfig, resized
from striate.models.renaming import renamed
from striate.models.segmentation._photos import recipe_for_photos
from striate.models.segmentation._torchvision import fcn_head_modules
from striate.structures import Preprocess

__all__ = [
    "NATIVE_SIZE_UP_TO",
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "FCNResNet",
    "backbone_of",
    "build",
    "from_backbone",
    "from_torchvision",
    "recipe",
]

NATIVE_SIZE_UP_TO = 512

Count = Annotated[int, Meta(ge=1)]


class Config(SegmenterConfig, frozen=True, kw_only=True):
    """Settings of an FCN over a ResNet."""

    preprocess: Preprocess = Preprocess(size=(520, 520), fit="letterbox")
    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet50"
    depths: tuple[Count, Count, Count, Count] | None = None  # blocks a stage; None: the backbone's own
    width: Annotated[int, Meta(ge=4)] = 64  # maps of its stem
    output_stride: Literal[8, 16, 32] = 8
    auxiliary: bool = True  # a second head, on layer3, that training listens to


class FCNResNet(Segmenter):
    """A dilated ResNet and a head on its last maps."""

    auxiliary_weight: float = 0.5  # as in torchvision's training

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        settings = {} if config.depths is None else {"depths": config.depths}
        self.backbone = backbone(
            config.backbone,
            "layer4",
            config.preprocess,
            width=config.width,
            output_stride=config.output_stride,
            **settings,
        )
        channels = {info.name: info.channels for info in self.backbone.feature_info}
        classes = len(self.classes)
        self.head = FCNHead(channels["layer4"], classes)
        self.auxiliary = FCNHead(channels["layer3"], classes) if config.auxiliary else None

    def forward(self, images: Tensor) -> PixelLogits:  # type: ignore[override]
        features = self.backbone.features(self.normalize(images))
        scores = self.head(features["layer4"])  # (B, K, H / 8, W / 8)
        auxiliary = () if self.auxiliary is None else (self.auxiliary(features["layer3"]),)
        return PixelLogits(resized(scores, images.shape[-2:]), auxiliary)


VARIANTS = {
    "fcn_resnet50": Config(backbone="resnet50"),
    "fcn_resnet101": Config(backbone="resnet101"),
}

TINY = Config(
    classes=5,
    preprocess=Preprocess(size=(40, 56), fit="letterbox"),
    depths=(1, 1, 2, 1),
    width=4,
)

TINIES = {
    "plain": msgspec.structs.replace(TINY, backbone="resnet18", output_stride=16, auxiliary=False),
}


def build(config: Config) -> FCNResNet:
    """An FCN over a ResNet with He's starting weights."""
    network = FCNResNet(config)
    for head in (network.head, network.auxiliary):
        if head is not None:
            he_normal(head.modules())
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for small sets."""
    del config
    return recipe_for_photos()


def from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's `fcn_resnet50` or `fcn_resnet101` under the names used here."""
    heads = {"classifier": "head", "aux_classifier": "auxiliary"}
    pairs = (pair for there, here in heads.items() for pair in fcn_head_modules(there, here))
    return renamed(state_dict, pairs)


def backbone_of(config: Config) -> str:
    """The classification network whose weights the encoder can take, by its public name."""
    return config.backbone


def from_backbone(state_dict: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights of a ResNet under the names used here, without its last layer."""
    del config
    kept = {name: tensor for name, tensor in state_dict.items() if not name.startswith("fc.")}
    return with_prefix(kept, "backbone.")
