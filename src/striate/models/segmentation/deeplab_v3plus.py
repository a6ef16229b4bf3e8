"""DeepLab v3+: DeepLab v3 as an encoder, and a small decoder that brings back the edges.

Chen, Zhu, Papandreou, Schroff, Adam, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", ECCV 2018, arXiv:1802.02611. The pyramid's maps, upsampled to stride 4, are joined with 48
maps made of the encoder's own at that stride; two 3x3 convolutions refine them (section 3.2, Figure 2; 48
and two times 256 maps by Tables 1 and 2). At 513x513, ResNet-50, output stride 16:

    images (3, 513, 513) -> layer1 (256, 129, 129) ----------> low_level 1x1 (48, 129, 129) --.
                         -> layer4 (2048, 33, 33) -> pyramid (256, 33, 33) -> (256, 129, 129) -+
    -> joined (304, 129, 129) -> 3x3, 3x3 (256, 129, 129) -> classifier (K, 129, 129) -> logits (K, 513, 513)

ResNet-50 and 101 are v1.5 with the multi-grid (1, 2, 4) of DeepLab v3 and plain convolutions in pyramid and
decoder; ResNet-18 and 34 have two-convolution blocks, for which no multi-grid is published, and none here.
The form on MobileNet v2 has the paper's separable ones in both (section 3.1), a ninth of the decoder's work,
for small machines. Any height and width will do.
"""

import msgspec
import torch
from torch import Tensor, nn

from striate.layers.aspp import spatial_convolution
from striate.layers.convolution_norm import ConvolutionNorm, Norm
from striate.models.network import PixelLogits, Segmenter
from striate.models.segmentation._deeplab import (
    LOW_STRIDE,
    Count,
    DeepLabConfig,
    backbone_of,
    draw_head,
    encoder,
    from_backbone,
    pyramid,
    recipe,
    stations,
)
from striate.models.segmentation._upsampling import upsampled
from striate.structures import Preprocess

__all__ = [
    "NATIVE_SIZE_UP_TO",
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "DeepLabV3Plus",
    "backbone_of",
    "build",
    "from_backbone",
    "recipe",
]

NATIVE_SIZE_UP_TO = 512  # pixels a side


class Config(DeepLabConfig, frozen=True, kw_only=True):
    """Settings of a DeepLab v3+."""

    preprocess: Preprocess = Preprocess(size=(513, 513), fit="letterbox")
    separable: bool = False  # the 3x3 convolutions of pyramid and decoder in two steps
    low_level_maps: Count = 48  # that the encoder's maps at stride 4 are reduced to
    decoder_maps: Count = 256


class DeepLabV3Plus(Segmenter):
    """Encoder -> pyramid, upsampled -> joined with early maps -> two 3x3 -> classifier -> upsampling."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.backbone = encoder(config)
        channels = {feature.name: feature.channels for feature in self.backbone.feature_info}
        self.low, _, self.last = stations(config)
        self.aspp = pyramid(config, channels[self.last], config.separable)
        reduce = nn.Conv2d(channels[self.low], config.low_level_maps, 1, bias=False)
        self.low_level = ConvolutionNorm(reduce, nn.ReLU(inplace=True), Norm())
        joined, maps = config.aspp_maps + config.low_level_maps, config.decoder_maps
        self.decoder = nn.Sequential(
            spatial_convolution(joined, maps, separable=config.separable),
            spatial_convolution(maps, maps, separable=config.separable),
        )
        self.classifier = nn.Conv2d(maps, len(self.classes), 1)

    def forward(self, images: Tensor) -> PixelLogits:  # type: ignore[override]
        features = self.backbone.features(self.normalize(images))
        low = self.low_level(features[self.low])  # (B, 48, H / 4, W / 4)
        deep = self.aspp(features[self.last])  # (B, 256, H / 16, W / 16)
        deep = upsampled(deep, self.config.output_stride // LOW_STRIDE, low.shape[-2:])
        maps = self.decoder(torch.cat([deep, low], 1))  # (B, 256, H / 4, W / 4)
        return PixelLogits(upsampled(self.classifier(maps), LOW_STRIDE, images.shape[-2:]))


VARIANTS = {
    "deeplab_v3plus_resnet18": Config(backbone="resnet18"),
    "deeplab_v3plus_resnet34": Config(backbone="resnet34"),
    "deeplab_v3plus_resnet50": Config(backbone="resnet50", multi_grid=(1, 2, 4)),
    "deeplab_v3plus_resnet101": Config(backbone="resnet101", multi_grid=(1, 2, 4)),
    "deeplab_v3plus_mobilenet_v2": Config(backbone="mobilenet_v2", separable=True),
}

TINY = Config(
    classes=5,
    preprocess=Preprocess(size=(48, 64), fit="letterbox"),
    backbone="mobilenet_v2",
    backbone_settings={"width": 0.25},
    separable=True,
    aspp_maps=16,
    low_level_maps=8,
    decoder_maps=16,
)

TINIES = {
    "resnet": msgspec.structs.replace(
        TINY,
        backbone="resnet50",
        backbone_settings={"depths": [1, 1, 1, 2], "width": 8},
        multi_grid=(1, 2),
        separable=False,
        output_stride=8,
    ),
}


def build(config: Config) -> DeepLabV3Plus:
    """A DeepLab v3+ with fresh weights."""
    network = DeepLabV3Plus(config)
    draw_head(network, network.classifier)
    return network
