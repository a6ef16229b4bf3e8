"""How long an epoch will take, from a few steps on a copy."""

import copy
import time
from itertools import islice

import torch
from torch import nn

from striate.data.loader import TrainLoader
from striate.models.network import Network
from striate.ops.device import choose_device
from striate.training.config import TrainingConfig
from striate.training.device import autocast, choose_memory, choose_precision, choose_threads, threads
from striate.training.fit import Step

__all__ = ["seconds_per_step"]

_STEPS = 3


def seconds_per_step(network: Network, loader: TrainLoader, config: TrainingConfig) -> float:
    """Seconds that a forward and backward pass on one batch takes, loading included; the fastest of three.

    Works on a copy: `network`, its gradients and torch's random state stay as they are.
    """
    device = choose_device(config.device)
    choose_memory(config.keep_memory, device)
    step = Step(copy.deepcopy(network).to(device, memory_format=torch.channels_last).train())  # type: ignore[call-overload]
    precision, seconds = choose_precision(config.precision, device), []
    count = choose_threads(config.threads, network, config.batch_size)
    with torch.random.fork_rng(enabled=True), threads(count):
        started = time.perf_counter()
        for batch in islice(loader.epoch(0), _STEPS):
            with autocast(device, precision):
                loss = sum(step(batch.map(lambda tensor: tensor.to(device))).values())
            loss.backward()
            _finish(device, step)
            seconds.append(time.perf_counter() - started)
            started = time.perf_counter()
    return min(seconds)


def _finish(device: torch.device, step: nn.Module) -> None:
    """Wait for the accelerator, and forget the gradients."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    step.zero_grad(set_to_none=True)
