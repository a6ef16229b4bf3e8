"""U-Net over a classification network: its stages are the contracting path, trained ones where there are any.

Ronneberger et al. 2015 (arXiv:1505.04597) for the shape; a trained VGG as the contracting path is Iglovikov
and Shvets' (2018, arXiv:1801.05746). Of each stride of the backbone its deepest maps are used. A step up
resizes to the next finer of them, puts them beside, and has two padded 3x3 convolutions with batch norm:

    stride   ResNet-34     MobileNet v2   VGG-16          maps behind the step
      32     layer4        stage7         -               -
      16     layer3        stage5         conv5_3         256 (VGG: -)
       8     layer2        stage3         conv4_3         128
       4     layer1        stage2         conv3_3         64
       2     conv1         stage1         conv2_2         32
       1     -             -              conv1_2         16, then 1x1 to the classes

Any size will do from 1x1 on, from 32x32 on for VGG: maps are brought to the finer ones' size, whatever it is.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from striate.layers.double_convolution import DoubleConvolution
from striate.layers.initialise import he_normal
from striate.models.backbone import backbone, taken_over
from striate.models.network import Feature, PixelLogits, Segmenter, SegmenterConfig, resized
from striate.models.segmentation._photos import recipe_for_photos
from striate.structures import Preprocess

__all__ = [
    "NATIVE_SIZE_UP_TO",
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "UNetBackbone",
    "backbone_of",
    "build",
    "from_backbone",
    "recipe",
]

NATIVE_SIZE_UP_TO = 512  # pictures all alike up to this side are used at their own size

Count = Annotated[int, Meta(ge=1)]
Public = Literal["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", "vgg16", "vgg16_bn"]
Small = Literal["resnet20_cifar", "mobilenet_v2_0.35"]


# The deepest map of each backbone: what lies behind serves classification.
_LAST = {
    "resnet18": "layer4",
    "resnet34": "layer4",
    "resnet50": "layer4",
    "resnet101": "layer4",
    "mobilenet_v2": "stage7",
    "vgg16": "conv5_3",
    "vgg16_bn": "conv5_3",
    "resnet20_cifar": "layer3",
    "mobilenet_v2_0.35": "stage7",
}


class Config(SegmenterConfig, frozen=True, kw_only=True):
    """Settings of a U-Net over a backbone."""

    preprocess: Preprocess = Preprocess(size=(512, 512), fit="letterbox")
    backbone: Public | Small = "resnet34"
    width: Count = 16  # maps of the expansive path at stride 1; at stride s it has s times as many


class Expansion(nn.Module):
    """A step up: maps at the skip's size, the skip beside them, two convolutions."""

    def __init__(self, channels: int, skip: Feature | None, width: int) -> None:
        super().__init__()
        self.skip = None if skip is None else skip.name
        beside = 0 if skip is None else skip.channels
        self.convolutions = DoubleConvolution(channels + beside, width)

    def forward(self, maps: Tensor, features: Mapping[str, Tensor], size: tuple[int, int]) -> Tensor:
        """`size` (H, W) is that of the result where there is no skip."""
        if self.skip is None:
            maps = resized(maps, size)
        else:
            skip = features[self.skip]
            maps = torch.cat((skip, resized(maps, (skip.shape[-2], skip.shape[-1]))), 1)
        merged: Tensor = self.convolutions(maps)
        return merged


class UNetBackbone(Segmenter):
    """Backbone -> expansive path -> 1x1 to the classes."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.backbone = backbone(config.backbone, _LAST[config.backbone], config.preprocess)
        deepest = {feature.stride: feature for feature in self.backbone.feature_info}
        *finer, bottom = (deepest[stride] for stride in sorted(deepest))
        self.bottom = bottom.name
        # A backbone that strides in its first convolution has no map of the input's size.
        skips = [*reversed(finer), *(() if 1 in deepest else (None,))]
        self.expansive, channels = nn.ModuleList(), bottom.channels
        for skip in skips:
            width = config.width * (1 if skip is None else skip.stride)
            self.expansive.append(Expansion(channels, skip, width))
            channels = width
        self.last = nn.Conv2d(channels, len(self.classes), 1)

    def forward(self, images: Tensor) -> PixelLogits:  # type: ignore[override]
        features = self.backbone.features(self.normalize(images))
        maps = features[self.bottom]
        for step in self.expansive:
            maps = step(maps, features, (images.shape[-2], images.shape[-1]))
        return PixelLogits(self.last(maps))


VARIANTS = {f"unet_{name}": Config(backbone=name) for name in get_args(Public)}

TINY = Config(
    classes=4,
    preprocess=Preprocess(size=(32, 32), fit="letterbox"),
    backbone="resnet20_cifar",
    width=8,
)

TINIES = {
    # It has no map of the input's size.
    "strided": msgspec.structs.replace(
        TINY, backbone="mobilenet_v2_0.35", preprocess=Preprocess(size=(64, 64), fit="letterbox")
    ),
}


def build(config: Config) -> UNetBackbone:
    """A U-Net with the backbone's own starting weights, and He's for the expansive path."""
    network = UNetBackbone(config)
    he_normal((*network.expansive.modules(), network.last))
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for photos."""
    del config
    return recipe_for_photos()


def backbone_of(config: Config) -> str:
    """The public name of the network whose weights the contracting path takes."""
    return config.backbone


def from_backbone(state_dict: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights of the classification network `backbone_of(config)` under the names used here.

    Those behind the deepest map have no place here and are left out.
    """
    return taken_over(state_dict, lambda: build(config), "backbone.")
