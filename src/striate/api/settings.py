"""A run's settings, from the network's defaults to the last flag, each value with its origin."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from striate.api.starting_weights import FINE_TUNING, InitConfig, StartingWeights
from striate.config import Layer, Resolved, Settings, leaves, read_toml, resolve
from striate.data.augment import AugmentConfig
from striate.data.cache import CacheConfig
from striate.data.check import DataFacts
from striate.data.open import DataConfig
from striate.errors import UsageError
from striate.structures import Preprocess
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
    init: InitConfig = InitConfig()
    augment: AugmentConfig = AugmentConfig()
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
    classes: tuple[str, ...],
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
    default = family.VARIANTS[name]
    asked = [_completed(layer, start.preprocess if start else default.preprocess) for layer in layers]
    base = [
        Layer("DATA", {"data": {"source": lasting_source(source)}}),
        Layer(f"default of {name}", {"network": msgspec.to_builtins(default)}),
        Layer(f"recipe of {name}", family.recipe(default) if hasattr(family, "recipe") else {}),
        *([Layer("fine-tuning", FINE_TUNING)] if start else []),
        Layer("the data", {"network": {"classes": classes}}),
        *_size_of_pictures(family, facts),
        *_colors_of_pictures(family, facts),
    ]
    measured = _measured_statistics([*base, *asked], facts)
    brought = [Layer(f"weights {start.source}", {"network": start.network_settings(name)})] if start else []
    every = [*base, measured, *brought, *asked, model, *_named(start, layers)]
    return resolve(_run_config_for(family), every)


def recorded_settings(path: Path) -> Resolved[RunConfig]:
    """The settings in the run.toml `path`, exactly as the run had them."""
    from striate import models

    layer = read_toml(path)
    model = layer.values.get("model")
    if not isinstance(model, str):
        raise UsageError(path, "it does not name its model", "use the run.toml that striate wrote")
    return resolve(_run_config_for(models.family_of(model)), [layer])


def flat_settings(config: RunConfig) -> dict[str, str]:
    """The settings by dotted path, each spelt as JSON."""
    return {path: msgspec.json.encode(value).decode() for path, value in leaves(config).items()}


def _run_config_for(family: Any) -> type[RunConfig]:
    """RunConfig with the family's own Config as its `network`, so that every key is checked."""
    fields = [("network", family.Config)]
    return msgspec.defstruct("RunConfig", fields, bases=(RunConfig,), frozen=True, kw_only=True)  # type: ignore[return-value]


def _named(start: StartingWeights | None, layers: Sequence[Layer]) -> list[Layer]:
    """The weights as a later command in another folder will find them, and their hash."""
    if start is None:
        return []
    asked = [layer.origin for layer in layers if "weights" in layer.values.get("init", {})]
    return [Layer(asked[-1], {"init": {"weights": start.source, "sha256": start.sha256}})]


def _completed(layer: Layer, default: Preprocess) -> Layer:
    """`layer` with what its size and fit imply for `resize_to`, unless it says that itself.

    `size=64` means 64x64, and `resize_to` shrinks with it so that a crop cuts the same share; another
    fit than crop has no use for it.
    """
    preprocess = dict(layer.values.get("network", {}).get("preprocess", {}))
    size, crops = preprocess.get("size"), preprocess.get("fit", default.fit) == "crop"
    if isinstance(size, int):
        if size < 1:
            raise UsageError(layer.origin, f"the size is {size}", "give a side of at least 1 pixel")
        preprocess["size"] = [size, size]
        if crops and default.resize_to is not None:
            preprocess.setdefault("resize_to", round(size * default.resize_to / min(default.size)))
    if not crops:
        preprocess.setdefault("resize_to", None)
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
