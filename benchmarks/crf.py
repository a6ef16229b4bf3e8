"""What the dense CRF costs, how near its fast form is to the exact one, and what it does to mean IoU.

Usage: python benchmarks/crf.py CAMVID [--rounds 5] [--every 8] [--model FILE]
       [--out benchmarks/results/crf.json]

CAMVID is a folder of photos and masks with a test part. `seconds`: `refine` with the settings of DeepLab v2,
10 iterations and 21 classes, on three photos of the test part cut to 321x321 and on 321x321 pixels of random
colours; wall clock and processor time of all threads. `agreement`: share of pixels of one class in `refine`
and `exact_mean_field`, 64x64: photos shrunk, windows of photos, and drawn discs. `mean_iou`: before and after
the CRF, over every eighth photo of the test part at its own size.

Without --model the probabilities are a stand-in: the true mask averaged over squares of 8x8, as a network of
output stride 8 sees it, with a share of the truth and normal noise in each square as logits, enlarged
bicubically. `outlines` has no noise to speak of: all its errors are at the borders between classes; `noisy`
has whole squares wrong too. A trained network errs in another way: give one to learn what the CRF does to it.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from startup import machine

from striate.data.dataset import Dataset
from striate.data.open import DataConfig, open_dataset
from striate.modelfile import find_model_file, read_card
from striate.runtime.predictor import load
from striate.structures import Image, Sample, Segmentation
from striate.tasks import segmentation
from striate.tasks._softmax import softmax
from striate.tasks.crf import exact_mean_field, refine

SIDE, CLASSES = 321, 21
SMALL = 64
SQUARE, CERTAINTY = 8, 4.0  # pixels of a side of the squares; logit of a square that is of one class
NOISE = {"outlines": 0.1, "noisy": 1.5}
GOALS = {"seconds": 10.0, "agreement": 0.99}
Probabilities = NDArray[np.float32]
Mask = NDArray[np.uint8]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("camvid", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--every", type=int, default=8, help="photos of the test part that mean IoU is over")
    parser.add_argument("--model", type=Path, help="a run folder or model file, instead of the stand-in")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "crf.json")
    options = parser.parse_args()
    dataset = open_dataset(DataConfig(str(options.camvid)))
    test = dataset.only(dataset.indices("test"))
    before = os.getloadavg()
    seconds, shares = times(test, options.rounds), agreements(test)
    result = {
        "what": (__doc__ or "").partition("\n")[0],
        "machine": machine() | {"versions": {name: version(name) for name in ("striate", "numpy", "pillow")}},
        "seconds": seconds,
        "agreement": shares,
        "mean_iou": gains(test, options.every, options.model),
        "load_average": {"before": before, "after": os.getloadavg()},
        "goals": judged(seconds, shares),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in ("seconds", "mean_iou", "goals")}, indent=1))


def stand_in(mask: Mask, classes: int, noise: float) -> Probabilities:
    """Probabilities (K, H, W) as of a network that sees `mask` in squares, with `noise` in their logits."""
    height, width = mask.shape
    chance = np.random.default_rng(0)
    logits = []
    for label in range(classes):
        area = PIL.Image.fromarray((mask == label).astype(np.float32))
        share = np.asarray(area.resize((width // SQUARE, height // SQUARE), PIL.Image.Resampling.BOX))
        seen = (CERTAINTY * share + chance.normal(0, noise, share.shape)).astype(np.float32)
        logits.append(PIL.Image.fromarray(seen).resize((width, height), PIL.Image.Resampling.BICUBIC))
    return softmax(np.stack([np.asarray(map_) for map_ in logits]), axis=0)


def of(sample: Sample) -> tuple[Image, Mask]:
    """The picture and its mask."""
    if sample.mask is None:
        raise SystemExit(f"{sample.key} has no mask")
    return sample.image, sample.mask


def times(test: Dataset, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of `refine` on each picture: wall clock, median and range; processor, median."""
    found = {}
    chance = np.random.default_rng(0)
    pictures = {}
    for index in spread(test, 3):
        image, mask = of(test.sample(index))
        pictures[test.items[index].key] = image[:SIDE, :SIDE], mask[:SIDE, :SIDE]
    pictures["colours drawn at random"] = (
        chance.integers(0, 256, (SIDE, SIDE, 3), np.uint8),
        mask[:SIDE, :SIDE],
    )
    for name, (image, mask) in pictures.items():
        probabilities = stand_in(mask, CLASSES, NOISE["noisy"])
        walls, processors = zip(*(timed(probabilities, image) for _ in range(rounds)), strict=True)
        found[name] = {
            "wall": statistics.median(walls),
            "wall_min": min(walls),
            "wall_max": max(walls),
            "processor": statistics.median(processors),
        }
    return found


def timed(probabilities: Probabilities, image: Image) -> tuple[float, float]:
    """Seconds of one `refine`: wall clock, and processor time of all threads."""
    wall, processor = time.perf_counter(), time.process_time()
    refine(probabilities, image)
    return round(time.perf_counter() - wall, 2), round(time.process_time() - processor, 2)


def spread(test: Dataset, count: int) -> list[int]:
    """`count` items at equal distances: neighbours are frames of one drive."""
    return [round(place) for place in np.linspace(0, len(test) - 1, count).tolist()]


