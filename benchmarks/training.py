"""Images a second of a training step: striate's own loop against the plain loop of torch's references.

Usage: python benchmarks/training.py [--cases lenet5 ...] [--out benchmarks/results/training.json]

Each contender is a process of its own, since how memory is allocated is a matter of the whole process; all
are there from the start and take turns, so that a busy moment of the machine hits all of them. A ratio is
the median over the turns of contender / plain loop in float32.

striate: `fit` itself, with its loader, augmentation, loss, optimiser and log, on pictures that its cache
holds. Plain: forward, cross-entropy, backward and SGD as torchvision's references write them, the same
layers, on float32 pictures normalised in advance and lying in memory in the order that they are used in.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from striate import models, tasks
from striate.data.augment import AugmentConfig
from striate.data.dataset import Dataset, Item
from striate.data.storage import ArrayStorage
from striate.models.network import Network
from striate.plugins import load
from striate.training.config import TrainingConfig
from striate.training.device import choose_precision, choose_threads, describe
from striate.training.events import StepEvent
from striate.training.fit import fit
from striate.training.loaders import make_loaders


@dataclass(frozen=True)
class Case:
    """A network, its input and its batch."""

    model: str
    size: int  # side of the input in pixels
    batch: int
    pairs: int  # turns of each contender; more where they are short
    settle: int  # steps of each turn that are not timed; more than the loader has ahead where steps are short
    steps: int  # steps of each turn that are timed
    network: dict[str, Any]
    augment: dict[str, Any]


GRAY = {"color": "gray", "mean": [0.286], "std": [0.353]}
CASES = {
    "lenet5": Case("lenet5", 32, 256, 7, 6, 15, {}, {}),
    "simple_cnn": Case(
        "simple_cnn", 28, 64, 5, 6, 15, {"preprocess": {"size": [28, 28], **GRAY}}, {"flip": 0.5}
    ),
    "resnet20_cifar": Case("resnet20_cifar", 32, 128, 5, 1, 3, {}, {"flip": 0.5, "pad": 4}),
    "resnet18": Case("resnet18", 224, 16, 5, 0, 1, {}, {"flip": 0.5}),
}
CLASSES = 10

Turns = Callable[[Case], Iterator[float]]
"""What a contender reaches in each of its turns: images, or operations, a second."""

BASE = "plain fp32"
SGEMM, BF16 = "float32 product", "bfloat16 product"
RATE: dict[str, Any] = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 1e-4}


def main() -> None:
    """Measure and write; with --contender, be one process of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "training.json")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        serve(CASES[options.cases[0]], CONTENDERS[options.contender])
        return
    result: dict[str, Any] = {"what": __doc__.splitlines()[0], "machine": machine(), "cases": {}}
    options.out.parent.mkdir(exist_ok=True)
    for name in options.cases:
        before = os.getloadavg()[0]
        found = measure(name)
        # The one after has this benchmark's own work in it.
        loads = {"load_average_before": before, "load_average_after": os.getloadavg()[0]}
        result["cases"][name] = {**found, **loads}
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(name: str) -> dict[str, Any]:
    """The figures of one case, all contenders taking turns."""
    case = CASES[name]
    flops = 3 * forward_flops(case)  # of a picture; backward is twice the forward pass
    processes = {contender: start(name, contender) for contender in CONTENDERS}
    try:
        # The first round does not count: kernels are chosen in it, memory is taken.
        rounds = [
            {contender: ask(process) for contender, process in processes.items()}
            for _ in range(case.pairs + 1)
        ][1:]
    finally:
        for process in processes.values():
            process.kill()  # not terminate: training would end its step, then wait for a turn
            process.wait()
    limits = {contender: [row.pop(contender) / 1e9 for row in rounds] for contender in (SGEMM, BF16)}
    table = {contender: summary(contender, rounds, limits, flops) for contender in rounds[0]}
    for contender, row in table.items():
        print(f"{name:16}{contender:28}{row['images_per_second']:9.1f}/s   x {row['ratio']:.2f}", flush=True)
    gemm = {contender: round(statistics.median(found), 1) for contender, found in limits.items()}
    return {"case": asdict(case), "step_flops_per_image": flops, "gflops_of": gemm, "contenders": table}


def summary(
    contender: str, rounds: list[dict[str, float]], limits: dict[str, list[float]], flops: int
) -> dict[str, float]:
    """One row: images a second, the ratio to the plain loop, and how near it is to matrix products alone."""
    rates = [row[contender] for row in rounds]
    ratios = [row[contender] / row[BASE] for row in rounds]
    shares = [rate * flops / 1e7 / limit for rate, limit in zip(rates, limits[SGEMM], strict=True)]
    return {
        "images_per_second": round(statistics.median(rates), 2),
        "images_per_second_min": round(min(rates), 2),
        "images_per_second_max": round(max(rates), 2),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "gflops": round(statistics.median(rates) * flops / 1e9, 1),
        "percent_of_sgemm": round(statistics.median(shares), 1),
    }


