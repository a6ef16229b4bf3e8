"""Weights published elsewhere, under the names and shapes of a network here.

Reads no file: the caller loads with `weights_only=True` and writes the result.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from types import ModuleType
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from striate.errors import ModelError, UnknownName, UsageError
from striate.models import create, family_of
from striate.models.network import Network
from striate.models.unweighted import unweighted

__all__ = [
    "Conversion",
    "KeyReport",
    "Match",
    "StateDict",
    "changing_shapes",
    "compare",
    "convert",
    "convert_state_dict",
    "is_counter",
    "sources",
    "tensors_of",
]

SAME_NAMES = "striate"
"""The source whose names are those used here."""

IN_ORDER = "order"
"""The source of tensors that were matched by their order."""

_WRAPPERS = ("state_dict", "model_state_dict", "model")  # entries of a checkpoint that hold the weights
_PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before each name
_COUNTER = ".num_batches_tracked"

StateDict = Mapping[str, Tensor]
Names = tuple[str, ...]
Build = Callable[[int | None], Network]
Match = Literal["name", "order"]


@dataclass(frozen=True, slots=True)
class KeyReport:
    """How the tensors of a state dict fit a network, by the network's names."""

    source: str  # whose names it has: "torchvision", "striate" for the same as here; "order": not by name
    matched: Names  # same name, same shape
    missing: Names  # the network needs it
    unexpected: Names  # the network has no place for it
    wrong_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]  # name, shape there, shape here
    # Batch norm's counters, started at 0: files older than torch 0.4.1 lack them, and no output uses them.
    filled: Names = ()
    renamed: tuple[tuple[str, str], ...] = ()  # name there, name here, of each matched tensor
    untrained: Names = ()  # the last layer, started at 0: a file matched by order may end before it

    @property
    def fits(self) -> bool:
        """Whether every tensor has its place and every place its tensor."""
        return not (self.missing or self.unexpected or self.wrong_shape)

    @property
    def summary(self) -> str:
        """One line: how many tensors fit, and the first few that do not."""
        wrong = [f"{name} is {there}, needs {here}" for name, there, here in self.wrong_shape]
        problems = {"missing": self.missing, "unexpected": self.unexpected, "wrong shape": tuple(wrong)}
        by = "their order" if self.source == IN_ORDER else f"the names of {self.source}"
        parts = [f"{len(self.matched)} tensors fit by {by}"]
        parts += [f"{len(names)} {kind} ({_first(names)})" for kind, names in problems.items() if names]
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted state dict (only the tensors that fit) with its report and number of classes."""

    state_dict: dict[str, Tensor]
    report: KeyReport
    classes: int


def convert_state_dict(
    state_dict: Mapping[str, Any],
    model: str,
    source: str | None = None,
    classes: int | None = None,
    config: Mapping[str, Any] | None = None,
    match: Match = "name",
) -> dict[str, Tensor]:
    """The weights of `state_dict` under the names of the network `model`, complete.

    Arguments and errors as `convert`; raises ModelError also where a single tensor does not fit.
    """
    conversion = convert(state_dict, model, source, classes, config, match)
    if not conversion.report.fits:
        raise ModelError(
            f"weights for {model}",
            conversion.report.summary,
            "name the network they belong to, with the settings that they were trained with",
        )
    return conversion.state_dict


def convert(
    state_dict: Mapping[str, Any],
    model: str,
    source: str | None = None,
    classes: int | None = None,
    config: Mapping[str, Any] | None = None,
    match: Match = "name",
) -> Conversion:
    """The tensors of `state_dict` that fit the network `model`, and a report on all of them.

    `state_dict` may be a whole checkpoint with the weights inside. `source` says whose names it has
    (one of `sources(model)`); None takes the one by which most tensors fit. `classes` None reads their
    number off the last layer. `config` are further settings of the family (`{"shortcut": "B"}`).
    Floating tensors take the network's precision. `match` "order" takes the tensors as they come and asks
    for the shape of every one; only the last layer may be absent. Raises UnknownName for a model or source,
    UsageError for a source beside "order", ModelError where no tensor fits, or the first not in order.
    """
    family = family_of(model)
    if match not in get_args(Match):
        raise UnknownName("match", match, get_args(Match))
    if match == "order":
        if source is not None:
            raise UsageError(f"source {source}", "matching by order reads no names", "leave one of them out")
        return _in_order(tensors_of(state_dict, f"weights for {model}"), model, dict(config or {}), classes)
    if source is not None and source not in sources(model):
        raise UnknownName("source", source, sources(model))
    weights = tensors_of(state_dict, f"weights for {model}")
    candidates = [source] if source is not None else list(sources(model))
    build = cache(partial(_network, model, dict(config or {})))
    renamed = {name: _renamed(family, name, weights) for name in candidates}
    found = [_conversion(renamed[name], name, build, classes) for name in candidates]
    best = max(found, key=lambda conversion: len(conversion.report.matched))  # the first of equals
    if not best.report.matched:
        raise ModelError(
            f"weights for {model}",
            f"no tensor fits {model}: they hold {_first(weights) or 'nothing'}",
            "name the network that they belong to",
        )
    pairs = _key_map(weights, renamed[best.report.source], best.report.matched)
    return replace(best, report=replace(best.report, renamed=pairs))


def _key_map(there: StateDict, here: StateDict, matched: Names) -> tuple[tuple[str, str], ...]:
    """The name that each matched tensor had; tensors are told apart by identity."""
    names = {id(tensor): name for name, tensor in there.items()}
    return tuple((names.get(id(here[name]), name), name) for name in matched)


def sources(model: str) -> Names:
    """Whose published weights the network `model` can take; the first means the names used here."""
    functions = {name for name in vars(family_of(model)) if name.startswith("from_")} - {"from_backbone"}
    return (SAME_NAMES, *sorted(name.removeprefix("from_") for name in functions))


def _network(model: str, config: Mapping[str, Any], classes: int | None) -> Network:
    """The network with no weight allocated: only names and shapes are wanted of it."""
    with unweighted():
        return create(model, classes, **config)


def tensors_of(checkpoint: object, where: object) -> StateDict:
    """The tensors of a checkpoint by name, without the wrapping of trainers and prefixes.

    Raises ModelError, naming `where`, for anything else.
    """
    if not isinstance(checkpoint, Mapping):
        raise _not_a_state_dict(where, f"this is {type(checkpoint).__name__}")
    for wrapper in _WRAPPERS:
        if isinstance(checkpoint.get(wrapper), Mapping):
            return tensors_of(checkpoint[wrapper], where)
    for name, value in checkpoint.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise _not_a_state_dict(where, f"entry {name!r} is {type(value).__name__}, not a tensor")
    weights = dict(cast(StateDict, checkpoint))
    while prefix := next((p for p in _PREFIXES if weights and all(n.startswith(p) for n in weights)), None):
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def is_counter(tensor: Tensor) -> bool:
    """Whether it is one of batch norm's counters, whatever its name: a whole number without axes."""
    return tensor.ndim == 0 and not tensor.is_floating_point()


