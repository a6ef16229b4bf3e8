"""What the loss map of borders and the elastic deformation do for `unet` on 24 slices of cells, 6 held out.

Usage: python benchmarks/isbi.py SLICES [--width 16] [--epochs 30] [--seeds 1] [--model unet]
       [--set KEY=VALUE ...] [--out benchmarks/results/isbi.json]

SLICES has the folders train_image and train_label of the ISBI 2012 challenge: 30 pictures of 512x512 of one
stack, 0.png to 29.png, their masks 0 on membranes and 255 in cells. 0 to 23 are for training, 24 to 29 are
measured; neighbours in a stack are alike, so the held-out ones are those at its end.

Four ways, one after the other for each seed, from equal starting weights: the recipe of the network without
border weight and elastic deformation, with either, and with both, as it is. All else is the recipe's. Each
is measured once, after its last step: no step is chosen by the slices that it is measured on. The paper's
width is 64 and its training takes 10 hours on a GPU; the width and the epochs here are part of the result.

pixel_error is the share of wrong pixels at one half, without the challenge's search for the best threshold;
iou_0 is that of membranes, iou_255 that of cells.
A run that is there already is not done again: call it again to go on, with another --out for other settings.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from rows import write
from startup import machine

from striate import api
from striate.config import Layer, assignment

TRAINED = range(24)
HELD_OUT = range(24, 30)
OFF = {"border_weight": 0.0, "elastic": 0.0}
WAYS: dict[str, dict[str, float]] = {
    "neither": OFF,
    "border_weight": {"elastic": 0.0},
    "elastic": {"border_weight": 0.0},
    "both": {},
}
MEASURES = ("pixel_error", "mean_iou", "dice")


def main() -> None:
    """Train, measure and write, a run at a time."""
    options = arguments()
    result = begun(options)
    with tempfile.TemporaryDirectory() as folder:
        data = arranged(options.slices, Path(folder) / "isbi")
        for seed, way in product(range(options.seeds), WAYS):
            if any((row["seed"], row["way"]) == (seed, way) for row in result["runs"]):
                continue
            row = trained(options, data, Path(folder) / f"{way}-{seed}", way, seed)
            result["runs"].append(row)
            result["summary"] = dict(summarised(result["runs"]))
            write(options.out, result)
            print(json.dumps(row), flush=True)
    print(json.dumps(result.get("summary", {}), indent=1))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("slices", type=Path)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=1, help="how many: 0, 1, ...")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "isbi.json")
    return parser.parse_args()


def begun(options: argparse.Namespace) -> dict[str, Any]:
    """The result as far as it goes. Stops where the file holds one of other settings."""
    settings = {name: getattr(options, name) for name in ("model", "width", "epochs")}
    settings["changes"] = sorted(options.assignments)
    if not options.out.exists():
        versions = {name: version(name) for name in ("striate", "torch", "numpy", "pillow")}
        return {
            "what": (__doc__ or "").splitlines()[0],
            "settings": settings,
            "slices": {"trained": len(TRAINED), "measured": len(HELD_OUT)},
            "machine": machine() | {"versions": versions},
            "runs": [],
        }
    result: dict[str, Any] = json.loads(options.out.read_text())
    if result["settings"] != settings:
        raise SystemExit(f"{options.out} was made with {result['settings']}: give another --out")
    return result


def arranged(slices: Path, folder: Path) -> Path:
    """`folder` with copies of the labelled slices, those to train on and those to measure apart."""
    for part, numbers in (("train", TRAINED), ("val", HELD_OUT)):
        for kind, source in (("images", "train_image"), ("masks", "train_label")):
            (folder / part / kind).mkdir(parents=True)
            for number in numbers:
                shutil.copy(slices / source / f"{number}.png", folder / part / kind / f"{number:02d}.png")
    return folder


def trained(options: argparse.Namespace, data: Path, folder: Path, way: str, seed: int) -> dict[str, Any]:
    """One run and its measures on the held-out slices."""
    before = os.getloadavg()[0]
    layers = [
        Layer("benchmark", {"data": {"split": {"val_fraction": 0.0, "test_fraction": 0.0}}}),
        Layer("--width", {"network": {"width": options.width}}),
        Layer("--epochs", {"training": {"epochs": options.epochs, "eval_every": options.epochs}}),
        Layer("--seeds", {"training": {"seed": seed}}),
        Layer(way, {"augment": WAYS[way]}),
        *(Layer(f"--set {text}", assignment(text)) for text in options.assignments),
    ]
    plan = api.prepare(str(data), model=options.model, out=folder, layers=layers)
    *_, last = (event for event in plan.events() if isinstance(event, api.StepEvent))
    run = plan.finish()
    scores = run.scores
    return {
        "way": way,
        "seed": seed,
        **{name: round(scores.values[name], 5) for name in MEASURES},
        **{f"iou_{row['name']}": round(row["iou"], 5) for row in scores.classes},
        "steps": last.step,
        "loss_at_the_end": round(sum(last.losses.values()), 4),
        "seconds": round(plan.seconds, 1),
        "where": plan.where,
        "load_average": [round(before, 1), round(os.getloadavg()[0], 1)],
    }


def summarised(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, dict[str, float]]]:
    """The mean over the seeds of each way's measures, and the spread of its pixel error over them."""
    for way in WAYS:
        here = [row for row in rows if row["way"] == way]
        if here:
            errors = [row["pixel_error"] for row in here]
            means = {name: round(statistics.fmean(row[name] for row in here), 5) for name in MEASURES}
            spread = {"pixel_error_least": min(errors), "pixel_error_most": max(errors)}
            yield way, {**means, **spread, "n": len(here)}


if __name__ == "__main__":
    main()
