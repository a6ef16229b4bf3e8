"""AlexNet: the network that brought convolution to photographs, as published and as one tower.

`alexnet_2012`: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", NIPS 2012, sections 3.3 to 3.5 and Fig. 2. Its maps lay half on each of two GPUs, and conv2,
conv4 and conv5 saw only those of their own: that is a convolution in 2 groups. The text says 224 pixels,
but the 55x55 maps of conv1 need 227 without padding (or 224 with 2, as below).
`alexnet`: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014,
arXiv:1404.5997, in torchvision's sizes: one tower, fewer maps, no response normalisation.

    227 ──conv1──> 55 ──pool1──> 27 ──conv2──> 27 ──pool2──> 13 ──conv3 to conv5──> 13 ──pool5──> 6
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

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
    "AlexNet",
    "Config",
    "RawValues",
    "build",
    "from_torchvision",
    "recipe",
]

STRIDES = {
    "conv1": 4,
    "pool1": 8,
    "conv2": 8,
    "pool2": 16,
    "conv3": 16,
    "conv4": 16,
    "conv5": 16,
    "pool5": 32,
}
# Values that each sum adds up in the published network: conv2, conv4 and conv5 see half of the maps.
PUBLISHED_FAN_IN = {
    "conv1": 3 * 11 * 11,
    "conv2": 48 * 5 * 5,
    "conv3": 256 * 3 * 3,
    "conv4": 192 * 3 * 3,
    "conv5": 192 * 3 * 3,
    "fc6": 256 * 6 * 6,
    "fc7": 4096,
    "fc8": 4096,
}
START_AT_ONE = ("conv2", "conv4", "conv5", "fc6", "fc7")  # biases

Count = Annotated[int, Meta(ge=1)]


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of AlexNet."""

    preprocess: Preprocess = Preprocess(size=(224, 224), fit="crop", resize_to=256)
    # 2012 has local response normalisation, pixels in their own units, and the paper's starting weights.
    form: Literal["one_tower", "2012"] = "one_tower"
    widths: tuple[Count, Count, Count, Count, Count] = (64, 192, 384, 256, 256)  # maps of conv1 to conv5
    groups: Literal[1, 2] = 1  # of conv2, conv4 and conv5; 2 is the paper's split over two GPUs
    first_padding: Annotated[int, Meta(ge=0)] = 2  # of conv1
    grid: Count = 6  # pixels a side that fc6 sees; the average over regions where the maps differ
    hidden: Count = 4096  # units of fc6 and of fc7
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.5  # before fc6 and fc7

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(width % self.groups for width in self.widths):
            raise UsageError(
                "widths",
                f"{list(self.widths)} maps do not split evenly into {self.groups} groups",
                "give even numbers of maps, or groups = 1",
            )


