"""Measuring a network on a part of the data."""

import math
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from types import ModuleType
from typing import Any

import msgspec
import torch

from striate.data.loader import EvalLoader
from striate.errors import NotFiniteError
from striate.metrics import Metric
from striate.models.network import Network
from striate.ops.device import exact_float32
from striate.training.interruption import Stop
from striate.training.layout import Layout, moved
from striate.training.ledger import CALMER
from striate.training.processes import Team

__all__ = ["Evaluation", "Place", "evaluate"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a part of the data says about a network."""

    metrics: dict[str, float]
    loss: float  # mean over the pictures, by weight
    seconds: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a network is measured."""

    device: torch.device
    layout: Layout = "channels_last"
    team: Team = Team()  # each of these measures its share of the batches


@torch.inference_mode()
def evaluate(
    network: Network, task: ModuleType, loader: EvalLoader, place: Place, stop: Stop, where: str
) -> Evaluation | None:
    """The metrics of `task` and the loss of `network` over `loader`, in float32; None if told to stop.

    With several processes the scores are those of all their batches, to the last bit what one process
    would find in the same batches.

    It is the float32 of `predict`: `exact_float32`. `network` is in eval mode meanwhile and afterwards in
    the mode that it came in. Raises NotFiniteError naming `where` if the loss becomes NaN or infinite.
    """
    started, was_training = time.perf_counter(), network.training
    options = task.result_options(network.classes, msgspec.to_builtins(network.config))
    metric = task.metric(network.classes)
    parts: list[tuple[int, float, float]] = []  # of each batch: where it begins, its loss, its weight
    network.eval()
    try:
        with exact_float32(place.device), closing(iter(loader)) as batches:
            for start, batch, truths in batches:
                if stop:
                    break
                here = moved(batch, place.device, place.layout)
                raw = network(here.images, **here.extras)
                loss = sum(float(term) for term in network.loss(raw, here.targets).values())
                if not math.isfinite(loss):
                    raise NotFiniteError(where, f"the loss on the val part is {loss}", CALMER)
                parts.append((start, loss, float(here.targets.weight.sum())))
                dense = {name: tensor.cpu().numpy() for name, tensor in network.decode(raw).items()}
                results = task.results(dense, batch.keys, batch.geometry, options)
                metric.update(results, truths)
    finally:
        network.train(was_training)
    if stop.agree(place.team):
        return None
    loss = _merged(metric, parts, place.team)
    return Evaluation(dict(metric.compute().values), loss, time.perf_counter() - started)


def _merged(metric: Metric[Any, Any, Any], parts: list[tuple[int, float, float]], team: Team) -> float:
    """The mean loss over all processes' batches, by weight; `metric` counts theirs too."""
    found = team.gather((metric.state(), parts))
    for rank, (state, _) in enumerate(found):
        if rank != team.rank:
            metric.merge(state)
    total = weight = 0.0
    # In the order of the data: a sum of floats depends on it.
    for _, loss, share in sorted(chain.from_iterable(parts for _, parts in found)):
        total += share * loss
        weight += share
    return total / weight if weight else 0.0
