"""Images a second of a training step: striate's own loop against torch's plain loop, timm's step and Keras.

Usage: python benchmarks/training.py [--cases lenet ...] [--pairs 5] [--keras PYTHON] [--out FILE]

Each contender is a process of its own, since how memory is allocated is a matter of the whole process; all
are there from the start and take turns, every second round in reverse, so that a busy moment of the machine
hits all of them. A ratio is the median over the turns of contender / plain loop in float32. 15 to 20
minutes on two cores, and up to 16 GB of memory.

striate: what `striate train` does: a few steps tell the layout, then `fit` with its loader, augmentation,
loss, optimiser and log, on pictures that its cache holds.
plain: forward, cross-entropy, backward and SGD as torchvision's references write them, on float32 pictures
normalised in advance and lying in memory in the order that they are used in; torchvision's network of the
name, else the layers of striate's.
timm: its network of the name, else the plain one, with its SGD and label smoothing as its training script
has them; its switches are --channels-last and --amp --amp-dtype bfloat16.
Keras: `fit` with its defaults, in the interpreter --keras, which needs keras and torch (jax for that row).
Its ResNet50 has the stride on the first 1x1, 6 % fewer operations than are counted.

A peer is compared with striate in its own precision: float32, or what striate chooses against bfloat16.
"""

import argparse
import ctypes
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import networks
import numpy as np
import torch
from networks import CLASSES
from runtime_processes import peak_megabytes
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from striate import tasks
from striate.data.augment import AugmentConfig
from striate.data.dataset import Dataset, Item
from striate.data.storage import ArrayStorage
from striate.models.network import Network
from striate.plugins import load
from striate.structures import Preprocess
from striate.training.config import TrainingConfig
from striate.training.device import choose_memory, choose_precision, choose_threads, describe
from striate.training.estimate import Setup, try_steps
from striate.training.events import StepEvent
from striate.training.fit import Start, fit
from striate.training.loaders import Loaders, make_loaders


@dataclass(frozen=True)
class Case:
    """A network, its input and its batch."""

    network: str  # for `networks.build`
    size: int  # side of the input in pixels
    batch: int
    settle: int  # steps of each turn that are not timed; more than the loader has ahead where steps are short
    steps: int  # steps of each turn that are timed
    augment: dict[str, Any] = field(default_factory=dict)
    timm: str | None = None  # what timm calls it
    keras: str | None = None  # for keras_fit.py


CASES = {
    case.network: case
    for case in (
        Case("lenet", 28, 256, 6, 15, keras="lenet"),
        Case("lenet5", 32, 256, 6, 15),
        Case("resnet20_cifar", 32, 128, 1, 3, {"flip": 0.5, "pad": 4}),
        Case("mobilenet_v2", 224, 32, 1, 1, {"flip": 0.5}, "mobilenetv2_100", "MobileNetV2"),
        Case("resnet18", 224, 32, 0, 1, {"flip": 0.5}, "resnet18"),
        Case("resnet50", 224, 8, 0, 2, {"flip": 0.5}, "resnet50", "ResNet50"),
        Case("unet", 256, 4, 0, 2),
    )
}

Facts = dict[str, Any]
Turns = tuple[Facts, Iterator[float]]
"""How a contender computes; what it reaches in each of its turns: images, or operations, a second."""

Command = tuple[list[str], dict[str, str]]
"""The words of a command, and what its environment has more."""

BASE, OURS, AS_CHOSEN = "plain fp32", "striate fp32", "striate"
SGEMM, BF16 = "float32 product", "bfloat16 product"
KERAS = {"Keras fit, torch": "torch", "Keras fit, JAX": "jax"}  # contender: backend
RATE: dict[str, Any] = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 1e-4}
SMOOTHING = 0.1  # of timm's training script
PATIENCE = 30.0  # seconds that a contender has to end
DISTINCT = 512  # random pictures that stand for all: what a picture shows changes no time

# Reached by striate in float32: the ratio to the plain loop, to a peer, or a share of the matrix product.
GOALS: dict[str, dict[str, float]] = {
    "lenet": {"ratio": 1.9, "Keras fit, torch": 2.0},
    "resnet20_cifar": {"ratio": 1.2},
    "mobilenet_v2": {"ratio": 2.5},
    "resnet18": {"ratio": 1.08, "percent_of_sgemm": 60},
    "unet": {"ratio": 1.0},
}
LEADS = ("least lead", "least lead in equal precision")  # of striate over each peer, in every case: 1


