"""The layer whose maps a class activation map is made of, and why this one."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from striate.errors import UsageError
from striate.explain._cam_target import Target
from striate.explain._live import LiveCall, LivePass

__all__ = ["chosen_layer"]

_WITHOUT_WEIGHTS = ("Pool", "Dropout", "Flatten", "Upsample", "Pad")
_LONGEST = 8  # times the shorter side of a map
_WEIGHING = ("ConvolutionBackward", "AddmmBackward", "MmBackward", "BmmBackward")


def chosen_layer(
    module: nn.Module, found: LivePass, score: Tensor, target: Target, asked: str | None
) -> tuple[LiveCall, str]:
    """The call `asked`, or the best one for `score`, with the reason. Raises UsageError without a map."""
    if asked is not None:
        call = found.find(asked)
        if not _is_map(call, regions=True):
            raise UsageError(
                call.name, f"its output is {tuple(call.output.shape)}, no map", "choose a layer with maps"
            )
        return call, "as asked"
    # A network that looks at each region by itself has maps of regions only.
    maps = _reached(found, score, regions=False) or _reached(found, score, regions=True)
    if not maps:
        name = getattr(module, "name", "") or type(module).__name__
        raise UsageError(
            f"Grad-CAM of {name}",
            "none of its layers has a map of the picture that the score hangs on",
            "use a network whose convolutions see the whole picture",
        )
    if target.task == "classification":
        return _last_common(maps, score, found.images), "the last map that all of the score goes through"
    # Scores of classes are what is explained.
    maps = [call for call in maps if call.output.shape[1] != target.classes] or maps
    coarsest = min(_cells(call) for call in maps)
    rest = [call for call in maps if _cells(call) == coarsest]
    return _last_common(rest, score, found.images), "the coarsest map that the score hangs on"


def _is_map(call: LiveCall, regions: bool) -> bool:
    """Whether it gives maps (1, C, h, w) of more than one place, or with `regions` of n parts of it."""
    shape = call.output.shape
    if len(shape) != 4 or not (regions or shape[0] == 1):
        return False
    sides = sorted(shape[2:])
    # Far longer than wide: the last axis holds channels.
    return sides[1] > 1 and sides[1] <= _LONGEST * sides[0]


def _cells(call: LiveCall) -> int:
    return call.output.shape[2] * call.output.shape[3]


def _reached(found: LivePass, score: Tensor, regions: bool) -> list[LiveCall]:
    """The maps that `score` hangs on, made with weights and before the last of those; no pooled ones."""
    last, first = _behind_weights(score), _without_weights(found, score)
    kept = [
        call
        for call in found.calls
        if _is_map(call, regions)
        and not any(word in call.kind for word in _WITHOUT_WEIGHTS)
        and call.output.grad_fn not in last
        and call.output.grad_fn not in first
    ]
    if not kept:
        return []
    gradients = torch.autograd.grad(
        score, [call.output for call in kept], retain_graph=True, allow_unused=True
    )
    reached = [(call, own) for call, own in zip(kept, gradients, strict=True) if own is not None]
    # Where the score is at its end, a sigmoid's 1, no gradient is left of any.
    return [call for call, own in reached if own.any()] or [call for call, _ in reached]


def _before(node: Any) -> list[Any]:
    """The operations that gave the inputs of `node`."""
    return [before for before, _ in node.next_functions if before is not None]


def _weighs(node: Any) -> bool:
    return any(node.name().startswith(word) for word in _WEIGHING)


def _backward(score: Tensor, ends: Callable[[Any], bool]) -> Iterator[Any]:
    """The operations that gave `score`, each once; what stands before one that `ends` is not looked at."""
    seen: set[Any] = set()
    waiting = [score.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [] if ends(node) else _before(node)


def _behind_weights(score: Tensor) -> set[Any]:
    """The operations from the last convolutions and linear layers on, those included, to `score`."""
    return set(_backward(score, _weighs))


def _without_weights(found: LivePass, score: Tensor) -> set[Any]:
    """The operations that no convolution or linear layer stands before, between the picture and `score`."""
    weighted: dict[Any, bool | None] = {}  # None: its inputs are being looked at
    waiting = [score.grad_fn, *(call.output.grad_fn for call in found.calls)]
    while waiting:
        node = waiting[-1]
        if node not in weighted:
            weighted[node] = None
            waiting += [before for before in _before(node) if before not in weighted]
            continue
        if weighted[node] is None:
            weighted[node] = _weighs(node) or any(weighted[before] for before in _before(node))
        waiting.pop()
    return {node for node, is_weighted in weighted.items() if not is_weighted}


def _last_common(maps: Sequence[LiveCall], score: Tensor, images: Tensor) -> LiveCall:
    """The last of `maps` without which `score` would not hang on the picture; the last without such."""
    for call in reversed(maps):
        if not _is_reached(score, images, call.output.grad_fn):
            return call
    return maps[-1]


def _is_reached(score: Tensor, images: Tensor, without: Any) -> bool:
    """Whether a way leads from `score` back to `images` past the operation `without`."""
    passed = _backward(score, lambda node: node is without)
    return any(node is not without and getattr(node, "variable", None) is images for node in passed)
