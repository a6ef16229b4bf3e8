"""Darknets: the classification networks that YOLO v2 and v3 are built on.

`darknet19` is Redmon and Farhadi 2017, "YOLO9000: Better, Faster, Stronger" (arXiv:1612.08242), Table 6:
3x3 convolutions that double the maps behind each pool, 1x1 ones that halve them in between. `darknet53` is
Redmon and Farhadi 2018, "YOLOv3: An Incremental Improvement" (arXiv:1804.02767), Table 1: convolutions of
stride 2 in place of pools, each followed by residual blocks. `darknet_tiny` is the trunk of the tiny forms of
both detectors, with a classifier like the others'. Every convolution but the last has batch norm and a leaky
ReLU. The stages, one a stride:

                stride  1    2    4    8    16    32
    darknet19   maps    32   64   128  256  512   1024   1, 1, 3, 3, 5, 5 convolutions
    darknet53   maps    32   64   128  256  512   1024   0, 1, 2, 8, 8, 4 residual blocks
    darknet_tiny maps   16   32   64   128  256   1024   1, 1, 1, 1, 1, 2 convolutions

The classifier is a linear layer on the average of each map, which equals the paper's 1x1 convolution in front
of the average. Convolutions are defined in the order in which darknet's files have them.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from torch import Tensor, nn

from striate.layers.darknet import Residual, convolution, pool_of_stride_1
from striate.layers.initialise import he_normal
from striate.layers.smallest_size import SmallestSize
from striate.layers.stack import Stack
from striate.models.network import Classifier, Feature, Logits, NetworkConfig
from striate.structures import Preprocess

__all__ = ["TINIES", "TINY", "VARIANTS", "Config", "Darknet", "build", "recipe"]

LAST_STRIDE = 32  # of the deepest maps

Step = tuple[int, int]  # maps and kernel of a convolution

# What Table 6 has between its pools.
DARKNET_19: tuple[tuple[Step, ...], ...] = (
    ((32, 3),),
    ((64, 3),),
    ((128, 3), (64, 1), (128, 3)),
    ((256, 3), (128, 1), (256, 3)),
    ((512, 3), (256, 1), (512, 3), (256, 1), (512, 3)),
    ((1024, 3), (512, 1), (1024, 3), (512, 1), (1024, 3)),
)
DARKNET_53 = ((32, 0), (64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))  # maps, residual blocks
TINY_MAPS = (16, 32, 64, 128, 256)  # of the stages before the last
TINY_LAST = (512, 1024)  # a pool that keeps the size is between the two


class Config(NetworkConfig, frozen=True, kw_only=True):
    """Settings of a Darknet."""

    # Pictures are scaled to 0..1 and no more, as darknet does.
    preprocess: Preprocess = Preprocess(
        size=(256, 256), fit="crop", resize_to=256, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    form: Literal["19", "53", "tiny"] = "19"
    width: Annotated[float, Meta(gt=0, le=16)] = 1.0  # multiplies all numbers of maps

    def scaled(self, maps: int) -> int:
        """`maps` of the table at this width."""
        return max(1, round(maps * self.width))


class Darknet(Classifier):
    """Six stages -> average of each map -> linear."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        trunk = {"19": _darknet_19, "53": _darknet_53, "tiny": _darknet_tiny}[config.form]
        stages = list(trunk(config))
        # Pools leave nothing of a picture that has fewer pixels than they take together.
        self.smallest_size = SmallestSize(config.preprocess, 1 if config.form == "53" else LAST_STRIDE)
        self.trunk = Stack({f"stage{number}": layers for number, (_, layers) in enumerate(stages, 1)})
        self.feature_info = tuple(
            Feature(f"stage{number}", maps, 2 ** (number - 1)) for number, (maps, _) in enumerate(stages, 1)
        )
        self.classifier = nn.Linear(stages[-1][0], len(self.classes))

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        maps = self.trunk(self.normalize(self.smallest_size(images)))  # (B, 1024, H / 32, W / 32)
        return Logits(self.classifier(maps.mean((2, 3))))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        names = {feature.name: feature.name for feature in self.feature_info}
        return self.trunk.maps(self.normalize(self.smallest_size(images)), names)

    def _drop_behind(self, last: str) -> None:
        del self.classifier
        self.trunk.cut(last)


Stage = tuple[int, nn.Module]  # how many maps it ends with


def _darknet_19(config: Config) -> Iterator[Stage]:
    channels = config.preprocess.channels
    for number, steps in enumerate(DARKNET_19):
        scaled = [(config.scaled(maps), kernel) for maps, kernel in steps]
        yield scaled[-1][0], _row(channels, scaled, pooled=number > 0)
        channels = scaled[-1][0]


def _row(channels: int, steps: Iterable[Step], pooled: bool) -> nn.Sequential:
    """Convolutions one after the other, behind a pool that halves the sides or none."""
    layers: list[nn.Module] = [nn.MaxPool2d(2)] if pooled else []
    for maps, kernel in steps:
        layers.append(convolution(channels, maps, kernel))
        channels = maps
    return nn.Sequential(*layers)


def _darknet_53(config: Config) -> Iterator[Stage]:
    channels = config.preprocess.channels
    for number, (width, blocks) in enumerate(DARKNET_53):
        maps = config.scaled(width)
        first = convolution(channels, maps, 3, stride=2 if number else 1)
        yield maps, nn.Sequential(first, *(Residual(maps) for _ in range(blocks)))
        channels = maps


def _darknet_tiny(config: Config) -> Iterator[Stage]:
    channels = config.preprocess.channels
    for number, width in enumerate(TINY_MAPS):
        maps = config.scaled(width)
        yield maps, _row(channels, [(maps, 3)], pooled=number > 0)
        channels = maps
    middle, last = (config.scaled(width) for width in TINY_LAST)
    layers = (convolution(channels, middle, 3), pool_of_stride_1(), convolution(middle, last, 3))
    yield last, nn.Sequential(nn.MaxPool2d(2), *layers)


VARIANTS = {
    "darknet19": Config(),
    "darknet53": Config(form="53"),
    "darknet_tiny": Config(form="tiny"),
}

TINY = Config(
    classes=10,
    preprocess=Preprocess(size=(32, 32), fit="crop", resize_to=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    width=0.125,
)

TINIES = {
    "residual": msgspec.structs.replace(TINY, form="53", width=0.0625),
    "pooled": msgspec.structs.replace(TINY, form="tiny", width=0.25),
}


def build(config: Config) -> Darknet:
    """A Darknet with fresh weights: He's for convolutions, N(0, 0.01) for the classifier."""
    network = Darknet(config)
    he_normal(network.trunk.modules())
    for block in network.trunk.modules():
        if isinstance(block, Residual):
            # Each block starts as the identity, so that 23 of them do not pile up (Goyal et al. 2017,
            # arXiv:1706.02677, section 5.1).
            nn.init.zeros_(block.expand.get_parameter("norm.weight"))
    nn.init.normal_(network.classifier.weight, 0.0, 0.01)
    nn.init.zeros_(network.classifier.bias)
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings: the paper's rate, momentum and weight decay (section 3).

    Its rate falls as (1 - t)^4 over 160 epochs of ImageNet; a cosine does as well in fewer.
    """
    del config
    training: dict[str, object] = {
        "optimiser": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "warmup_epochs": 2.0,
        "epochs": 30,
        "batch_size": 128,
    }
    return {"training": training, "augment": {"flip": 0.5, "scale": [0.25, 1.0]}}
