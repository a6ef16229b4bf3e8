"""`--batch-size auto`: the size is measured before a run, and its settings hold the number."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from striate.api.settings import RunConfig
from striate.api.stopping import stopped_by_sigterm
from striate.config import Layer, Resolved, nested
from striate.errors import UsageError

if TYPE_CHECKING:
    from striate.data.dataset import Dataset
    from striate.models.network import Network
    from striate.training.batch_search import BatchTrial

__all__ = ["AUTO", "OnTrial", "asks_for_search", "measured_lines", "search_batch", "without_search"]

AUTO = "auto"
_BATCH, _RATE = "training.batch_size", "training.learning_rate"
_MEASURED, _SCALED = "measured: ", "scaled: "

OnTrial = Callable[["BatchTrial"], None]
"""Called with what each batch size told."""


def asks_for_search(layers: Sequence[Layer]) -> bool:
    """Whether the last of `layers` that gives a batch size says "auto"."""
    given = [table["batch_size"] for table in map(_training, layers) if "batch_size" in table]
    return given[-1:] == [AUTO]


def without_search(layers: Sequence[Layer]) -> list[Layer]:
    """`layers` without "auto", so that the size is the one that they would give otherwise."""
    return [_without_auto(layer) for layer in layers]


def search_batch(
    resolved: Resolved[RunConfig],
    dataset: "Dataset",
    network: "Network",
    layers: Sequence[Layer],
    on_trial: OnTrial | None = None,
) -> list[Layer]:
    """The fastest batch size for `resolved`, and the learning rate that goes with it, as layers.

    The rate is left alone where one of `layers` gives it. Raises UsageError where the run has to be
    deterministic or has several processes: what the clock says differs from time to time and place to place.
    """
    from striate.training.batch_search import choose_batch, search

    config = resolved.value
    _refuse_unmeasurable(config)
    trials = []
    with stopped_by_sigterm("--batch-size auto"):
        for trial in search(network, _loader(config, dataset, network), config.training):
            trials.append(trial)
            if on_trial is not None:
                on_trial(trial)
    chosen = choose_batch(trials)
    found = [Layer(_MEASURED + _speeds(chosen, trials), nested(_BATCH, chosen.size))]
    if not any("learning_rate" in _training(layer) for layer in layers):
        found += _scaled_rate(config, chosen.size)
    return found


def measured_lines(resolved: Resolved[RunConfig]) -> list[str]:
    """What was measured and scaled for this run, a line each for its plan; none without a search."""
    training, origins = resolved.value.training, resolved.origins
    lines = []
    if origins[_BATCH].startswith(_MEASURED):
        lines.append(f"batch {training.batch_size}: {origins[_BATCH].removeprefix(_MEASURED)}")
    if origins[_RATE].startswith(_SCALED):
        lines.append(f"learning rate {training.peak_rate:g}: {origins[_RATE].removeprefix(_SCALED)}")
    return lines


def _training(layer: Layer) -> Mapping[str, Any]:
    table = layer.values.get("training", {})
    return table if isinstance(table, Mapping) else {}  # anything else is refused where all is resolved


def _without_auto(layer: Layer) -> Layer:
    training = _training(layer)
    if training.get("batch_size") != AUTO:
        return layer
    kept = {name: value for name, value in training.items() if name != "batch_size"}
    return Layer(layer.origin, {**layer.values, "training": kept})


def _refuse_unmeasurable(config: RunConfig) -> None:
    from striate.training.processes import team

    usual = f"give a number: --batch-size {config.training.batch_size}"
    if config.training.deterministic:
        raise UsageError(
            "--batch-size auto", "a deterministic run takes nothing from the clock, and this is timed", usual
        )
    if team().count > 1:
        raise UsageError("--batch-size auto", "it is measured in one process, and there are several", usual)


def _loader(config: RunConfig, dataset: "Dataset", network: "Network") -> Any:
    from striate.training.loaders import make_loaders

    settings = (config.training, config.augment, config.cache)
    return make_loaders(dataset, network.preprocess, *settings).train


def _speeds(chosen: "BatchTrial", trials: "Sequence[BatchTrial]") -> str:
    """For people: "5,210 images/s (32: 4,800, 128: 5,190)"."""
    others = [f"{trial.size}: {trial.speed}" for trial in trials if trial is not chosen]
    return f"{chosen.speed} images/s" + (f" ({', '.join(others)})" if others else "")


def _scaled_rate(config: RunConfig, size: int) -> list[Layer]:
    """The rate for a batch of `size`: in proportion to it for sgd, to its square root for the others.

    Goyal et al. 2017 (arXiv:1706.02677), section 2.1; Malladi et al. 2022 (arXiv:2205.10287) for optimisers
    that divide the gradient by its size.
    """
    training = config.training
    share = size / training.batch_size
    if share == 1:
        return []
    is_linear = training.optimiser == "sgd"
    rate = float(f"{training.peak_rate * (share if is_linear else math.sqrt(share)):.4g}")
    rule = "in proportion, Goyal et al. 2017" if is_linear else "by the square root, Malladi et al. 2022"
    origin = f"{_SCALED}{training.peak_rate:g} is for a batch of {training.batch_size} ({rule})"
    return [Layer(origin, nested(_RATE, rate))]