def main() -> None:
    """Measure and write; with --contender, be one process of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--pairs", type=int, default=5, help="turns of each contender")
    parser.add_argument("--keras", help="an interpreter that has keras")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "training.json")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        turns = options.pairs + 1  # the first one does not count
        case = CASES[options.cases[0]]
        serve(partial(CONTENDERS[options.contender], case, turns), gives_back=case.settle > 0)
        return
    result: dict[str, Any] = {
        "what": __doc__.splitlines()[0],
        "machine": machine(),
        "pairs": options.pairs,
        "cases": {},
    }
    options.out.parent.mkdir(exist_ok=True)
    for name in options.cases:
        before, started = os.getloadavg()[0], time.monotonic()
        found = measure(CASES[name], options.pairs, options.keras)
        # The one after has this benchmark's own work in it.
        loads = {"load_average_before": before, "load_average_after": os.getloadavg()[0]}
        result["cases"][name] = {**found, **loads, "minutes": round((time.monotonic() - started) / 60, 1)}
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(case: Case, pairs: int, keras: str | None) -> dict[str, Any]:
    """The figures of one case, all contenders taking turns."""
    flops = 3 * forward_flops(case)  # of a picture; backward is twice the forward pass
    commands = {name: command(case, pairs, name, keras) for name in (*CONTENDERS, *KERAS)}
    race = Field(commands, needed=(BASE, OURS, AS_CHOSEN, SGEMM, BF16))
    try:
        # The first round does not count: kernels are chosen in it, memory is taken.
        rounds = [race.round(backwards=bool(number % 2)) for number in range(pairs + 1)][1:]
        facts, not_run = race.facts(), race.not_run
    finally:
        race.end()
    rounds = [{name: row[name] for name in facts} for row in rounds]
    limits = {name: [row.pop(name) / 1e9 for row in rounds] for name in (SGEMM, BF16)}
    table = {
        name: summary(name, facts[name]["precision"], rounds, limits[SGEMM], flops) | facts[name]
        for name in rounds[0]
    }
    for name, row in table.items():
        print(
            f"{case.network:16}{name:32}{row['images_per_second']:9.1f}/s   x {row['ratio']:.2f}", flush=True
        )
    return {
        "case": asdict(case),
        "step_flops_per_image": flops,
        "gflops_of": {name: round(statistics.median(found), 1) for name, found in limits.items()},
        "contenders": table,
        "not_run": not_run,
        "goals": judged(case.network, table),
    }


def command(case: Case, pairs: int, contender: str, keras: str | None) -> Command | str:
    """A contender's command and what its environment has more; else why it does not run."""
    if contender not in KERAS:
        return this_script(__file__, contender, ["--cases", case.network, "--pairs", str(pairs)])
    if case.keras is None or (contender == "Keras fit, JAX" and case.keras != "lenet"):
        return "not part of this case"
    if keras is None:
        return "no interpreter with Keras was given: --keras PYTHON"
    numbers = map(str, (case.size, case.batch, case.settle, case.steps))
    script = str(Path(__file__).with_name("keras_fit.py"))
    return [keras, script, case.keras, *numbers], {"KERAS_BACKEND": KERAS[contender]}


def this_script(script: str, contender: str, settings: list[str]) -> Command | str:
    """The command of a contender that is a part of `script`; else why it does not run."""
    if contender.startswith("timm") and importlib.util.find_spec("timm") is None:
        return "timm is not installed"
    return [sys.executable, script, "--contender", contender, *settings], {}


