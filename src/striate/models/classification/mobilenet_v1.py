"""MobileNet v1: a filter for each map, then 1x1 convolutions that mix the maps.

Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto, Adam, "MobileNets: Efficient Convolutional Neural
Networks for Mobile Vision Applications", 2017, arXiv:1704.04861, Table 1. The table's last depthwise
convolution says stride 2 on a 7x7 map and shows 7x7 behind it: it is 1. The text says ReLU; the authors'
published code and all known weights have ReLU6, the default here.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Annotated, Literal

from msgspec import Meta
from torch import Tensor, nn

from striate.layers.convolution_norm import ConvolutionNorm, Norm
from striate.layers.depthwise_separable import DepthwiseSeparable
from striate.layers.divisible import make_divisible
from striate.layers.output_stride import strides_and_dilations
from striate.layers.relu6 import ReLU6
from striate.layers.stack import Stack
from striate.models.classification._mobilenet import (
    Count,
    MobileNet,
    Probability,
    Width,
    draw_weights,
    dropout_linear,
    feature_info,
    recipe_for_photos,
)
from striate.models.network import Feature, NetworkConfig
from striate.models.renaming import renamed
from striate.structures import Preprocess

__all__ = [
    "TINY",
    "VARIANTS",
    "Config",
    "MobileNetV1",
    "build",
    "from_timm",
    "recipe",
]

Row = tuple[Count, Literal[1, 2]]  # maps out, stride

TABLE_1: tuple[Row, ...] = (
    (64, 1),
    *((128, 2), (128, 1)),
    *((256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "relu6": ReLU6}


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of a MobileNet v1."""

    preprocess: Preprocess = Preprocess(size=(224, 224), fit="crop", resize_to=256)
    width: Width = 1.0  # alpha: multiplies all numbers of maps, which are then rounded to multiples of 8
    # Depthwise and 1x1 convolutions in pairs; those in a row with as many maps are a stage.
    blocks: Annotated[tuple[Row, ...], Meta(min_length=1, max_length=64)] = TABLE_1
    stem: Count = 32  # maps of the first convolution, before the multiplication
    activation: Literal["relu", "relu6"] = "relu6"
    dropout: Probability = 0.001  # before the last layer, as in the published code
    output_stride: Literal[8, 16, 32] = 32  # of the last maps; strides beyond it become dilation

    def scaled(self, maps: int) -> int:
        """`maps` of the table at this width."""
        return make_divisible(maps * self.width)

    @property
    def stages(self) -> list[tuple[str, int, list[Row]]]:
        """Name, scaled maps and rows of each stage."""
        groups = groupby(self.blocks, key=lambda row: row[0])
        return [
            (f"stage{number}", self.scaled(maps), list(rows)) for number, (maps, rows) in enumerate(groups, 1)
        ]


class MobileNetV1(MobileNet):
    """Stem -> stages of depthwise and 1x1 convolutions in turn -> average -> linear."""

    def __init__(self, config: Config) -> None:
        _, channels, _ = config.stages[-1]
        classifier = dropout_linear(channels, config.dropout, config.classes)
        super().__init__(config, _trunk(config), classifier, _feature_info(config))


def _trunk(config: Config) -> Stack:
    steps = strides_and_dilations((2, *(stride for _, stride in config.blocks)), config.output_stride)
    channels = config.scaled(config.stem)
    rectify = ACTIVATIONS[config.activation]
    first = nn.Conv2d(config.preprocess.channels, channels, 3, next(steps)[0], padding=1, bias=False)
    layers: dict[str, nn.Module] = {"stem": ConvolutionNorm(first, rectify(), Norm())}
    for name, channels_out, rows in config.stages:
        blocks = []
        for _ in rows:
            blocks.append(DepthwiseSeparable(channels, channels_out, rectify, *next(steps)))
            channels = channels_out
        layers[name] = nn.Sequential(*blocks)
    return Stack(layers)


def _feature_info(config: Config) -> Iterator[Feature]:
    stages = ((name, channels, math.prod(s for _, s in rows)) for name, channels, rows in config.stages)
    return feature_info((("stem", config.scaled(config.stem), 2), *stages), config.output_stride)


VARIANTS = {
    "mobilenet_v1": Config(),
    **{f"mobilenet_v1_{width}": Config(width=width) for width in (0.75, 0.5, 0.25)},
}

TINY = Config(
    classes=10,
    preprocess=Preprocess(size=(32, 32), fit="crop", resize_to=36),
    width=0.5,
    blocks=((32, 1), (64, 2), (64, 1), (96, 2), (128, 2), (128, 1)),
    output_stride=8,
)


def build(config: Config) -> MobileNetV1:
    """A MobileNet v1 with starting weights as `draw_weights` says."""
    network = MobileNetV1(config)
    draw_weights(network)
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for photos, with little weight decay as section 3.2 asks."""
    del config
    return recipe_for_photos(weight_decay=4e-5)


def from_timm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of timm's `mobilenetv1_100` and its narrower forms under the names used here."""
    return renamed(state_dict, _timm_modules())


def _timm_modules() -> Iterator[tuple[str, str]]:
    """Name there and here of every module with weights."""
    yield from (("conv_stem", "trunk.stem.conv"), ("bn1", "trunk.stem.norm"))
    parts = {
        "conv_dw": "depthwise.conv",
        "bn1": "depthwise.norm",
        "conv_pw": "pointwise.conv",
        "bn2": "pointwise.norm",
    }
    for number, (stage, _, rows) in enumerate(Config().stages):
        for block in range(len(rows)):
            for there, here in parts.items():
                yield (f"blocks.{number}.{block}.{there}", f"trunk.{stage}.{block}.{here}")
    yield ("classifier", "classifier.linear")
