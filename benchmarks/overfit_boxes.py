"""Whether `fast_yolo` learns a few real pictures by heart: the AP50 of those that it was trained on.

Usage: python benchmarks/overfit_boxes.py VOC [--pictures 16] [--size 512] [--epochs 300]
       [--out benchmarks/results/overfit_boxes.json]

VOC is a folder with Annotations, JPEGImages and ImageSets/Main/train.txt. Its first --pictures training
pictures are all that the network sees, from drawn weights, unvaried and without dropout, with the recipe of
its family otherwise; then they are measured as `striate eval --part train` does.

A YOLO of the first version finds one object in each cell of 64 x 64 pixels. Blood cells lie closer than that
in 448 x 448 pixels, so that some cannot be found however well it has learnt; hence the larger --size.
"""

import argparse
import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from startup import machine

import striate
from striate import api
from striate.config import Layer

NETWORK = "fast_yolo"
UNVARIED = {"flip": 0.0, "jitter": 0.0, "hue": 0.0, "saturation": 1.0, "exposure": 1.0}


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, metavar="VOC")
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "overfit_boxes.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = learnt(first(options.data, options.pictures, Path(folder) / "data"), Path(folder), options)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def first(data: Path, count: int, folder: Path) -> Path:
    """`folder` with the first `count` training pictures of `data` alone."""
    keys = (data / "ImageSets" / "Main" / "train.txt").read_text().split()[:count]
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("\n".join(keys) + "\n")
    for key in keys:
        shutil.copy(data / "Annotations" / f"{key}.xml", folder / "Annotations")
        shutil.copy(data / "JPEGImages" / f"{key}.jpg", folder / "JPEGImages")
    return folder


def learnt(data: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One run over `data`, and the scores of its pictures behind it."""
    layers = [
        Layer("benchmark", {"data": {"split": {"val_fraction": 0.0, "test_fraction": 0.0}}}),
        Layer("benchmark", {"augment": UNVARIED, "network": {"dropout": 0.0}}),
        Layer("--size", {"network": {"preprocess": {"size": [options.size, options.size]}}}),
        Layer("--epochs", {"training": {"epochs": options.epochs, "seed": 0}}),
    ]
    plan = api.prepare(str(data), model=NETWORK, out=folder / "run", layers=layers)
    *_, last = (event for event in plan.events() if isinstance(event, api.StepEvent))
    run = plan.finish()
    scores = striate.evaluate(run.folder, str(data), part="train").scores.values
    return {
        "what": (__doc__ or "").splitlines()[0],
        "network": NETWORK,
        "pictures": options.pictures,
        "input": [options.size, options.size],
        "epochs": options.epochs,
        "steps": last.step,
        "loss_at_the_end": round(sum(last.losses.values()), 4),
        **{name: round(scores[name], 4) for name in ("ap50", "ap", "ar100")},
        "seconds": round(plan.seconds, 1),
        "device": plan.where,
        "machine": machine() | {"versions": {name: version(name) for name in ("striate", "torch", "numpy")}},
    }


if __name__ == "__main__":
    main()