class RawValues(nn.Module):
    """Normalised values in the units of pixels again, centred: +-128 or so.

    The paper subtracts the mean and nothing else, and weights of N(0, 0.01) carry a signal through
    eight layers only from values that large. One factor for all channels, the mean of theirs.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.factor = sum(preprocess.std) / len(preprocess.std) / preprocess.scale

    def forward(self, values: Tensor) -> Tensor:
        return values * self.factor

    def extra_repr(self) -> str:
        return f"{self.factor:g}"


class AlexNet(Classifier):
    """Five convolutions with overlapping pools (3x3, stride 2) -> three fully connected layers."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.feature_info = tuple(
            Feature(name, config.widths[int(name[-1]) - 1], stride) for name, stride in STRIDES.items()
        )
        self.raw_values = RawValues(config.preprocess) if config.form == "2012" else nn.Identity()
        self.trunk = _trunk(config)
        self.smallest_size = SmallestSize(config.preprocess, smallest_side(self.trunk))
        self.average = nn.AdaptiveAvgPool2d(config.grid)  # changes nothing where the maps have that size
        self.dropout = nn.Dropout(config.dropout)
        self.fc6 = nn.Linear(config.widths[-1] * config.grid**2, config.hidden)
        self.fc7 = nn.Linear(config.hidden, config.hidden)
        self.fc8 = nn.Linear(config.hidden, len(self.classes))

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        maps = self.average(self.trunk(self._values(images)))  # (B, 256, 6, 6)
        fc6 = F.relu(self.fc6(self.dropout(maps.flatten(1))))  # (B, 4096)
        fc7 = F.relu(self.fc7(self.dropout(fc6)))  # (B, 4096)
        return Logits(self.fc8(fc7))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Convolutions after their ReLU, before any response normalisation."""
        names = {name.replace("conv", "relu"): name for name in STRIDES}
        return self.trunk.maps(self._values(images), names)

    def _values(self, images: Tensor) -> Tensor:
        values: Tensor = self.raw_values(self.normalize(self.smallest_size(images)))
        return values


def _trunk(config: Config) -> Stack:
    first, second, third, fourth, fifth = config.widths
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(config.preprocess.channels, first, 11, stride=4, padding=config.first_padding),
        "relu1": nn.ReLU(inplace=True),
        "norm1": LocalResponseNorm(),
        "pool1": nn.MaxPool2d(3, stride=2),
        "conv2": nn.Conv2d(first, second, 5, padding=2, groups=config.groups),
        "relu2": nn.ReLU(inplace=True),
        "norm2": LocalResponseNorm(),
        "pool2": nn.MaxPool2d(3, stride=2),
        "conv3": nn.Conv2d(second, third, 3, padding=1),
        "relu3": nn.ReLU(inplace=True),
        "conv4": nn.Conv2d(third, fourth, 3, padding=1, groups=config.groups),
        "relu4": nn.ReLU(inplace=True),
        "conv5": nn.Conv2d(fourth, fifth, 3, padding=1, groups=config.groups),
        "relu5": nn.ReLU(inplace=True),
        "pool5": nn.MaxPool2d(3, stride=2),
    }
    if config.form == "one_tower":
        del layers["norm1"], layers["norm2"]
    return Stack(layers)


VARIANTS = {
    "alexnet": Config(),
    "alexnet_2012": Config(
        # Centred pixels and no more, with ImageNet's mean.
        preprocess=Preprocess(
            size=(227, 227),
            fit="crop",
            resize_to=256,
            scale=1.0,
            mean=(123.675, 116.28, 103.53),
            std=(1.0, 1.0, 1.0),
        ),
        form="2012",
        widths=(96, 256, 384, 384, 256),
        groups=2,
        first_padding=0,
    ),
}

TINY = Config(
    classes=10,
    preprocess=Preprocess(size=(63, 63), fit="crop", resize_to=72),
    form="2012",
    widths=(16, 32, 48, 48, 32),
    groups=2,
    grid=1,
    hidden=256,
    dropout=0.1,
)

TINIES = {"one_tower": msgspec.structs.replace(TINY, form="one_tower", groups=1)}


def build(config: Config) -> AlexNet:
    """AlexNet with the paper's starting weights (2012) or He's (one tower)."""
    network = AlexNet(config)
    if config.form == "2012":
        _start_as_published(network)
    else:
        he_normal(network.modules())
    return network


def _start_as_published(network: AlexNet) -> None:
    """Section 5: weights from N(0, 0.01); biases of 1 in START_AT_ONE, of 0 in conv1, conv3 and fc8.

    A bias of 1 gives the ReLUs positive inputs, so that early learning is faster. Where a layer adds up
    fewer values than the published one, its weights are larger, so that its sums spread as much: narrow
    networks would not learn otherwise.
    """
    for name, published in PUBLISHED_FAN_IN.items():
        layer = name if name.startswith("fc") else f"trunk.{name}"
        weight, bias = network.get_parameter(f"{layer}.weight"), network.get_parameter(f"{layer}.bias")
        nn.init.normal_(weight, std=0.01 * (published / weight[0].numel()) ** 0.5)
        nn.init.constant_(bias, float(name in START_AT_ONE))


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings: section 5's, with cosine instead of a rate cut by hand.

    Photos are varied as is usual today (random resized crops and flips), without the paper's colour shift.
    """
    del config
    return {
        "training": {
            "optimiser": "sgd",
            "learning_rate": 0.01,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "schedule": "cosine",
            "warmup_epochs": 2.0,
            "batch_size": 128,
            "epochs": 30,
        },
        "augment": {"flip": 0.5, "scale": [0.25, 1.0]},
    }


def from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's AlexNet under the names used here."""
    names = {f"features.{index}": f"trunk.conv{n}" for n, index in enumerate((0, 3, 6, 8, 10), start=1)}
    names |= {f"classifier.{index}": f"fc{n}" for n, index in enumerate((1, 4, 6), start=6)}
    return renamed(state_dict, names.items())