def start(case: str, contender: str) -> subprocess.Popen[str]:
    """A contender's process."""
    command = [sys.executable, __file__, "--cases", case, "--contender", contender]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: subprocess.Popen[str]) -> float:
    """What a contender reaches in its next turn."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("turn\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def serve(case: Case, make: Turns) -> None:
    """Be a contender: a turn for each line of the standard input."""
    torch.manual_seed(0)
    found = make(case)
    for _ in sys.stdin:
        print(next(found), flush=True)


def striate_turns(case: Case, **settings: Any) -> Iterator[float]:
    """Images a second of `fit` in each turn; all of them lie in one epoch."""
    steps = (case.pairs + 2) * (case.settle + case.steps)
    config = TrainingConfig(epochs=2, batch_size=case.batch, **RATE, **settings)
    network, data, task = build(case), pictures(case, steps * case.batch), load(tasks, "classification")
    augment = AugmentConfig(**case.augment)
    loaders = make_loaders(data, network.preprocess, task, config, augment)
    for index in loaders.train.indices.tolist():
        loaders.train.pictures.one(index)  # the second epoch has them all in the cache; so has this one
    with tempfile.TemporaryDirectory() as folder:
        events = fit(network, task, loaders, config, Path(folder), models.card_of(network))
        taken = (event for event in events if isinstance(event, StepEvent))
        while True:
            take(taken, case.settle)
            yield case.steps * case.batch / take(taken, case.steps)


def take(steps: Iterator[StepEvent], count: int) -> float:
    """Seconds until `count` steps are done."""
    started = time.perf_counter()
    for _ in range(count):
        next(steps)
    return time.perf_counter() - started


def plain_turns(case: Case, layout: torch.memory_format) -> Iterator[float]:
    """Images a second of a plain loop in each turn."""
    network = build(case)
    torch.set_num_threads(choose_threads(None, network, case.batch))  # the same that striate takes
    network.register_module("normalize", nn.Identity())  # its pictures come normalised
    network.to(memory_format=layout).train()
    count = 4 * case.batch
    images = torch.randn(count, network.preprocess.channels, case.size, case.size)
    images, labels = images.contiguous(memory_format=layout), torch.randint(CLASSES, (count,))
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(
        network.parameters(), RATE["learning_rate"], RATE["momentum"], weight_decay=RATE["weight_decay"]
    )
    while True:
        for number in range(case.settle + case.steps):
            if number == case.settle:
                started = time.perf_counter()
            rows = slice(number % 4 * case.batch, (number % 4 + 1) * case.batch)
            loss = criterion(network(images[rows]).logits, labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
        yield case.steps * case.batch / (time.perf_counter() - started)


def product_turns(case: Case, dtype: torch.dtype) -> Iterator[float]:
    """Operations a second, two a multiply-add, of products of 2048x2048 matrices; the best of five."""
    del case
    side = 2048
    left, right = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
    while True:
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            left @ right
            seconds.append(time.perf_counter() - started)
        yield 2 * side**3 / min(seconds)


def build(case: Case) -> Network:
    """The network of a case with its first weights."""
    return models.create(case.model, CLASSES, **case.network)


def pictures(case: Case, count: int) -> Dataset:
    """Random pictures of the size of the input, all for training."""
    network = build(case)
    side, channels = network.preprocess.inner_size[0], network.preprocess.channels
    # A few hundred different ones stand for all: what a picture shows changes no time.
    few = np.random.default_rng(0).integers(0, 256, (min(count, 512), side, side, channels), np.uint8)
    storage = ArrayStorage(np.resize(few, (count, side, side, channels)), "random")
    items = tuple(Item(key, "train", index % CLASSES) for index, key in enumerate(storage.keys()))
    return Dataset("random", "drawn", "classification", tuple(map(str, range(CLASSES))), items, storage)


def forward_flops(case: Case) -> int:
    """Operations of the forward pass on one picture, two a multiply-add; convolutions and products only."""
    network = build(case).to("meta").eval()
    image = torch.empty(1, network.preprocess.channels, case.size, case.size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return int(counter.get_total_flops())


def machine() -> dict[str, object]:
    """Where the figures were taken."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    cpu = torch.device("cpu")
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "device": describe(cpu, choose_precision("auto", cpu), torch.get_num_threads()),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("striate", "torch", "numpy")},
    }


CONTENDERS: dict[str, Turns] = {
    "striate auto": striate_turns,
    "striate fp32": partial(striate_turns, precision="fp32"),
    "striate fp32, memory not kept": partial(striate_turns, precision="fp32", keep_memory=False),
    BASE: partial(plain_turns, layout=torch.contiguous_format),
    "plain fp32 channels_last": partial(plain_turns, layout=torch.channels_last),
    SGEMM: partial(product_turns, dtype=torch.float32),
    BF16: partial(product_turns, dtype=torch.bfloat16),
}


if __name__ == "__main__":
    main()
