"""From photos on disk to a file of results: striate's runtimes beside torchvision, timm and ONNX Runtime.

Usage: python benchmarks/runtime.py PHOTOS [--photos 500] [--pairs 5] [--models NAME ...]
       [--sections NAME ...] [--int8-data DATA [--int8-model MODEL]] [--again]
       [--out benchmarks/results/runtime.json] [--page docs/speed.md]
   or: python benchmarks/runtime.py --page-only

PHOTOS is a folder with JPEG files at any depth; copies of them make --photos files of a temporary folder. All
ways of a network have equal seeded weights (runtime_models.py) and compute in float32, each with the threads
that it takes by itself.

processes: `striate predict MODEL photos --out FILE` with each engine, and the scripts of runtime_peers/,
which do the same as their libraries' documentation does it: whole processes, one at a time, that take turns,
every second round in reverse, so that a busy moment of the machine hits all of them. torchvision and timm
load with no or two processes beside them, the simple loop over ONNX Runtime takes 1 or 8 pictures at once: a
quarter of the photos tells which is faster, and that one is raced. The loop's model is torchvision's network
as torch.onnx.export writes it. A ratio is striate's time with ONNX Runtime / that of a way in the same round;
the median over the rounds counts. Peak memory is that of a way's largest process; the processes that load
beside it are left out. Every answer is compared with striate's of ONNX Runtime, of detectors also for photos
that have the size of the input: an untrained one makes other boxes of pixels that were resized otherwise, and
torchvision resizes without rounding to whole levels. Start-up is a process on one photo.

memory: engines on random pictures that lie in memory (runtime_latency.py), and int8 beside float32: its
pictures a second in batches of 16 / those of the faster layout of PyTorch eager, of medians.

int8: a trained network's score on the test part of --int8-data before and after `striate export --int8`,
calibrated on the same data's training part. --int8-model is a network's name, which is trained for it, or a
model file or run folder [resnet18].

environment: `pip install .` in a fresh environment without extras (it needs a package index): its size, what
it takes to import, and its answers beside those of this one.

Every row is written as soon as it is there, and a second run goes on behind them; --again does them anew. The
page is made of the JSON alone. About two hours on two cores.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import runtime_page
from rows import add_row, known, page_options, parsed
from runtime_environment import environment
from runtime_int8 import int8_accuracy
from runtime_latency import BY_HAND, CHANNELS_LAST, EAGER, RUNTIME, VINO, WINOGRAD, in_memory
from runtime_models import CASES, Case, Files, made, quantised, with_onnx
from runtime_race import TRIAL, Track, raced
from runtime_ways import OURS, ways_of

JPEG = (".jpg", ".jpeg")
SECTIONS = ("processes", "memory", "int8", "environment")
TARGETS = {"onnx": ".onnx", "openvino": ".xml"}  # that have int8

Row = dict[str, Any]


@dataclass(frozen=True)
class Workshop:
    """Where everything is while it is measured."""

    photos: tuple[Path, ...]  # as they were found
    track: Track
    folder: Path
    known: dict[str, Files] = field(default_factory=dict)

    def files(self, case: Case) -> Files:
        """The files of `case`, made when they are first asked for."""
        if case.network not in self.known:
            folder = self.folder / case.network
            folder.mkdir()
            self.known[case.network] = with_onnx(made(case, self.photos, folder))
        return self.known[case.network]


def main() -> None:
    """Measure and write."""
    options = arguments()
    found = known(options, __doc__, present_engines(), pairs=options.pairs, photos=options.photos)
    if not options.page_only:
        with tempfile.TemporaryDirectory() as folder:
            shop = set_up(options, Path(folder))
            for section, subject, measure in wanted(options, shop):
                row = partial(attended, f"{section}: {subject}", measure)
                add_row(found, {"section": section, "subject": subject}, row, options)
    options.page.parent.mkdir(exist_ok=True)
    options.page.write_text(runtime_page.page(found))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="?", help="a folder of photos, at any depth")
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=5, help="rounds in which each way has its turn")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--int8-data", help="what `striate train` takes, with a test part")
    parser.add_argument("--int8-model", default="resnet18", metavar="MODEL")
    page_options(parser, "runtime", "speed.md")
    return parsed(parser, "PHOTOS: what to predict")


def set_up(options: argparse.Namespace, folder: Path) -> Workshop:
    """The photos at their places. Raises SystemExit where there are none."""
    found = sorted(path for path in Path(options.data).rglob("*") if path.suffix.lower() in JPEG)
    if not found:
        raise SystemExit(f"{options.data}: there are no JPEG files below it")
    track = Track(folder / "photos", folder / "some", folder / "one", folder / "sized", folder / "results")
    track.results.mkdir()
    count = options.photos
    for place, number in ((track.photos, count), (track.some, -(-count // TRIAL)), (track.one, 1)):
        place.mkdir()
        for index in range(number):
            photo = found[index % len(found)]
            shutil.copyfile(photo, place / f"{index:05}{photo.suffix}")
    return Workshop(tuple(found), track, folder)


def wanted(options: argparse.Namespace, shop: Workshop) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Section, subject and measurement of each row that is asked for."""
    for name in options.models:
        case = CASES[name]
        if "processes" in options.sections:
            yield "processes", name, partial(processes_row, case, shop, options.pairs)
        if "memory" in options.sections:
            yield "memory", name, partial(memory_row, case, shop, options.pairs)
    if "int8" in options.sections and options.int8_data:
        yield "int8", subject_of(options), partial(int8_row, options, shop.folder)
    if "environment" in options.sections:
        yield "environment", "pip install .", partial(environment_row, shop, options.pairs)


