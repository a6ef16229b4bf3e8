"""Why a number of a network is what it is: the sum behind it, and what is done with that sum.

`arithmetic(recording, "layer1.0.conv1", channel, y, x)` recomputes one number of a call in float64 from the
values that went in, and then the normalisation and the activation behind it, each beside torch's own.
"""

import dataclasses
import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from striate import plugins
from striate.errors import UsageError
from striate.explain import arithmetics
from striate.explain.arithmetic_text import lines_of
from striate.explain.arithmetics._explained import (
    Element,
    Explained,
    Position,
    Rule,
    Source,
    Unexplained,
    WindowSum,
)
from striate.explain.arithmetics._padding import is_padding, padding_of
from striate.explain.recording import Performed, RecordedCall, Recording

__all__ = [
    "RELATIVE_TOLERANCE",
    "Arithmetic",
    "Checked",
    "arithmetic",
    "checked",
    "tolerance_of",
    "whole_module",
]

RELATIVE_TOLERANCE = 1e-5
"""Of the largest output of the operation in size: how far torch's float32 may be from float64."""

_ROUNDINGS = (
    4  # of float32, of all that is added up without signs: where a sum cancels, more is lost than shows
)

ModuleRule = Callable[[Any, Tensor, Position], Explained]

_FILES = [plugins.load(arithmetics, name) for name in plugins.names(arithmetics)]
_RULES: dict[str, Rule] = {name: rule for file in _FILES for name, rule in file.RULES.items()}
_MODULE_RULES: dict[type, ModuleRule] = {
    kind: rule for file in _FILES for kind, rule in getattr(file, "MODULES", {}).items()
}


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """One step recomputed, beside what torch had made of it."""

    call: str
    explained: Explained
    torch_value: float
    tolerance: float

    @property
    def difference(self) -> float:
        """Between the two, without sign."""
        return abs(self.explained.value - self.torch_value)

    @property
    def ok(self) -> bool:
        """Whether they agree."""
        return self.difference <= self.tolerance or self.explained.value == self.torch_value

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "call": self.call,
            **self.explained.to_dict(),
            "torch": self.torch_value,
            "difference": self.difference,
            "tolerance": self.tolerance,
            "ok": self.ok,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Arithmetic:
    """One number of a call: the steps that make it, then those that normalise and activate it."""

    network: str
    call: str
    kind: str  # the module's class, or "function"
    shape: tuple[int, ...]  # of the call's output, without the batch axis
    position: tuple[int, ...]  # in it: (channel, row, column) of a map
    torch_value: float
    steps: tuple[Checked, ...]  # within the call; the last gives the number
    following: tuple[Checked, ...]
    sources: tuple[str, ...] = ()  # the calls that its inputs are from
    not_explained: str = ""  # the reason, where there are no steps

    @property
    def value(self) -> float | None:
        """The number recomputed in float64; None where it is not explained."""
        return self.steps[-1].explained.value if self.steps else None

    @property
    def window(self) -> WindowSum | None:
        """The window of the sum, where there is one."""
        found = [step.explained.window for step in self.steps]
        return next((window for window in found if isinstance(window, WindowSum)), None)

    @property
    def ok(self) -> bool:
        """Whether it is explained, and every step agrees with torch."""
        return bool(self.steps) and all(step.ok for step in (*self.steps, *self.following))

    def lines(self, width: int = 80) -> Iterator[str]:
        """For people, in at most `width` characters where numbers allow."""
        return lines_of(self, width)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `explain --json`."""
        return {
            "network": self.network,
            "call": self.call,
            "type": self.kind,
            "shape": list(self.shape),
            "position": list(self.position),
            "value": self.value,
            "torch": self.torch_value,
            "ok": self.ok,
            "sources": list(self.sources),
            "not_explained": self.not_explained or None,
            "steps": [step.to_dict() for step in self.steps],
            "following": [step.to_dict() for step in self.following],
        }

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def arithmetic(recording: Recording, call: str, *position: int, picture: int = 0) -> Arithmetic:
    """How the number at `position` of `call` is made: (channel, row, column) of a map, (feature,) of a row.

    The call must have been recorded with its values. What has no rule is said to be not explained, and why.
    Raises UsageError for a position outside with the ranges, UnknownName for a call that is not there.
    """
    recorded = recording[call]
    if recorded.output is None:
        raise UsageError(
            recorded.name,
            "its values were not kept",
            f"record it: wanted=lambda name: name == {recorded.name!r}",
        )
    place = _checked_position(recorded, recorded.output, (picture, *position))
    steps = _steps(recorded, place)
    following: list[Checked] = []
    if not isinstance(steps, Unexplained):
        for follower in recording.following(recorded):
            found = _steps(follower, place)
            if isinstance(found, Unexplained):
                break
            following += found
    reason = steps.reason if isinstance(steps, Unexplained) else ""
    return Arithmetic(
        network=recording.name,
        call=recorded.name,
        kind=recorded.kind,
        shape=tuple(recorded.output.shape[1:]),
        position=position,
        torch_value=float(recorded.output[place]),
        steps=() if isinstance(steps, Unexplained) else tuple(steps),
        following=tuple(following),
        sources=_sources(recorded, steps),
        not_explained=reason,
    )


def checked(call: str, element: Element) -> Checked | Unexplained:
    """How an operation of `call` made `element`, beside torch's value."""
    output = element.performed.outputs[element.output]
    rule = _RULES.get(element.performed.name)
    if rule is None:
        return Unexplained(f"no rule for {element.performed.name.strip('_')}")
    explained = rule(element)
    if isinstance(explained, Unexplained):
        return explained
    allowed = tolerance_of(output, explained.magnitude)
    return Checked(call, explained, float(output[element.position]), allowed)


