"""What a class activation map is asked about: a class, a box, or a class's region of a mask."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from striate.errors import UnknownName, UsageError
from striate.models.network import Network

__all__ = ["Target", "target_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One answer of a network."""

    task: str
    name: str  # "cat", or "box 3: cat"
    label: int  # class id
    classes: int  # how many there are
    measure: str  # what `score` gives
    candidate: int | None = None  # of boxes: the row of the network's output
    box: tuple[float, float, float, float] | None = None  # x0 y0 x1 y1 in pixels of the input
    region: Tensor | None = None  # of masks: (H, W) bool

    def score(self, outputs: Any) -> Tensor:
        """The number whose gradient is asked for."""
        if self.task == "detection":
            score: Tensor = outputs["scores"][0, self.candidate]
            return score
        logits = logits_of(outputs)[0, self.label]
        return logits if self.region is None else logits[self.region].sum()

    def in_other(self, outputs: Any) -> "Target":
        """The same question to the `outputs` of a network with other weights."""
        if self.task != "detection":
            return self
        return _box(self.name, self.classes, outputs, _surest(outputs, self.label))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "label": self.label,
            "measure": self.measure,
            "candidate": self.candidate,
            "box": None if self.box is None else list(self.box),
            "pixels": None if self.region is None else int(self.region.sum()),
        }


def logits_of(outputs: Any) -> Tensor:
    """The logits (B, K, ...) among `outputs`: those of a Network, or the one tensor of another module."""
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else outputs
    if not isinstance(logits, Tensor) or logits.ndim not in (2, 4):
        raise UsageError(
            "target",
            "the network gives no logits (B, K) or (B, K, H, W)",
            "use a network for one of the tasks",
        )
    return logits


def target_of(module: nn.Module, outputs: Any, asked: int | str | None) -> Target:
    """The answer in `outputs` that `asked` means: class name or id, candidate of boxes, None for the best."""
    if isinstance(outputs, Mapping) and "scores" in outputs:
        return _detection(module, outputs, asked)
    logits = logits_of(outputs)
    names = module.classes if isinstance(module, Network) else tuple(map(str, range(logits.shape[1])))
    if logits.ndim == 2:
        label = int(logits[0].argmax()) if asked is None else _label(names, asked)
        return Target("classification", names[label], label, len(names), "logit")
    classes = logits[0].argmax(0)
    label = _largest(classes, len(names)) if asked is None else _label(names, asked)
    region = classes == label
    if not region.any():
        raise UsageError(
            f"target {names[label]}",
            "no pixel of the picture gets this class",
            f"it has {_there(classes, names)}",
        )
    measure = "sum of its logits over its region"
    return Target("segmentation", names[label], label, len(names), measure, region=region)


def _there(classes: Tensor, names: tuple[str, ...]) -> str:
    return ", ".join(names[label] for label in sorted(set(classes.flatten().tolist())))


def _largest(classes: Tensor, count: int) -> int:
    """The class with most pixels; the first, by custom the background, only where there is no other."""
    pixels = torch.bincount(classes.flatten(), minlength=count)
    return int(pixels[1:].argmax()) + 1 if pixels[1:].any() else 0


def _label(names: tuple[str, ...], asked: int | str) -> int:
    if isinstance(asked, str) and asked in names:
        return names.index(asked)
    if isinstance(asked, int) and 0 <= asked < len(names):
        return asked
    if isinstance(asked, int):
        raise UsageError(f"target {asked}", f"there are {len(names)} classes", f"give 0..{len(names) - 1}")
    raise UnknownName("class", asked, names)


def _detection(module: nn.Module, outputs: Any, asked: int | str | None) -> Target:
    names: tuple[str, ...] = module.classes  # type: ignore[assignment]
    count = outputs["scores"].shape[1]
    if isinstance(asked, int):
        if not 0 <= asked < count:
            raise UsageError(f"target {asked}", f"there are {count} candidates", f"give 0..{count - 1}")
        row = asked
    else:
        row = _surest(outputs, None if asked is None else _label(names, asked))
    if not outputs["scores"][0, row] > 0:
        raise UsageError(
            "target", "the network finds no such box in the picture", "give another picture or class"
        )
    return _box(names[int(outputs["labels"][0, row])], len(names), outputs, row)


def _surest(outputs: Any, label: int | None) -> int:
    scores = outputs["scores"][0].detach()
    if label is not None:
        scores = torch.where(outputs["labels"][0] == label, scores, -1.0)
    return int(scores.argmax())


def _box(name: str, classes: int, outputs: Any, row: int) -> Target:
    x0, y0, x1, y1 = outputs["boxes"][0, row].detach().tolist()
    label = int(outputs["labels"][0, row])
    return Target("detection", name, label, classes, "score", row, (x0, y0, x1, y1))
