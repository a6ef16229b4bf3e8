"""Modules of other makers behind the three stations: what they take and give, and their settings."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from striate.errors import UsageError
from striate.models.network import Classifier, Feature, NetworkConfig, Segmenter, SegmenterConfig, resized
from striate.ops.losses import soft_cross_entropy
from striate.structures import ClassTargets, Preprocess

__all__ = ["Config", "ForeignNetwork", "ForeignSegmenter", "Outputs"]

# Set here, or a way to weights or code from elsewhere.
_NO_OPTIONS = {
    *("cache_dir", "checkpoint_path", "in_chans", "num_classes", "pretrained", "pretrained_backbone"),
    *("pretrained_cfg", "pretrained_cfg_overlay", "weights", "weights_backbone"),
}

# By which names a mapping or an object holds the logits; the second is torchvision's.
_LOGITS = ("logits", "out")


class Config(SegmenterConfig, frozen=True, kw_only=True):
    """Settings of a foreign network."""

    classes: tuple[str, ...] | int = 1000
    preprocess: Preprocess = Preprocess(size=(224, 224), fit="crop", resize_to=256)
    name: str  # "torchvision:resnet18"; the public name
    task: Literal["classification", "segmentation"] = "classification"  # what it is for
    # Arguments of what makes it, beside the number of classes.
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    auxiliary_weight: Annotated[float, Meta(ge=0)] = 0.3  # of each auxiliary loss; GoogLeNet's

    def __post_init__(self) -> None:
        if self.task == "segmentation":
            super().__post_init__()
        else:
            NetworkConfig.__post_init__(self)
        if self.task != "segmentation" and self.loss != "cross_entropy":
            raise UsageError(
                "network.loss",
                f"{self.loss} is a loss of segmentation, and {self.name} is for {self.task}",
                "leave it out",
            )
        refused = sorted(_NO_OPTIONS & self.options.keys())
        if refused:
            raise UsageError(
                f"network.options.{refused[0]}",
                "classes and channels follow from the data, and weights never come with a foreign network",
                "leave it out",
            )


class Outputs(NamedTuple):
    """What `forward` gives: logits (B, K), or (B, 1); (B, K, H, W) at the input's size from a segmenter."""

    logits: Tensor
    auxiliary: tuple[Tensor, ...]  # of auxiliary heads where there are any, usually in training only


class ForeignNetwork(Classifier):
    """Normalize -> the module, as it is. It has no named features, so no decoder can be built on it."""

    feature_info: tuple[Feature, ...] = ()

    def __init__(self, config: Config, body: nn.Module) -> None:
        super().__init__(config)
        self.name = config.name
        self.auxiliary_weight = config.auxiliary_weight
        self.body = body

    def forward(self, images: Tensor) -> Outputs:  # type: ignore[override]
        found = self.body(self.normalize(images))
        outputs = Outputs(_logits(self.name, found), tuple(_auxiliary(found)))
        for logits in (outputs.logits, *outputs.auxiliary):
            self._refuse_other_shape(logits)
        return outputs

    def features(self, images: Tensor) -> dict[str, Tensor]:  # noqa: ARG002 - the contract's signature
        """Raises UsageError: the maps of a foreign module have no names."""
        raise UsageError(self.name, "a foreign network has no named features", "use a network of striate's")

    def loss(self, raw: Outputs, targets: ClassTargets[Tensor]) -> dict[str, Tensor]:
        """Cross-entropy, and that of each auxiliary head times `auxiliary_weight`."""
        terms = super().loss(raw, targets)
        for number, logits in enumerate(raw.auxiliary, 1):
            cross_entropy = soft_cross_entropy(logits, targets.probabilities, targets.weight)
            terms[f"auxiliary_{number}"] = self.auxiliary_weight * cross_entropy
        return terms

    def _refuse_other_shape(self, logits: Tensor) -> None:
        classes = len(self.classes)
        if logits.ndim == 4:
            raise UsageError(
                self.name,
                f"it gives maps {tuple(logits.shape)}, needed for classification is (B, {classes})",
                'say that it is for segmentation: network.task = "segmentation"',
            )
        if logits.ndim != 2 or logits.shape[1] not in _fitting(classes):
            raise _unfit_outputs(self.name, logits, classes, f"(B, {classes})")


class ForeignSegmenter(Segmenter):
    """Normalize -> the module, as it is -> its maps at the input's size, bilinear where they have another."""

    config: Config

    def __init__(self, config: Config, body: nn.Module) -> None:
        super().__init__(config)
        self.name = config.name
        self.auxiliary_weight = config.auxiliary_weight
        self.body = body

    def forward(self, images: Tensor) -> Outputs:  # type: ignore[override]
        found = self.body(self.normalize(images))
        logits = self._maps(_logits(self.name, found))
        auxiliary = tuple(map(self._maps, _auxiliary(found)))
        return Outputs(resized(logits, (images.shape[2], images.shape[3])), auxiliary)

    def _maps(self, logits: Tensor) -> Tensor:
        """`logits` with one map for each class. Raises UsageError where they are something else."""
        classes = len(self.classes)
        if logits.ndim != 4 or logits.shape[1] not in _fitting(classes):
            raise _unfit_outputs(self.name, logits, classes, f"(B, {classes}, H, W)")
        if logits.shape[1] == 1:  # a sigmoid's z is a softmax's (0, z)
            return torch.cat((torch.zeros_like(logits), logits), 1)
        return logits


def _fitting(classes: int) -> tuple[int, ...]:
    """How many outputs tell so many classes apart."""
    return (classes, 1) if classes == 2 else (classes,)


def _unfit_outputs(name: str, logits: Tensor, classes: int, needed: str) -> UsageError:
    return UsageError(
        name,
        f"it gives outputs {tuple(logits.shape)} for {classes} classes, needed is {needed}",
        "let what makes it take classes= or num_classes= and give so many outputs",
    )


def _logits(name: str, found: Any) -> Tensor:
    if isinstance(found, Tensor):
        return found
    table = found if isinstance(found, Mapping) else {key: getattr(found, key, None) for key in _LOGITS}
    for key in _LOGITS:
        if isinstance(logits := table.get(key), Tensor):
            return logits
    raise UsageError(
        name,
        f"it gives a {type(found).__name__} without logits",
        "let it give the logits alone, or a dict that holds them as 'logits'",
    )


def _auxiliary(found: Any) -> Iterator[Tensor]:
    """The logits of the auxiliary heads in `found`, in its order."""
    table = found if isinstance(found, Mapping) else found._asdict() if hasattr(found, "_asdict") else {}
    for name, value in table.items():
        if name.startswith("aux") and isinstance(value, Tensor):
            yield value
