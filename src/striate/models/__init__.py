"""Networks by name. Each family is one file in the folder of its task; nothing is registered.

A family file offers `Config`, `VARIANTS` (public name -> Config), `TINY` (a Config of at most a million
parameters with every branch), `build(config)`, `recipe(config)` (values for the training and augment settings
that train it well), and may offer `TINIES` (name -> Config, as small: the forms whose code is not that of
TINY; the conformance suite runs over them too), `start_from(network, images)` (starting weights that
depend on training pictures), `NATIVE_SIZE_UP_TO` and `from_SOURCE(state_dict)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from striate import plugins
from striate.config import Layer, resolve
from striate.errors import EnvironmentProblem, ModelError, UnknownName, UsageError

if TYPE_CHECKING:
    from striate.modelfile import ModelCard
    from striate.models.network import Network, NetworkConfig
    from striate.structures import Task

__all__ = [
    "TASKS",
    "card_of",
    "create",
    "defaults_of",
    "families",
    "family_name",
    "family_of",
    "network_of",
    "task_of",
    "variants",
]

TASKS: tuple[Task, ...] = ("classification", "detection", "segmentation")

_MAX_PARAMETERS = 2_000_000_000  # seven times the largest network here; more is a hostile or broken config


@cache
def families() -> dict[str, ModuleType]:
    """Every family's module by its name, task by task. Raises EnvironmentProblem without torch."""
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise EnvironmentProblem("models", "torch is not installed", "pip install 'striate[train]'") from None
    packages = [plugins.load(_this_package(), task) for task in TASKS]
    return {name: plugins.load(package, name) for package in packages for name in plugins.names(package)}


@cache
def variants() -> dict[str, str]:
    """Family of each public network name, in the order that the families list them."""
    return {variant: family for family, module in families().items() for variant in module.VARIANTS}


def family_of(name: str) -> ModuleType:
    """The module of the family that has the variant `name`. Raises UnknownName with the nearest.

    Whatever has a colon belongs to `foreign`, whose VARIANTS tell whether it exists.
    """
    if ":" in name:
        families()  # says what to install where torch is missing
        from striate.models import foreign

        return foreign
    if name not in variants():
        raise UnknownName("model", name, variants())
    return families()[variants()[name]]


def task_of(name: str, given: Task = "classification") -> Task:
    """What the network `name` is for; a function may make a network for any task, so there it is `given`."""
    family = family_of(name)
    if ":" in name:
        task: Task = family.task_of(name, given)
        return task
    return next(task for task in TASKS if family.__name__.startswith(f"{__name__}.{task}."))


def defaults_of(name: str, task: Task = "classification") -> NetworkConfig:
    """The default settings of the network `name`; of a function as one for `task`."""
    family = family_of(name)
    found: NetworkConfig = family.defaults(name, task) if ":" in name else family.VARIANTS[name]
    return found


def create(name: str, /, classes: tuple[str, ...] | int | None = None, **config: Any) -> Network:
    """A network with fresh weights by its public name: `create("resnet50", classes=10)`.

    `config` are fields of the family's Config; nested ones as a mapping (`preprocess={"color": "gray"}`).
    Raises UnknownName for an unknown name or field, UsageError for a value that does not fit.
    """
    if classes is not None:
        config["classes"] = classes
    return _build(name, config, origin="create()")


def network_of(
    card: ModelCard, shapes: Mapping[str, tuple[int, ...]], where: object, made_by: str | None = None
) -> Network:
    """The network that a model file's card describes, on the meta device: no weight is allocated.

    Only where it is foreign, and all shapes fit, it has memory: its module may keep values that no file
    holds. `shapes` are those of the file's tensors; raises ModelError naming the first that does not fit.
    `made_by` is what the caller says makes the network: a function has to be named so, for no file may.
    """
    from striate.models.unweighted import unweighted

    variant = _permitted(card, made_by, where)
    with unweighted():
        settings = {
            **card.config,
            "classes": card.classes,
            "preprocess": msgspec.to_builtins(card.preprocess),
        }
        network = _build(variant, settings, origin=str(where))
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name in sorted(expected.keys() | shapes.keys()):
        needed, found = expected.get(name), shapes.get(name)
        if needed != found:
            raise ModelError(
                where,
                f"tensor {name}: {_shape(found)} in the file, {_shape(needed)} in {variant}",
                "use an intact copy of the model file",
            )
    if card.family == "foreign":
        from striate.models.foreign import drawn

        return drawn(network)
    return network


def card_of(network: Network, data: Mapping[str, Any] | None = None) -> ModelCard:
    """The card that lets `network_of` build `network` again; `data` says what it was trained on."""
    from importlib.metadata import version

    from striate.modelfile import ModelCard

    settings = msgspec.to_builtins(network.config)
    del settings["classes"], settings["preprocess"]
    settings.pop("name", None)  # of a foreign network: it is the variant
    return ModelCard(
        task=network.task,
        family=family_name(network.name),
        variant=network.name,
        config=settings,
        classes=network.classes,
        preprocess=network.preprocess,
        context=network.context or 0,
        data=dict(data or {}),
        versions={
            name: version(name) for name in ("striate", "torch", "numpy", "pillow", *_library(network.name))
        },
    )


def family_name(name: str) -> str:
    """The family of the variant `name`: "resnet" of "resnet18", "foreign" of "timm:resnet18"."""
    return family_of(name).__name__.rpartition(".")[2]


def _library(name: str) -> tuple[str, ...]:
    """The library, if any, whose network this is."""
    from striate.models.foreign import library_of

    library = library_of(name)
    return () if library is None else (library,)


def _permitted(card: ModelCard, made_by: str | None, where: object) -> str:
    """The public name of the network that a file with `card` holds, which the caller says `made_by` makes."""
    if card.family == "foreign":
        from striate.models import foreign

        return foreign.permitted(card.variant, made_by, where)
    if variants().get(card.variant) != card.family:
        raise ModelError(
            where,
            f"it needs the network {card.variant!r} of {card.family!r}, unknown here",
            "upgrade striate",
        )
    if made_by not in (None, card.variant):
        raise ModelError(where, f"its network is {card.variant}, not {made_by}", "leave --model out")
    return card.variant


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else f"shape {shape}"


def _build(name: str, config: Mapping[str, Any], origin: str) -> Network:
    family = family_of(name)
    defaults = defaults_of(name, config.get("task", "classification"))
    base = Layer(f"default of {name}", msgspec.to_builtins(defaults))
    resolved = resolve(family.Config, [base, Layer(origin, config)])
    if getattr(resolved.value, "name", name) != name:
        raise UsageError(
            f"{origin}: name", f"it is {resolved.value.name!r}, the network is {name}", "leave it out"
        )
    _refuse_absurd(name, family, resolved.value, origin)
    network: Network = family.build(resolved.value)
    network.name = name
    return network


def _refuse_absurd(name: str, family: ModuleType, config: Any, origin: str) -> None:
    """Raise ModelError before allocation where the config asks for more than any network needs."""
    from striate.models.unweighted import unweighted

    with unweighted():
        parameters = sum(p.numel() for p in family.build(config).parameters())
    if parameters > _MAX_PARAMETERS:
        raise ModelError(
            origin,
            f"{name} would have {parameters:,} parameters",
            f"choose sizes that stay under {_MAX_PARAMETERS:,}",
        )


def _this_package() -> ModuleType:
    import sys

    return sys.modules[__name__]