def subject_of(options: argparse.Namespace) -> str:
    """What an int8 row is about."""
    return f"{Path(options.int8_model).stem} on {Path(options.int8_data).stem}"


def attended(title: str, measure: Callable[[], Row]) -> Row:
    """What `measure` gives, and how long it took."""
    print(title, flush=True)
    started = time.monotonic()
    row = measure()
    return row | {"minutes": round((time.monotonic() - started) / 60, 1)}


def processes_row(case: Case, shop: Workshop, rounds: int) -> Row:
    """Whole processes with the network of `case`."""
    return raced(case, shop.files(case), shop.track, rounds)


def memory_row(case: Case, shop: Workshop, rounds: int) -> Row:
    """The engines on the network of `case`, in float32 and in int8."""
    files = shop.files(case)
    assert files.onnx is not None
    paths = {
        EAGER: files.model,
        CHANNELS_LAST: files.model,
        RUNTIME: files.onnx,
        BY_HAND: files.onnx,
        VINO: files.onnx,
    }
    if files.winograd is not None:
        paths[WINOGRAD] = files.winograd
    for target, engine in (("onnx", RUNTIME), ("openvino", VINO)):
        if target in present_targets():
            paths[f"{engine} int8"] = quantised(target, files, shop.photos)
    return in_memory(paths, rounds)


def int8_row(options: argparse.Namespace, folder: Path) -> Row:
    """What int8 costs in the score."""
    targets = {name: TARGETS[name] for name in present_targets()}
    return int8_accuracy(options.int8_data, options.int8_model, targets, folder)


def environment_row(shop: Workshop, runs: int) -> Row:
    """The environment without torch, with ResNet-18."""
    case = CASES["resnet18"]
    files = shop.files(case)
    assert files.onnx is not None
    way = next(way for way in ways_of(case, files) if way.name == OURS)
    shop.track.cost(way, shop.track.photos)
    return environment(files.onnx, shop.track.photos, shop.track.written(way), shop.folder, runs)


def present_targets() -> tuple[str, ...]:
    """The exports that have int8 and can be written here."""
    needs = {"onnx": "onnx", "openvino": "nncf"}
    return tuple(name for name in TARGETS if find_spec(needs[name]))


def present_engines() -> tuple[str, ...]:
    """The packages of engines that are installed."""
    return tuple(name for name in ("onnxruntime", "openvino", "nncf") if find_spec(name))


if __name__ == "__main__":
    main()
