"""The network of the first lesson: three convolutions, no pooling, one fully connected layer.

    39x39x3 ──3x3──> 37x37x10 ──5x5/2──> 17x17x20 ──5x5/2──> 7x7x40 ──> 1960 numbers ──> classes

Every size follows from floor((n + 2p - k) / s) + 1 with p = 0, so it can be checked with a pencil.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers.fixed_size import FixedSize
from striate.layers.initialise import he_normal
from striate.models.network import Classifier, Feature, Logits, NetworkConfig
from striate.structures import Preprocess

__all__ = ["TINY", "VARIANTS", "Config", "TutorialCNN", "build", "recipe"]

SMALLEST = 15  # pixels a side that leave one pixel of the third map: 15 -> 13 -> 5 -> 1


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of the tutorial network: its input and its classes, nothing else to turn."""

    classes: tuple[str, ...] | int = 2
    preprocess: Preprocess = Preprocess(size=(39, 39), fit="stretch")


class TutorialCNN(Classifier):
    """Three valid convolutions with ReLU; one sigmoid output for two classes, softmax for more."""

    feature_info = (Feature("conv1", 10, 1), Feature("conv2", 20, 2), Feature("conv3", 40, 4))

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.fixed_size = FixedSize(config.preprocess, at_least=SMALLEST)
        self.conv1 = nn.Conv2d(config.preprocess.channels, 10, kernel_size=3)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5, stride=2)
        self.conv3 = nn.Conv2d(20, 40, kernel_size=5, stride=2)
        height, width = map(_last_side, config.preprocess.size)
        outputs = 1 if len(self.classes) == 2 else len(self.classes)
        self.fc = nn.Linear(40 * height * width, outputs)

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        return Logits(self.fc(self.features(images)["conv3"].flatten(1)))  # (B, 1960) -> (B, K) or (B, 1)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        pixels = self.normalize(self.fixed_size(images))  # (B, 3, 39, 39)
        conv1 = F.relu(self.conv1(pixels))  # (B, 10, 37, 37)
        conv2 = F.relu(self.conv2(conv1))  # (B, 20, 17, 17)
        conv3 = F.relu(self.conv3(conv2))  # (B, 40, 7, 7)
        return {"conv1": conv1, "conv2": conv2, "conv3": conv3}


def _last_side(side: int) -> int:
    """Pixels a side of the third map for `side` pixels of input."""
    return (((side - 3 + 1) - 5) // 2 + 1 - 5) // 2 + 1


VARIANTS = {"tutorial_cnn": Config()}

TINY = Config(preprocess=Preprocess(size=(23, 23), fit="stretch"))


def build(config: Config) -> TutorialCNN:
    """The tutorial network with He's starting weights."""
    network = TutorialCNN(config)
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
            "batch_size": 64,
            "epochs": 15,
        },
        "augment": {},
    }
