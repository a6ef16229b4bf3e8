"""What all experiments share: ways of doing one thing, trained alike, measured alike, a row for each.

An experiment is a file beside this one. Its docstring says the tutorials' claim and how it is put to the
test, `EXPERIMENT` holds the ways ("arms"), what is measured and which arm should have more of it, and
`python recipes/experiments/NAME.py DATA` trains what is missing in results/NAME.json, then writes
docs/experiments.md and the pictures in docs/experiments/ anew from all the result files there are.

All but what an arm states is equal for all arms: pictures, order, epochs, optimiser, rate, no
augmentation, fresh weights by the seed, one CPU thread. The first --pictures training pictures and TESTED
test pictures are used, evenly by class. A row is written as soon as it is there, and a second run goes on
behind it; --again does all anew. Milliseconds are the median processor time of forward and backward
passes of the arms in turn, once a seed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import striate
from striate.data.dataset import Dataset
from striate.data.open import DataConfig, open_dataset
from striate.data.preprocess import apply
from striate.data.split import SplitConfig, complete
from striate.explain.shift import moved
from striate.modelfile import MODEL_FILE
from striate.models.network import Network
from striate.ops.device import choose_device
from striate.runtime.pytorch import PyTorchEngine
from striate.structures import ClassTargets, Preprocess
from striate.training.device import autocast, choose_precision, describe

HERE = Path(__file__).resolve().parent
# Neither folder is a package, and what a benchmark does with its rows is done here too.
sys.path.append(str(HERE.parents[1] / "benchmarks"))
from few_pictures import write_pictures  # noqa: E402
from page import write_page  # noqa: E402
from rows import add_row, begun, page_options, parsed, write  # noqa: E402

__all__ = [
    "ADAMW",
    "SGD",
    "Arm",
    "Claim",
    "Experiment",
    "Measure",
    "Part",
    "Trained",
    "accuracy",
    "accuracy_moved",
    "logits_of",
    "main",
    "pixels",
    "targets_of",
]

TESTED = 2000  # test pictures
TIMED, ROUNDS = 32, 15  # pictures in a timed pass, passes that count
AT_ONCE = 250  # pictures in a pass that only asks

ADAMW = {"optimiser": "adamw", "learning_rate": 1e-2, "weight_decay": 1e-2}
SGD = {"optimiser": "sgd", "momentum": 0.9, "learning_rate": 0.05, "weight_decay": 5e-4}
ALIKE = {"batch_size": 32, "warmup_epochs": 1.0, "label_smoothing": 0.0, "device": "cpu", "threads": 1}
PLAIN = {"flip": 0.0, "pad": 0, "scale": None}  # augmentation: none, whatever a family's recipe has

Maker = str | Callable[..., nn.Module]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Arm:
    """One of the ways that are compared."""

    name: str
    network: Maker  # a public name, or a function that makes a module
    options: Settings = field(default_factory=dict)  # settings of that network, arguments of that function
    training: Settings = field(default_factory=dict)
    preprocess: Settings = field(default_factory=dict)


class Part(NamedTuple):
    """Pictures as the network takes them."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64


@dataclass(frozen=True)
class Trained:
    """What the measures are taken from."""

    network: Network  # after the last step, in evaluation mode
    fresh: Network  # one like it before its first step
    train: Part
    test: Part
    milliseconds: float = 0.0  # of a pass forward and back; 0 where nothing is timed
    time: float = 0.0  # that over the first arm's, which was timed in turn with it

    @cached_property
    def train_logits(self) -> Tensor:
        """(N, K), of the pictures that it was trained on."""
        return logits_of(self.network, self.train.images)

    @cached_property
    def test_logits(self) -> Tensor:
        """(N, K), of pictures that it never saw."""
        return logits_of(self.network, self.test.images)


@dataclass(frozen=True)
class Measure:
    """A number that each trained network has."""

    name: str
    title: str
    form: str  # "percent", "count", "number", "ratio" or "milliseconds"
    of: Callable[[Trained], float]
    is_log: bool = False  # drawn in powers of ten


@dataclass(frozen=True)
class Claim:
    """The arm `more` has more of `measure` than the arm `less`."""

    text: str
    measure: str
    more: str
    less: str


@dataclass(frozen=True)
class Experiment:
    """A comparison: what is trained, on how much, and what is claimed of it."""

    name: str  # of its file
    about: str  # docstring of its file: the claim, a paragraph or more of how, the usage
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...]
    preprocess: Settings
    training: Settings
    measures: tuple[Measure, ...] = ()  # beside those of all experiments
    shown: tuple[tuple[str, ...], ...] = (("train", "test"),)  # measures in each panel of the picture
    pictures: int = 3000  # to train on, and
    epochs: int = 8  # how often, unless the command line says otherwise
    is_timed: bool = False

    @property
    def all_measures(self) -> tuple[Measure, ...]:
        """Those of all experiments, then its own."""
        return (*ALWAYS, *(TIMES if self.is_timed else ()), *self.measures)


