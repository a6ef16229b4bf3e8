"""What the MobileNets share: a trunk of named stages, an average, a classifier; start and recipe."""

from collections.abc import Iterable, Iterator
from typing import Annotated

from msgspec import Meta
from torch import Tensor, nn

from striate.layers.initialise import he_normal
from striate.layers.stack import Stack
from striate.models.network import Classifier, Feature, Logits, NetworkConfig, class_names

__all__ = [
    "Count",
    "MobileNet",
    "Probability",
    "Width",
    "draw_weights",
    "dropout_linear",
    "feature_info",
    "recipe_for_photos",
]

Count = Annotated[int, Meta(ge=1)]
Probability = Annotated[float, Meta(ge=0, lt=1)]
Width = Annotated[float, Meta(gt=0, le=16)]


class MobileNet(Classifier):
    """Stem -> stages -> average of each map -> classifier."""

    def __init__(
        self, config: NetworkConfig, trunk: Stack, classifier: Stack, info: Iterable[Feature]
    ) -> None:
        super().__init__(config)
        self.feature_info = tuple(info)
        self.trunk = trunk
        self.classifier = classifier

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        maps = self.trunk(self.normalize(images))  # (B, C, H / 32, W / 32)
        return Logits(self.classifier(maps.mean((2, 3))))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        names = {feature.name: feature.name for feature in self.feature_info}
        return self.trunk.maps(self.normalize(images), names)

    def _drop_behind(self, last: str) -> None:
        del self.classifier
        self.trunk.cut(last)


def feature_info(layers: Iterable[tuple[str, int, int]], output_stride: int) -> Iterator[Feature]:
    """The maps of the layers in a row, each given as name, channels and stride of its own."""
    reached = 1
    for name, channels, stride in layers:
        reached = min(reached * stride, output_stride)
        yield Feature(name, channels, reached)


def dropout_linear(values: int, dropout: float, classes: tuple[str, ...] | int) -> Stack:
    """Dropout and the last layer: `values` numbers in, one a class out."""
    layers = {"dropout": nn.Dropout(dropout), "linear": nn.Linear(values, len(class_names(classes)))}
    return Stack(layers)


def draw_weights(network: MobileNet) -> None:
    """Draw starting weights: He's for convolutions, by the inputs of each filter; N(0, 0.01) for linear ones.

    The papers give none. torchvision draws convolutions by their outputs, and counts those of all maps for
    a depthwise filter, which so starts far smaller.
    """
    he_normal(module for module in network.modules() if isinstance(module, nn.Conv2d))
    for module in network.classifier:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)


def recipe_for_photos(weight_decay: float) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for sets and machines of any size.

    The papers' RMSProp with a rate that falls by a few per cent an epoch, made for many machines at
    once, is replaced by SGD with Nesterov's momentum and a cosine.
    """
    training: dict[str, object] = {
        "optimiser": "sgd",
        "learning_rate": 0.05,
        "momentum": 0.9,
        "weight_decay": weight_decay,
        "schedule": "cosine",
        "warmup_epochs": 2.0,
        "epochs": 30,
        "batch_size": 64,
        "label_smoothing": 0.1,
    }
    return {"training": training, "augment": {"flip": 0.5, "scale": [0.25, 1.0]}}
