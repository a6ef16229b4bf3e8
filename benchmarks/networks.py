"""Networks that only benchmarks define, for striate and for a plain loop: the same layers for both.

`lenet` is the network of Keras's MNIST tutorial: 2,440,960 multiply-adds on 28x28, no other family here has
its shape. `unet` is a decoder with skips over ResNet-18: each of its five steps doubles the maps, puts those
of the encoder beside them and convolves twice; 5.5 G multiply-adds on 256x256.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import msgspec
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from striate import models
from striate.modelfile import ModelCard
from striate.models.network import Classifier, Feature, Logits, Network, NetworkConfig
from striate.structures import Preprocess, Task

__all__ = ["CLASSES", "LeNet", "MaskTargets", "UNet", "build", "card_of", "plain"]

CLASSES = 10
DECODER = (256, 128, 64, 32, 16)  # maps after each doubling

ArrayT = TypeVar("ArrayT")
OtherT = TypeVar("OtherT")


def build(name: str) -> Network:
    """The network `name` with its first weights: `lenet`, `unet` or one of striate's own."""
    if name == "lenet":
        spec = Preprocess(size=(28, 28), fit="stretch", color="gray", mean=(0.286,), std=(0.353,))
        return LeNet(NetworkConfig(classes=CLASSES, preprocess=spec))
    if name == "unet":
        return UNet(NetworkConfig(classes=CLASSES, preprocess=Preprocess(size=(256, 256), fit="stretch")))
    return models.create(name, CLASSES)


def plain(name: str) -> nn.Module:
    """The same network for normalised pictures, giving logits: torchvision's where it has one."""
    if name == "unet":
        return PlainUNet()
    if name in torchvision.models.list_models(module=torchvision.models):
        module: nn.Module = torchvision.models.get_model(name, num_classes=CLASSES)
        return module
    return OnlyLogits(build(name))


def card_of(network: Network) -> ModelCard:
    """What `fit` writes beside the weights; no model file of a network from here can be loaded again."""
    spec = network.preprocess
    return ModelCard(network.task, "benchmark", network.name, {}, network.classes, spec)


class OnlyLogits(nn.Module):
    """A classifier of striate without its first layer, and with nothing but a tensor coming out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        network.register_module("normalize", nn.Identity())
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


class LeNet(Classifier):
    """conv 3x3 of 32 maps -> pool -> conv 3x3 of 64 maps -> pool -> dropout -> linear."""

    name = "lenet"
    feature_info = (Feature("conv1", 32, 1), Feature("conv2", 64, 2))

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(64 * 5 * 5, len(self.classes))

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        maps = F.max_pool2d(self.features(images)["conv2"], 2)  # (B, 64, 5, 5)
        return Logits(self.fc(self.dropout(maps.flatten(1))))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        conv1 = F.relu(self.conv1(self.normalize(images)))  # (B, 32, 26, 26)
        conv2 = F.relu(self.conv2(F.max_pool2d(conv1, 2)))  # (B, 64, 11, 11)
        return {"conv1": conv1, "conv2": conv2}


class MapLogits(NamedTuple):
    """A class for each pixel, as logits (B, K, H, W)."""

    logits: Tensor


@dataclass(frozen=True, slots=True)
class MaskTargets(Generic[ArrayT]):
    """What each pixel of a batch of pictures should be."""

    labels: ArrayT  # (B, H, W) int64 class ids
    weight: ArrayT  # (B,) float32, by which a batch that goes in parts is shared out

    def map(self, change: Callable[[ArrayT], OtherT]) -> "MaskTargets[OtherT]":
        """The same targets with `change` done to each array."""
        return MaskTargets(change(self.labels), change(self.weight))


class UNet(Network):
    """The decoder over striate's ResNet-18."""

    task: ClassVar[Task] = "segmentation"
    name = "unet"

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        spec = msgspec.to_builtins(config.preprocess)
        # It brings the first layer along.
        encoder: Any = models.create("resnet18", len(self.classes), preprocess={**spec, "resize_to": None})
        encoder.fc = nn.Identity()
        self.encoder = encoder
        self.decoder = Decoder([feature.channels for feature in encoder.feature_info])

    def forward(self, images: Tensor) -> MapLogits:  # type: ignore[override]
        return MapLogits(self.decoder(list(self.encoder.features(images).values())))

    def loss(self, raw: MapLogits, targets: MaskTargets[Tensor]) -> dict[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(raw.logits, targets.labels)}

    def decode(self, raw: MapLogits) -> dict[str, Tensor]:
        return {"logits": raw.logits}


class PlainUNet(nn.Module):
    """The decoder over torchvision's ResNet-18."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torchvision.models.resnet18(num_classes=CLASSES)
        self.encoder.fc = nn.Identity()
        self.decoder = Decoder([64, 64, 128, 256, 512])

    def forward(self, images: Tensor) -> Tensor:
        encoder = self.encoder
        found = [encoder.relu(encoder.bn1(encoder.conv1(images)))]
        maps = encoder.maxpool(found[0])
        for stage in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
            maps = stage(maps)
            found.append(maps)
        logits: Tensor = self.decoder(found)
        return logits


class Decoder(nn.Module):
    """From maps at strides 2, 4, 8, 16 and 32 to logits at stride 1."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        # Deepest first; beside the last doubling there is nothing of the encoder.
        skips = [*reversed(channels[:-1]), 0]
        before = (channels[-1], *DECODER)
        self.steps = nn.ModuleList(
            nn.Sequential(*_convolution(own + skip, width), *_convolution(width, width))
            for own, skip, width in zip(before, skips, DECODER, strict=False)
        )
        self.head = nn.Conv2d(DECODER[-1], CLASSES, kernel_size=3, padding=1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        *skips, deepest = maps
        for number, step in enumerate(self.steps, start=1):
            deepest = F.interpolate(deepest, scale_factor=2.0)
            if number <= len(skips):
                deepest = torch.cat((deepest, skips[-number]), 1)
            deepest = step(deepest)
        logits: Tensor = self.head(deepest)
        return logits


def _convolution(channels: int, width: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)
