"""DeepLab v3: a ResNet whose last stages are dilated, read at several scales and upsampled.

Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017,
arXiv:1706.05587. `deeplab_v3_resnet50` and `..._resnet101` are the paper's: output stride 16, multi-grid
(1, 2, 4) in the last stage (section 4.2.1), the pyramid with rates 6, 12, 18 and image pooling (section 3.3,
Figure 5), which are doubled at output stride 8, and logits upsampled to the picture (section 4). The
`..._torchvision` forms are that library's: output stride 8, no multi-grid, one more 3x3 convolution behind
the pyramid, more dropout, in training an auxiliary head on the stage before, and an upsampling that takes the
maps' values for means of areas, a few pixels off where they lie. The encoders are ResNets v1.5, as
torchvision's weights for either form are. At 513x513, output stride 16:

    images (3, 513, 513) -> layer1 (256, 129, 129) -> layer3 (1024, 33, 33) -> layer4 (2048, 33, 33)
    -> pyramid 5 x (256, 33, 33) -> 1x1 (256, 33, 33) -> classifier (K, 33, 33) -> logits (K, 513, 513)

Any height and width will do.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec
from torch import Tensor, nn

from striate.layers.aspp import spatial_convolution
from striate.layers.fcn_head import FCNHead
from striate.models.network import PixelLogits, Segmenter, resized
from striate.models.renaming import renamed
from striate.models.segmentation._deeplab import (
    DeepLabConfig,
    backbone_of,
    draw_head,
    encoder,
    from_backbone,
    pyramid,
    recipe,
    stations,
)
from striate.models.segmentation._torchvision import fcn_head_modules
from striate.models.segmentation._upsampling import upsampled
from striate.structures import Preprocess

__all__ = [
    "NATIVE_SIZE_UP_TO",
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "DeepLabV3",
    "backbone_of",
    "build",
    "from_backbone",
    "from_torchvision",
    "recipe",
]

NATIVE_SIZE_UP_TO = 512  # pixels a side


class Config(DeepLabConfig, frozen=True, kw_only=True):
    """Settings of a DeepLab v3."""

    preprocess: Preprocess = Preprocess(size=(513, 513), fit="letterbox")
    extra_convolution: bool = False  # one more 3x3 between the pyramid and the last layer
    auxiliary: bool = False  # a head on the stage before the last, which only training hears
    # What a value of the last maps stands for when they are upsampled: the pixel that its kernels are centred
    # on, or an area of output_stride x output_stride pixels.
    upsampling: Literal["pixels", "areas"] = "pixels"


class DeepLabV3(Segmenter):
    """Encoder -> pyramid -> 1x1 to a map a class -> upsampling."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        classes = len(self.classes)
        self.backbone = encoder(config)
        channels = {feature.name: feature.channels for feature in self.backbone.feature_info}
        _, self.middle, self.last = stations(config)
        self.aspp = pyramid(config, channels[self.last])
        self.extra = (
            spatial_convolution(config.aspp_maps, config.aspp_maps) if config.extra_convolution else None
        )
        self.classifier = nn.Conv2d(config.aspp_maps, classes, 1)
        self.auxiliary = FCNHead(channels[self.middle], classes) if config.auxiliary else None

    def forward(self, images: Tensor) -> PixelLogits:  # type: ignore[override]
        features = self.backbone.features(self.normalize(images))
        maps = self.aspp(features[self.last])  # (B, 256, H / 16, W / 16)
        if self.extra is not None:
            maps = self.extra(maps)
        logits = self._upsampled(self.classifier(maps), images.shape[-2:])
        auxiliary = () if self.auxiliary is None else (self.auxiliary(features[self.middle]),)
        return PixelLogits(logits, auxiliary)

    def _upsampled(self, maps: Tensor, size: tuple[int, ...]) -> Tensor:
        if self.config.upsampling == "areas":
            return resized(maps, size)
        return upsampled(maps, self.config.output_stride, size)


_TORCHVISION = Config(
    preprocess=Preprocess(size=(520, 520), fit="letterbox"),
    output_stride=8,
    dropout=0.5,
    extra_convolution=True,
    auxiliary=True,
    upsampling="areas",
)

VARIANTS = {
    "deeplab_v3_resnet50": Config(multi_grid=(1, 2, 4)),
    "deeplab_v3_resnet101": Config(backbone="resnet101", multi_grid=(1, 2, 4)),
    "deeplab_v3_resnet50_torchvision": _TORCHVISION,
    "deeplab_v3_resnet101_torchvision": msgspec.structs.replace(_TORCHVISION, backbone="resnet101"),
}

TINY = Config(
    classes=5,
    preprocess=Preprocess(size=(48, 64), fit="letterbox"),
    backbone_settings={"depths": [1, 1, 1, 2], "width": 8},
    multi_grid=(1, 2),
    aspp_maps=16,
    auxiliary=True,
    extra_convolution=True,
)

TINIES = {
    "plain": msgspec.structs.replace(TINY, auxiliary=False, extra_convolution=False),
    "stride8": msgspec.structs.replace(TINY, output_stride=8, multi_grid=None, upsampling="areas"),
}


def build(config: Config) -> DeepLabV3:
    """A DeepLab v3 with fresh weights."""
    network = DeepLabV3(config)
    draw_head(network, network.classifier)
    return network


def from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's `deeplabv3_resnet50` or `..._resnet101` under the names used here."""
    return renamed(state_dict, _torchvision_modules())


def _torchvision_modules() -> Iterator[tuple[str, str]]:
    """Name there and here of every module with weights whose name is another; the encoder's are the same."""
    there = "classifier.0.convs"
    pairs = [(f"{there}.0.{{}}", "aspp.pointwise"), ("classifier.0.project.{}", "aspp.project")]
    pairs += [(f"{there}.{number + 1}.{{}}", f"aspp.atrous.{number}") for number in range(3)]
    for pattern, here in pairs:
        yield from ((pattern.format(0), f"{here}.conv"), (pattern.format(1), f"{here}.norm"))
    # The averaging is a module of its own there.
    yield from ((f"{there}.4.1", "aspp.image_pooling.conv"), (f"{there}.4.2", "aspp.image_pooling.norm"))
    yield from (("classifier.1", "extra.conv"), ("classifier.2", "extra.norm"))
    yield ("classifier.4", "classifier")
    yield from fcn_head_modules("aux_classifier", "auxiliary")
