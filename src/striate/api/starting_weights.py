"""Weights that a network begins with instead of drawn ones: published ones, or those of a model file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from striate.config import Layer, Resolved, Settings, resolve
from striate.errors import ModelError, UsageError
from striate.files import sha256_of
from striate.modelfile import find_model_file, read_card
from striate.structures import Preprocess

if TYPE_CHECKING:
    from torch import Tensor

    from striate.models.convert import KeyReport
    from striate.models.network import Network

__all__ = [
    "FINE_TUNING",
    "Begun",
    "InitConfig",
    "StartingWeights",
    "asked_weights",
    "begin_with",
    "create_with",
    "model_of_weights",
    "starting_weights",
]

PUBLISHED = "torchvision"  # what weights from elsewhere are asked for by

FINE_TUNING: dict[str, dict[str, object]] = {
    "training": {
        # AdamW's steps do not hang on the size of gradients: one rate serves networks with and without norms.
        "optimiser": "adamw",
        "learning_rate": 2e-4,
        "momentum": 0.9,
        "nesterov": None,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "step_epochs": [],
        "step_factor": 0.1,
        "warmup_epochs": 1.0,
        "layer_decay": 0.8,
        "epochs": 8,
        "batch_size": 32,
    }
}
"""Settings for a network that has learned already: few epochs, small steps, the smallest in early layers."""


class InitConfig(Settings, frozen=True):
    """Where the starting weights come from."""

    weights: str | None = None  # torchvision, torchvision:VERSION, a run folder, a model file; None: drawn
    sha256: str | None = None  # of their file, or its first digits: other weights are refused

    def __post_init__(self) -> None:
        if self.sha256 is not None and self.weights is None:
            raise UsageError(
                "init.sha256", "it is the hash of no weights", "set it together with init.weights"
            )


@dataclass(frozen=True, slots=True)
class StartingWeights:
    """Weights, and what they were made for."""

    source: str  # how the settings name them: "torchvision:IMAGENET1K_V2", an absolute path
    sha256: str  # of the file, or its first digits
    model: str  # the network, by its public name
    config: Mapping[str, Any]  # the network's own settings, without classes and preprocessing
    classes: tuple[str, ...]
    preprocess: Preprocess
    tensors: "Callable[[], Mapping[str, Tensor]]"  # reads them, or fetches them

    def network_settings(self, model: str) -> dict[str, Any]:
        """What comes along to the network `model`: the preprocessing, and all else where it is the same one.

        Raises ModelError where `model` is of another family.
        """
        from striate import models

        family, needed = (models.variants().get(name, name) for name in (self.model, model))
        if family != needed:
            raise ModelError(
                self.source,
                f"these are weights of {self.model} ({family}); they fit no {model} ({needed})",
                f"choose --model {self.model}, or other weights",
            )
        own = self.config if model == self.model else {}
        return {**own, "preprocess": msgspec.to_builtins(self.preprocess)}


@dataclass(frozen=True, slots=True)
class Begun:
    """What became of the weights that a network begins with."""

    source: str
    model: str  # that they were made for
    keys: "KeyReport"  # which tensors fit
    redrawn: tuple[str, ...]  # of the last layer: it is for other classes, so it starts anew

    def describe(self) -> list[str]:
        """Lines for the plan."""
        keys = self.keys
        counts = f"{len(keys.matched)} tensors matched, {len(keys.missing)} missing, "
        counts += f"{len(keys.unexpected)} unexpected, {len(keys.wrong_shape)} of another shape"
        lines = [f"{self.source} ({self.model})", counts]
        if self.redrawn:
            lines.append(f"other classes, so drawn anew: {', '.join(self.redrawn)}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the name of every tensor by what became of it."""
        kept = ("matched", "missing", "unexpected", "wrong_shape")
        names = {name: value for name, value in asdict(self.keys).items() if name in kept}
        return {"source": self.source, "model": self.model, "redrawn": self.redrawn, **names}


def starting_weights(init: InitConfig, model: str) -> StartingWeights | None:
    """What `init` names, for the network `model`; None where it names none. Nothing is fetched yet.

    Raises ModelError where there are no such weights, or others than those whose hash `init` holds.
    """
    if init.weights is None:
        return None
    name, _, version = init.weights.partition(":")
    found = _published(model, version or None) if name == PUBLISHED else _of_file(Path(init.weights))
    if init.sha256 and not found.sha256.startswith(init.sha256):
        raise ModelError(
            found.source,
            f"its SHA-256 is {found.sha256}, not {init.sha256} as the settings say",
            "put the file back as it was, or leave init.sha256 out",
        )
    return found


