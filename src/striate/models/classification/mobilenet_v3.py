"""MobileNet v3: inverted residuals with squeeze and excitation, found by search, and a short head.

Howard, Sandler, Chu, Chen, Chen, Tan, Wang, Zhu, Pang, Vasudevan, Le, Adam, "Searching for MobileNetV3",
ICCV 2019, arXiv:1905.02244, Tables 1 (large) and 2 (small). The layer after the average has no batch norm.
Widths scale all of the network, its head too, as in torchvision; TensorFlow's narrow forms keep the head.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from torch import Tensor, nn

from striate.layers.convolution_norm import ConvolutionNorm, Norm
from striate.layers.divisible import make_divisible
from striate.layers.inverted_residual import InvertedResidual, InvertedResidualShape
from striate.layers.output_stride import strides_and_dilations
from striate.layers.stack import Stack
from striate.models.classification._mobilenet import (
    Count,
    MobileNet,
    Probability,
    Width,
    draw_weights,
    feature_info,
    recipe_for_photos,
)
from striate.models.network import Feature, NetworkConfig, class_names
from striate.models.renaming import renamed
from striate.structures import Preprocess

__all__ = ["TINIES", "TINY", "VARIANTS", "Config", "MobileNetV3", "build", "from_torchvision", "recipe"]

# The columns of the tables: kernel, expanded maps, maps out, squeeze and excitation, activation, stride.
Row = tuple[Literal[3, 5], Count, Count, bool, Literal["RE", "HS"], Literal[1, 2]]

TABLE_1: tuple[Row, ...] = (
    (3, 16, 16, False, "RE", 1),
    *((3, 64, 24, False, "RE", 2), (3, 72, 24, False, "RE", 1)),
    *((5, 72, 40, True, "RE", 2), (5, 120, 40, True, "RE", 1), (5, 120, 40, True, "RE", 1)),
    *((3, 240, 80, False, "HS", 2), (3, 200, 80, False, "HS", 1)),
    *((3, 184, 80, False, "HS", 1), (3, 184, 80, False, "HS", 1)),
    *((3, 480, 112, True, "HS", 1), (3, 672, 112, True, "HS", 1)),
    *((5, 672, 160, True, "HS", 2), (5, 960, 160, True, "HS", 1), (5, 960, 160, True, "HS", 1)),
)

TABLE_2: tuple[Row, ...] = (
    (3, 16, 16, True, "RE", 2),
    *((3, 72, 24, False, "RE", 2), (3, 88, 24, False, "RE", 1)),
    *((5, 96, 40, True, "HS", 2), (5, 240, 40, True, "HS", 1), (5, 240, 40, True, "HS", 1)),
    *((5, 120, 48, True, "HS", 1), (5, 144, 48, True, "HS", 1)),
    *((5, 288, 96, True, "HS", 2), (5, 576, 96, True, "HS", 1), (5, 576, 96, True, "HS", 1)),
)

# Not in place: hard swish needs its input for the gradient, and torch would copy it first; and on a CPU
# to overwrite bf16 takes more than twice as long as to write it elsewhere.
ACTIVATIONS: dict[str, type[nn.Module]] = {"RE": nn.ReLU, "HS": nn.Hardswish}

HEAD_EXPANSION = 6  # maps of the last convolution for each that comes in: 960 of 160, 576 of 96


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of a MobileNet v3."""

    preprocess: Preprocess = Preprocess(size=(224, 224), fit="crop", resize_to=256)
    width: Width = 1.0  # multiplies all numbers of maps, which are then rounded to multiples of 8
    # The rows of the paper's table; those in a row with as many maps out are a stage.
    blocks: Annotated[tuple[Row, ...], Meta(min_length=1, max_length=64)] = TABLE_1
    stem: Count = 16  # maps of the first convolution, before the multiplication
    hidden: Count = 1280  # values between the average and the last layer, before the multiplication
    dropout: Probability = 0.2  # before the last layer
    # The paper's 0.01 needs hundreds of steps until an evaluation sees the right statistics.
    norm_momentum: Annotated[float, Meta(gt=0, le=1)] = 0.1
    output_stride: Literal[8, 16, 32] = 32  # of the last maps; strides beyond it become dilation

    def scaled(self, maps: int) -> int:
        """`maps` of the table at this width."""
        return make_divisible(maps * self.width)

    @property
    def norm(self) -> Norm:
        """Batch normalisation as the paper's networks have it."""
        return Norm(eps=1e-3, momentum=self.norm_momentum)

    @property
    def head_maps(self) -> int:
        """Maps of the last convolution."""
        return HEAD_EXPANSION * self.scaled(self.blocks[-1][2])


class MobileNetV3(MobileNet):
    """Stem -> stages of inverted residuals -> 1x1 to many maps -> average -> linear -> linear."""

    def __init__(self, config: Config) -> None:
        hidden = config.scaled(config.hidden)
        classifier = Stack(
            {
                "hidden": nn.Linear(config.head_maps, hidden),
                "activation": nn.Hardswish(),
                "dropout": nn.Dropout(config.dropout),
                "linear": nn.Linear(hidden, len(class_names(config.classes))),
            }
        )
        super().__init__(config, _trunk(config), classifier, _feature_info(config))