def _not_a_state_dict(where: object, what: str) -> ModelError:
    return ModelError(where, what, "give a state dict: names and tensors")


def _in_order(weights: StateDict, model: str, config: Mapping[str, Any], classes: int | None) -> Conversion:
    """The tensors of `weights` under the names that stand at their places in the network's state dict."""
    build = cache(partial(_network, model, config))
    counted = any(map(is_counter, weights.values()))
    places = [name for name, tensor in build(None).state_dict().items() if counted or not is_counter(tensor)]
    pairs = tuple(zip(weights, places, strict=False))
    conversion = _conversion({here: weights[there] for there, here in pairs}, IN_ORDER, build, classes)
    report = replace(conversion.report, renamed=pairs, unexpected=tuple(weights)[len(places) :])
    last = {name for name, _ in changing_shapes(build(3).state_dict(), build(5).state_dict())}
    if report.missing and last.issuperset(report.missing):
        report = replace(report, missing=(), untrained=report.missing)
    if not report.fits:
        raise _out_of_order(report, model, weights)
    expected = build(conversion.classes).state_dict()
    fresh = {name: torch.zeros(expected[name].shape, dtype=expected[name].dtype) for name in report.untrained}
    return replace(conversion, state_dict=conversion.state_dict | fresh, report=report)