def asked_weights(layers: Sequence[Layer]) -> Resolved[InitConfig]:
    """The `init` table of `layers`; who names other weights does not mean the hash of those before."""
    tables = []
    for layer in layers:
        table = layer.values.get("init", {})
        if not isinstance(table, Mapping):
            raise UsageError(f"{layer.origin}: init", f"{table!r} is no table", "give init.weights")
        forgotten = {"sha256": None} if "weights" in table else {}
        tables.append(Layer(layer.origin, {**forgotten, **table}))
    return resolve(InitConfig, tables)


def model_of_weights(init: InitConfig) -> Layer | None:
    """The layer that names the network of a model file; None where the weights do not tell."""
    if init.weights is None or init.weights.partition(":")[0] == PUBLISHED:
        return None
    return Layer(f"weights {init.weights}", {"model": _of_file(Path(init.weights)).model}, is_file=True)


def _published(model: str, version: str | None) -> StartingWeights:
    from striate.models.published import find_published

    found = find_published(model, version)
    return StartingWeights(
        source=f"{PUBLISHED}:{found.version}",
        sha256=found.sha256,
        model=model,
        config={},
        classes=found.classes,
        preprocess=found.preprocess,
        tensors=found.state_dict,
    )


def _of_file(place: Path) -> StartingWeights:
    from striate.runtime.pytorch import PyTorchEngine

    path = find_model_file(place)
    card = read_card(path)

    def tensors() -> "Mapping[str, Tensor]":
        return PyTorchEngine.from_file(path, "cpu").network.state_dict()

    return StartingWeights(
        source=str(place.expanduser().resolve()),
        sha256=sha256_of(path),
        model=card.variant,
        config=card.config,
        classes=card.classes,
        preprocess=card.preprocess,
        tensors=tensors,
    )


def begin_with(network: "Network", start: StartingWeights) -> Begun:
    """Put the weights of `start` into `network`, in place; what became of each tensor.

    The last layer, whatever of it changes its shape with the number of classes, stays as it is drawn unless
    the classes are the same; numbers instead of names may mean any. Raises ModelError where no tensor fits,
    or another one has the wrong shape.
    """
    from striate.models.convert import SAME_NAMES, compare

    tensors, needed = start.tensors(), network.state_dict()
    last = _last_layer(network)
    redrawn = () if _same_classes(start.classes, network.classes) else tuple(n for n in last if n in tensors)
    keys = compare(tensors, needed, SAME_NAMES)
    _refuse_misfit(start, network, keys, redrawn)
    matched = tuple(name for name in keys.matched if name not in redrawn)
    network.load_state_dict({name: tensors[name] for name in matched}, strict=False)
    return Begun(start.source, start.model, replace(keys, matched=matched), redrawn)


def create_with(
    weights: str, name: str, classes: tuple[str, ...] | int | None, config: Mapping[str, Any]
) -> "Network":
    """The network `name` with `weights`, and the preprocessing and classes that belong to them unless given.

    Raises ModelError where a tensor has no place, or a place besides the last layer no tensor.
    """
    from striate import models

    start = starting_weights(InitConfig(weights=weights), name)
    assert start is not None
    settings = {**start.network_settings(name), **config}
    if isinstance(given := config.get("preprocess"), Mapping):
        settings["preprocess"] = {**msgspec.to_builtins(start.preprocess), **given}
    network = models.create(name, start.classes if classes is None else classes, **settings)
    begun = begin_with(network, start)
    if begun.keys.missing or begun.keys.unexpected:
        raise ModelError(
            start.source,
            f"not all fits {name}: {begun.keys.summary}",
            "create it as the weights' network was",
        )
    return network


def _last_layer(network: "Network") -> tuple[str, ...]:
    """Names of the tensors whose shape hangs on the number of classes."""
    from striate import models
    from striate.models.convert import changing_shapes
    from striate.models.unweighted import unweighted

    settings = msgspec.to_builtins(network.config)
    del settings["classes"]
    with unweighted():
        three, five = (models.create(network.name, count, **settings).state_dict() for count in (3, 5))
    return tuple(dict.fromkeys(name for name, _ in changing_shapes(three, five)))


def _same_classes(there: tuple[str, ...], here: tuple[str, ...]) -> bool:
    unnamed = tuple(map(str, range(len(there))))
    return there == here or (len(there) == len(here) and unnamed in (there, here))


def _refuse_misfit(
    start: StartingWeights, network: "Network", keys: "KeyReport", redrawn: tuple[str, ...]
) -> None:
    wrong = [found for found in keys.wrong_shape if found[0] not in redrawn]
    if wrong:
        name, there, here = wrong[0]
        raise ModelError(
            start.source,
            f"{len(wrong)} tensors of {start.model} have another shape than in {network.name}: "
            f"{name} is {there}, needs {here}",
            f"choose --model {start.model} with the settings that the weights were trained with",
        )
    if set(keys.matched) <= set(redrawn):
        raise ModelError(start.source, f"no tensor fits {network.name}", f"choose --model {start.model}")
