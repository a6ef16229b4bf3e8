"""How much an answer changes when the picture moves by a few pixels.

Convolution moves with the picture; a fully connected layer does not, and whatever steps by more than one
pixel does so only in part (Zhang 2019, arXiv:1904.11486).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.errors import UsageError
from striate.explain._chart import Line, line_chart
from striate.explain._picture import one_picture
from striate.models.evaluating import evaluating
from striate.models.network import Network
from striate.ops.boxes import pairwise_iou
from striate.structures import Detections, Geometry
from striate.tasks import detection

__all__ = ["BORDER", "Shift", "ShiftCurve", "Subject", "shift"]

Axis = Literal["x", "y"]

BORDER = "pixels of the network's own input; at the edge that moves in, its outermost pixels are repeated"
"""What a shift means."""

_HIT = 0.5  # IoU from which on a box is found again


@dataclass(frozen=True, slots=True)
class Subject:
    """A network and the picture at its input."""

    network: Network
    images: Tensor  # (1, C, H, W)
    extras: Mapping[str, Tensor] = field(default_factory=dict)  # its further inputs


@dataclass(frozen=True, slots=True)
class ShiftCurve:
    """One network's answers."""

    name: str
    measure: str  # what `values` are: "probability of 7"
    values: tuple[float, ...]  # 0..1, one a shift
    kept: tuple[bool, ...] | None  # whether the answer is that of the picture in place; None: of parts of it

    @property
    def summary(self) -> str:
        """In a line: the least, the mean, and how often the answer stays."""
        text = f"{self.measure}: least {min(self.values):.3f}, mean {sum(self.values) / len(self.values):.3f}"
        if self.kept is None:
            return text
        return f"{text}; the same answer at {sum(self.kept)} of {len(self.kept)} shifts"


@dataclass(frozen=True, slots=True, repr=False)
class Shift:
    """What `shift` gives."""

    axis: Axis
    shifts: tuple[int, ...]  # to the right, or down
    curves: tuple[ShiftCurve, ...]

    def lines(self) -> Iterator[str]:
        """A row for each shift, then each network in a line."""
        direction = "right" if self.axis == "x" else "down"
        yield f"shifted {direction} by {BORDER}"
        widths = [max(7, len(curve.name)) for curve in self.curves]
        names = "  ".join(f"{curve.name:>{w}}" for curve, w in zip(self.curves, widths, strict=True))
        yield f"{'shift':>5}  {names}"
        for place, step in enumerate(self.shifts):
            cells = (
                f"{curve.values[place]:{width}.3f}" for curve, width in zip(self.curves, widths, strict=True)
            )
            yield f"{step:>+5d}  {'  '.join(cells)}"
        for curve in self.curves:
            yield f"{curve.name}: {curve.summary}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `explain --json`."""
        return {
            "axis": self.axis,
            "border": BORDER,
            "shifts": list(self.shifts),
            "curves": [
                {
                    "name": curve.name,
                    "measure": curve.measure,
                    "values": list(curve.values),
                    "kept": None if curve.kept is None else list(curve.kept),
                }
                for curve in self.curves
            ],
        }

    def svg(self) -> str:
        """The curves as a chart: one SVG file, without script."""
        lines = [Line(f"{curve.name}: {curve.measure}", curve.values) for curve in self.curves]
        direction = "right" if self.axis == "x" else "down"
        return line_chart("Answers to a moved picture", f"pixels to the {direction}", self.shifts, lines)

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return self.svg()


def shift(subjects: Mapping[str, Subject], shifts: Sequence[int] = range(-8, 9), axis: Axis = "x") -> Shift:
    """The answers of each network to its picture moved by each of `shifts`, in evaluation mode.

    For classes: the probability of the one that is likeliest in place. For boxes: the best IoU of a box of
    the same class with the surest one in place, moved along and cut off at the border. For masks: the share
    of pixels that get the class they have in place, where both see them. Raises UsageError where a picture is
    too small for a shift, or nothing is found in place.
    """
    if not subjects or not shifts or axis not in ("x", "y"):
        raise UsageError(
            "shift",
            f"{len(subjects)} networks, {len(shifts)} shifts, axis {axis!r}",
            "give one or more, x or y",
        )
    curves = tuple(_curve(name, subject, tuple(shifts), axis) for name, subject in subjects.items())
    return Shift(axis, tuple(shifts), curves)