def whole_module(recorded: RecordedCall, position: Position) -> Checked | None:
    """How a module that is understood as a whole made its number at `position`; None for another."""
    rule = next((rule for kind, rule in _MODULE_RULES.items() if isinstance(recorded.module, kind)), None)
    if rule is None or not recorded.inputs or recorded.output is None:
        return None
    explained = rule(recorded.module, recorded.inputs[0], position)
    output = recorded.output
    allowed = tolerance_of(output, explained.magnitude)
    return Checked(recorded.name, explained, float(output[position]), allowed)


def tolerance_of(output: Tensor, magnitude: float) -> float:
    """How far a number of `output` may be from its recomputation in float64.

    magnitude: of all that it is the sum of, without signs.
    """
    is_whole = not output.is_floating_point()
    sizes = (output.detach().double() if is_whole else output.detach()).abs()
    largest = float(torch.where(sizes.isfinite(), sizes, 0).amax()) if output.numel() else 0.0
    # What has fewer bits than float32 cannot hold it as well.
    rounding = torch.finfo(torch.float32 if is_whole else output.dtype).eps
    relative = max(RELATIVE_TOLERANCE, _ROUNDINGS * rounding)
    return max(relative * largest, _ROUNDINGS * rounding * magnitude) + torch.finfo(torch.float32).tiny


def _steps(recorded: RecordedCall, position: Position) -> list[Checked] | Unexplained:
    """The steps in `recorded` that lead to the number at `position`, the last of them giving it."""
    if (whole := whole_module(recorded, position)) is not None:
        return [whole]
    source: Source | None = Source(recorded.output, position) if recorded.output is not None else None
    steps: list[Checked] = []
    reason = Unexplained("it gives its input as it came")
    while source is not None and (made := _maker(recorded, source.tensor)) is not None:
        found = checked(recorded.name, Element(made[0], source.position, made[1]))
        if isinstance(found, Unexplained):
            reason = found
            break
        steps.insert(0, _before_padding(recorded, found))
        source = found.explained.source
    return steps or reason


def _sources(recorded: RecordedCall, steps: Sequence[Checked] | Unexplained) -> tuple[str, ...]:
    """The calls that the inputs of `recorded` are from, or the one that this number is from."""
    source = None if isinstance(steps, Unexplained) else steps[0].explained.source
    for tensor, name in zip(recorded.inputs or (), recorded.sources, strict=True):
        if source is not None and tensor is source.tensor:
            return (name,) if name else ()
    return tuple(name for name in recorded.sources if name)


def _maker(recorded: RecordedCall, tensor: Tensor) -> tuple[Performed, int] | None:
    """The operation of `recorded` that gave `tensor`, and as which of its outputs."""
    for performed in reversed(recorded.performed):
        for place, output in enumerate(performed.outputs):
            if output is tensor:
                return performed, place
    return None


def _before_padding(recorded: RecordedCall, found: Checked) -> Checked:
    """`found` with its window on the input of the call, where the call padded that first."""
    window = found.explained.window
    if not isinstance(window, WindowSum) or window.slides is None:
        return found
    made = _maker(recorded, window.slides)
    if made is None or not is_padding(made[0]):
        return found
    padding = padding_of(made[0])
    axes = range(window.slides.ndim - len(window.places), window.slides.ndim)
    moved = dataclasses.replace(
        window,
        places=tuple(
            tuple(place - padding.before[axis] for place in places)
            for axis, places in zip(axes, window.places, strict=True)
        ),
        # Cells beyond the padded tensor are padded by the convolution itself, with zeros.
        origins=tuple(
            tuple(None if origin is None else padding.origin(axis, origin) for origin in origins)
            for axis, origins in zip(axes, window.origins, strict=True)
        ),
        padding=padding.mode,
        slides=padding.tensor,
    )
    return dataclasses.replace(found, explained=dataclasses.replace(found.explained, window=moved))


def _checked_position(recorded: RecordedCall, output: Tensor, position: Position) -> Position:
    shape = tuple(output.shape)
    if len(position) == len(shape) and all(
        0 <= place < length for place, length in zip(position, shape, strict=True)
    ):
        return position
    names = {2: ("channel",), 3: ("channel", "place"), 4: ("channel", "row", "column")}.get(
        len(shape), tuple(f"axis {axis}" for axis in range(1, len(shape)))
    )
    ranges = ", ".join(f"{name} 0 to {length - 1}" for name, length in zip(names, shape[1:], strict=False))
    if len(position) and len(shape) and position[0] >= shape[0]:
        ranges = f"picture 0 to {shape[0] - 1}, {ranges}"
    raise UsageError(
        recorded.name, f"it has no number at {_spelled(position[1:])}", f"choose {ranges or 'no position'}"
    )


def _spelled(position: Sequence[int]) -> str:
    return f"({', '.join(map(str, position))})"