def pixels(side: int, color: str = "gray", border: int = 0) -> dict[str, Any]:
    """Preprocessing to `side` x `side` pixels, the border included, all channels from -2 to 2."""
    channels = 1 if color == "gray" else 3
    size = {"size": [side, side], "fit": "stretch", "resize_to": None, "border": border}
    return {**size, "color": color, "mean": [0.5] * channels, "std": [0.25] * channels}


def logits_of(network: Network, images: Tensor) -> Tensor:
    """(N, K) of `images` (N, C, H, W), computed in float32."""
    with torch.no_grad():
        parts = (network.dense(images[at : at + AT_ONCE]) for at in range(0, len(images), AT_ONCE))
        return torch.cat([part["logits"] for part in parts])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of the rows of `logits` (N, K) whose largest value is at the label (N,)."""
    return float((logits.argmax(1) == labels).double().mean())


def accuracy_moved(trained: Trained, step: int) -> float:
    """Accuracy on the test pictures moved by `step` pixels, the mean over four directions.

    At the edge that moves in, the outermost pixels are repeated.
    """
    images, labels = trained.test
    sides: tuple[Literal["x", "y"], ...] = ("x", "y")
    return statistics.fmean(
        accuracy(logits_of(trained.network, moved(images, by, axis)), labels)
        for axis in sides
        for by in (step, -step)
    )


def targets_of(labels: Tensor, classes: int) -> ClassTargets[Tensor]:
    """What the loss of a network takes for `labels` (N,)."""
    return ClassTargets(nn.functional.one_hot(labels, classes).float(), torch.ones(len(labels)))


def _gap(trained: Trained) -> float:
    train = accuracy(trained.train_logits, trained.train.labels)
    return train - accuracy(trained.test_logits, trained.test.labels)


ALWAYS = (
    Measure("train", "train accuracy", "percent", lambda of: accuracy(of.train_logits, of.train.labels)),
    Measure("test", "test accuracy", "percent", lambda of: accuracy(of.test_logits, of.test.labels)),
    Measure("gap", "train - test", "percent", _gap),
    Measure(
        "parameters", "parameters", "count", lambda of: sum(each.numel() for each in of.network.parameters())
    ),
)
TIMES = (
    Measure("milliseconds", f"CPU ms for {TIMED} pictures", "milliseconds", lambda of: of.milliseconds),
    # The machine is faster at one time than at another, for all arms alike.
    Measure("time", "time, first is 1", "ratio", lambda of: of.time),
)


def main(experiment: Experiment) -> None:
    """Train what is missing, and write the page."""
    options = arguments(experiment)
    if not options.page_only:
        torch.set_num_threads(1)
        found = known(experiment, options)
        with tempfile.TemporaryDirectory() as folder:
            pictures = Path(folder) / "pictures"
            few = with_few_tests(parted(options.data))
            write_pictures(few, options.pictures, pictures)
            for seed in options.seeds:
                train_seed(experiment, found, pictures, seed, options)
        write(options.out, found)  # the words too, where no row was missing
    write_page(options.out.parent, options.page)


def arguments(experiment: Experiment) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=experiment.about.partition("\n")[0])
    parser.add_argument("data", nargs="?", help="what `striate train` takes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=experiment.epochs)
    parser.add_argument("--pictures", type=int, default=experiment.pictures, help="to train on")
    page_options(parser, experiment.name, "experiments.md")
    parser.set_defaults(out=HERE / "results" / f"{experiment.name}.json")
    return parsed(parser, "DATA: which pictures to train on")


def known(experiment: Experiment, options: argparse.Namespace) -> dict[str, Any]:
    """What the file will hold: the words of the page and the rows that are there already."""
    settings = {
        "data": Path(options.data).stem,
        "epochs": options.epochs,
        "pictures": options.pictures,
        "tested": TESTED,
        "arms": {arm.name: _spelt(settings_of(experiment, arm), arm) for arm in experiment.arms},
    }
    claim, *paragraphs = experiment.about.strip().split("\n\n")
    how = [" ".join(paragraph.split()) for paragraph in paragraphs if not paragraph.startswith("Usage")]
    measures = [
        {name: getattr(measure, name) for name in ("name", "title", "form", "is_log")}
        for measure in experiment.all_measures
    ]
    words = {
        "name": experiment.name,
        "how": how,
        "arm_names": [arm.name for arm in experiment.arms],
        "measures": measures,
        "claims": [asdict(claim) for claim in experiment.claims],
        "shown": [list(panel) for panel in experiment.shown],
    }
    return {**words, **begun(options, " ".join(claim.split()), settings)}


def settings_of(experiment: Experiment, arm: Arm) -> dict[str, Any]:
    """The settings of `striate.train` for `arm`, but the epochs and the seed."""
    options = dict(arm.options)
    network = options if isinstance(arm.network, str) else {"options": options}
    return {
        "network": {**network, "preprocess": {**experiment.preprocess, **arm.preprocess}},
        "training": {**ALIKE, **experiment.training, **arm.training},
        "augment": PLAIN,
    }


def _spelt(settings: Settings, arm: Arm) -> dict[str, Any]:
    name = arm.network if isinstance(arm.network, str) else arm.network.__name__
    return {"model": name, **settings}


def parted(source: str) -> Dataset:
    """The dataset `source` with a test part: a tenth of it where it has none."""
    return complete(open_dataset(DataConfig(source)), SplitConfig(val_fraction=0.0))


def with_few_tests(dataset: Dataset) -> Dataset:
    """`dataset` with the first TESTED pictures of its test part, evenly by class."""
    most, taken, kept = TESTED // len(dataset.classes), Counter[int | None](), []
    for index, item in enumerate(dataset.items):
        if item.part == "test":
            taken[item.label] += 1
            if taken[item.label] > most:
                continue
        kept.append(index)
    return dataset.only(kept)


def train_seed(
    experiment: Experiment, found: dict[str, Any], pictures: Path, seed: int, options: argparse.Namespace
) -> None:
    """Train every arm with `seed`, add its row to `found` and to the file; nothing where it has one."""
    there = {row["arm"] for row in found["rows"] if row["seed"] == seed}
    missing = [arm for arm in experiment.arms if options.again or arm.name not in there]
    classes = sorted(folder.name for folder in (pictures / "train").iterdir())
    times = milliseconds(experiment, len(classes), seed) if experiment.is_timed and missing else {}

    def measured(arm: Arm) -> dict[str, Any]:
        state, seconds = trained(experiment, arm, pictures, seed, options.epochs)
        if times:
            own = times[arm.name]
            state = replace(state, milliseconds=own, time=own / times[experiment.arms[0].name])
        return figures(experiment, state, seconds)

    for arm in missing:
        if row := add_row(found, {"arm": arm.name, "seed": seed}, partial(measured, arm), options):
            test = 100 * row["measures"]["test"]
            print(f"seed {seed}  {arm.name:32}{test:6.1f} %{row['seconds']:8.1f} s", flush=True)


def milliseconds(experiment: Experiment, classes: int, seed: int) -> dict[str, float]:
    """Of each arm the median processor time of a forward and backward pass; the arms take turns."""
    chance = torch.Generator().manual_seed(seed)
    targets = targets_of(torch.randint(classes, (TIMED,), generator=chance), classes)
    networks = {arm.name: start(experiment, arm, classes, seed) for arm in experiment.arms}
    times: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(ROUNDS + 3):
        for name, network in networks.items():
            shape = (TIMED, network.preprocess.channels, *network.preprocess.size)
            images = torch.randint(256, shape, generator=chance, dtype=torch.uint8)
            seconds = timed(network, images, targets)
            if turn >= 3:  # memory is found and kernels are chosen in the first ones
                times[name].append(1000 * seconds)
    return {name: round(statistics.median(own), 3) for name, own in times.items()}


def timed(network: Network, images: Tensor, targets: ClassTargets[Tensor]) -> float:
    """Seconds of one pass forward and back, in the precision that training has.

    Of the processor, not of the clock, which would also count what else the machine does.
    """
    device = choose_device("cpu")
    began = time.process_time()
    with autocast(device, choose_precision("auto", device)):
        terms = network.loss(network(images), targets)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    return time.process_time() - began


def start(experiment: Experiment, arm: Arm, classes: int, seed: int) -> Network:
    """The network of `arm` with the weights that its training begins with."""
    torch.manual_seed(seed)
    return striate.create(arm.network, classes, **settings_of(experiment, arm)["network"])


def trained(
    experiment: Experiment, arm: Arm, pictures: Path, seed: int, epochs: int
) -> tuple[Trained, float]:
    """What came of one arm, and the seconds that its training took."""
    with tempfile.TemporaryDirectory() as folder:
        run = striate.train(
            pictures,
            model=arm.network,
            out=Path(folder) / "run",
            settings=settings_of(experiment, arm),
            epochs=epochs,
            seed=seed,
            val_fraction=0.0,
        )
        network = PyTorchEngine.from_file(run.folder / MODEL_FILE, "cpu", run.made_by).network
    fresh = start(experiment, arm, len(network.classes), seed)
    train, test = (part_of(pictures, network.preprocess, part) for part in ("train", "test"))
    return Trained(network, fresh, train, test), run.seconds


def figures(experiment: Experiment, state: Trained, seconds: float) -> dict[str, Any]:
    """What is told of one arm: all its measures, and what it took."""
    measured = {measure.name: measure.of(state) for measure in experiment.all_measures}
    device = choose_device("cpu")
    return {
        "measures": {name: round(value, 6) for name, value in measured.items()},
        "seconds": round(seconds, 1),
        "device": describe(device, choose_precision("auto", device), 1),
    }


@lru_cache(maxsize=2)
def part_of(pictures: Path, preprocess: Preprocess, part: str) -> Part:
    """All pictures of `part`, as a network with this `preprocess` takes them."""
    dataset = open_dataset(DataConfig(str(pictures)))
    indices = [index for index, item in enumerate(dataset.items) if item.part == part]
    arrays = np.stack([apply(preprocess, dataset.image(index))[0] for index in indices])
    labels = dataset.labels()[indices]
    return Part(torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))
