"""MobileNet v2: inverted residuals, thin between blocks and wide inside, for small machines.

Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
arXiv:1801.04381, Table 2. The first block expands nothing and so has no expansion convolution. The last
1280 maps grow with widths above 1 and never shrink (section 4).
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta
from torch import Tensor, nn

from striate.layers.convolution_norm import ConvolutionNorm, Norm
from striate.layers.divisible import make_divisible
from striate.layers.inverted_residual import InvertedResidual, InvertedResidualShape
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

__all__ = ["TINY", "VARIANTS", "Config", "MobileNetV2", "build", "from_torchvision", "recipe"]

Stage = tuple[Count, Count, Count, Literal[1, 2]]  # t, c, n, s: expansion, maps, blocks, stride of the first

TABLE_2: tuple[Stage, ...] = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of a MobileNet v2."""

    preprocess: Preprocess = Preprocess(size=(224, 224), fit="crop", resize_to=256)
    width: Width = 1.0  # multiplies all numbers of maps, which are then rounded to multiples of 8
    stages: Annotated[tuple[Stage, ...], Meta(min_length=1, max_length=16)] = TABLE_2
    stem: Count = 32  # maps of the first convolution, before the multiplication
    head: Count = 1280  # maps of the last convolution; a width below 1 leaves them as they are
    dropout: Probability = 0.2  # before the last layer
    output_stride: Literal[8, 16, 32] = 32  # of the last maps; strides beyond it become dilation

    def scaled(self, maps: int) -> int:
        """`maps` of the table at this width."""
        return make_divisible(maps * self.width)

    @property
    def head_maps(self) -> int:
        """Maps of the last convolution at this width."""
        return make_divisible(self.head * max(1.0, self.width))


class MobileNetV2(MobileNet):
    """Stem -> stages of inverted residuals -> 1x1 to many maps -> average -> linear."""

    def __init__(self, config: Config) -> None:
        classifier = dropout_linear(config.head_maps, config.dropout, config.classes)
        super().__init__(config, _trunk(config), classifier, _feature_info(config))


def _trunk(config: Config) -> Stack:
    steps = strides_and_dilations(_strides(config), config.output_stride)
    channels = config.scaled(config.stem)
    first = nn.Conv2d(config.preprocess.channels, channels, 3, next(steps)[0], padding=1, bias=False)
    layers: dict[str, nn.Module] = {"stem": ConvolutionNorm(first, ReLU6(), Norm())}
    for number, stage in enumerate(config.stages, 1):
        channels_out = config.scaled(stage[1])
        shapes = _shapes(stage, channels, channels_out, steps)
        layers[f"stage{number}"] = nn.Sequential(*(InvertedResidual(s, ReLU6, Norm()) for s in shapes))
        channels = channels_out
    last = nn.Conv2d(channels, config.head_maps, 1, bias=False)
    layers["head"] = ConvolutionNorm(last, ReLU6(), Norm())
    return Stack(layers)


def _strides(config: Config) -> Iterator[int]:
    """Stride of the stem and of each block, as the paper has them."""
    yield 2
    for _, _, blocks, stride in config.stages:
        yield from (stride, *(1,) * (blocks - 1))


def _shapes(
    stage: Stage, channels: int, channels_out: int, steps: Iterator[tuple[int, int]]
) -> Iterator[InvertedResidualShape]:
    """The blocks of a stage; `steps` gives the stride and dilation of each."""
    expansion, _, blocks, stage_stride = stage
    for block in range(blocks):
        stride, dilation = next(steps)
        yield InvertedResidualShape(
            channels,
            channels * expansion,
            channels_out,
            stride=stride,
            dilation=dilation,
            # By the table's stride: where dilation replaces it, the weights know no addition either.
            adds_input=channels == channels_out and (block > 0 or stage_stride == 1),
        )
        channels = channels_out


def _feature_info(config: Config) -> Iterator[Feature]:
    stages = (
        (f"stage{number}", config.scaled(channels), stride)
        for number, (_, channels, _, stride) in enumerate(config.stages, 1)
    )
    layers = (("stem", config.scaled(config.stem), 2), *stages, ("head", config.head_maps, 1))
    return feature_info(layers, config.output_stride)


VARIANTS = {
    "mobilenet_v2": Config(),
    **{f"mobilenet_v2_{width}": Config(width=width) for width in (1.4, 0.75, 0.5, 0.35)},
}

TINY = Config(
    classes=10,
    preprocess=Preprocess(size=(32, 32), fit="crop", resize_to=36),
    width=0.5,
    stages=((1, 16, 1, 1), (4, 32, 2, 2), (4, 48, 2, 2), (4, 64, 2, 2)),
    head=128,
    output_stride=8,
)


def build(config: Config) -> MobileNetV2:
    """A MobileNet v2 with starting weights as `draw_weights` says."""
    network = MobileNetV2(config)
    draw_weights(network)
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for photos; the weight decay is the paper's (section 6.1)."""
    del config
    return recipe_for_photos(weight_decay=4e-5)


def from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's `mobilenet_v2`, of any width, under the names used here."""
    return renamed(state_dict, _torchvision_modules())


def _torchvision_modules() -> Iterator[tuple[str, str]]:
    """Name there and here of every module with weights; blocks are numbered through there."""
    yield from (("features.0.0", "trunk.stem.conv"), ("features.0.1", "trunk.stem.norm"))
    number = 0
    for stage, (expansion, _, blocks, _) in enumerate(TABLE_2, 1):
        for block in range(blocks):
            number += 1
            yield from _torchvision_block(
                f"features.{number}.conv", f"trunk.stage{stage}.{block}", expansion > 1
            )
    yield (f"features.{number + 1}.0", "trunk.head.conv")
    yield (f"features.{number + 1}.1", "trunk.head.norm")
    yield ("classifier.1", "classifier.linear")


def _torchvision_block(there: str, here: str, expands: bool) -> Iterator[tuple[str, str]]:
    parts = ("expand", "depthwise") if expands else ("depthwise",)
    for place, part in enumerate(parts):
        yield (f"{there}.{place}.0", f"{here}.{part}.conv")
        yield (f"{there}.{place}.1", f"{here}.{part}.norm")
    yield (f"{there}.{len(parts)}", f"{here}.project.conv")
    yield (f"{there}.{len(parts) + 1}", f"{here}.project.norm")
