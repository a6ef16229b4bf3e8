"""The one shape of every network: pictures -> raw -> dense, and a loss beside it.

images (B, C, H, W) uint8 ──forward──> raw ──decode──> dense
                                        └──loss(raw, targets)──> {name: scalar}
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.config import Settings
from striate.errors import UsageError
from striate.layers.normalize import Normalize
from striate.models.stage import Stage
from striate.ops.candidates import best_candidates
from striate.ops.losses import pixel_cross_entropy, pixel_focal, soft_cross_entropy, soft_dice
from striate.structures import IGNORE, BoxTargets, ClassTargets, MaskTargets, Preprocess, Task

__all__ = [
    "Classifier",
    "Detector",
    "DetectorConfig",
    "Feature",
    "Logits",
    "Network",
    "NetworkConfig",
    "PixelLogits",
    "Segmenter",
    "SegmenterConfig",
    "class_names",
    "frozen_norms",
    "resized",
]


_MOST_CLASSES = 1_000_000  # more is a slip or hostile, and a name for each of billions would fill the memory


class NetworkConfig(Settings, frozen=True):
    """What every network's settings hold; a family adds its own."""

    least_classes: ClassVar[int] = 2

    classes: tuple[str, ...] | int = 1000  # names, or only how many
    preprocess: Preprocess = Preprocess()

    def __post_init__(self) -> None:
        if isinstance(self.classes, int) and self.classes > _MOST_CLASSES:
            raise UsageError(
                "network.classes", f"there are {self.classes:,}", f"give at most {_MOST_CLASSES:,} classes"
            )
        names = class_names(self.classes)
        if len(names) < self.least_classes or len(set(names)) < len(names):
            raise UsageError(
                "network.classes",
                f"there are {len(names)} names, {len(set(names))} of them different",
                f"give at least {self.least_classes}, each its own name",
            )


def class_names(classes: tuple[str, ...] | int) -> tuple[str, ...]:
    """The names of the classes; "0", "1", ... where only their number is known."""
    return tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)


class Feature(NamedTuple):
    """An intermediate map that decoders can build on."""

    name: str  # the paper's: "conv4_3", "pool3", "layer3"
    channels: int
    stride: int  # input pixels per map pixel


class Network(nn.Module, ABC):
    """Base of every network. `forward` never takes targets and gives the same type in train and eval."""

    task: ClassVar[Task]
    name: str = ""  # public name it was created by: "resnet18"
    context: int | None = None  # pixels around one that its output hangs on; None: all or not known
    is_solved_last: ClassVar[bool] = False  # whether parts of it are solved for after the last epoch

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.normalize: nn.Module = Normalize(config.preprocess)

    def train(self, mode: bool = True) -> Self:
        """Itself, in training mode or not; batch normalisation whose weights are frozen keeps its statistics.

        Weights that stay as they are were learned with those statistics.
        """
        super().train(mode)
        for norm in frozen_norms(self):
            norm.eval()
        return self

    @property
    def training_stages(self) -> tuple[Stage, ...]:
        """What training does one after the other; a family that is trained in parts has several."""
        return (Stage("all"),)

    @property
    def preprocess(self) -> Preprocess:
        """How its pictures are prepared."""
        return self.config.preprocess

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its classes, in the order of its outputs."""
        return class_names(self.config.classes)

    @abstractmethod
    def forward(self, images: Tensor, **extras: Tensor) -> Any:
        """Named intermediates, private to the family, of images (B, C, H, W) uint8 or float 0..255."""

    @abstractmethod
    def loss(self, raw: Any, targets: Any) -> dict[str, Tensor]:
        """The terms of the training loss by name, each a scalar with its weight in it."""

    @abstractmethod
    def decode(self, raw: Any) -> dict[str, Tensor]:
        """The dense outputs by name; pure, exportable, of a shape that no value decides."""

    def dense(self, images: Tensor, **extras: Tensor) -> dict[str, Tensor]:
        """`decode(forward(images))`: what is exported, explained and summarised."""
        return self.decode(self(images, **extras))

    def blank_extras(self, images: Tensor) -> dict[str, Tensor]:
        """What it takes beside `images` (B, C, H, W) where only shapes matter: boxes of the whole picture."""
        count = self.preprocess.proposals
        if not count:
            return {}
        height, width = images.shape[-2:]
        whole = torch.tensor([0.0, 0.0, width, height], device=images.device)
        return {"proposals": whole.expand(len(images), count, 4)}


def frozen_norms(network: nn.Module) -> Iterator[nn.Module]:
    """The batch normalisations in `network` that have weights, none of which is trained."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            weights = list(module.parameters(recurse=False))
            if weights and not any(weight.requires_grad for weight in weights):
                yield module


class Logits(NamedTuple):
    """What most classifiers' `forward` gives: unnormalised log probabilities (B, K), or (B, 1)."""

    logits: Tensor


