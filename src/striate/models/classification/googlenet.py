"""GoogLeNet: inception modules look at one map with several kernel sizes at once.

Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, arXiv:1409.4842: module in Fig. 2 (b), network
in Table 1 and Fig. 3. `googlenet` is the paper's: biases, local response normalisation twice in the stem,
and in training two auxiliary heads on the maps of 4a and 4d. `googlenet_bn` is the form of torchvision's
published weights: batch norm behind every convolution, no response normalisation, 3x3 where the paper has
5x5, a last pool of 2x2, dropout 0.2. Those weights see pixels as (x - 0.5) / 0.5, which is what the
`preprocess` of `googlenet_bn` says (torchvision calls the same `transform_input`).

Names in the state dict are torchvision's for both.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from striate.errors import UsageError
from striate.layers.initialise import he_normal
from striate.layers.local_response_norm import LocalResponseNorm
from striate.layers.smallest_size import SmallestSize, smallest_side
from striate.models.network import Classifier, Feature, NetworkConfig
from striate.ops.losses import soft_cross_entropy
from striate.structures import ClassTargets, Preprocess

__all__ = [
    "TINIES",
    "TINY",
    "VARIANTS",
    "AuxiliaryHead",
    "Config",
    "GoogLeNet",
    "Inception",
    "Stations",
    "build",
    "from_torchvision",
    "recipe",
]

Form = Literal["2014", "batch_norm"]
Probability = Annotated[float, Meta(ge=0, lt=1)]


class Widths(NamedTuple):
    """Maps of the six convolutions of an inception module, in the order of Table 1."""

    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int

    @property
    def output(self) -> int:
        """Maps of the module."""
        return self.one + self.three + self.five + self.pool


TABLE_1 = {
    "inception3a": Widths(64, 96, 128, 16, 32, 32),
    "inception3b": Widths(128, 128, 192, 32, 96, 64),
    "inception4a": Widths(192, 96, 208, 16, 48, 64),
    "inception4b": Widths(160, 112, 224, 24, 64, 64),
    "inception4c": Widths(128, 128, 256, 24, 64, 64),
    "inception4d": Widths(112, 144, 288, 32, 64, 64),
    "inception4e": Widths(256, 160, 320, 32, 128, 128),
    "inception5a": Widths(256, 160, 320, 32, 128, 128),
    "inception5b": Widths(384, 192, 384, 48, 128, 128),
}

TRUNK = (
    *("conv1", "maxpool1", "norm1", "conv2", "conv3", "norm2", "maxpool2"),
    *("inception3a", "inception3b", "maxpool3"),
    *("inception4a", "inception4b", "inception4c", "inception4d", "inception4e", "maxpool4"),
    *("inception5a", "inception5b"),
)


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of a GoogLeNet."""

    preprocess: Preprocess = Preprocess(size=(224, 224), fit="crop", resize_to=256)
    form: Form = "2014"
    width: Annotated[float, Meta(gt=0, le=4)] = 1.0  # times the maps of Table 1
    dropout: Probability = 0.4  # before the last layer
    auxiliary_weight: Annotated[float, Meta(ge=0)] = 0.3  # of each auxiliary loss; 0: no auxiliary heads
    auxiliary_dropout: Probability = 0.7  # before the last layer of the auxiliary heads

    @property
    def batch_norm(self) -> bool:
        """Whether batch norm stands behind every convolution."""
        return self.form == "batch_norm"

    def scaled(self, maps: int) -> int:
        """`maps` of the paper at this width."""
        return max(1, round(self.width * maps))


class Stations(NamedTuple):
    """What `forward` gives: the logits (B, K) and the maps that the auxiliary heads judge in `loss`."""

    logits: Tensor
    inception4a: Tensor  # (B, 512, H / 16, W / 16)
    inception4d: Tensor  # (B, 528, H / 16, W / 16)


class Inception(nn.Module):
    """1x1, 1x1 -> 3x3, 1x1 -> 5x5 and 3x3 max pool -> 1x1 side by side, their maps concatenated."""

    def __init__(self, channels: int, widths: Widths, batch_norm: bool) -> None:
        super().__init__()
        self.branch1 = _convolution(channels, widths.one, 1, batch_norm)
        self.branch2 = nn.Sequential(
            _convolution(channels, widths.three_reduce, 1, batch_norm),
            _convolution(widths.three_reduce, widths.three, 3, batch_norm),
        )
        self.branch3 = nn.Sequential(
            _convolution(channels, widths.five_reduce, 1, batch_norm),
            # The published weights of the batch norm form have 3x3 here, a slip that was kept.
            _convolution(widths.five_reduce, widths.five, 3 if batch_norm else 5, batch_norm),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), _convolution(channels, widths.pool, 1, batch_norm)
        )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat((self.branch1(maps), self.branch2(maps), self.branch3(maps), self.branch4(maps)), 1)