class Field:
    """The processes of all contenders. One that ends early is out, with the reason in `not_run`.

    Where it is `needed` there is nothing to compare with, and the whole benchmark ends.
    """

    def __init__(self, commands: dict[str, Command | str], needed: tuple[str, ...]) -> None:
        self._needed = needed
        self.not_run = {name: found for name, found in commands.items() if isinstance(found, str)}
        self._scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._processes = {
            name: self._start(*found) for name, found in commands.items() if not isinstance(found, str)
        }
        self._facts: dict[str, Facts] = {}
        for name in list(self._processes):  # all have loaded before the first one times anything
            self._hear(name)
        for name, process in list(self._processes.items()):
            loaded = {"loaded_megabytes": peak_megabytes(process.pid)}
            self._facts[name] = self._ask(name).get("facts", {}) | loaded

    def round(self, backwards: bool) -> dict[str, float]:
        """What each reaches in its next turn."""
        names = list(self._processes)
        answers = {name: self._ask(name) for name in (reversed(names) if backwards else names)}
        return {name: answers[name]["reached"] for name in names if "reached" in answers[name]}

    def facts(self) -> dict[str, Facts]:
        """How each contender that is still there computes, and the most memory that it took.

        What it took while its libraries were loaded is told too; most of that is shared by all.
        """
        return {
            name: self._facts[name] | {"peak_megabytes": peak_megabytes(process.pid)}
            for name, process in self._processes.items()
        }

    def end(self) -> None:
        """Leave no process. Each ends by itself when no turn can come any more, and ends its workers."""
        for process in self._processes.values():
            with suppress(BrokenPipeError):
                stream_to(process).close()
        for process in self._processes.values():
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._scratch.cleanup()

    def _start(self, words: list[str], more: dict[str, str]) -> subprocess.Popen[str]:
        # A killed process cannot clear away what training and Keras write.
        scratch = self._scratch.name
        environment = os.environ | {"TMPDIR": scratch, "KERAS_HOME": scratch} | more
        pipe = subprocess.PIPE
        return subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=environment)

    def _ask(self, name: str) -> dict[str, Any]:
        with suppress(BrokenPipeError):  # it has ended; what it said last is still to be read
            stream = stream_to(self._processes[name])
            stream.write("turn\n")
            stream.flush()
        return self._hear(name)

    def _hear(self, name: str) -> dict[str, Any]:
        process = self._processes[name]
        assert process.stdout is not None
        line = process.stdout.readline()
        found: dict[str, Any] = json.loads(line) if line else {"not_run": f"ended with {process.wait()}"}
        if "not_run" in found:
            self.not_run[name] = found["not_run"]
            self._processes.pop(name).wait()
            if name in self._needed:
                self.end()
                raise SystemExit(f"{name}: {found['not_run']}")
        return found


def stream_to(process: subprocess.Popen[str]) -> IO[str]:
    """The standard input of a contender."""
    assert process.stdin is not None
    return process.stdin


def summary(
    contender: str, precision: str, rounds: list[dict[str, float]], sgemm: list[float], flops: int
) -> dict[str, Any]:
    """One row: images a second, the ratio to the plain loop, and how near it is to matrix products alone."""
    rates = [row[contender] for row in rounds]
    shares = [rate * flops / 1e7 / limit for rate, limit in zip(rates, sgemm, strict=True)]
    found = {
        **spread("images_per_second", rates, 2),
        **spread("ratio", [row[contender] / row[BASE] for row in rounds], 3),
        "gflops": round(statistics.median(rates) * flops / 1e9, 1),
        "percent_of_sgemm": round(statistics.median(shares), 1),
    }
    return found | lead(
        contender, precision, [{name: 1 / rate for name, rate in row.items()} for row in rounds]
    )


def lead(contender: str, precision: str, rounds: list[dict[str, float]]) -> dict[str, Any]:
    """How many times as long as striate in its precision a peer needs; `rounds` hold times."""
    if contender.startswith("striate"):
        return {}
    own = OURS if precision == "fp32" else AS_CHOSEN
    return {"lead_of": own, **spread("lead", [row[contender] / row[own] for row in rounds], 3)}


def spread(name: str, values: list[float], digits: int) -> dict[str, float]:
    """Median, least and largest of `values`."""
    return {
        name: round(statistics.median(values), digits),
        f"{name}_min": round(min(values), digits),
        f"{name}_max": round(max(values), digits),
    }


def judged(case: str, table: dict[str, dict[str, Any]]) -> dict[str, dict[str, float | bool | None]]:
    """The goals beside what was reached; None where that was not measured.

    Those for a ratio hold for training as it chooses its precision; what it is in float32 stands beside it.
    """
    peers = {name: row for name, row in table.items() if "lead" in row}
    reached = {
        "ratio": table[AS_CHOSEN]["ratio"],
        "ratio in fp32": table[OURS]["ratio"],
        "percent_of_sgemm": table[OURS]["percent_of_sgemm"],
        "least lead": round(min(table[AS_CHOSEN]["ratio"] / row["ratio"] for row in peers.values()), 3),
        "least lead in equal precision": min(row["lead"] for row in peers.values()),
        **{name: row["lead"] for name, row in peers.items()},
    }
    goals = GOALS.get(case, {})
    if "ratio" in goals:
        goals = {**goals, "ratio in fp32": goals["ratio"]}
    return {
        name: {
            "goal": goal,
            "reached": reached.get(name),
            "is_met": reached[name] >= goal if name in reached else None,
        }
        for name, goal in (goals | dict.fromkeys(LEADS, 1.0)).items()
    }