class Classifier(Network):
    """Base of the classification families: cross-entropy on `raw.logits`, features by name."""

    task: ClassVar[Task] = "classification"
    feature_info: tuple[Feature, ...]

    @abstractmethod
    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The maps of `feature_info` by name, in order, each (B, channels, H / stride, W / stride)."""

    def cut(self, last: str) -> Self:
        """Itself without what lies behind its feature `last`, and without normalisation: a backbone.

        It has `features` alone then, of values that are normalised. Raises ValueError for another name.
        """
        names = [feature.name for feature in self.feature_info]
        if last not in names:
            raise ValueError(f"{self.name} has the features {', '.join(names)}, none is {last}")
        self.feature_info = self.feature_info[: names.index(last) + 1]
        self.normalize = nn.Identity()
        self._drop_behind(last)
        return self

    def _drop_behind(self, last: str) -> None:
        """Delete the modules that the features up to `last` do without."""
        raise UsageError(
            self.name, f"it cannot be cut behind {last}", "build on a ResNet, a MobileNet or a VGG"
        )

    def at_strides(self, *strides: int) -> tuple[Feature, ...]:
        """The deepest feature at each stride. Raises ValueError for a stride that it has not."""
        deepest = {feature.stride: feature for feature in self.feature_info}
        missing = [stride for stride in strides if stride not in deepest]
        if missing:
            raise ValueError(f"{self.name} has features at strides {sorted(deepest)}, not at {missing}")
        return tuple(deepest[stride] for stride in strides)

    def loss(self, raw: Any, targets: ClassTargets[Tensor]) -> dict[str, Tensor]:
        logits = self.decode(raw)["logits"]
        return {"cross_entropy": soft_cross_entropy(logits, targets.probabilities, targets.weight)}

    def decode(self, raw: Any) -> dict[str, Tensor]:
        # One sigmoid output z is a softmax over (0, z): both give the same two probabilities.
        logits: Tensor = raw.logits
        if logits.shape[1] == 1:
            logits = torch.cat((torch.zeros_like(logits), logits), 1)
        return {"logits": logits}


class DetectorConfig(NetworkConfig, frozen=True, kw_only=True):
    """What every detector's settings hold; a family adds its own."""

    least_classes: ClassVar[int] = 1

    classes: tuple[str, ...] | int = 20  # of PASCAL VOC; the background is none of them
    per_class: int = 200  # candidates of each class that it gives
    score_threshold: float = 0.01  # candidates below it are nothing
    nms_threshold: float = 0.5  # of two of a class whose IoU is above it, the surer stays
    detections: int = 100  # at most in a picture

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = {
            "per_class": self.per_class < 1,
            "score_threshold": not 0 <= self.score_threshold < 1,
            "nms_threshold": not 0 < self.nms_threshold <= 1,
            "detections": self.detections < 1,
        }
        for name, wrong in problems.items():
            if wrong:
                raise UsageError(
                    f"network.{name}",
                    f"{getattr(self, name)} is out of range",
                    "counts are at least 1, score_threshold is in [0, 1), nms_threshold in (0, 1]",
                )


class Detector(Network):
    """Base of the detection families. Classes are those of things alone: a background is the family's own."""

    task: ClassVar[Task] = "detection"
    config: DetectorConfig

    @abstractmethod
    def loss(self, raw: Any, targets: BoxTargets[Tensor]) -> dict[str, Tensor]:
        """The terms of the loss, finite whatever the boxes: none at all, of a pixel, hundreds, crowds."""

    @abstractmethod
    def predictions(self, raw: Any) -> tuple[Tensor, Tensor]:
        """Boxes (B, A, 4) in input pixels, or (B, A, K, 4), and scores (B, A, K) in 0..1 of the classes."""

    def decode(self, raw: Any) -> dict[str, Tensor]:
        """`boxes` (B, M, 4), `scores` (B, M), `labels` (B, M): the best `per_class` of each class."""
        return best_candidates(*self.predictions(raw), self.config.per_class)


class SegmenterConfig(NetworkConfig, frozen=True, kw_only=True):
    """What every segmentation network's settings hold; a family adds its own."""

    classes: tuple[str, ...] | int = 21  # of PASCAL VOC, background included
    loss: Literal["cross_entropy", "dice", "focal"] = "cross_entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(class_names(self.classes)) > IGNORE:
            raise UsageError(
                "network.classes",
                f"there are {len(class_names(self.classes))}",
                f"a mask has 8 bits: give at most {IGNORE} classes",
            )


class PixelLogits(NamedTuple):
    """What most segmentation networks' `forward` gives."""

    logits: Tensor  # (B, K, H, W) at the input's size
    auxiliary: tuple[Tensor, ...] = ()  # (B, K, h, w) of heads that only training hears


class Segmenter(Network):
    """Base of the segmentation families: a loss over pixels on `raw.logits`, which have the input's size."""

    task: ClassVar[Task] = "segmentation"
    auxiliary_weight: float = 0.4  # of each auxiliary head in the loss
    config: SegmenterConfig

    def loss(self, raw: Any, targets: MaskTargets[Tensor]) -> dict[str, Tensor]:
        kind = self.config.loss
        terms: dict[str, Tensor] = {kind: _PIXEL_LOSSES[kind](raw.logits, targets.labels, targets.weight)}
        for number, logits in enumerate(raw.auxiliary, 1):
            full = resized(logits, targets.labels.shape[-2:])
            term = _PIXEL_LOSSES[kind](full, targets.labels, targets.weight)
            terms[f"auxiliary{number}"] = self.auxiliary_weight * term
        return terms

    def decode(self, raw: Any) -> dict[str, Tensor]:
        return {"logits": raw.logits}


_PIXEL_LOSSES = {"cross_entropy": pixel_cross_entropy, "dice": soft_dice, "focal": pixel_focal}


def resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """`maps` (B, C, h, w) at `size` (H, W), bilinear, a pixel an area (torch's align_corners=False)."""
    # A graph with free sizes would be bound to the outcome of comparing them.
    if all(isinstance(side, int) for side in (*maps.shape[-2:], *size)) and maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
