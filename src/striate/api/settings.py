"""A run's settings, from the network's defaults to the last flag, each value with its origin."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from striate import plugins
from striate.api.starting_weights import InitConfig, StartingWeights
from striate.config import Layer, Resolved, Settings, leaves, read_toml, resolve
from striate.data import batches
from striate.data.cache import CacheConfig
from striate.data.check import DataFacts
from striate.data.dataset import Dataset
from striate.data.open import DataConfig
from striate.errors import UsageError
from striate.structures import Preprocess, Task
from striate.training.config import TrainingConfig

__all__ = [
    "WITHOUT_EFFECT",
    "RunConfig",
    "data_settings",
    "flat_settings",
    "recorded_settings",
    "run_settings",
]

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as in preprocessing
_LEAST_STD = 1 / 255  # a constant channel must not divide by zero
WITHOUT_EFFECT = (
    "cache.gigabytes",
    "cache.mode",
    "data.source",
    "data.root",
    "training.checkpoint_minutes",
    "training.keep_memory",
    "training.workers",
)
"""Settings that no bit of the result depends on; where the data lies is among them, what it holds is not."""


class RunConfig(Settings, frozen=True):
    """Everything a training run depends on; `run.toml` holds it."""

    data: DataConfig
    model: str  # public name of the network
    network: Any  # the family's own Config, preprocessing and classes included
    augment: Any  # the AugmentConfig of the network's task
    init: InitConfig = InitConfig()
    cache: CacheConfig = CacheConfig()
    training: TrainingConfig = TrainingConfig()


def data_settings(source: str, layers: Iterable[Layer]) -> Resolved[DataConfig]:
    """The `data` table alone: it must be known before the pictures are seen."""
    tables = [Layer(layer.origin, layer.values["data"]) for layer in layers if "data" in layer.values]
    return resolve(DataConfig, [Layer("DATA", {"source": source}), *tables])


def lasting_source(source: str) -> str:
    """`source` as a later command in another folder will find it: a name stays, a path becomes absolute."""
    return str(Path(source).expanduser().resolve()) if Path(source).exists() else source


def run_settings(
    model: Layer,
    source: str,
    dataset: Dataset,
    facts: DataFacts,
    layers: Sequence[Layer],
    start: StartingWeights | None = None,
) -> Resolved[RunConfig]:
    """The whole on data of these `facts`: defaults, recipe, what was measured, what `start` brings, `layers`.

    `model` is the layer that names the network; it wins over the names in `layers`.
    """
    from striate import models

    name: str = model.values["model"]
    family = models.family_of(name)
    task = models.task_of(name, dataset.task)
    default = models.defaults_of(name, task)
    asked = [_completed(layer, start.preprocess if start else default.preprocess) for layer in layers]
    base = [
        Layer("DATA", {"data": {"source": lasting_source(source)}}),
        Layer(f"default of {name}", {"network": msgspec.to_builtins(default)}),
        Layer(f"recipe of {name}", family.recipe(msgspec.structs.replace(default, classes=dataset.classes))),
        *([Layer("fine-tuning", start.tuning)] if start else []),
        Layer("the data", {"network": {"classes": dataset.classes}}),
        *_size_of_pictures(family, facts),
        *_colors_of_pictures(family, facts),
    ]
    measured = _measured_statistics([*base, *asked], facts)
    brought = [Layer(f"weights {start.source}", {"network": start.network_settings(name)})] if start else []
    every = [*base, measured, *brought, *asked, model, *_named(start, layers)]
    return resolve(_run_config_for(name, task), every)


def recorded_settings(path: Path) -> Resolved[RunConfig]:
    """The settings in the run.toml `path`, exactly as the run had them."""
    from striate import models

    layer = read_toml(path)
    model = layer.values.get("model")
    if not isinstance(model, str):
        raise UsageError(path, "it does not name its model", "use the run.toml that striate wrote")
    given = layer.values.get("network", {}).get("task", "classification")
    return resolve(_run_config_for(model, models.task_of(model, given)), [layer])


def flat_settings(config: RunConfig) -> dict[str, str]:
    """The settings by dotted path, each spelt as JSON."""
    return {path: msgspec.json.encode(value).decode() for path, value in leaves(config).items()}


def _run_config_for(model: str, task: Task) -> type[RunConfig]:
    """RunConfig with the tables of the network `model` and of its task, so that every key is checked."""
    from striate import models

    augment = plugins.load(batches, task).AugmentConfig
    fields: list[Any] = [("network", models.family_of(model).Config), ("augment", augment, augment())]
    return msgspec.defstruct("RunConfig", fields, bases=(RunConfig,), frozen=True, kw_only=True)  # type: ignore[return-value]


def _named(start: StartingWeights | None, layers: Sequence[Layer]) -> list[Layer]:
    """The weights as a later command in another folder will find them, and their hash."""
    if start is None:
        return []
    asked = [layer.origin for layer in layers if "weights" in layer.values.get("init", {})]
    return [Layer(asked[-1], {"init": {"weights": start.source, "sha256": start.sha256}})]


def _completed(layer: Layer, default: Preprocess) -> Layer:
    """`layer` with what its size and fit imply for `resize_to`, `max_size`, `pad_to`, unless it says those.

    `size=64` means 64x64, `size=(240, 320)` height and width; `resize_to` shrinks with it so that a crop cuts
    the same share, and another fit than crop has no use for it.
    """
    preprocess = dict(layer.values.get("network", {}).get("preprocess", {}))
    size, crops = preprocess.get("size"), preprocess.get("fit", default.fit) == "crop"
    sides = [size, size] if isinstance(size, int) else size
    if isinstance(sides, list | tuple) and all(isinstance(side, int) for side in sides):
        if min(sides, default=0) < 1:
            raise UsageError(layer.origin, f"the size is {size}", "give sides of at least 1 pixel")
        preprocess["size"] = list(sides)
        if crops and default.resize_to is not None:
            cut = max(round(min(sides) * default.resize_to / min(default.size)), *sides)
            preprocess.setdefault("resize_to", cut)
    if not crops:
        preprocess.setdefault("resize_to", None)
    if "fit" in preprocess:
        # What the default's own fit needs has no meaning for another.
        if preprocess["fit"] != "shorter":
            preprocess.setdefault("max_size", None)
        if preprocess["fit"] not in ("shorter", "none"):
            preprocess.setdefault("pad_to", 1)
    if not preprocess:
        return layer
    network = {**layer.values.get("network", {}), "preprocess": preprocess}
    return Layer(layer.origin, {**layer.values, "network": network})


def _size_of_pictures(family: Any, facts: DataFacts) -> list[Layer]:
    """Small pictures that are all alike are used as they are by a family that can."""
    height, width = facts.heights[2], facts.widths[2]
    if not facts.uniform or max(height, width) > getattr(family, "NATIVE_SIZE_UP_TO", 0):
        return []
    change = {"size": (height, width), "fit": "stretch", "resize_to": None, "border": 0}
    return [Layer("size of the pictures", {"network": {"preprocess": change}})]


def _colors_of_pictures(family: Any, facts: DataFacts) -> list[Layer]:
    """Gray pictures train a gray network; a family that takes any size takes colour as it comes too.

    A foreign network takes three channels; gray pictures come repeated.
    """
    if facts.gray and not getattr(family, "NEEDS_COLOR", False):
        return [Layer("colour of the pictures", {"network": {"preprocess": {"color": "gray"}}})]
    if hasattr(family, "NATIVE_SIZE_UP_TO"):
        return [Layer("colour of the pictures", {"network": {"preprocess": {"color": "rgb"}}})]
    return []


def _measured_statistics(layers: Sequence[Layer], facts: DataFacts) -> Layer:
    """Mean and standard deviation of the training pictures in the colours that the network will see."""
    tables = [layer.values.get("network", {}).get("preprocess", {}) for layer in layers]
    color = [table["color"] for table in tables if "color" in table][-1]
    scale = [table["scale"] for table in tables if "scale" in table][-1]
    if color == "hsv":  # not measured: the middle and a quarter of the range
        mean, std, origin = [0.5] * 3, [0.25] * 3, "default for hsv"
    elif color == "gray" and not facts.gray:
        # The luma of the mean is the mean of the luma; its spread lies between the channels'.
        mean, std = [float(np.dot(LUMA, facts.mean))], [float(np.dot(LUMA, facts.std))]
        origin = "training pictures"
    else:
        repeat = 3 if facts.gray and color == "rgb" else 1
        mean, std, origin = [*facts.mean * repeat], [*facts.std * repeat], "training pictures"
    values = {
        "mean": [_rounded(255 * scale * value) for value in mean],
        "std": [_rounded(255 * scale * max(value, _LEAST_STD)) for value in std],
    }
    return Layer(origin, {"network": {"preprocess": values}})


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
