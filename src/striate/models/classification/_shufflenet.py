"""What the two ShuffleNets share: a stem, stages one after the other by name, the recipe."""

from typing import Annotated

from msgspec import Meta
from torch import Tensor, nn

from striate.layers.initialise import he_normal
from striate.models.network import Classifier, Feature, Logits, NetworkConfig

__all__ = ["Count", "ShuffleNet", "draw_weights", "recipe_for_photos", "stem_info"]

Count = Annotated[int, Meta(ge=1)]


class ShuffleNet(Classifier):
    """3x3/2 -> 3x3/2 max pool -> the stages that a family adds by the names of its features -> linear."""

    fc: nn.Linear

    def __init__(self, config: NetworkConfig, stem: int) -> None:
        super().__init__(config)
        self.conv1 = nn.Sequential(
            nn.Conv2d(config.preprocess.channels, stem, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
        )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        last = self.features(images)[self.feature_info[-1].name]  # (B, C, H / 32, W / 32)
        return Logits(self.fc(last.mean((2, 3))))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        maps, found = self.normalize(images), {}
        for name, _, _ in self.feature_info:
            found[name] = maps = self.get_submodule(name)(maps)
        return found


def stem_info(stem: int) -> tuple[Feature, Feature]:
    """The maps in front of the stages."""
    return Feature("conv1", stem, 2), Feature("maxpool", stem, 4)


def draw_weights(network: ShuffleNet) -> None:
    """Draw He's starting weights for the convolutions; the papers name none."""
    he_normal(module for module in network.modules() if isinstance(module, nn.Conv2d))


def recipe_for_photos(**training: object) -> dict[str, dict[str, object]]:
    """Training and augmentation settings: the weight decay and milder cuts of v1's section 4.

    Cosine instead of its straight line to 0, and a batch that fits small sets and machines; `training` adds
    to these.
    """
    shared = {
        "optimiser": "sgd",
        "momentum": 0.9,
        "learning_rate": 0.05,
        "weight_decay": 4e-5,
        "schedule": "cosine",
        "warmup_epochs": 2.0,
        "batch_size": 64,
        "epochs": 30,
    }
    return {"training": {**shared, **training}, "augment": {"flip": 0.5, "scale": [0.35, 1.0]}}