def serve(make: Callable[[], Turns], gives_back: bool = False) -> None:
    """Be a contender: a line when all is loaded, then an answer to each line of the standard input."""
    torch.manual_seed(0)
    print("{}", flush=True)
    sys.stdin.readline()
    facts, found = make()
    print(json.dumps({"facts": facts}), flush=True)
    for _ in sys.stdin:
        reached = next(found)
        if gives_back and not facts.get("memory_kept"):
            give_back()
        print(json.dumps({"reached": reached}), flush=True)


def give_back() -> None:
    """Return to the system what glibc holds of freed memory: all contenders must fit the machine at once.

    The steps of a turn that are not timed fetch it again.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def striate_turns(case: Case, turns: int, **settings: Any) -> Turns:
    """`striate train`; all turns lie in one epoch."""
    config = TrainingConfig(epochs=2, batch_size=case.batch, **RATE, **settings)
    network = networks.build(case.network)
    # One turn more, since after the last step of an epoch come its files.
    loaders = loaders_of(case, network, config, (turns + 1) * (case.settle + case.steps))
    for index in loaders.train.indices.tolist():
        loaders.train.pictures.one(index)  # the second epoch has them all in the cache; so has this one
    setup = try_steps(network, loaders.train, config)
    cpu = torch.device("cpu")
    facts = {
        "layout": setup.layout,
        "parts": setup.parts,
        "precision": name_of(choose_precision(config.precision, cpu)),
        "threads": choose_threads(config.threads, network, case.batch),
        "memory_kept": choose_memory(config.keep_memory, cpu),
    }
    return facts, fitted(case, network, loaders, config, setup)


def fitted(
    case: Case, network: Network, loaders: Loaders, config: TrainingConfig, setup: Setup
) -> Iterator[float]:
    """Images a second of `fit` in each turn."""
    start = Start(layout=setup.layout, parts=setup.parts)
    task = load(tasks, "classification")  # read where something is evaluated, so never
    with tempfile.TemporaryDirectory() as folder:
        events = fit(network, task, loaders, config, Path(folder), networks.card_of(network), start)
        steps = (event for event in events if isinstance(event, StepEvent))
        while True:
            take(steps, case.settle)
            yield case.steps * case.batch / take(steps, case.steps)


def take(steps: Iterator[StepEvent], count: int) -> float:
    """Seconds until `count` steps are done."""
    started = time.perf_counter()
    for _ in range(count):
        next(steps)
    return time.perf_counter() - started


def loaders_of(case: Case, network: Network, config: TrainingConfig, steps: int) -> Loaders:
    """Batches for one epoch of `steps` steps, of random pictures; with random masks for a U-Net."""
    data = pictures(network.preprocess, steps * case.batch)
    loaders = make_loaders(data, network.preprocess, config, AugmentConfig(**case.augment))
    if case.network != "unet":
        return loaders
    # A mask for each class id, in place of the id.
    masks = np.random.default_rng(1).integers(0, CLASSES, (CLASSES, case.size, case.size))
    targets: Any = partial(masks_of, masks)
    return replace(loaders, train=replace(loaders.train, targets=targets))


def masks_of(masks: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> networks.MaskTargets[Any]:
    """The targets of pictures with these class ids."""
    return networks.MaskTargets(masks[labels], np.ones(len(labels), np.float32))


def pictures(spec: Preprocess, count: int) -> Dataset:
    """Random pictures of the size of the input, all for training."""
    shape = (*spec.inner_size, spec.channels)
    few = np.random.default_rng(0).integers(0, 256, (min(count, DISTINCT), *shape), np.uint8)
    storage = ArrayStorage(np.resize(few, (count, *shape)), "random")
    items = tuple(Item(key, "train", index % CLASSES) for index, key in enumerate(storage.keys()))
    return Dataset("random", "drawn", "classification", tuple(map(str, range(CLASSES))), items, storage)


def plain_turns(case: Case, _: int, layout: str = "contiguous", precision: str = "fp32") -> Turns:
    """The plain loop."""
    model = laid_out(networks.plain(case.network), layout)
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(
        model.parameters(), RATE["learning_rate"], RATE["momentum"], weight_decay=RATE["weight_decay"]
    )

    def step(images: Tensor, labels: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = criterion(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()

    return facts_of(layout, precision), stepped(case, step, layout)


def timm_turns(case: Case, _: int, layout: str = "contiguous", precision: str = "fp32") -> Turns:
    """A step of timm's training script."""
    timm, loss_functions, optimisers = map(import_module, ("timm", "timm.loss", "timm.optim"))

    own = case.timm and timm.create_model(case.timm, num_classes=CLASSES)
    model = laid_out(own or networks.plain(case.network), layout)
    # Its smoothing is for one class a picture.
    criterion = (
        nn.CrossEntropyLoss()
        if case.network == "unet"
        else loss_functions.LabelSmoothingCrossEntropy(SMOOTHING)
    )
    optimiser = optimisers.create_optimizer_v2(
        model, "sgd", RATE["learning_rate"], RATE["weight_decay"], RATE["momentum"]
    )

    def step(images: Tensor, labels: Tensor) -> None:
        # Its log reads the loss now and then only.
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = criterion(model(images), labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    facts = facts_of(layout, precision) | {"network": case.timm or "the plain loop's"}
    return facts, stepped(case, step, layout)


def laid_out(model: nn.Module, layout: str) -> nn.Module:
    """`model` itself for training, its filters in `layout`."""
    placed: Any = model.train()
    laid: nn.Module = placed.to(memory_format=memory_format(layout))
    return laid


def memory_format(layout: str) -> torch.memory_format:
    """What torch calls it."""
    return torch.channels_last if layout == "channels_last" else torch.contiguous_format


def facts_of(layout: str, precision: str) -> Facts:
    """How a loop computes that leaves torch's threads as they are."""
    return {"layout": layout, "precision": precision, "threads": torch.get_num_threads()}


def stepped(case: Case, step: Callable[[Tensor, Tensor], None], layout: str) -> Iterator[float]:
    """Images a second of `step` in each turn, on four batches by turns."""
    network = networks.build(case.network)
    shape = (case.batch, network.preprocess.channels, case.size, case.size)
    labels = (case.batch, case.size, case.size) if case.network == "unet" else (case.batch,)
    batches = [
        (torch.randn(shape).contiguous(memory_format=memory_format(layout)), torch.randint(CLASSES, labels))
        for _ in range(4)
    ]
    while True:
        for number in range(case.settle + case.steps):
            if number == case.settle:
                started = time.perf_counter()
            step(*batches[number % 4])
        yield case.steps * case.batch / (time.perf_counter() - started)


def product_turns(_: Case, __: int, dtype: torch.dtype) -> Turns:
    """Products of 2048x2048 matrices, two operations a multiply-add; the best of five in each turn."""
    side = 2048
    left, right = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)

    def rates() -> Iterator[float]:
        while True:
            seconds = []
            for _ in range(5):
                started = time.perf_counter()
                left @ right
                seconds.append(time.perf_counter() - started)
            yield 2 * side**3 / min(seconds)

    return {}, rates()