class AuxiliaryHead(nn.Module):
    """Average pool -> 1x1 -> linear -> dropout -> linear: logits (B, K) from a map in mid-network.

    The paper's pool is 5x5 with stride 3 (14x14 -> 4x4), here smaller where the map is; the linear layer
    behind it fixes the size of the map, and any other is a UsageError. The batch norm form's pool gives
    4x4 from every map, from 14x14 through windows of 4x4.
    """

    def __init__(self, config: Config, channels: int, classes: int) -> None:
        super().__init__()
        maps, units = config.scaled(128), config.scaled(1024)
        self.pool, self.size, pixels = _auxiliary_pool(config)
        self.conv = _convolution(channels, maps, 1, config.batch_norm)
        self.fc1 = nn.Linear(maps * pixels, units)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(config.auxiliary_dropout)
        self.fc2 = nn.Linear(units, classes)

    def forward(self, maps: Tensor) -> Tensor:
        if self.size is not None and maps.shape[2:] != self.size:
            raise UsageError(
                "images",
                f"the auxiliary heads take maps of {_text(self.size)}, got {_text(maps.shape[2:])}",
                "train on pictures of preprocess.size, or set auxiliary_weight=0",
            )
        pooled = self.conv(self.pool(maps)).flatten(1)  # (B, 2048)
        logits: Tensor = self.fc2(self.dropout(self.relu(self.fc1(pooled))))
        return logits


