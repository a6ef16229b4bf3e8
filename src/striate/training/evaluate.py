"""Measuring a network on a part of the data."""

import math
import time
from contextlib import closing
from dataclasses import dataclass
from types import ModuleType

import torch

from striate.data.loader import EvalLoader
from striate.errors import NotFiniteError
from striate.models.network import Network
from striate.ops.device import exact_float32
from striate.training.interruption import Stop
from striate.training.ledger import CALMER

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a part of the data says about a network."""

    metrics: dict[str, float]
    loss: float  # mean over the pictures, by weight
    seconds: float


@torch.inference_mode()
def evaluate(
    network: Network, task: ModuleType, loader: EvalLoader, device: torch.device, stop: Stop, where: str
) -> Evaluation | None:
    """The metrics of `task` and the loss of `network` over `loader`, in float32; None if told to stop.

    It is the float32 of `predict`: `exact_float32`. `network` is in eval mode meanwhile and afterwards in
    the mode that it came in. Raises NotFiniteError naming `where` if the loss becomes NaN or infinite.
    """
    started, was_training = time.perf_counter(), network.training
    options, metric = task.ResultOptions(network.classes), task.metric(network.classes)
    total, weight, done = 0.0, 0.0, 0
    network.eval()
    try:
        with exact_float32(device), closing(iter(loader)) as batches:
            for batch in batches:
                if stop:
                    return None
                here = batch.map(lambda tensor: tensor.to(device, non_blocking=True))
                raw = network(here.images, **here.extras)
                share = float(here.targets.weight.sum())
                total += share * sum(float(term) for term in network.loss(raw, here.targets).values())
                if not math.isfinite(total):
                    raise NotFiniteError(where, f"the loss on the val part is {total}", CALMER)
                weight += share
                dense = {name: tensor.cpu().numpy() for name, tensor in network.decode(raw).items()}
                results = task.results(dense, batch.keys, batch.geometry, options)
                metric.update(results, loader.truths[done : done + len(batch)].tolist())
                done += len(batch)
    finally:
        network.train(was_training)
    return Evaluation(dict(metric.compute().values), total / weight, time.perf_counter() - started)
