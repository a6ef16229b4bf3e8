"""A card written by hand, for an export by a tool that leaves none."""

import json
from pathlib import Path
from typing import get_args

from striate.config import Layer, read_toml, resolve
from striate.errors import ModelError, UnknownName, UsageError
from striate.modelfile import ModelCard
from striate.structures import Task

__all__ = ["card_from_file", "needs_card"]

_EXAMPLE = (
    'task = "classification", classes = ["cat", "dog"], preprocess = { size = [224, 224], fit = "crop", '
    "mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }"
)


def card_from_file(path: str | Path) -> ModelCard:
    """The card that a TOML or JSON file spells: `task`, `classes`, `preprocess`, or all that a card has.

    `config` may set what results are made with, as `score_threshold`. Raises UsageError naming the file and
    the entry that is missing, unknown or wrong.
    """
    path = Path(path)
    layer = _read_json(path) if path.suffix.lower() == ".json" else read_toml(path)
    missing = [name for name in ("task", "classes", "preprocess") if name not in layer.values]
    if missing:
        raise UsageError(path, f"it has no {missing[0]}", f"write three entries: {_EXAMPLE}")
    unsaid = Layer("default", {"family": "", "variant": path.stem, "config": {}})
    card = resolve(ModelCard, [unsaid, layer]).value
    if card.task not in get_args(Task):
        raise UnknownName(f"{path}: task", card.task, get_args(Task))
    if len(set(card.classes)) < len(card.classes) or not card.classes:
        raise UsageError(
            f"{path}: classes", "there are none, or a name comes twice", "name each once, in order"
        )
    return card


def needs_card(path: Path) -> ModelError:
    """The error of a file that has no card, with what a card is."""
    return ModelError(
        path,
        "it does not say what it is for: another tool wrote it, which leaves out the task, the names of the "
        "classes and how pictures are prepared",
        f"say it in a file and name that: --card card.toml, with three lines: {_EXAMPLE}",
    )


def _read_json(path: Path) -> Layer:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(path, f"cannot be read as JSON ({error})", "give a TOML or JSON file") from None
    if not isinstance(values, dict):
        raise UsageError(path, "it holds no entries", f"write three: {_EXAMPLE}")
    return Layer(str(path), values, is_file=True)
