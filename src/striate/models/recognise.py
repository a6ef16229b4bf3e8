"""Which networks a bare state dict may be of, told by the shapes of its tensors."""

from collections import Counter
from dataclasses import dataclass
from functools import cache

import msgspec

from striate.models import family_of, variants
from striate.models.convert import StateDict, is_counter
from striate.models.unweighted import unweighted

__all__ = ["Candidate", "candidates"]

Shape = tuple[int, ...]

_CLASSES = 167
"""Outputs that tell the last layer from the others: a prime that no other layer has as a size."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network and how well tensors fit it."""

    model: str
    share: float  # of tensors that have a counterpart of the same shape, of the larger of both sets
    exact: bool  # each has one; the last layer may have any number of outputs, or be absent


@dataclass(frozen=True, slots=True)
class _Places:
    """The shapes that a network has room for."""

    body: Counter[Shape]
    last: tuple[Shape, ...]  # of the last layer, with _CLASSES where its outputs are counted


def candidates(weights: StateDict) -> list[Candidate]:
    """Every network here, that which the shapes of `weights` fit best first.

    Names, order and batch norm's counters play no part. Takes a few seconds once: each network is built,
    without memory for its weights.
    """
    shapes = Counter(tuple(tensor.shape) for tensor in weights.values() if not is_counter(tensor))
    found = [_candidate(model, _places(model), shapes) for model in variants()]
    return sorted(found, key=lambda candidate: (-candidate.exact, -candidate.share))


def _candidate(model: str, places: _Places, shapes: Counter[Shape]) -> Candidate:
    left = shapes - places.body
    last = _last_layer(places.last, left)
    fitting = (shapes & places.body).total() + last.total()
    wanted = places.body.total() + len(places.last)
    exact = not (places.body - shapes or left - last)
    return Candidate(model, fitting / max(wanted, shapes.total()), exact)


def _last_layer(patterns: tuple[Shape, ...], shapes: Counter[Shape]) -> Counter[Shape]:
    """Those of `shapes` that are the last layer, whatever the number of its outputs; empty if none is."""
    for outputs in {size for shape in shapes for size in shape}:
        layer = Counter(tuple(outputs if size == _CLASSES else size for size in shape) for shape in patterns)
        if layer <= shapes:
            return layer
    return Counter()


@cache
def _places(model: str) -> _Places:
    family = family_of(model)
    with unweighted():
        network = family.build(msgspec.structs.replace(family.VARIANTS[model], classes=_CLASSES))
    shapes = [tuple(tensor.shape) for tensor in network.state_dict().values() if not is_counter(tensor)]
    return _Places(
        body=Counter(shape for shape in shapes if _CLASSES not in shape),
        last=tuple(shape for shape in shapes if _CLASSES in shape),
    )
