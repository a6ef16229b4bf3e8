"""ShuffleNet v1: grouped 1x1 convolutions are cheap, and a channel shuffle lets the groups talk.

Zhang, Zhou, Lin, Sun, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile
Devices", CVPR 2018, arXiv:1707.01083: units in Fig. 2 (b) and (c), networks in Table 1.
`shufflenet_v1_g3` has 3 groups at 1x; `shufflenet_v1_g3_0.5`, `_1.5` and `_2` scale all its widths.
The shuffle stands behind the first grouped convolution, as in the paper; its authors' code has it behind
the depthwise one, the same function with the depthwise maps in another order.
"""

import msgspec
import torch
from torch import Tensor, nn

from striate.errors import UsageError
from striate.models.classification._shufflenet import (
    Count,
    ShuffleNet,
    draw_weights,
    recipe_for_photos,
    stem_info,
)
from striate.models.network import Feature, NetworkConfig
from striate.ops.channel_shuffle import channel_shuffle
from striate.structures import Preprocess

__all__ = ["TINIES", "TINY", "VARIANTS", "Config", "ShuffleNetV1", "build", "recipe"]

BOTTLENECK = 4  # maps of a unit for each of its bottleneck

# Table 1: maps of stage 2 at 1x for each number of groups; stages 3 and 4 have twice and four times as
# many. More groups buy more maps for the same multiply-adds.
STAGE_2_AT_1X = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}

# Maps of the first convolution by width. The authors' network of width 1.5 keeps the 24 of width 1.
STEMS = {0.5: 12, 1.0: 24, 1.5: 24, 2.0: 48}


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of a ShuffleNet v1."""

    preprocess: Preprocess = Preprocess(size=(224, 224), fit="crop", resize_to=256)
    groups: Count = 3  # of the 1x1 convolutions
    stem: Count = STEMS[1.0]  # maps of the first convolution
    channels: Count = STAGE_2_AT_1X[3]  # maps of stage 2; stages 3 and 4 have twice and four times as many
    units: tuple[Count, Count, Count] = (4, 8, 4)  # in stages 2 to 4, the first of each with stride 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels % (BOTTLENECK * self.groups) or self.channels <= self.stem:
            raise UsageError(
                "network.channels",
                f"stage 2 has {self.channels} maps, for {self.groups} groups and {self.stem} stem maps",
                f"give a multiple of {BOTTLENECK * self.groups} above {self.stem}",
            )
        if (self.channels - self.stem) % self.groups:
            raise UsageError(
                "network.stem",
                f"{self.channels} - {self.stem} maps of the first unit are not {self.groups} equal groups",
                f"give a number of stem maps that leaves a multiple of {self.groups}",
            )


class Unit(nn.Module):
    """1x1 in groups -> shuffle -> depthwise 3x3 -> 1x1 in groups, beside a shortcut (Fig. 2).

    With stride 1 the two are added (b). With stride 2 the shortcut is a 3x3 average pool whose maps are
    concatenated (c), so that the convolutions make only the maps that are new.
    """

    def __init__(self, channels: int, channels_out: int, groups: int, first_groups: int, stride: int) -> None:
        super().__init__()
        self.groups = groups
        self.pool = nn.AvgPool2d(3, stride, padding=1) if stride > 1 else None
        made = channels_out - channels if stride > 1 else channels_out
        narrow = channels_out // BOTTLENECK
        self.conv1 = nn.Conv2d(channels, narrow, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, padding=1, groups=narrow, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, made, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(made)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        branch = self.relu(self.bn1(self.conv1(maps)))  # (B, channels_out / 4, H, W)
        branch = self.bn2(self.conv2(channel_shuffle(branch, self.groups)))  # no ReLU behind the depthwise
        branch = self.bn3(self.conv3(branch))
        joined = maps + branch if self.pool is None else torch.cat((self.pool(maps), branch), 1)
        rectified: Tensor = self.relu(joined)
        return rectified


class ShuffleNetV1(ShuffleNet):
    """3x3/2 -> 3x3/2 max pool -> stages 2 to 4, each halving the sides -> average -> linear."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, config.stem)
        self.stage2, self.stage3, self.stage4 = (_stage(config, number) for number in (2, 3, 4))
        self.feature_info = _feature_info(config)
        self.fc = nn.Linear(self.feature_info[-1].channels, len(self.classes))


def _stage(config: Config, number: int) -> nn.Sequential:
    channels_out = config.channels << (number - 2)
    channels = config.stem if number == 2 else channels_out // 2
    # Section 3.2: the first 1x1 of stage 2 has no groups, its input has so few maps.
    first_groups = 1 if number == 2 else config.groups
    return nn.Sequential(
        Unit(channels, channels_out, config.groups, first_groups, stride=2),
        *(
            Unit(channels_out, channels_out, config.groups, config.groups, stride=1)
            for _ in range(config.units[number - 2] - 1)
        ),
    )


def _feature_info(config: Config) -> tuple[Feature, ...]:
    return (
        *stem_info(config.stem),
        *(Feature(f"stage{i + 2}", config.channels << i, 8 << i) for i in range(len(config.units))),
    )


def _table_1(groups: int, width: float = 1.0) -> Config:
    return Config(groups=groups, stem=STEMS[width], channels=round(width * STAGE_2_AT_1X[groups]))


VARIANTS = {
    **{f"shufflenet_v1_g{groups}": _table_1(groups) for groups in STAGE_2_AT_1X},
    **{f"shufflenet_v1_g3_{width:g}": _table_1(3, width) for width in STEMS if width != 1},
}

TINY = Config(
    classes=10,
    preprocess=Preprocess(size=(64, 64), fit="crop", resize_to=72),
    stem=12,
    channels=48,
    units=(2, 2, 2),
)

TINIES = {"one_group": msgspec.structs.replace(TINY, groups=1)}


def build(config: Config) -> ShuffleNetV1:
    """A ShuffleNet v1 with He's starting weights for the convolutions; the paper names none."""
    network = ShuffleNetV1(config)
    draw_weights(network)
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for photos."""
    del config
    return recipe_for_photos()
