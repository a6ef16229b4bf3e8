"""VGG: nothing but small convolutions, and many of them.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
arXiv:1409.1556. Table 1's configurations: `vgg11` A, `vgg11_lrn` A-LRN, `vgg13` B, `vgg16_c` C (with 1x1
convolutions), `vgg16` D, `vgg19` E. The `_bn` forms, with batch normalisation behind each convolution, are
later and torchvision's. Two 3x3 convolutions see as much as one 5x5, three as much as a 7x7, with fewer
weights and more ReLUs (section 2.3).

    224 ──block 1──> 112 ──block 2──> 56 ──block 3──> 28 ──block 4──> 14 ──block 5──> 7 ──> fc6, fc7, fc8

Decoders build on the same trunk: `first_padding`, `pool_ceil`, the pools and `output_stride` make the forms
of FCN, SSD and DeepLab. Weights fit all of them.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from striate.config import Settings
from striate.errors import UsageError
from striate.layers.initialise import he_normal
from striate.layers.local_response_norm import LocalResponseNorm
from striate.layers.smallest_size import SmallestSize, smallest_side
from striate.layers.stack import Stack
from striate.models.network import Classifier, Feature, Logits, NetworkConfig
from striate.models.renaming import renamed
from striate.structures import Preprocess

__all__ = [
    "TINIES",
    "TINY",
    "VARIANTS",
    "VGG",
    "Config",
    "Pool",
    "build",
    "from_torchvision",
    "recipe",
    "trunk",
]

WIDEST = 8  # blocks 4 and 5 have 8 times the maps of the first

Count = Annotated[int, Meta(ge=1)]


class Pool(Settings, frozen=True):
    """A max pool."""

    kernel: Count = 2
    stride: Literal[1, 2] = 2
    padding: Annotated[int, Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.padding > self.kernel // 2:
            raise UsageError(
                "pool.padding",
                f"{self.padding} is more than half of the kernel {self.kernel}",
                f"use at most {self.kernel // 2}",
            )


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of VGG."""

    preprocess: Preprocess = Preprocess(size=(224, 224), fit="crop", resize_to=256)
    depths: tuple[Count, Count, Count, Count, Count] = (2, 2, 3, 3, 3)  # convolutions of each block
    width: Count = 64  # maps of the first block; each further block has twice as many, up to 8 times
    pointwise: bool = False  # the last convolution of blocks 3 to 5 is 1x1 (C)
    norm: Literal["none", "batch", "local_response"] = "none"  # local_response: once, behind conv1_1 (A-LRN)
    first_padding: Annotated[int, Meta(ge=0)] = 1  # of conv1_1; FCN has 100
    pool_ceil: bool = False  # sizes of pools round up, as in Caffe and SSD
    first_pools: Pool = Pool()  # pool1 to pool3; DeepLab has 3x3 with padding 1
    pool4: Pool | None = None  # None: 2x2, or 3x3 of stride 1 where output_stride asks for it
    pool5: Pool | None = None
    # Under 32 the last pools keep the size, and convolutions behind them are spread to see as far.
    output_stride: Literal[8, 16, 32] = 32
    grid: Count = 7  # pixels a side that fc6 sees; the average over regions where the maps differ
    hidden: Count = 4096  # units of fc6 and of fc7
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.5  # behind fc6 and fc7

    def __post_init__(self) -> None:
        super().__post_init__()
        for block, name in ((1, "first_pools"), (4, "pool4"), (5, "pool5")):
            if self.pool(block).stride != self._stride(block):
                raise UsageError(
                    f"{name}.stride",
                    f"{self.pool(block).stride} does not go with an output_stride of {self.output_stride}",
                    f"give {name}.stride = {self._stride(block)}, or another output_stride",
                )

    def pool(self, block: int) -> Pool:
        """The pool behind a block, 1 to 5."""
        default = Pool() if self._stride(block) == 2 else Pool(kernel=3, stride=1, padding=1)
        return {4: self.pool4, 5: self.pool5}.get(block, self.first_pools) or default

    def dilation(self, block: int) -> int:
        """Of the convolutions of a block, 1 to 5: what the pools before it did not shrink."""
        dilation = 1
        for earlier in range(1, block):
            dilation *= 2 // self._stride(earlier)
        return dilation

    def _stride(self, block: int) -> int:
        """The stride that `output_stride` leaves to the pool behind a block."""
        return 2 if 2**block <= self.output_stride else 1


class VGG(Classifier):
    """Five blocks of convolutions, each ending in a pool -> three fully connected layers."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.feature_info = _feature_info(config)
        self.trunk = trunk(config)
        self.smallest_size = SmallestSize(config.preprocess, smallest_side(self.trunk))
        self.average = nn.AdaptiveAvgPool2d(config.grid)  # changes nothing where the maps have that size
        self.dropout = nn.Dropout(config.dropout)
        self.fc6 = nn.Linear(self.feature_info[-1].channels * config.grid**2, config.hidden)
        self.fc7 = nn.Linear(config.hidden, config.hidden)
        self.fc8 = nn.Linear(config.hidden, len(self.classes))

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        values = self.normalize(self.smallest_size(images))
        maps = self.average(self.trunk(values))  # (B, 512, 7, 7)
        fc6 = self.dropout(F.relu(self.fc6(maps.flatten(1))))  # (B, 4096)
        fc7 = self.dropout(F.relu(self.fc7(fc6)))  # (B, 4096)
        return Logits(self.fc8(fc7))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Convolutions after their ReLU, pools as they are."""
        names = {feature.name.replace("conv", "relu"): feature.name for feature in self.feature_info}
        return self.trunk.maps(self.normalize(self.smallest_size(images)), names)

    def _drop_behind(self, last: str) -> None:
        del self.average, self.dropout, self.fc6, self.fc7, self.fc8
        self.trunk.cut(last.replace("conv", "relu"))


