"""A small convolutional network for any input: stages of convolutions, each ending in a max pool.

The idea of the tutorial network with what came after it: batch normalisation, pooling, a global
average in place of the big fully connected layer, dropout. It has about 280,000 parameters.
"""

from typing import Annotated

from msgspec import Meta
from torch import Tensor, nn

from striate.layers.initialise import he_normal
from striate.layers.smallest_size import SmallestSize
from striate.models.classification._stages import Count, Stages, StagesConfig, stage_info
from striate.models.network import Classifier, Logits
from striate.structures import Preprocess

__all__ = ["NATIVE_SIZE_UP_TO", "TINY", "VARIANTS", "Config", "SimpleCNN", "build", "recipe"]

NATIVE_SIZE_UP_TO = 96


class Config(StagesConfig, frozen=True, kw_only=True):
    """Settings of the small network; the input's size decides how many stages pool."""

    preprocess: Preprocess = Preprocess(size=(64, 64), fit="stretch")
    convolutions: tuple[Count, ...] = (1, 2, 2)  # in each stage
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.2  # before the last layer


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
        self.feature_info = stage_info(min(config.preprocess.size), config)
        self.smallest_size = SmallestSize(config.preprocess, self.feature_info[-1].stride)
        self.stages = Stages(config.preprocess.channels, config, self.feature_info, Stage)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(self.feature_info[-1].channels, len(self.classes))

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        maps = self.stages(self.normalize(self.smallest_size(images)))  # (B, width, H / stride, W / stride)
        return Logits(self.fc(self.dropout(maps.mean((2, 3)))))  # (B, last width) -> (B, K)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        return self.stages.maps(self.normalize(self.smallest_size(images)))


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