def forward_flops(case: Case) -> int:
    """Operations of the forward pass on one picture, two a multiply-add; convolutions and products only."""
    network = networks.build(case.network).to("meta").eval()
    image = torch.empty(1, network.preprocess.channels, case.size, case.size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return int(counter.get_total_flops())


def name_of(precision: torch.dtype) -> str:
    """ "fp32" or "bf16"."""
    return "fp32" if precision == torch.float32 else "bf16"


def machine() -> dict[str, object]:
    """Where the figures were taken."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    cpu = torch.device("cpu")
    packages = ("striate", "torch", "torchvision", "timm", "numpy")
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "device": describe(cpu, choose_precision("auto", cpu), torch.get_num_threads()),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages if importlib.util.find_spec(name)},
    }


CONTENDERS: dict[str, Callable[..., Turns]] = {
    AS_CHOSEN: striate_turns,
    OURS: partial(striate_turns, precision="fp32"),
    "striate fp32, memory not kept": partial(striate_turns, precision="fp32", keep_memory=False),
    BASE: plain_turns,
    "plain fp32 channels_last": partial(plain_turns, layout="channels_last"),
    "plain bf16": partial(plain_turns, precision="bf16"),
    "timm fp32": timm_turns,
    "timm fp32 channels_last": partial(timm_turns, layout="channels_last"),
    "timm bf16 channels_last": partial(timm_turns, layout="channels_last", precision="bf16"),
    SGEMM: partial(product_turns, dtype=torch.float32),
    BF16: partial(product_turns, dtype=torch.bfloat16),
}


if __name__ == "__main__":
    main()
