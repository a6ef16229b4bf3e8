"""One training: how good the network is, and what it costs."""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import striate
from striate.ops.device import choose_device
from striate.training.device import choose_precision, describe
from striate.training.events import Event, StepEvent

__all__ = ["trained"]


def trained(data: str | Path, **options: Any) -> tuple[Mapping[str, float], dict[str, Any]]:
    """The measures and the costs of a network trained on `data` with `options` of `striate.train`."""
    steps = list[StepEvent]()

    def note(event: Event) -> None:
        if isinstance(event, StepEvent):
            steps.append(event)

    with tempfile.TemporaryDirectory() as folder:
        run = striate.train(data, out=Path(folder) / "run", on_event=note, **options)
        cost = striate.summary(run.folder)
    device = choose_device("auto")
    return run.metrics, {
        "input": list(cost.input_shape),
        "parameters": cost.parameters,
        "macs": cost.macs,
        "images_per_second": round(speed(steps), 1),
        "seconds": round(run.seconds, 1),
        "device": describe(device, choose_precision("auto", device), torch.get_num_threads()),
    }


def speed(steps: Sequence[StepEvent]) -> float:
    """The median images a second over the steps of the last epoch, but its last one: that may be smaller."""
    last = [step.images_per_second for step in steps if step.epoch == steps[-1].epoch]
    return statistics.median(last[:-1] or last)
