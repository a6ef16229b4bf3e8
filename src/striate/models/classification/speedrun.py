"""A small network that learns in seconds: whitened patches, a few convolutions, the largest responses.

The ideas of Page 2018-19 ("How to train your ResNet") and Jordan 2024 (arXiv:2404.00498), in a network of
our own: a first layer that whitens patches and is never trained, convolutions that begin by handing their
input on, pooling before normalisation, the largest response of each map, logits that begin small, and an
answer that is averaged over the picture and its mirror image wherever the network is used.
"""

from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from striate.layers.initialise import he_normal
from striate.layers.patch_whitening import PatchWhitening
from striate.layers.smallest_size import SmallestSize
from striate.models.classification._stages import Count, Stages, StagesConfig, stage_info
from striate.models.network import Classifier, Logits
from striate.structures import Preprocess

__all__ = [
    "NATIVE_SIZE_UP_TO",
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "Speedrun",
    "build",
    "recipe",
    "start_from",
]

NATIVE_SIZE_UP_TO = 64


class Config(StagesConfig, frozen=True, kw_only=True):
    """Settings of the family; the input's size decides how many stages pool."""

    preprocess: Preprocess = Preprocess(size=(32, 32), fit="stretch")
    patch: Annotated[int, Meta(ge=1, le=7)] = 3  # side of the whitened patches in pixels
    widths: Annotated[tuple[Count, ...], Meta(min_length=1)] = (64, 128, 256)  # maps of each stage
    logit_scale: Annotated[float, Meta(gt=0)] = 0.5  # of the last layer's outputs
    average_mirror: bool = True  # in use: the mean of the logits of the picture and of its mirror image


class Stage(nn.Sequential):
    """3x3 convolution -> 2x2 max pool -> batch norm -> GELU, then the rest of its convolutions unpooled."""

    def __init__(self, channels: int, width: int, convolutions: int, pool: bool) -> None:
        layers: list[nn.Module] = []
        for index in range(convolutions):
            layers += [
                # Batch norm subtracts any bias again.
                nn.Conv2d(width if index else channels, width, kernel_size=3, padding=1, bias=False),
                # Before the norm, which then has a quarter of the values to go over.
                *([nn.MaxPool2d(2)] if pool and not index else []),
                nn.BatchNorm2d(width),
                nn.GELU(),
            ]
        super().__init__(*layers)


class Speedrun(Classifier):
    """Whitened patches -> stages -> the largest value of each map -> linear."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        # An even patch has no middle: it costs a row and a column.
        lost = 1 - config.patch % 2
        self.feature_info = stage_info(min(config.preprocess.size) - lost, config)
        self.smallest_size = SmallestSize(config.preprocess, self.feature_info[-1].stride + lost)
        self.whiten = PatchWhitening(config.preprocess.channels, config.patch)
        self.act = nn.GELU()
        self.stages = Stages(self.whiten.out_channels, config, self.feature_info, Stage)
        self.fc = nn.Linear(self.feature_info[-1].channels, len(self.classes), bias=False)

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        values = self.normalize(self.smallest_size(images))  # (B, C, H, W)
        if self.training or not self.config.average_mirror:
            return Logits(self._logits(values))
        both = self._logits(torch.cat((values, values.flip(3))))  # (2 B, K)
        return Logits(both.view(2, -1, both.shape[1]).mean(0))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        return self.stages.maps(self._whitened(self.normalize(self.smallest_size(images))))

    def _logits(self, values: Tensor) -> Tensor:
        # (B, 2 C patch^2, H, W) -> (B, width, H / stride, W / stride)
        maps = self.stages(self._whitened(values))
        logits: Tensor = self.config.logit_scale * self.fc(maps.amax((2, 3)))  # (B, K)
        return logits

    def _whitened(self, values: Tensor) -> Tensor:
        maps: Tensor = self.act(self.whiten(values))
        return maps


VARIANTS = {
    "speedrun_s": Config(widths=(32, 64, 128)),
    "speedrun_m": Config(),
    "speedrun_l": Config(widths=(64, 256, 256), convolutions=(2, 2, 2), patch=2),
}

TINY = Config(
    widths=(8, 12, 16),
    convolutions=(2, 1, 1),
    patch=2,
    preprocess=Preprocess(size=(16, 16), fit="stretch"),
)

TINIES = {"one_view": msgspec.structs.replace(TINY, average_mirror=False)}


def build(config: Config) -> Speedrun:
    """The network with He's starting weights, but for the first kernels of each convolution.

    Kernel i of these hands map i on as it is, so that what was whitened reaches the last layer.
    """
    network = Speedrun(config)
    he_normal(network.stages.modules())
    for module in network.stages.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.dirac_(module.weight[: module.in_channels].detach())
    return network


def start_from(network: Speedrun, images: Tensor) -> None:
    """Take the whitened directions from training pictures (B, C, H, W) uint8."""
    with torch.no_grad():
        network.whiten.measure(network.normalize(images))


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings that train it fast."""
    del config
    return {
        "training": {
            "optimiser": "adamw",
            "learning_rate": 1e-2,
            "weight_decay": 1e-2,
            "schedule": "triangular",
            "warmup_epochs": 2.0,
            "label_smoothing": 0.1,
            "batch_size": 128,
            "epochs": 8,
        },
        "augment": {"flip": "alternating"},
    }
