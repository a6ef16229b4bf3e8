"""Weights that a network begins with instead of drawn ones: published ones, or those of a model file.

A network that builds on another, as those for segmentation do, takes that one's weights too: they become its
backbone's, and the rest is drawn.
"""

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
    "BACKBONE_TUNING",
    "FINE_TUNING",
    "Begun",
    "InitConfig",
    "StartingWeights",
    "asked_backbone",
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

BACKBONE_TUNING: dict[str, dict[str, object]] = {"training": {"layer_decay": 0.8}}
"""Settings above a network's own recipe where its backbone has learned already: what is behind it has the
whole rate, the backbone's last stage 0.8 of it, and the stem the least."""

_OF_COLORS = ("color", "channel_order", "scale", "mean", "std")  # of the preprocessing: what values come in


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
    are_backbone: bool = False  # they are for the backbone of the network that begins with them

    @property
    def tuning(self) -> dict[str, dict[str, object]]:
        """Settings of a training that begins with them, above those of the network's recipe."""
        from striate import models

        if self.are_backbone:
            return BACKBONE_TUNING
        if models.task_of(self.model) == "classification":
            return FINE_TUNING
        # So many pictures with a map for each class are too much memory.
        training = FINE_TUNING["training"]
        return {"training": {name: value for name, value in training.items() if name != "batch_size"}}

    def for_backbone(self, model: str) -> "StartingWeights":
        """The same for the backbone of the network `model`, which prepares pictures in a way of its own."""
        from striate import models

        theirs = {name: getattr(self.preprocess, name) for name in _OF_COLORS}
        default: Preprocess = models.family_of(model).VARIANTS[model].preprocess
        return replace(self, preprocess=replace(default, **theirs), are_backbone=True)

    def network_settings(self, model: str) -> dict[str, Any]:
        """What comes along to the network `model`: the preprocessing, and all else where it is the same one.

        To a backbone come only the colours and their scaling. Raises ModelError where `model` is of another
        family.
        """
        preprocess = msgspec.to_builtins(self.preprocess)
        if self.are_backbone:
            return {"preprocess": {name: preprocess[name] for name in _OF_COLORS}}
        family, needed = _family_name(self.model), _family_name(model)
        if family != needed:
            backbone = _backbone_of(model, None)
            raise ModelError(
                self.source,
                f"these are weights of {self.model} ({family}); they fit no {model} ({needed})"
                + (f", nor its backbone {backbone}" if backbone else ""),
                f"choose --model {self.model}, or other weights",
            )
        own = self.config if model == self.model else {}
        return {**own, "preprocess": preprocess}