def moved(images: Tensor, step: int, axis: Axis) -> Tensor:
    """`images` (B, C, H, W) moved by `step` pixels to the right or down, the border repeated."""
    dimension = 3 if axis == "x" else 2
    length = images.shape[dimension]
    places = (torch.arange(length, device=images.device) - step).clamp(0, length - 1)
    return images.index_select(dimension, places)


def _curve(name: str, subject: Subject, shifts: tuple[int, ...], axis: Axis) -> ShiftCurve:
    network, length = subject.network, one_picture(subject.images).shape[3 if axis == "x" else 2]
    if max(map(abs, shifts)) >= length:
        raise UsageError(
            "shift", f"the input of {name} has {length} pixels that way", f"shift by less than {length}"
        )
    measure = {"classification": _classes, "detection": _boxes, "segmentation": _masks}[network.task]
    with evaluating(network), torch.no_grad():
        return measure(name, subject, shifts, axis)


def _dense(subject: Subject, step: int, axis: Axis) -> dict[str, Tensor]:
    extras = dict(subject.extras)
    if "proposals" in extras:
        height, width = subject.images.shape[-2:]
        extras["proposals"] = _moved_boxes(extras["proposals"], step, axis, (height, width))
    return subject.network.dense(moved(subject.images, step, axis), **extras)


def _moved_boxes(boxes: Tensor, step: int, axis: Axis, size: tuple[int, int]) -> Tensor:
    """`boxes` (..., 4) x0 y0 x1 y1 moved along with the picture and cut off at its border."""
    along = 0 if axis == "x" else 1
    limit = size[1] if axis == "x" else size[0]
    result = boxes.clone()
    result[..., along::2] = (boxes[..., along::2] + step).clamp(0, limit)
    return result


def _classes(name: str, subject: Subject, shifts: tuple[int, ...], axis: Axis) -> ShiftCurve:
    best = int(_dense(subject, 0, axis)["logits"][0].argmax())
    values, kept = [], []
    for step in shifts:
        probabilities = _dense(subject, step, axis)["logits"][0].double().softmax(0)
        values.append(float(probabilities[best]))
        kept.append(int(probabilities.argmax()) == best)
    return ShiftCurve(name, f"probability of {subject.network.classes[best]}", tuple(values), tuple(kept))


def _masks(name: str, subject: Subject, shifts: tuple[int, ...], axis: Axis) -> ShiftCurve:
    in_place = _dense(subject, 0, axis)["logits"].argmax(1)[0]
    dimension, values = 1 if axis == "x" else 0, []
    length = in_place.shape[dimension]
    for step in shifts:
        mask = _dense(subject, step, axis)["logits"].argmax(1)[0]
        both = length - abs(step)
        own = in_place.narrow(dimension, max(0, -step), both)
        back = mask.narrow(dimension, max(0, step), both)
        values.append(float((own == back).double().mean()))
    return ShiftCurve(name, "share of pixels with the same class", tuple(values), None)


def _boxes(name: str, subject: Subject, shifts: tuple[int, ...], axis: Axis) -> ShiftCurve:
    first = _found(subject, 0, axis)
    if not len(first):
        raise UsageError(
            f"shift of {name}", "it finds nothing in the picture", "give a picture in which it finds a box"
        )
    label = int(first.labels[0])
    values = []
    for step in shifts:
        expected = _moved_boxes(torch.from_numpy(first.boxes[:1].copy()), step, axis, first.size).numpy()
        found = _found(subject, step, axis)
        values.append(_best_overlap(expected, found.boxes[found.labels == label]))
    measure = f"best IoU with the box of {first.classes[label]} ({first.scores[0]:.2f})"
    return ShiftCurve(name, measure, tuple(values), tuple(value >= _HIT for value in values))


def _found(subject: Subject, step: int, axis: Axis) -> Detections:
    """The boxes in the moved picture, in pixels of the input."""
    arrays = {name: tensor.cpu().numpy() for name, tensor in _dense(subject, step, axis).items()}
    network, size = subject.network, (subject.images.shape[2], subject.images.shape[3])
    settings = {
        name: getattr(network.config, name) for name in ("score_threshold", "nms_threshold", "detections")
    }
    options = detection.result_options(network.classes, settings)
    return detection.results(arrays, ["picture"], [Geometry(size, size)], options)[0]


def _best_overlap(box: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    if not len(others):
        return 0.0
    return float(pairwise_iou(torch.from_numpy(box), torch.from_numpy(others)).max())
