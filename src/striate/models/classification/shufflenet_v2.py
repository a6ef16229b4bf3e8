"""ShuffleNet v2: half of the maps pass each unit untouched, then a shuffle mixes the halves.

Ma, Zhang, Zheng, Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV
2018, arXiv:1807.11164: units in Fig. 3 (c) and (d), networks in Table 5. `shufflenet_v2` is 1x;
`shufflenet_v2_0.5`, `_1.5` and `_2` are the paper's other widths. Names in the state dict are
torchvision's.
"""

from collections.abc import Mapping

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

__all__ = ["TINY", "VARIANTS", "Config", "ShuffleNetV2", "build", "from_torchvision", "recipe"]

HALVES = 2


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of a ShuffleNet v2."""

    preprocess: Preprocess = Preprocess(size=(224, 224), fit="crop", resize_to=256)
    stem: Count = 24  # maps of the first convolution
    channels: tuple[Count, Count, Count] = (116, 232, 464)  # maps of stages 2 to 4, even
    units: tuple[Count, Count, Count] = (4, 8, 4)  # in stages 2 to 4, the first of each with stride 2
    last: Count = 1024  # maps of conv5

    def __post_init__(self) -> None:
        super().__post_init__()
        odd = [channels for channels in self.channels if channels % HALVES]
        if odd:
            raise UsageError(
                "network.channels", f"{odd[0]} maps do not split into two halves", "give even numbers"
            )


class Unit(nn.Module):
    """Fig. 3 (c): the second half of the maps goes 1x1 -> depthwise 3x3 -> 1x1, the first half nowhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // HALVES
        self.branch2 = nn.Sequential(*_pointwise(half, half), *_depthwise(half, 1), *_pointwise(half, half))

    def forward(self, maps: Tensor) -> Tensor:
        kept, changed = maps.chunk(HALVES, dim=1)  # each (B, channels / 2, H, W)
        return channel_shuffle(torch.cat((kept, self.branch2(changed)), 1), HALVES)


class DownUnit(nn.Module):
    """Fig. 3 (d): both branches see all maps and halve the sides; each gives half of the new maps."""

    def __init__(self, channels: int, channels_out: int) -> None:
        super().__init__()
        half = channels_out // HALVES
        self.branch1 = nn.Sequential(*_depthwise(channels, 2), *_pointwise(channels, half))
        self.branch2 = nn.Sequential(
            *_pointwise(channels, half), *_depthwise(half, 2), *_pointwise(half, half)
        )

    def forward(self, maps: Tensor) -> Tensor:
        return channel_shuffle(torch.cat((self.branch1(maps), self.branch2(maps)), 1), HALVES)


class ShuffleNetV2(ShuffleNet):
    """3x3/2 -> 3x3/2 max pool -> stages 2 to 4, each halving the sides -> 1x1 -> average -> linear."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, config.stem)
        widths = (config.stem, *config.channels)
        self.stage2, self.stage3, self.stage4 = (
            _stage(channels, channels_out, units)
            for channels, channels_out, units in zip(widths, config.channels, config.units, strict=False)
        )
        self.conv5 = nn.Sequential(*_pointwise(config.channels[-1], config.last))
        self.fc = nn.Linear(config.last, len(self.classes))
        self.feature_info = _feature_info(config)


def _pointwise(channels: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, channels_out, 1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)


def _depthwise(channels: int, stride: int) -> tuple[nn.Module, ...]:
    # No ReLU behind it, as in Xception: it would lose values that the next 1x1 can still use.
    convolution = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
    return convolution, nn.BatchNorm2d(channels)


def _stage(channels: int, channels_out: int, units: int) -> nn.Sequential:
    return nn.Sequential(DownUnit(channels, channels_out), *(Unit(channels_out) for _ in range(units - 1)))


def _feature_info(config: Config) -> tuple[Feature, ...]:
    return (
        *stem_info(config.stem),
        *(Feature(f"stage{i + 2}", channels, 8 << i) for i, channels in enumerate(config.channels)),
        Feature("conv5", config.last, 32),
    )


VARIANTS = {
    "shufflenet_v2_0.5": Config(channels=(48, 96, 192)),
    "shufflenet_v2": Config(),
    "shufflenet_v2_1.5": Config(channels=(176, 352, 704)),
    "shufflenet_v2_2": Config(channels=(244, 488, 976), last=2048),
}

TINY = Config(
    classes=10,
    preprocess=Preprocess(size=(64, 64), fit="crop", resize_to=72),
    stem=8,
    channels=(16, 32, 64),
    units=(2, 2, 2),
    last=128,
)


def build(config: Config) -> ShuffleNetV2:
    """A ShuffleNet v2 with He's starting weights for the convolutions; the paper names none."""
    network = ShuffleNetV2(config)
    draw_weights(network)
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for photos: those of v1's paper, which v2 follows."""
    del config
    return recipe_for_photos(label_smoothing=0.1)


def from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a torchvision ShuffleNet v2 under the names used here, which are the same."""
    return dict(state_dict)
