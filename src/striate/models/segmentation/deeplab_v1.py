"""DeepLab v1: a VGG whose maps stay at an eighth of the picture, and a layer with a large field of view.

Chen, Papandreou, Kokkinos, Murphy, Yuille, "Semantic Image Segmentation with Deep Convolutional Nets and
Fully Connected CRFs", ICLR 2015, arXiv:1412.7062: the form DeepLab-LargeFOV (sections 3 and 5). The pools
behind blocks 4 and 5 lose their stride, conv5 and fc6 spread their kernels instead ("hole algorithm"), and
fc6 has 3x3 pixels, 12 apart, for VGG's 7x7. The paper's CRF is a step behind the network.

    321x321 ──VGG──> pool3 41x41 ── conv5 of rate 2 ──> pool5, mean of 3x3 ──fc6 of rate 12──> 1024x41x41
            ──fc7, fc8──> classes x 41x41 ──x8, bilinear──> 321x321

The authors compare the 41x41 scores with every 8th label, and enlarge them to predict; here training sees
what prediction gives, the scores at the picture's size.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from torch import Tensor, nn

from striate.models.backbone import with_prefix
from striate.models.classification import vgg
from striate.models.network import PixelLogits, Segmenter, SegmenterConfig
from striate.models.segmentation._upsampling import upsampled
from striate.models.segmentation._vgg import dense_vgg, draw_fully_connected, fully_connected, recipe_for_vgg
from striate.models.vgg_backbone import VGG_DEPTHS, name_of, subsampled, with_kernels
from striate.structures import Preprocess

__all__ = [
    "NATIVE_SIZE_UP_TO",
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "DeepLabV1",
    "backbone_of",
    "build",
    "from_backbone",
    "recipe",
]

NATIVE_SIZE_UP_TO = 512


class Config(SegmenterConfig, frozen=True, kw_only=True):
    """Settings of DeepLab v1."""

    preprocess: Preprocess = Preprocess(size=(321, 321), fit="letterbox")
    depths: VGG_DEPTHS = vgg.D  # convolutions of each block
    width: vgg.Count = 64  # maps of the first block
    output_stride: Literal[8, 16] = 8
    rate: Annotated[int, Meta(ge=2, multiple_of=2)] = 12  # of fc6: its taps are so many times 8 pixels apart
    hidden: vgg.Count = 1024  # maps of fc6 and of fc7
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.5  # behind fc6 and fc7


class DeepLabV1(Segmenter):
    """VGG with an output stride of 8 -> fc6 of a large field, fc7, fc8 -> bilinear enlargement."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.stride = config.output_stride
        self.backbone = dense_vgg(config.preprocess, config.depths, config.width, config.output_stride)
        self.pool5a = nn.AvgPool2d(3, 1, padding=1)
        channels = self.backbone.feature_info[-1].channels
        rate = config.rate * 8 // config.output_stride
        self.head = fully_connected(channels, config.hidden, len(self.classes), rate, config.dropout)

    def forward(self, images: Tensor) -> PixelLogits:  # type: ignore[override]
        maps = self.backbone.features(self.normalize(images))["pool5"]  # (B, 512, H / 8, W / 8)
        scores = self.head(self.pool5a(maps))  # (B, K, H / 8, W / 8)
        return PixelLogits(upsampled(scores, self.stride, (images.shape[-2], images.shape[-1])))


VARIANTS = {"deeplab_v1": Config()}

TINY = Config(
    classes=5,
    preprocess=Preprocess(size=(41, 56), fit="letterbox"),
    depths=(1, 1, 2, 1, 1),
    width=4,
    rate=4,
    hidden=32,
)

TINIES = {"stride16": msgspec.structs.replace(TINY, output_stride=16)}


def build(config: Config) -> DeepLabV1:
    """DeepLab v1 with He's starting weights, and small ones in the last layer."""
    network = DeepLabV1(config)
    draw_fully_connected(network.head)
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings: those of a VGG.

    The paper fine-tunes ImageNet's weights by SGD, with ten times the rate in the last layer and rates cut by
    hand (section 5).
    """
    del config
    return recipe_for_vgg()


def backbone_of(config: Config) -> str | None:
    """The classification network whose weights the encoder can take, by its public name; None without one."""
    return name_of(config.depths)


def from_backbone(state_dict: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights of a VGG under the names used here, its fc6 and fc7 thinned out; all but the last layer."""
    trunk, layers = with_kernels(state_dict)
    return trunk | with_prefix(subsampled(layers, config.hidden), "head.")
