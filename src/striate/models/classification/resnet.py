"""Residual networks: each block adds to its input instead of replacing it.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.
ImageNet forms: Table 1. CIFAR forms: section 4.2. `resnet50` and deeper are "v1.5", with the stride on
the 3x3 convolution, as most published weights are; `resnet50_v1` is the paper's, with the stride on the
first 1x1. `plain34` and `plain56_cifar` are the same networks without their shortcuts, the paper's
comparison of depth with and without them (Fig. 4 and 6). Names in the state dict are torchvision's.

`output_stride` 8 or 16 keeps maps large for dense prediction. A stage that would shrink them further does
not; the convolution that lost its stride is as it was, and every one behind it spreads its kernel over the
finer grid, so that each weight meets the pixels that it met before. The weights stay the same, and every
2nd (4th) pixel of a dilated map is exactly the pixel of the undilated one. For v1.5 that is torchvision's
`replace_stride_with_dilation`: the 3x3 of a dilated stage's first block keeps the dilation of the stage
before. For v1, whose stride is on the 1x1 before, it is DeepLab's (arXiv:1606.00915, section 3.1): the
first block has the dilation of its stage. `multi_grid` spreads each block of the last stage differently:
with (1, 2, 4) and dilation 2 the 3x3 kernels of its blocks have 2, 4 and 8 (DeepLab v3, arXiv:1706.05587,
section 4.2.1), in either version. Those weights meet other pixels than without, and have to learn it.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from striate.errors import UsageError
from striate.layers.initialise import he_normal
from striate.models.network import Classifier, Feature, Logits, NetworkConfig
from striate.structures import Preprocess

__all__ = [
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "ResNet",
    "build",
    "from_akamaster",
    "from_torchvision",
    "recipe",
]

EXPANSION = {"basic": 1, "bottleneck": 4}  # output maps of a block for each map of its width

Count = Annotated[int, Meta(ge=1)]


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of a residual network."""

    preprocess: Preprocess = Preprocess(size=(224, 224), fit="crop", resize_to=256)
    block: Literal["basic", "bottleneck"] = "basic"
    depths: Annotated[tuple[Count, ...], Meta(min_length=1, max_length=6)] = (2, 2, 2, 2)  # blocks a stage
    width: Count = 64  # maps of the stem and the first stage; each further stage has twice as many
    stem: Literal["imagenet", "cifar"] = "imagenet"  # 7x7/2 and a 3x3/2 max pool, or 3x3 alone
    # Where a block changes the shape: A subsamples and pads with zero maps, B is a 1x1 convolution.
    # "none" leaves out every shortcut, the identities too.
    shortcut: Literal["A", "B", "none"] = "B"
    version: Literal["v1", "v1.5"] = "v1.5"  # bottleneck's stride on the 1x1 or on the 3x3; basic: no matter
    zero_init: bool = True  # each block starts as the identity
    output_stride: Literal[8, 16, 32] | None = None  # of the last map, by dilation; None: no dilation
    multi_grid: tuple[Count, ...] | None = None  # of the last stage: the dilation of each block is times this

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.zero_init and self.shortcut == "none":
            raise UsageError(
                "network.zero_init",
                "a block without a shortcut that starts at zero gives nothing",
                "set zero_init to false, or the shortcut to A or B",
            )
        own = self.first_stride << (len(self.depths) - 1)
        if self.output_stride is not None and self.output_stride > own:
            raise UsageError(
                "network.output_stride",
                f"{self.output_stride} is more than the stride {own} that this network has anyway",
                "leave it out, or give a smaller one",
            )
        if self.multi_grid is not None and len(self.multi_grid) != self.depths[-1]:
            raise UsageError(
                "network.multi_grid",
                f"{len(self.multi_grid)} numbers for the {self.depths[-1]} blocks of the last stage",
                "give one for each block",
            )

    @property
    def first_stride(self) -> int:
        """Input pixels per map pixel of the first stage."""
        return 4 if self.stem == "imagenet" else 1

    def dilation(self, stage: int) -> int:
        """Pixels between the taps of the 3x3 kernels of `stage`, counted from 0; 1 undilated."""
        own = self.first_stride << stage
        return 1 if self.output_stride is None else max(1, own // self.output_stride)


class Sampling(NamedTuple):
    """The grid of a block: the step of its strided convolution, and how far its 3x3 kernels spread."""

    stride: int
    entry: int  # dilation of a 3x3 with the stride, which still sees the grid that the block reads
    dilation: int  # of a 3x3 behind the stride


class BasicBlock(nn.Module):
    """3x3 -> 3x3, plus the shortcut (section 3.3, Fig. 5 left); `shortcut` None is the identity."""

    def __init__(
        self,
        channels: int,
        width: int,
        sampling: Sampling,
        shortcut: nn.Module | None = None,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, width, 3, sampling.stride, sampling.entry)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, dilation=sampling.dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut
        self.residual = residual

    def forward(self, maps: Tensor) -> Tensor:
        identity = maps if self.downsample is None else self.downsample(maps)
        maps = self.relu(self.bn1(self.conv1(maps)))  # (B, width, H / stride, W / stride)
        maps = self.bn2(self.conv2(maps))
        if self.residual:
            maps += identity
        rectified: Tensor = self.relu(maps)
        return rectified


class Bottleneck(nn.Module):
    """1x1 -> 3x3 -> 1x1 with four times the maps, plus the shortcut (Fig. 5 right), None the identity."""

    def __init__(
        self,
        channels: int,
        width: int,
        sampling: Sampling,
        shortcut: nn.Module | None = None,
        residual: bool = True,
        stride_on_first: bool = False,
    ) -> None:
        super().__init__()
        first, second = (sampling.stride, 1) if stride_on_first else (1, sampling.stride)
        self.conv1 = _convolution(channels, width, 1, first)
        self.bn1 = nn.BatchNorm2d(width)
        spread = sampling.dilation if stride_on_first else sampling.entry
        self.conv2 = _convolution(width, width, 3, second, spread)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(width, width * EXPANSION["bottleneck"], 1)
        self.bn3 = nn.BatchNorm2d(width * EXPANSION["bottleneck"])
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut
        self.residual = residual

    def forward(self, maps: Tensor) -> Tensor:
        identity = maps if self.downsample is None else self.downsample(maps)
        maps = self.relu(self.bn1(self.conv1(maps)))  # (B, width, H, W)
        maps = self.relu(self.bn2(self.conv2(maps)))  # (B, width, H / stride, W / stride)
        maps = self.bn3(self.conv3(maps))  # (B, 4 x width, H / stride, W / stride)
        if self.residual:
            maps += identity
        rectified: Tensor = self.relu(maps)
        return rectified


class PaddedShortcut(nn.Module):
    """Option A (section 4.1): every `stride`-th pixel, and maps of zeros for the new channels.

    The zeros are split evenly before and after, as the published CIFAR weights need; the paper says
    only that there are extra zero entries.
    """

    def __init__(self, channels: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (channels_out - channels) // 2
        self.after = channels_out - channels - self.before

    def forward(self, maps: Tensor) -> Tensor:
        return F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, zero maps={self.before}+{self.after}"


class ResNet(Classifier):
    """Stem -> stages, each with half the pixels a side and twice the maps -> average -> linear."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.conv1 = (
            _convolution(config.preprocess.channels, config.width, 7, 2)
            if config.stem == "imagenet"
            else _convolution(config.preprocess.channels, config.width, 3)
        )
        self.bn1 = nn.BatchNorm2d(config.width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if config.stem == "imagenet" else nn.Identity()
        self.feature_info = _feature_info(config)
        self.layer_names = tuple(feature.name for feature in self.feature_info[1:])
        for stage, name in enumerate(self.layer_names):
            self.add_module(name, _stage(config, stage))
        self.fc = nn.Linear(self.feature_info[-1].channels, len(self.classes))

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        maps = self.maxpool(self._stem(images))  # (B, 64, H / 4, W / 4)
        for name in self.layer_names:
            maps = self.get_submodule(name)(maps)  # ... (B, 512 or 2048, H / 32, W / 32)
        return Logits(self.fc(maps.mean((2, 3))))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        found = {"conv1": self._stem(images)}
        maps = self.maxpool(found["conv1"])
        for name in self.layer_names:
            found[name] = maps = self.get_submodule(name)(maps)
        return found

    def _drop_behind(self, last: str) -> None:
        del self.fc
        end = ("conv1", *self.layer_names).index(last)
        for name in self.layer_names[end:]:
            delattr(self, name)
        self.layer_names = self.layer_names[:end]

    def _stem(self, images: Tensor) -> Tensor:
        stem: Tensor = self.relu(self.bn1(self.conv1(self.normalize(images))))
        return stem


def _convolution(
    channels: int, channels_out: int, kernel: int, stride: int = 1, dilation: int = 1
) -> nn.Conv2d:
    # Batch norm follows each and subtracts any bias again.
    padding = dilation * (kernel // 2)
    return nn.Conv2d(channels, channels_out, kernel, stride, padding, dilation, bias=False)


def _feature_info(config: Config) -> tuple[Feature, ...]:
    stem = 2 if config.stem == "imagenet" else 1
    expansion = EXPANSION[config.block]
    layers = [
        Feature(
            f"layer{stage + 1}",
            config.width * expansion << stage,
            (config.first_stride << stage) // config.dilation(stage),
        )
        for stage in range(len(config.depths))
    ]
    return (Feature("conv1", config.width, stem), *layers)


def _stage(config: Config, stage: int) -> nn.Sequential:
    width = config.width << stage
    channels_out = width * EXPANSION[config.block]
    # The stem has `width` maps; every later stage gets those of the stage before, half its own.
    channels = config.width if stage == 0 else channels_out // 2
    first, *rest = _samplings(config, stage)
    return nn.Sequential(
        _block(config, channels, width, first),
        *(_block(config, channels_out, width, sampling) for sampling in rest),
    )


def _samplings(config: Config, stage: int) -> list[Sampling]:
    """The sampling of each block of `stage`; the first halves the maps, or spreads the kernels instead."""
    dilation = config.dilation(stage)
    before = config.dilation(stage - 1) if stage else dilation
    stride = 2 if stage and dilation == before else 1
    if config.multi_grid is not None and stage == len(config.depths) - 1:
        first, *rest = (dilation * unit for unit in config.multi_grid)
        return [Sampling(stride, first, first), *(Sampling(1, spread, spread) for spread in rest)]
    rest = [dilation] * (config.depths[stage] - 1)
    return [Sampling(stride, before, dilation), *(Sampling(1, spread, spread) for spread in rest)]


def _block(config: Config, channels: int, width: int, sampling: Sampling) -> nn.Module:
    residual = config.shortcut != "none"
    shortcut = _shortcut(config, channels, width * EXPANSION[config.block], sampling.stride)
    if config.block == "basic":
        return BasicBlock(channels, width, sampling, shortcut, residual)
    return Bottleneck(channels, width, sampling, shortcut, residual, stride_on_first=config.version == "v1")


def _shortcut(config: Config, channels: int, channels_out: int, stride: int) -> nn.Module | None:
    if config.shortcut == "none" or (stride == 1 and channels == channels_out):
        return None
    if config.shortcut == "A":
        return PaddedShortcut(channels, channels_out, stride)
    return nn.Sequential(_convolution(channels, channels_out, 1, stride), nn.BatchNorm2d(channels_out))


def _imagenet(
    block: Literal["basic", "bottleneck"], *depths: int, version: Literal["v1", "v1.5"] = "v1.5"
) -> Config:
    return Config(block=block, depths=depths, version=version)


def _cifar(depth: int, shortcut: Literal["A", "none"] = "A") -> Config:
    """Section 4.2: 6n + 2 layers, three stages of n blocks with 16, 32 and 64 maps."""
    blocks = (depth - 2) // 6
    return Config(
        classes=10,
        preprocess=Preprocess(size=(32, 32), fit="stretch"),
        depths=(blocks, blocks, blocks),
        width=16,
        stem="cifar",
        shortcut=shortcut,
        zero_init=False,
    )


VARIANTS = {
    "resnet18": _imagenet("basic", 2, 2, 2, 2),
    "resnet34": _imagenet("basic", 3, 4, 6, 3),
    "resnet50": _imagenet("bottleneck", 3, 4, 6, 3),
    "resnet101": _imagenet("bottleneck", 3, 4, 23, 3),
    "resnet152": _imagenet("bottleneck", 3, 8, 36, 3),
    "resnet50_v1": _imagenet("bottleneck", 3, 4, 6, 3, version="v1"),
    "resnet101_v1": _imagenet("bottleneck", 3, 4, 23, 3, version="v1"),
    "resnet152_v1": _imagenet("bottleneck", 3, 8, 36, 3, version="v1"),
    **{f"resnet{depth}_cifar": _cifar(depth) for depth in (20, 32, 44, 56, 110)},
    "plain18": Config(depths=(2, 2, 2, 2), shortcut="none", zero_init=False),
    "plain34": Config(depths=(3, 4, 6, 3), shortcut="none", zero_init=False),
    **{f"plain{depth}_cifar": _cifar(depth, shortcut="none") for depth in (20, 32, 44, 56)},
}

TINY = Config(
    classes=10,
    preprocess=Preprocess(size=(64, 64), fit="crop", resize_to=72),
    block="bottleneck",
    depths=(2, 1, 1, 1),
    width=8,
)

TINIES = {
    "basic": msgspec.structs.replace(TINY, block="basic"),
    "basic_padded": msgspec.structs.replace(TINY, block="basic", shortcut="A"),
    "basic_plain": msgspec.structs.replace(TINY, block="basic", shortcut="none", zero_init=False),
    "v1": msgspec.structs.replace(TINY, version="v1"),
    "dilated": msgspec.structs.replace(TINY, output_stride=8),
    "v1_dilated": msgspec.structs.replace(TINY, version="v1", output_stride=8),
}


def build(config: Config) -> ResNet:
    """A residual network with He's starting weights for the convolutions (section 3.4)."""
    network = ResNet(config)
    he_normal((module for module in network.modules() if isinstance(module, nn.Conv2d)), mode="fan_out")
    if config.zero_init:
        # A zero scale makes each block start as the identity, so early gradients reach the stem
        # unchanged: better from scratch (Goyal et al. 2017, arXiv:1706.02677, section 5.1).
        for module in network.modules():
            if isinstance(module, BasicBlock | Bottleneck):
                last = module.bn2 if isinstance(module, BasicBlock) else module.bn3
                nn.init.zeros_(last.weight)
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings: section 4.2 for the CIFAR forms, photos for the others.

    Cosine instead of the paper's steps, and for photos a batch that fits small sets and machines.
    """
    if config.stem == "cifar":
        training: dict[str, object] = {"learning_rate": 0.1, "weight_decay": 5e-4, "batch_size": 128}
        augment: dict[str, object] = {"flip": 0.5, "pad": 4}
    else:
        training = {"learning_rate": 0.05, "weight_decay": 1e-4, "batch_size": 64, "label_smoothing": 0.1}
        augment = {"flip": 0.5, "scale": [0.25, 1.0]}
    shared = {"optimiser": "sgd", "momentum": 0.9, "schedule": "cosine", "warmup_epochs": 2.0, "epochs": 30}
    return {"training": {**shared, **training}, "augment": augment}


def from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a torchvision ResNet under the names used here, which are the same."""
    return dict(state_dict)


def from_akamaster(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of akamaster/pytorch_resnet_cifar10 (its `state_dict` entry) under the names used here."""
    return {
        name.removeprefix("module.").replace("linear.", "fc.").replace(".shortcut.", ".downsample."): tensor
        for name, tensor in state_dict.items()
    }