def _out_of_order(report: KeyReport, model: str, weights: StateDict) -> ModelError:
    """The error that names the first tensor that does not fit its place."""
    if report.wrong_shape:
        here, found, needed = report.wrong_shape[0]
        there, number = next((a, n) for n, (a, b) in enumerate(report.renamed, 1) if b == here)
        what = f"tensor {number}, {there}, is {found}; {here} of {model} is {needed}"
    elif report.missing:
        what = f"they end after {len(weights)} tensors; {model} goes on with {report.missing[0]}"
    else:
        what = f"{model} ends after {len(report.renamed)} tensors; they go on with {report.unexpected[0]}"
    return ModelError(
        f"weights for {model}", what, "name the network and the classes that they were made for"
    )


def _renamed(family: ModuleType, source: str, weights: StateDict) -> StateDict:
    if source == SAME_NAMES:
        return weights
    rename: Callable[[StateDict], dict[str, Tensor]] = getattr(family, f"from_{source}")
    return rename(weights)


def _conversion(weights: StateDict, source: str, build: Build, classes: int | None) -> Conversion:
    wanted = _class_count(weights, build) if classes is None else classes
    expected = build(wanted).state_dict()
    report = compare(weights, expected, source)
    present = {*report.matched, *report.filled}
    converted = {
        # A copy: the network's own optimiser must not change the caller's tensors.
        name: weights[name].detach().to(tensor.dtype, copy=True).contiguous()
        if name in weights
        else torch.zeros((), dtype=tensor.dtype)
        for name, tensor in expected.items()
        if name in present
    }
    return Conversion(converted, report, wanted)


def compare(weights: StateDict, expected: StateDict, source: str) -> KeyReport:
    """How `weights`, which have the names of `source`, fit the network whose state dict is `expected`."""
    shared = [name for name in expected if name in weights]
    matched = tuple(name for name in shared if weights[name].shape == expected[name].shape)
    absent = [name for name in expected if name not in weights]
    return KeyReport(
        source=source,
        matched=matched,
        missing=tuple(name for name in absent if not name.endswith(_COUNTER)),
        unexpected=tuple(name for name in weights if name not in expected),
        wrong_shape=tuple(
            (name, tuple(weights[name].shape), tuple(expected[name].shape))
            for name in shared
            if weights[name].shape != expected[name].shape
        ),
        filled=tuple(name for name in absent if name.endswith(_COUNTER)),
    )


def _class_count(weights: StateDict, build: Build) -> int:
    """The number of classes that makes the last layer fit; the network's default if none does.

    The last layer is whatever changes its shape with the number of classes. One output is no class
    count: it stands for two classes in a network that is built so.
    """
    three, five = build(3).state_dict(), build(5).state_dict()
    for name, axis in changing_shapes(three, five):
        if name in weights and weights[name].ndim == three[name].ndim:
            outputs, few = weights[name].shape[axis], three[name].shape[axis]
            # A detector's has one or several a class, and some for the background or boxes.
            found: int = 3 + (outputs - few) // ((five[name].shape[axis] - few) // 2)
            possible = outputs > 1 and found >= 1
            if possible and build(found).state_dict()[name].shape == weights[name].shape:
                return found
    return len(build(None).classes)


def changing_shapes(some: StateDict, other: StateDict) -> Iterator[tuple[str, int]]:
    """Name and axis of each tensor whose shape differs between the two."""
    for name in some:
        for axis, (size, other_size) in enumerate(zip(some[name].shape, other[name].shape, strict=True)):
            if size != other_size:
                yield name, axis


def _first(names: Iterable[str], count: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:count]) + (", ..." if len(listed) > count else "")
