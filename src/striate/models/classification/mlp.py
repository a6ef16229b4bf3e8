"""Multi-layer perceptron: the baseline that knows nothing of neighbouring pixels.

The default is the "MLP 256-128-100" row of the Fashion-MNIST benchmark table (88.33 % there).
"""

from itertools import pairwise
from typing import Annotated

from msgspec import Meta
from torch import Tensor, nn

from striate.layers.fixed_size import FixedSize
from striate.layers.initialise import he_normal
from striate.models.network import Classifier, Feature, Logits, NetworkConfig
from striate.structures import Preprocess

__all__ = ["MLP", "NATIVE_SIZE_UP_TO", "TINY", "VARIANTS", "Config", "build", "recipe"]

NATIVE_SIZE_UP_TO = 96

Width = Annotated[int, Meta(ge=1)]


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of an MLP; the input's size and channels decide its first layer."""

    classes: tuple[str, ...] | int = 10
    preprocess: Preprocess = Preprocess(size=(28, 28), fit="stretch", color="gray", mean=(0.5,), std=(0.5,))
    hidden: tuple[Width, ...] = (256, 128, 100)  # units of each hidden layer; none: a linear classifier


class MLP(Classifier):
    """Pixels in a row -> (linear -> ReLU) x n -> linear. It has no maps, so no features."""

    feature_info: tuple[Feature, ...] = ()

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.fixed_size = FixedSize(config.preprocess)
        height, width = config.preprocess.size
        units = (config.preprocess.channels * height * width, *config.hidden)
        hidden = [
            layer
            for before, after in pairwise(units)
            for layer in (nn.Linear(before, after), nn.ReLU(inplace=True))
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(units[-1], len(self.classes)))

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        pixels = self.normalize(self.fixed_size(images))  # (B, C, H, W)
        return Logits(self.layers(pixels.flatten(1)))  # (B, C x H x W) -> (B, K)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        del images
        return {}


VARIANTS = {"mlp": Config()}

TINY = Config(
    hidden=(16, 12),
    preprocess=Preprocess(size=(8, 8), fit="stretch", color="gray", mean=(0.5,), std=(0.5,)),
)


def build(config: Config) -> MLP:
    """An MLP with He's starting weights."""
    network = MLP(config)
    he_normal(network.modules())
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings that train it well; the same at every size."""
    del config
    return {
        "training": {
            "optimiser": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 1e-2,
            "schedule": "cosine",
            "warmup_epochs": 1.0,
            "batch_size": 128,
            "epochs": 10,
        },
        "augment": {},
    }