class GoogLeNet(Classifier):
    """Stem -> nine inception modules -> average -> dropout -> linear, and two heads on the way.

    The heads carry gradients to the middle of the network and regularise it. They are part of the loss in
    training only: a measured loss is that of the logits, and an exported network has no heads.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.auxiliary_weight = config.auxiliary_weight
        stem, deeper = config.scaled(64), config.scaled(192)
        self.conv1 = _convolution(config.preprocess.channels, stem, 7, config.batch_norm, stride=2)
        self.norm1, self.norm2 = _response_norm(config), _response_norm(config)
        self.conv2 = _convolution(stem, stem, 1, config.batch_norm)
        self.conv3 = _convolution(stem, deeper, 3, config.batch_norm)
        self.maxpool1, self.maxpool2, self.maxpool3 = (_pool(3) for _ in range(3))
        self.maxpool4 = _pool(2 if config.batch_norm else 3)
        shrinking = (self.conv1[0], self.maxpool1, self.maxpool2, self.maxpool3, self.maxpool4)
        self.smallest_size = SmallestSize(config.preprocess, smallest_side(shrinking))
        self.feature_info = _feature_info(config)
        channels = deeper
        for name, widths in _modules(config):
            self.add_module(name, Inception(channels, widths, config.batch_norm))
            channels = widths.output
        self._add_auxiliary_heads(config)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(channels, len(self.classes))

    def forward(self, images: Tensor) -> Stations:  # type: ignore[override]
        found = self._maps(images, ("inception4a", "inception4d", "inception5b"))
        pooled = found["inception5b"].mean((2, 3))  # (B, 1024)
        return Stations(self.fc(self.dropout(pooled)), found["inception4a"], found["inception4d"])

    def features(self, images: Tensor) -> dict[str, Tensor]:
        return self._maps(images, tuple(feature.name for feature in self.feature_info))

    def loss(self, raw: Stations, targets: ClassTargets[Tensor]) -> dict[str, Tensor]:
        """Cross-entropy, and in training that of each auxiliary head times `auxiliary_weight`."""
        terms = super().loss(raw, targets)
        if self.training and self.auxiliary_weight:
            for name, logits in self._auxiliary_logits(raw):
                cross_entropy = soft_cross_entropy(logits, targets.probabilities, targets.weight)
                terms[name] = self.auxiliary_weight * cross_entropy
        return terms

    def _maps(self, images: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        """The maps behind the layers in `names`; the others are freed on the way."""
        maps, found = self.normalize(self.smallest_size(images)), {}
        for name in TRUNK:
            maps = self.get_submodule(name)(maps)
            if name in names:
                found[name] = maps
        return found

    def _add_auxiliary_heads(self, config: Config) -> None:
        if self.auxiliary_weight:
            channels = {feature.name: feature.channels for feature in self.feature_info}
            self.aux1 = AuxiliaryHead(config, channels["inception4a"], len(self.classes))
            self.aux2 = AuxiliaryHead(config, channels["inception4d"], len(self.classes))

    def _auxiliary_logits(self, raw: Stations) -> Iterator[tuple[str, Tensor]]:
        yield "auxiliary_4a", self.aux1(raw.inception4a)
        yield "auxiliary_4d", self.aux2(raw.inception4d)


def _convolution(
    channels: int, channels_out: int, kernel: int, batch_norm: bool, stride: int = 1
) -> nn.Sequential:
    convolution = nn.Conv2d(channels, channels_out, kernel, stride, padding=kernel // 2, bias=not batch_norm)
    # 0.001 is what the published weights were trained with; torch's default is a hundredth of it.
    norm = {"bn": nn.BatchNorm2d(channels_out, eps=1e-3)} if batch_norm else {}
    return nn.Sequential(OrderedDict({"conv": convolution, **norm, "relu": nn.ReLU(inplace=True)}))


def _pool(kernel: int) -> nn.MaxPool2d:
    # Rounded up, which is what makes 112 -> 56 -> 28 -> 14 -> 7 of Table 1.
    return nn.MaxPool2d(kernel, stride=2, ceil_mode=True)


def _response_norm(config: Config) -> nn.Module:
    if config.batch_norm:
        return nn.Identity()
    # The paper gives no constants; these are those of the published Caffe network, where alpha is 1e-4
    # times the mean of 5 squares.
    return LocalResponseNorm(n=5, alpha=1e-4 / 5, beta=0.75, k=1.0)


def _modules(config: Config) -> Iterator[tuple[str, Widths]]:
    for name, widths in TABLE_1.items():
        yield name, Widths(*map(config.scaled, widths))


def _feature_info(config: Config) -> tuple[Feature, ...]:
    strides = {"3": 8, "4": 16, "5": 32}
    return (
        Feature("conv1", config.scaled(64), 2),
        Feature("conv3", config.scaled(192), 4),
        *(Feature(name, widths.output, strides[name[-2]]) for name, widths in _modules(config)),
    )


def _auxiliary_pool(config: Config) -> tuple[nn.Module, tuple[int, int] | None, int]:
    """The pool of an auxiliary head, the only size of map that it may get, and the pixels that it gives."""
    if config.batch_norm:
        return nn.AdaptiveAvgPool2d(4), None, 16
    height, width = (_map_side(side) for side in config.preprocess.size)
    kernel = min(5, height), min(5, width)
    down, across = (height - kernel[0]) // 3 + 1, (width - kernel[1]) // 3 + 1
    return nn.AvgPool2d(kernel, stride=3), (height, width), down * across


def _map_side(side: int) -> int:
    """Pixels a side of the maps of 4a to 4e in the paper's form, of pictures of `side`."""
    # The convolution rounds up; a 3x3/2 pool that rounds up gives half of its input, rounded down.
    return -(-side // 2) // 8


def _text(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


VARIANTS = {
    "googlenet": Config(),
    "googlenet_bn": Config(
        preprocess=Preprocess(
            size=(224, 224), fit="crop", resize_to=256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        ),
        form="batch_norm",
        dropout=0.2,
    ),
}

TINY = Config(classes=10, preprocess=Preprocess(size=(64, 64), fit="crop", resize_to=72), width=0.1875)

TINIES = {"batch_norm": msgspec.structs.replace(TINY, form="batch_norm")}


def build(config: Config) -> GoogLeNet:
    """A GoogLeNet with starting weights from N(0, 0.01) with batch norm, as torchvision; else He's.

    The paper names none.
    """
    network = GoogLeNet(config)
    if not config.batch_norm:
        he_normal(network.modules())
        return network
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings; without batch norm a smaller rate.

    The paper lowers the rate by 4% every 8 epochs of a far longer run, averages the weights and cuts 8 to
    100% of the area; cosine and milder cuts suit the few epochs here.
    """
    rate, decay = (0.05, 1e-4) if config.batch_norm else (0.01, 2e-4)
    return {
        "training": {
            "optimiser": "sgd",
            "momentum": 0.9,
            "learning_rate": rate,
            "weight_decay": decay,
            "schedule": "cosine",
            "warmup_epochs": 2.0,
            "batch_size": 64,
            "epochs": 30,
        },
        "augment": {"flip": 0.5, "scale": [0.25, 1.0]},
    }


def from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's GoogLeNet under the names used here, which are the same."""
    return dict(state_dict)
