"""How long it takes to say why a number of a large network is what it is, and how near that comes to torch.

Usage: python benchmarks/arithmetic.py [--network resnet152] [--size 224] [--rounds 3]
       [--out benchmarks/results/arithmetic.json]

The network of torchvision has random weights and sees random pixels. One pass is recorded with all values.
`element`: the arithmetic of one random number of every call, with the normalisation and activation behind it;
milliseconds, one after the other, the first included. `record` and `verify`: seconds of the recorded pass and
of recomputing one number of every operation. `share`: the largest difference from torch as a share of what is
allowed, which is 1e-5 of the largest output of the call.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from startup import machine

from striate.explain.arithmetic import arithmetic
from striate.explain.recording import Recording, record
from striate.explain.verify import verify_recording

GOAL_MS = 50.0


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--network", default="resnet152")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "arithmetic.json")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = torchvision.models.get_model(options.network, weights=None).eval()
    images = torch.rand(1, 3, options.size, options.size)
    seconds: dict[str, list[float]] = {"record": [], "verify": []}
    elements: list[float] = []
    shares: list[float] = []
    recording = record(network, images, wanted=lambda _: True)
    for seed in range(options.rounds):
        elements += element_times(recording, seed)
        seconds["record"].append(timed(lambda: record(network, images, wanted=lambda _: True)))
        started = time.perf_counter()
        found = verify_recording(recording, seed)
        seconds["verify"].append(time.perf_counter() - started)
        if not found.ok:
            raise SystemExit(repr(found))
        shares.append(found.worst_share)
    result = {
        "what": (__doc__ or "").partition("\n")[0],
        "network": options.network,
        "size": options.size,
        "machine": machine() | {"threads": torch.get_num_threads(), "torch": version("torch")},
        "calls": len(recording.calls),
        "element_ms": {"n": len(elements), "goal": GOAL_MS} | spread([1000 * each for each in elements]),
        **{name: {"n": options.rounds} | spread(times) for name, times in seconds.items()},
        "share": max(shares),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def element_times(recording: Recording, seed: int) -> list[float]:
    """Seconds for one random number of each call that can be explained."""
    chance = np.random.default_rng(seed)
    times = []
    for call in recording.calls:
        position = [int(chance.integers(length)) for length in (call.output_shape or ())[1:]]
        times.append(timed(lambda name=call.name, at=position: arithmetic(recording, name, *at)))  # type: ignore[misc]
    return times


def timed(perform: Callable[[], Any]) -> float:
    """Wall clock of one call."""
    started = time.perf_counter()
    perform()
    return time.perf_counter() - started


def spread(values: list[float]) -> dict[str, float]:
    """Smallest, median, 95th percentile and largest."""
    ordered = sorted(values)
    return {
        "min": round(ordered[0], 3),
        "median": round(statistics.median(ordered), 3),
        "p95": round(float(np.quantile(ordered, 0.95)), 3),
        "max": round(ordered[-1], 3),
    }


if __name__ == "__main__":
    main()
