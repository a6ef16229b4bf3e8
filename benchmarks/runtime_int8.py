"""What a trained network loses in int8, measured by `striate.evaluate` on pictures it has not seen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import striate
from striate import plugins, tasks
from striate.modelfile import read_card

__all__ = ["int8_accuracy"]

SIDE, EPOCHS = 32, 2
MOST_LOST = 0.01  # of the score: 1 point
ANY = 100.0  # points that `export` may let go: the loss is what is measured here

Row = dict[str, Any]


def int8_accuracy(data: str, model: str, targets: Mapping[str, str], folder: Path) -> Row:
    """The score of `model` on the test part of `data`: as it is, and each export of `targets` in int8.

    model: a network's name, which is trained for EPOCHS on pictures SIDE pixels wide, or a model file or run
    folder. targets: names of `striate export --to` and the suffix of their files.
    """
    trained = Path(model)
    if not trained.exists():
        settings = {"network": {"preprocess": {"size": [SIDE, SIDE], "fit": "stretch", "resize_to": None}}}
        run = striate.train(data, model, out=folder / "run", epochs=EPOCHS, settings=settings, seed=0)
        trained = run.folder / "model.safetensors"
    card = read_card(trained)
    score = plugins.load(tasks, card.task).SCORE
    before = score_of(trained, data, score)
    rows = {
        target: one_target(trained, data, target, folder / f"{target}-int8{suffix}", (score, before))
        for target, suffix in targets.items()
    }
    return {"network": card.variant, "data": Path(data).stem, "score": score, "fp32": before, "targets": rows}


def one_target(trained: Path, data: str, target: str, out: Path, reference: tuple[str, float]) -> Row:
    """The score in int8 and how much less that is, and the sizes of the files in bytes."""
    striate.export(trained, to=target, out=out, data=data, int8=True, calibrate=data, max_drop=ANY)
    score, before = reference
    after = score_of(out, data, score)
    return {
        "int8": after,
        "lost": round(before - after, 5),
        "is_met": before - after <= MOST_LOST,
        "megabytes": round(sum(file.stat().st_size for file in out.parent.glob(f"{out.stem}.*")) / 1e6, 2),
        "megabytes_fp32": round(trained.stat().st_size / 1e6, 2),
    }


def score_of(model: Path, data: str, score: str) -> float:
    """The measure named `score` on the test part."""
    return striate.evaluate(model, data, part="test").metrics[score]
