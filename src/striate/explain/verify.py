"""Whether the arithmetic holds: one random number of every call, recomputed and compared."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from torch import Tensor, nn

from striate.explain.arithmetic import Checked, checked, whole_module
from striate.explain.arithmetics._explained import Element, Position, Unexplained, number
from striate.explain.recording import RecordedCall, Recording, record

__all__ = ["NotExplained", "Verification", "verify", "verify_recording"]

_HELD = 1 << 30  # bytes of values at a time


@dataclass(frozen=True, slots=True)
class NotExplained:
    """An operation that was not recomputed."""

    call: str
    operation: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """What was recomputed of one pass, and whether it agreed."""

    network: str
    calls: int  # with a number that was recomputed
    counts: dict[str, int]  # numbers recomputed of each kind of operation
    worst: Checked | None  # of the largest difference as a share of what is allowed
    disagreeing: tuple[Checked, ...]
    not_explained: tuple[NotExplained, ...]

    @property
    def ok(self) -> bool:
        """Whether something was recomputed and all of it agreed."""
        return bool(self.counts) and not self.disagreeing

    @property
    def worst_share(self) -> float:
        """The largest difference as a share of what is allowed; 0 where nothing was recomputed."""
        return 0.0 if self.worst is None else _share(self.worst)

    def lines(self) -> Iterator[str]:
        """For people."""
        verdict = (
            "agrees with torch"
            if self.ok
            else "DIFFERS from torch"
            if self.disagreeing
            else "nothing to compare"
        )
        total = sum(self.counts.values())
        yield f"{self.network}: {total} numbers of {self.calls} calls recomputed in float64: {verdict}"
        yield "  " + ", ".join(f"{kind} {count}" for kind, count in sorted(self.counts.items()))
        if self.worst is not None:
            share = 100 * self.worst_share
            yield f"  largest difference: {share:.3g}% of what is allowed, in {self.worst.call}"
        for each in self.disagreeing[:10]:
            ours, torchs = number(each.explained.value), number(each.torch_value)
            yield f"  {each.call}: {each.explained.operation} gives {ours}, torch {torchs}"
        for reason, calls in self._reasons().items():
            more = f" and {len(calls) - 3} more" if len(calls) > 3 else ""
            yield f"  not explained: {', '.join(calls[:3])}{more}: {reason}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "network": self.network,
            "ok": self.ok,
            "calls": self.calls,
            "counts": dict(self.counts),
            "worst": None if self.worst is None else self.worst.to_dict(),
            "disagreeing": [each.to_dict() for each in self.disagreeing],
            "not_explained": [
                {"call": each.call, "operation": each.operation, "reason": each.reason}
                for each in self.not_explained
            ],
        }

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"

    def _reasons(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for each in self.not_explained:
            found.setdefault(each.reason, []).append(each.call)
        return found


def verify(module: nn.Module, images: Tensor, seed: int = 0, **extras: Tensor) -> Verification:
    """One random number of every call of `module` over `images`, recomputed in float64 and compared.

    Of a large network a part of the calls is held at a time, about a gigabyte, in as many passes as that
    takes. Raises UsageError where the pass itself fails.
    """
    chance = np.random.default_rng(seed)
    everything: dict[str, Any] = dict(extras)
    calls = record(module, images, **everything).whole().calls
    found: list[Checked] = []
    refused: list[NotExplained] = []
    name = ""
    for names in _parts(calls):
        part = record(module, images, wanted=names.__contains__, **everything)
        _check([call for call in part.calls if call.name in names], chance, found, refused)
        name = part.name
    return _verification(name or type(module).__name__, found, refused)


def verify_recording(recording: Recording, seed: int = 0) -> Verification:
    """The same of a pass that is recorded: of the calls whose values it kept, with the weights as they are.

    Of a module of several operations one number of each operation is taken, which `seed` chooses.
    """
    found: list[Checked] = []
    refused: list[NotExplained] = []
    _check(recording.whole().calls, np.random.default_rng(seed), found, refused)
    return _verification(recording.name, found, refused)


def _parts(calls: Sequence[RecordedCall]) -> Iterator[set[str]]:
    """The names of the calls, in parts whose values fit into `_HELD`."""
    names: set[str] = set()
    held = 0
    for call in calls:
        shapes = (*call.input_shapes, call.output_shape or ())
        size = 4 * sum(prod(shape) for shape in shapes)
        if names and held + size > _HELD:
            yield names
            names, held = set(), 0
        names.add(call.name)
        held += size
    if names:
        yield names


def _check(
    calls: Sequence[RecordedCall],
    chance: np.random.Generator,
    found: list[Checked],
    refused: list[NotExplained],
) -> None:
    """Add to `found` what was recomputed of `calls`, and to `refused` what was not."""
    for call in calls:
        for operation, each in _checks(call, chance):
            if isinstance(each, Checked):
                found.append(each)
            else:
                refused.append(NotExplained(call.name, operation, each.reason))


def _verification(name: str, found: Sequence[Checked], refused: Sequence[NotExplained]) -> Verification:
    counts: dict[str, int] = {}
    for each in found:
        counts[each.explained.operation] = counts.get(each.explained.operation, 0) + 1
    return Verification(
        network=name,
        calls=len({each.call for each in found}),
        counts=counts,
        worst=max(found, key=_share, default=None),
        disagreeing=tuple(each for each in found if not each.ok),
        not_explained=tuple(refused),
    )


def _checks(call: RecordedCall, chance: np.random.Generator) -> Iterator[tuple[str, Checked | Unexplained]]:
    """Each operation of `call`, or the whole where that is understood, with one number of it recomputed."""
    output = call.output
    if output is not None and output.numel() and (whole := whole_module(call, _any(output, chance))):
        yield call.kind, whole
        return
    for performed in call.performed:
        if performed.outputs[0].numel():
            element = Element(performed, _any(performed.outputs[0], chance))
            yield performed.name, checked(call.name, element)


def _any(output: Tensor, chance: np.random.Generator) -> Position:
    return tuple(int(chance.integers(length)) for length in output.shape)


def _share(each: Checked) -> float:
    return 0.0 if each.explained.value == each.torch_value else each.difference / each.tolerance