@dataclass(frozen=True, slots=True)
class Begun:
    """What became of the weights that a network begins with."""

    source: str
    model: str  # that they were made for
    keys: "KeyReport"  # which tensors fit
    redrawn: tuple[str, ...]  # what starts anew: a last layer for other classes, or all behind the backbone
    in_backbone: bool = False  # they are those of the backbone

    def describe(self) -> list[str]:
        """Lines for the plan."""
        keys = self.keys
        counts = f"{len(keys.matched)} tensors matched, {len(keys.missing)} missing, "
        counts += f"{len(keys.unexpected)} unexpected, {len(keys.wrong_shape)} of another shape"
        lines = [f"{self.source} ({self.model}{', the backbone' if self.in_backbone else ''})", counts]
        if self.in_backbone:
            begun = {name.partition(".")[0] for name in keys.matched}
            parts = dict.fromkeys(
                name.rpartition(".")[0] if name.partition(".")[0] in begun else name.partition(".")[0]
                for name in self.redrawn
            )
            lines.append(f"no part of it, so drawn: {', '.join(parts)}")
        elif self.redrawn:
            lines.append(f"other classes, so drawn anew: {', '.join(self.redrawn)}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the name of every tensor by what became of it."""
        kept = ("matched", "missing", "unexpected", "wrong_shape")
        names = {name: value for name, value in asdict(self.keys).items() if name in kept}
        return {"source": self.source, "model": self.model, "redrawn": self.redrawn, **names}


def starting_weights(init: InitConfig, model: str, backbone: str | None = None) -> StartingWeights | None:
    """What `init` names, for the network `model`; None where it names none. Nothing is fetched yet.

    `backbone` is what that network builds on, where its settings name another one than it has by itself.
    Raises ModelError where there are no such weights, or others than those whose hash `init` holds.
    """
    if init.weights is None:
        return None
    base = _backbone_of(model, backbone)
    name, _, version = init.weights.partition(":")
    found = _published(base or model, version or None) if name == PUBLISHED else _of_file(Path(init.weights))
    if init.sha256 and not found.sha256.startswith(init.sha256):
        raise ModelError(
            found.source,
            f"its SHA-256 is {found.sha256}, not {init.sha256} as the settings say",
            "put the file back as it was, or leave init.sha256 out",
        )
    is_base = base is not None and _family_name(found.model) == _family_name(base)
    return found.for_backbone(model) if is_base else found


def asked_backbone(layers: Sequence[Layer]) -> str | None:
    """The backbone that `layers` name for the network; None where they leave it the one it has."""
    named = [layer.values.get("network", {}).get("backbone") for layer in layers]
    return next((name for name in reversed(named) if isinstance(name, str)), None)


def _backbone_of(model: str, asked: str | None) -> str | None:
    """The network whose weights the backbone of `model` takes, `asked` in place of its own; None without."""
    from striate import models

    family = models.family_of(model)
    if not hasattr(family, "backbone_of"):
        return None
    config = family.VARIANTS[model]
    if asked is not None and hasattr(config, "backbone"):
        config = msgspec.structs.replace(config, backbone=asked)
    found: str | None = family.backbone_of(config)
    return found


def _family_name(model: str) -> str:
    """The family of the network `model`; its own name where it is foreign."""
    from striate import models

    return models.variants().get(model, model)


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
    the classes are the same; numbers instead of names may mean any. Where `start` is for the backbone, all
    behind that does. Raises ModelError where no tensor fits, or another one has the wrong shape.
    """
    from striate.models.convert import SAME_NAMES, compare

    if start.are_backbone:
        return _begin_backbone_with(network, start)
    tensors, needed = start.tensors(), network.state_dict()
    last = _last_layer(network)
    redrawn = () if _same_classes(start.classes, network.classes) else tuple(n for n in last if n in tensors)
    keys = compare(tensors, needed, SAME_NAMES)
    _refuse_misfit(start, network, keys, redrawn)
    matched = tuple(name for name in keys.matched if name not in redrawn)
    network.load_state_dict({name: tensors[name] for name in matched}, strict=False)
    return Begun(start.source, start.model, replace(keys, matched=matched), redrawn)


def _begin_backbone_with(network: "Network", start: StartingWeights) -> Begun:
    from striate import models
    from striate.models.convert import SAME_NAMES, compare

    tensors = models.family_of(network.name).from_backbone(start.tensors(), network.config)
    keys = compare(tensors, network.state_dict(), SAME_NAMES)
    _refuse_misfit(start, network, keys, ())
    network.load_state_dict({name: tensors[name] for name in keys.matched}, strict=False)
    begun = {name.rpartition(".")[0] for name in keys.matched}
    # Of a layer behind the backbone that has none of them, nothing is missing.
    missing = tuple(
        name for name in keys.missing if name.startswith("backbone.") or name.rpartition(".")[0] in begun
    )
    drawn = tuple(name for name in keys.missing if name not in missing)
    return Begun(start.source, start.model, replace(keys, missing=missing), drawn, in_backbone=True)


def create_with(
    weights: str, name: str, classes: tuple[str, ...] | int | None, config: Mapping[str, Any]
) -> "Network":
    """The network `name` with `weights`, and the preprocessing and classes that belong to them unless given.

    Weights for its backbone bring no classes, and of the preprocessing the colours and their scaling. Raises
    ModelError where a tensor has no place, or a place besides the last layer, or in the backbone, no tensor.
    """
    from striate import models

    asked = config.get("backbone")
    start = starting_weights(InitConfig(weights=weights), name, asked if isinstance(asked, str) else None)
    assert start is not None
    settings = {**start.network_settings(name), **config}
    if isinstance(given := config.get("preprocess"), Mapping):
        settings["preprocess"] = {**msgspec.to_builtins(start.preprocess), **given}
    if classes is None and not start.are_backbone:
        classes = start.classes
    network = models.create(name, classes, **settings)
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
    choose = f"set network.backbone={start.model}" if start.are_backbone else f"choose --model {start.model}"
    wrong = [found for found in keys.wrong_shape if found[0] not in redrawn]
    if wrong:
        name, there, here = wrong[0]
        raise ModelError(
            start.source,
            f"{len(wrong)} tensors of {start.model} have another shape than in {network.name}: "
            f"{name} is {there}, needs {here}",
            f"{choose} with the settings that the weights were trained with",
        )
    if set(keys.matched) <= set(redrawn):
        raise ModelError(start.source, f"no tensor fits {network.name}", choose)