def trunk(config: Config) -> Stack:
    """The five blocks alone, conv1_1 to pool5: values (B, C, H, W) -> (B, 512, H / 32, W / 32)."""
    layers: dict[str, nn.Module] = {}
    channels = config.preprocess.channels
    for block, depth in enumerate(config.depths, start=1):
        for number in range(1, depth + 1):
            layers |= _convolution(config, block, number, channels)
            channels = _width(config, block)
        pool = config.pool(block)
        layers[f"pool{block}"] = nn.MaxPool2d(
            pool.kernel, pool.stride, pool.padding, ceil_mode=config.pool_ceil
        )
    return Stack(layers)


def _convolution(config: Config, block: int, number: int, channels: int) -> dict[str, nn.Module]:
    """conv -> (batch norm) -> ReLU -> (local response norm), by their names."""
    name, width = f"{block}_{number}", _width(config, block)
    is_pointwise = config.pointwise and block > 2 and number == config.depths[block - 1]
    kernel, dilation = (1 if is_pointwise else 3), config.dilation(block)
    padding = config.first_padding if name == "1_1" else dilation * (kernel // 2)
    # It has a bias even in front of batch norm, as published weights have.
    layers: dict[str, nn.Module] = {
        f"conv{name}": nn.Conv2d(channels, width, kernel, padding=padding, dilation=dilation)
    }
    if config.norm == "batch":
        layers[f"bn{name}"] = nn.BatchNorm2d(width)
    layers[f"relu{name}"] = nn.ReLU(inplace=True)
    if config.norm == "local_response" and name == "1_1":
        layers[f"norm{name}"] = LocalResponseNorm()
    return layers


def _width(config: Config, block: int) -> int:
    return config.width * min(1 << (block - 1), WIDEST)


def _feature_info(config: Config) -> tuple[Feature, ...]:
    stride, found = 1, []
    for block, depth in enumerate(config.depths, start=1):
        width = _width(config, block)
        found += [Feature(f"conv{block}_{number}", width, stride) for number in range(1, depth + 1)]
        stride *= config.pool(block).stride
        found.append(Feature(f"pool{block}", width, stride))
    return tuple(found)


A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)

VARIANTS = {
    "vgg11": Config(depths=A),
    "vgg11_lrn": Config(depths=A, norm="local_response"),
    "vgg13": Config(depths=B),
    "vgg16_c": Config(depths=D, pointwise=True),
    "vgg16": Config(depths=D),
    "vgg19": Config(depths=E),
    "vgg11_bn": Config(depths=A, norm="batch"),
    "vgg13_bn": Config(depths=B, norm="batch"),
    "vgg16_bn": Config(depths=D, norm="batch"),
    "vgg19_bn": Config(depths=E, norm="batch"),
}

TINY = Config(
    classes=10,
    preprocess=Preprocess(size=(32, 32), fit="crop", resize_to=36),
    depths=(1, 1, 2, 2, 2),
    width=8,
    pointwise=True,
    norm="batch",
    grid=1,
    hidden=64,
)

TINIES = {
    "plain": msgspec.structs.replace(TINY, pointwise=False, norm="none"),
    "local_response": msgspec.structs.replace(TINY, pointwise=False, norm="local_response"),
    "dilated": msgspec.structs.replace(TINY, output_stride=8),
}


def build(config: Config) -> VGG:
    """VGG with He's starting weights and biases of 0.

    The paper starts its deeper forms from a trained A, and notes that Glorot's rule would have spared it
    that (section 3.1). He's is that rule for ReLUs.
    """
    network = VGG(config)
    he_normal(network.modules())
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings: section 3.1's, with cosine instead of a rate cut by hand.

    A smaller batch, for small sets and machines; and a limit on the gradient, as without batch norm the
    first steps are uneasy.
    """
    training: dict[str, object] = {
        "optimiser": "sgd",
        "learning_rate": 0.05 if config.norm == "batch" else 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "warmup_epochs": 2.0,
        "batch_size": 64,
        "epochs": 30,
    }
    if config.norm != "batch":
        training["clip_norm"] = 5.0
    return {"training": training, "augment": {"flip": 0.5, "scale": [0.25, 1.0]}}


def from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a torchvision VGG under the names used here, of any depth, with batch norm or without.

    torchvision numbers all layers in a row; a longer gap between two convolutions has a pool in it.
    """
    names = {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"} | _trunk_names(state_dict)
    return renamed(state_dict, names.items())


def _trunk_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """`features.0` -> `trunk.conv1_1`, ..., for the convolutions and batch norms in `state_dict`."""
    axes = {
        int(found[1]): tensor.ndim
        for name, tensor in state_dict.items()
        if (found := re.fullmatch(r"features\.(\d+)\.weight", name))
    }
    has_norm = 1 in axes.values()
    block, number, previous, names = 1, 0, 0, {}
    for index in sorted(index for index, count in axes.items() if count == 4):
        if index - previous > (3 if has_norm else 2):
            block, number = block + 1, 0
        number, previous = number + 1, index
        names[f"features.{index}"] = f"trunk.conv{block}_{number}"
        if has_norm:
            names[f"features.{index + 1}"] = f"trunk.bn{block}_{number}"
    return names
