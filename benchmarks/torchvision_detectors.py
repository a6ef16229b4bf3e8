"""torchvision's detectors behind this library's three stations, so that the same trainer trains them."""

from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from striate.models.network import DetectorConfig, Network
from striate.structures import BoxTargets, Task

__all__ = ["MAKERS", "TorchvisionDetector"]

Maker = Callable[[int, tuple[int, int]], nn.Module]


class Raw(NamedTuple):
    """Pictures, normalised: torchvision's detectors compute losses and boxes each in one go."""

    values: Tensor  # (B, 3, H, W)


class TorchvisionDetector(Network):
    """Normalize -> one of torchvision's detectors, whose own resizing and normalising is switched off.

    It gives losses in training mode alone: measured on a val part, its loss is 0.
    """

    task: ClassVar[Task] = "detection"
    config: DetectorConfig

    def __init__(self, config: DetectorConfig, make: Maker) -> None:
        super().__init__(config)
        height, width = config.preprocess.size
        self.body = make(len(self.classes) + 1, (height, width))

    def forward(self, images: Tensor, **_: Tensor) -> Raw:
        return Raw(self.normalize(images))

    def loss(self, raw: Raw, targets: BoxTargets[Tensor]) -> dict[str, Tensor]:
        if not self.training:
            return {"none": raw.values.new_zeros(())}
        found: dict[str, Tensor] = self.body(list(raw.values.float()), list(_by_picture(targets)))
        return found

    def decode(self, raw: Raw) -> dict[str, Tensor]:
        rows = self.body(list(raw.values))
        count = self.config.detections
        padded = [{name: _padded(row[name], count) for name in ("boxes", "scores", "labels")} for row in rows]
        boxes, scores, labels = (
            torch.stack([row[name] for row in padded]) for name in ("boxes", "scores", "labels")
        )
        return {"boxes": boxes, "scores": scores, "labels": (labels - 1).clamp(min=0)}


def _by_picture(targets: BoxTargets[Tensor]) -> Iterator[dict[str, Tensor]]:
    wanted = targets.valid & ~targets.crowd
    for boxes, labels, own in zip(targets.boxes, targets.labels, wanted, strict=True):
        yield {"boxes": boxes[own], "labels": labels[own] + 1}


def _padded(values: Tensor, count: int) -> Tensor:
    rows = values[:count]
    return torch.cat((rows, rows.new_zeros(count - len(rows), *rows.shape[1:])))


_AS_IT_IS = {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}


def _ssdlite(classes: int, size: tuple[int, int]) -> nn.Module:
    made: nn.Module = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=classes, **_AS_IT_IS
    )
    assert size == (320, 320)
    return made


def _faster_rcnn(classes: int, size: tuple[int, int]) -> nn.Module:
    made: nn.Module = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=classes,
        min_size=min(size),
        max_size=max(size),
        **_AS_IT_IS,
    )
    return made


MAKERS: dict[str, Maker] = {
    "torchvision:ssdlite320_mobilenet_v3_large": _ssdlite,
    "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn": _faster_rcnn,
}