def _trunk(config: Config) -> Stack:
    channels = config.scaled(config.stem)
    first = nn.Conv2d(config.preprocess.channels, channels, 3, 2, padding=1, bias=False)
    layers: dict[str, nn.Module] = {"stem": ConvolutionNorm(first, nn.Hardswish(), config.norm)}
    shapes = _shapes(config)
    for name, rows in _stages(config):
        blocks = [
            InvertedResidual(shape, ACTIVATIONS[row[4]], config.norm)
            for row, shape in zip(rows, shapes, strict=False)
        ]
        layers[name] = nn.Sequential(*blocks)
        channels = config.scaled(rows[-1][2])
    last = nn.Conv2d(channels, config.head_maps, 1, bias=False)
    layers["head"] = ConvolutionNorm(last, nn.Hardswish(), config.norm)
    return Stack(layers)


def _stages(config: Config) -> Iterator[tuple[str, list[Row]]]:
    """Name and rows of each stage."""
    for number, (_, rows) in enumerate(groupby(config.blocks, key=lambda row: row[2]), 1):
        yield f"stage{number}", list(rows)


def _shapes(config: Config) -> Iterator[InvertedResidualShape]:
    steps = strides_and_dilations((2, *(row[5] for row in config.blocks)), config.output_stride)
    next(steps)  # the stem's
    channels = config.scaled(config.stem)
    for (kernel, expanded, maps, squeezes, _, stride), step in zip(config.blocks, steps, strict=True):
        inside, channels_out = config.scaled(expanded), config.scaled(maps)
        yield InvertedResidualShape(
            channels,
            inside,
            channels_out,
            kernel,
            stride=step[0],
            dilation=step[1],
            # By the table's stride: where dilation replaces it, the weights know no addition either.
            adds_input=stride == 1 and channels == channels_out,
            squeezed=make_divisible(inside // 4) if squeezes else None,
        )
        channels = channels_out


def _feature_info(config: Config) -> Iterator[Feature]:
    stages = (
        (name, config.scaled(rows[-1][2]), math.prod(row[5] for row in rows))
        for name, rows in _stages(config)
    )
    layers = (("stem", config.scaled(config.stem), 2), *stages, ("head", config.head_maps, 1))
    return feature_info(layers, config.output_stride)


def _small(width: float) -> Config:
    return Config(width=width, blocks=TABLE_2, hidden=1024)


VARIANTS = {
    "mobilenet_v3_large": Config(),
    "mobilenet_v3_large_0.75": Config(width=0.75),
    "mobilenet_v3_small": _small(1.0),
    "mobilenet_v3_small_0.75": _small(0.75),
}

TINY = Config(
    classes=10,
    preprocess=Preprocess(size=(32, 32), fit="crop", resize_to=36),
    blocks=(
        (3, 16, 16, False, "RE", 1),
        (3, 48, 24, True, "RE", 2),
        (5, 72, 32, False, "HS", 2),
        *((3, 96, 40, True, "HS", 2), (5, 96, 40, True, "HS", 1)),
    ),
    hidden=128,
    output_stride=8,
)

TINIES = {
    "large": msgspec.structs.replace(TINY, width=0.25, blocks=TABLE_1, output_stride=32),
    "small": msgspec.structs.replace(TINY, width=0.25, blocks=TABLE_2, output_stride=32),
}


def build(config: Config) -> MobileNetV3:
    """A MobileNet v3 with starting weights as `draw_weights` says."""
    network = MobileNetV3(config)
    draw_weights(network)
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for photos; the weight decay is the paper's (section 6.1.1)."""
    del config
    return recipe_for_photos(weight_decay=1e-5)


def from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's `mobilenet_v3_large` or `_small` under the names used here."""
    table = TABLE_1 if f"features.{len(TABLE_1) + 1}.0.weight" in state_dict else TABLE_2
    return renamed(state_dict, _torchvision_modules(Config(blocks=table)))


def _torchvision_modules(config: Config) -> Iterator[tuple[str, str]]:
    """Name there and here of every module with weights; blocks are numbered through there."""
    yield from (("features.0.0", "trunk.stem.conv"), ("features.0.1", "trunk.stem.norm"))
    names = (f"trunk.{stage}.{block}" for stage, rows in _stages(config) for block in range(len(rows)))
    number = 0
    for number, (here, shape) in enumerate(zip(names, _shapes(config), strict=True), 1):
        yield from _torchvision_block(f"features.{number}.block", here, shape)
    yield (f"features.{number + 1}.0", "trunk.head.conv")
    yield (f"features.{number + 1}.1", "trunk.head.norm")
    yield from (("classifier.0", "classifier.hidden"), ("classifier.3", "classifier.linear"))


def _torchvision_block(there: str, here: str, shape: InvertedResidualShape) -> Iterator[tuple[str, str]]:
    present = {
        "expand": shape.expanded != shape.channels,
        "depthwise": True,
        "squeeze": shape.squeezed is not None,
        "project": True,
    }
    for place, part in enumerate(part for part, there_is in present.items() if there_is):
        layers = ("fc1", "fc2") if part == "squeeze" else ("0", "1")
        leaves = ("reduce", "expand") if part == "squeeze" else ("conv", "norm")
        for layer, leaf in zip(layers, leaves, strict=True):
            yield (f"{there}.{place}.{layer}", f"{here}.{part}.{leaf}")