def agreements(test: Dataset) -> dict[str, dict[str, float]]:
    """Share of pixels of equal class in the fast and the exact form, of each kind of picture."""
    kinds = {
        "photos shrunk": [shrunk(*of(test.sample(index))) for index in spread(test, 8)],
        "windows of photos": [window(*of(test.sample(index))) for index in spread(test, 8)],
        "drawn discs": [discs(seed) for seed in range(8)],
    }
    return {kind: agreement(pictures, len(test.classes)) for kind, pictures in kinds.items()}


def shrunk(image: Image, mask: Mask) -> tuple[Image, Mask]:
    """Both at 64x64."""
    small = PIL.Image.fromarray(image).resize((SMALL, SMALL), PIL.Image.Resampling.LANCZOS)
    labels = PIL.Image.fromarray(mask).resize((SMALL, SMALL), PIL.Image.Resampling.NEAREST)
    return np.asarray(small), np.asarray(labels)


def window(image: Image, mask: Mask) -> tuple[Image, Mask]:
    """64x64 pixels a little below the middle, where road, cars and walls meet."""
    rows, columns = slice(180, 180 + SMALL), slice(200, 200 + SMALL)
    return image[rows, columns], mask[rows, columns]


def discs(seed: int) -> tuple[Image, Mask]:
    """Discs of five colours on one another with grain of 4 levels, 64x64."""
    chance = np.random.default_rng(seed)
    rows, columns = np.indices((SMALL, SMALL))
    mask = np.zeros((SMALL, SMALL), np.uint8)
    for label in range(1, 5):
        row, column, radius = chance.integers((0, 0, 8), (SMALL, SMALL, 21))
        mask[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = label
    image = chance.integers(0, 256, (5, 3))[mask] + chance.normal(0, 4, (SMALL, SMALL, 3))
    return np.clip(image, 0, 255).astype(np.uint8), mask


def agreement(pictures: Iterable[tuple[Image, Mask]], classes: int) -> dict[str, float]:
    """The least and the mean share over `pictures`, and the share of pixels that the exact CRF changes."""
    equal, changed = [], []
    for image, mask in pictures:
        probabilities = stand_in(mask, classes, NOISE["noisy"])
        exact = exact_mean_field(probabilities, image).argmax(axis=0)
        equal.append(float(np.mean(refine(probabilities, image).argmax(axis=0) == exact)))
        changed.append(float(np.mean(probabilities.argmax(axis=0) != exact)))
    means = {"mean": statistics.mean(equal), "changed_by_crf": statistics.mean(changed)}
    return {"pictures": len(equal), "least": round(min(equal), 4)} | {
        k: round(v, 4) for k, v in means.items()
    }


def gains(test: Dataset, every: int, model: Path | None) -> dict[str, dict[str, float]]:
    """Mean IoU before and after the CRF, of the model or of each stand-in."""
    chosen = test.only(range(0, len(test), every))
    if model is not None:
        return {read_card(find_model_file(model)).variant: gain(chosen, of_model(chosen, model))}
    return {name: gain(chosen, of_stand_in(chosen, noise)) for name, noise in NOISE.items()}


def gain(chosen: Dataset, pairs: Iterable[tuple[Segmentation, Segmentation]]) -> dict[str, float]:
    """The scores of results without and with the CRF, in the order of `chosen`."""
    plain, refined = segmentation.metric(chosen.classes), segmentation.metric(chosen.classes)
    for index, (before, after) in enumerate(pairs):
        truth = of(chosen.sample(index))[1]
        plain.update([before], [truth])
        refined.update([after], [truth])
    return {
        "pictures": len(chosen),
        "before": round(plain.compute().values["mean_iou"], 4),
        "after": round(refined.compute().values["mean_iou"], 4),
    }


def of_stand_in(chosen: Dataset, noise: float) -> Iterator[tuple[Segmentation, Segmentation]]:
    """The likeliest classes of the stand-in, and of the CRF over it."""
    for index, item in enumerate(chosen.items):
        image, mask = of(chosen.sample(index))
        probabilities = stand_in(mask, len(chosen.classes), noise)
        before, after = (
            Segmentation(item.key, maps.argmax(axis=0).astype(np.uint8), chosen.classes)
            for maps in (probabilities, refine(probabilities, image))
        )
        yield before, after


def of_model(chosen: Dataset, model: Path) -> Iterator[tuple[Segmentation, Segmentation]]:
    """What the model says without and with the CRF. Its classes are to be the data's, in their order."""
    plain = load(model)
    if plain.classes != chosen.classes:
        raise SystemExit(f"{model} knows {plain.classes}, the photos show {chosen.classes}")
    refined = plain.viewing(crf=True)
    for index in range(len(chosen)):
        before, after = (next(iter(way.results([chosen.sample(index)]))) for way in (plain, refined))
        if not isinstance(before, Segmentation) or not isinstance(after, Segmentation):
            raise SystemExit(f"{model} does {plain.task}")
        yield before, after


def judged(
    seconds: dict[str, dict[str, float]], shares: dict[str, dict[str, float]]
) -> dict[str, dict[str, float | bool]]:
    """The goals beside what was reached on photos, and in the worst picture."""
    slowest = max(row["wall"] for name, row in seconds.items() if not name.startswith("colours"))
    least = min(row["least"] for row in shares.values())
    return {
        "seconds": {"goal": GOALS["seconds"], "reached": slowest, "is_met": slowest <= GOALS["seconds"]},
        "agreement": {"goal": GOALS["agreement"], "reached": least, "is_met": least >= GOALS["agreement"]},
    }


if __name__ == "__main__":
    main()
