"""Every network at its real size as ONNX: what ONNX Runtime says of real pictures beside what torch says.

Usage: python benchmarks/exports.py PICTURES [--pictures 4] [--networks NAME ...] [--again]
       [--out benchmarks/results/exports.json] [--page docs/exports.md]
   or: python benchmarks/exports.py --page-only

PICTURES is a folder of pictures at any depth; the first --pictures are used, each as its network's
preprocessing gives it. All networks of at most 60 million parameters, and a large one of each task (LARGE);
default classes, seed 0, and batch normalisation with the statistics of the pictures, a frozen one with those
of the last, or numbers would grow or vanish from layer to layer.

`dense`: the largest difference of a logit as a share of the largest logit; of detectors that of the scores in
falling order, since equal ones may change places. `results`: what the proof of `striate export` says of
classes, boxes and masks, at one picture at once and at all. `export s` is what the clock said, with whatever
else the machine did. How fast exports run is told by runtime.py.

Every row is written as soon as it is there, and a second run goes on behind them; --again does them anew.
About an hour on two cores, and up to 6 GB of memory for the large ones.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rows import add_row, known, page_options, parsed
from runtime_models import settle
from tables import measured_on, table

import striate
from striate import api, models
from striate.data.decode import SUFFIXES, decode_image
from striate.errors import StriateError
from striate.export import proof
from striate.export.targets import onnx
from striate.models.network import Network
from striate.runtime.engine import Engine
from striate.runtime.pictures import Prepared, prepare
from striate.runtime.predictor import Predictor
from striate.runtime.pytorch import PyTorchEngine
from striate.structures import Sample

MOST_PARAMETERS = 60_000_000
LARGE = ("vgg16", "faster_rcnn_vgg16", "fcn8s")
LIFETIME = 8  # networks that a process exports before it ends: the exporter keeps memory

Row = dict[str, Any]
Arrays = Mapping[str, NDArray[Any]]


def main() -> None:
    """Measure and write."""
    options = arguments()
    found = known(options, __doc__, ("onnx", "onnxruntime"), pictures=options.pictures)
    if not options.page_only:
        measure(found, wanted(options.networks), pictures_of(options), options)
    options.page.parent.mkdir(exist_ok=True)
    options.page.write_text(page(found))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="?", help="a folder of pictures, at any depth")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="these, of whatever size")
    page_options(parser, "exports", "exports.md")
    return parsed(parser, "PICTURES: which to compare on")


def wanted(networks: Sequence[str] | None) -> tuple[str, ...]:
    """The networks asked for, else all that are small and some that are large."""
    if networks is not None:
        return tuple(networks)
    return tuple(
        info.name for info in api.models() if info.name in LARGE or (info.parameters or 0) <= MOST_PARAMETERS
    )


def pictures_of(options: argparse.Namespace) -> tuple[Path, ...]:
    """The pictures. Raises SystemExit where there are not so many."""
    found = sorted(path for path in Path(options.data).rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(found) < options.pictures:
        raise SystemExit(f"{options.data}: it has {len(found)} pictures, {options.pictures} are asked for")
    return tuple(found[: options.pictures])


def measure(
    found: Row, networks: Sequence[str], pictures: tuple[Path, ...], options: argparse.Namespace
) -> None:
    """Add the row of each network to `found` and to the file; nothing where it has one."""
    with Exporters() as exporters:
        for name in networks:
            if row := add_row(found, {"network": name}, partial(exporters.row, name, pictures), options):
                print(f"{name:36}{row.get('not_run') or row['results']}", flush=True)


class Exporters:
    """Processes that export, one at a time and each a few networks; one that dies costs one row."""

    def __enter__(self) -> "Exporters":
        self._pool = self._started()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def row(self, name: str, pictures: tuple[Path, ...]) -> Row:
        """What came of one network, or why nothing did."""
        try:
            return self._pool.submit(exported, name, pictures).result()
        except BrokenProcessPool:
            self._pool = self._started()
            return {"not_run": "its process ended, most likely for want of memory"}

    @staticmethod
    def _started() -> ProcessPoolExecutor:
        fresh = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, fresh, max_tasks_per_child=LIFETIME)


def exported(name: str, pictures: tuple[Path, ...]) -> Row:
    """The row of one network; `not_run` where it is refused or fails, which must not cost the others."""
    try:
        return {**facts_of(name), **compared(settled(name, pictures), pictures)}
    except Exception as error:
        return {"not_run": str(error) if isinstance(error, StriateError) else repr(error)}


def facts_of(name: str) -> Row:
    """What the list of networks says."""
    (info,) = (info for info in api.models(name) if info.name == name)
    return {"task": info.task, "parameters": info.parameters, "input": list(info.input)}


def settled(name: str, pictures: tuple[Path, ...]) -> Network:
    """The network with seeded weights and the statistics of the pictures."""
    torch.manual_seed(0)
    network = models.create(name)
    prepared = [prepare(network.preprocess, path) for path in pictures]
    # At once where that can be: a map of one value in one picture has no variance.
    batches = [prepared] if network.preprocess.is_fixed else [[one] for one in prepared]
    inputs = [{key: torch.from_numpy(one) for key, one in arrays(batch).items()} for batch in batches]
    settle(network, lambda: [network.dense(**each) for each in inputs])
    return network.eval()


def compared(network: Network, pictures: tuple[Path, ...]) -> Row:
    """Time and size of the export, and its differences from torch."""
    card = models.card_of(network)
    if network.task == "detection":  # an untrained one is sure of nothing
        card = replace(card, config={**card.config, "score_threshold": 0.0})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        started = time.perf_counter()
        onnx.write(network, path, card)
        seconds = time.perf_counter() - started
        ours, theirs = Predictor(card, PyTorchEngine(network)), striate.load(path, "cpu")
        prepared = [prepare(network.preprocess, picture) for picture in pictures]
        return {
            "export_seconds": round(seconds, 1),
            "megabytes": round(path.stat().st_size / 1e6, 1),
            "dense": max(dense_difference(ours.engine, theirs.engine, arrays([one])) for one in prepared),
            **results_of(ours, theirs, pictures),
        }


def arrays(prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
    """Pictures of one size as a network takes them."""
    images = np.stack([one.image for one in prepared]).transpose(0, 3, 1, 2)
    names = prepared[0].extras
    return {"images": images, **{name: np.stack([one.extras[name] for one in prepared]) for name in names}}


def dense_difference(ours: Engine, theirs: Engine, inputs: Arrays) -> float:
    """The largest difference of the dense outputs, as the page tells it."""
    found, other = ours.dense(inputs), theirs.dense(inputs)
    if "logits" in found:
        largest = float(np.abs(found["logits"]).max())
        return float(np.abs(found["logits"] - other["logits"]).max()) / max(largest, 1e-30)
    return float(np.abs(np.sort(found["scores"]) - np.sort(other["scores"])).max(initial=0))


def results_of(ours: Predictor, theirs: Predictor, pictures: tuple[Path, ...]) -> Row:
    """What the proof of an export says of these pictures."""
    samples = [Sample(path.name, decode_image(path, name=str(path))) for path in pictures]
    examination = proof.Examination(ours, theirs)
    told, _ = examination.compare(samples)
    examination.compare_alone(samples, told)
    agreement = examination.agreement()
    return {
        "results": agreement.summary,
        "largest": agreement.largest,
        "excused": agreement.excused,
        "problems": list(agreement.problems),
    }


HEAD = ("network", "input", "export s", "MB", "dense", "results")


def page(found: Row) -> str:
    """The page about all exports, every figure from the JSON file."""
    settings, rows = found["settings"], found["rows"]
    agreeing = sum(not row["problems"] for row in rows if "not_run" not in row)
    return "\n".join(
        [
            "# Exports compared",
            "",
            "Written by `benchmarks/exports.py`; do not edit. How each figure is measured is told there.",
            "",
            f"Networks at their real size, seeded weights, {settings['pictures']} pictures of "
            f"{settings['data']}: what ONNX Runtime says beside what torch says. {agreeing} of {len(rows)} "
            "agree within the tolerances of `striate export`.",
            "",
            *measured_on(found, itemgetter("network")),
            "",
            *sections(rows),
        ]
    )


def sections(rows: Sequence[Row]) -> Iterator[str]:
    """A table for each task, and what was not exported."""
    for task in models.TASKS:
        own = [cells(row) for row in rows if row.get("task") == task]
        if own:
            yield from (f"## {task.capitalize()}", "", *table(HEAD, own), "")
    missing = [f"- {row['network']}: {row['not_run']}" for row in rows if "not_run" in row]
    if missing:
        yield from ("## Not exported", "", *missing, "")


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table."""
    return (
        row["network"],
        "x".join(map(str, row["input"])),
        f"{row['export_seconds']:.1f}",
        f"{row['megabytes']:,.1f}",
        f"{row['dense']:.1e}",
        "; ".join(row["problems"]) or row["results"],
    )


if __name__ == "__main__":
    main()
