"""A small convolutional network for any input: stages of convolutions, each ending in a max pool.

The idea of the tutorial network with what came after it: batch normalisation, pooling, a global
average in place of the big fully connected layer, dropout. It has about 280,000 parameters.
"""

from typing import Annotated

from msgspec import Meta
from torch import Tensor, nn

from striate.errors import UsageError
from striate.layers.initialise import he_normal
from striate.layers.smallest_size import SmallestSize
from striate.models.network import Classifier, Feature, Logits, NetworkConfig
from striate.structures import Preprocess

__all__ = ["NATIVE_SIZE_UP_TO", "TINY", "VARIANTS", "Config", "SimpleCNN", "build", "recipe"]

NATIVE_SIZE_UP_TO = 96
SMALLEST_MAP = 2  # pixels a side: a pool that would leave less is left out

Count = Annotated[int, Meta(ge=1)]


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of the small network; the input's size decides how many stages pool."""

    classes: tuple[str, ...] | int = 10
    preprocess: Preprocess = Preprocess(size=(64, 64), fit="stretch")
    widths: Annotated[tuple[Count, ...], Meta(min_length=1)] = (32, 64, 128)  # maps of each stage
    convolutions: tuple[Count, ...] = (1, 2, 2)  # in each stage
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.2  # before the last layer

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) != len(self.convolutions):
            raise UsageError(
                "widths and convolutions",
                f"{len(self.widths)} widths and {len(self.convolutions)} numbers of convolutions",
                "give one of each for every stage",
            )


class Stage(nn.Sequential):
    """(3x3 convolution -> batch norm -> ReLU) x n -> 2x2 max pool, the pool only where asked."""

    def __init__(self, channels: int, width: int, convolutions: int, pool: bool) -> None:
        layers: list[nn.Module] = []
        for index in range(convolutions):
            layers += [
                # Batch norm subtracts any bias again.
                nn.Conv2d(width if index else channels, width, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers, *([nn.MaxPool2d(2)] if pool else []))


class SimpleCNN(Classifier):
    """Stages -> global average -> dropout -> linear."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.feature_info = _feature_info(config)
        self.smallest_size = SmallestSize(config.preprocess, self.feature_info[-1].stride)
        channels, stride = config.preprocess.channels, 1
        self.stages = nn.ModuleDict()
        for (name, width, next_stride), convolutions in zip(
            self.feature_info, config.convolutions, strict=True
        ):
            self.stages[name] = Stage(channels, width, convolutions, pool=next_stride > stride)
            channels, stride = width, next_stride
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(channels, len(self.classes))

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        maps = self.normalize(self.smallest_size(images))  # (B, C, H, W)
        for stage in self.stages.values():
            maps = stage(maps)  # (B, width, H / stride, W / stride)
        return Logits(self.fc(self.dropout(maps.mean((2, 3)))))  # (B, last width) -> (B, K)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        maps, found = self.normalize(self.smallest_size(images)), {}
        for name, stage in self.stages.items():
            found[name] = maps = stage(maps)
        return found


def _feature_info(config: Config) -> tuple[Feature, ...]:
    """The stages: each halves the maps while SMALLEST_MAP pixels a side remain."""
    side, stride, found = min(config.preprocess.size), 1, []
    for number, width in enumerate(config.widths, start=1):
        if side // (2 * stride) >= SMALLEST_MAP:
            stride *= 2
        found.append(Feature(f"stage{number}", width, stride))
    return tuple(found)


VARIANTS = {"simple_cnn": Config()}

TINY = Config(widths=(8, 12, 16), preprocess=Preprocess(size=(16, 16), fit="stretch"))


def build(config: Config) -> SimpleCNN:
    """The small network with He's starting weights."""
    network = SimpleCNN(config)
    he_normal(network.stages.modules())
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings that train it well."""
    del config
    return {
        "training": {
            "optimiser": "adamw",
            "learning_rate": 4e-3,
            "weight_decay": 1e-2,
            "schedule": "cosine",
            "warmup_epochs": 1.0,
            "batch_size": 64,
            "epochs": 20,
        },
        "augment": {},
    }
