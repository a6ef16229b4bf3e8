"""Networks by name. Each family is one file in the folder of its task; nothing is registered.

A family file offers `Config`, `VARIANTS` (public name -> Config), `TINY` (a Config of at most a million
parameters with every branch), `build(config)`, and may offer `recipe(config)` (values for the training
and augment settings that train it well), `NATIVE_SIZE_UP_TO` and `from_SOURCE(state_dict)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from striate import plugins
from striate.config import Layer, resolve
from striate.errors import EnvironmentProblem, ModelError, UnknownName

if TYPE_CHECKING:
    from striate.modelfile import ModelCard
    from striate.models.network import Network

__all__ = ["TASKS", "card_of", "create", "families", "family_of", "network_of", "variants"]

TASKS = ("classification",)

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
    """The module of the family that has the variant `name`. Raises UnknownName with the nearest."""
    if name not in variants():
        raise UnknownName("model", name, variants())
    return families()[variants()[name]]


def create(name: str, classes: tuple[str, ...] | int | None = None, **config: Any) -> Network:
    """A network with fresh weights by its public name: `create("resnet50", classes=10)`.

    `config` are fields of the family's Config; nested ones as a mapping (`preprocess={"color": "gray"}`).
    Raises UnknownName for an unknown name or field, UsageError for a value that does not fit.
    """
    if classes is not None:
        config["classes"] = classes
    return _build(name, config, origin="create()")


def network_of(card: ModelCard, shapes: Mapping[str, tuple[int, ...]], where: object) -> Network:
    """The network that a model file's card describes, on the meta device: no weight is allocated.

    `shapes` are those of the file's tensors; raises ModelError naming the first that does not fit.
    """
    import torch

    if variants().get(card.variant) != card.family:
        raise ModelError(
            where,
            f"it needs the network {card.variant!r} of {card.family!r}, unknown here",
            "upgrade striate",
        )
    with torch.device("meta"):
        settings = {
            **card.config,
            "classes": card.classes,
            "preprocess": msgspec.to_builtins(card.preprocess),
        }
        network = _build(card.variant, settings, origin=str(where))
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name in sorted(expected.keys() | shapes.keys()):
        needed, found = expected.get(name), shapes.get(name)
        if needed != found:
            raise ModelError(
                where,
                f"tensor {name}: {_shape(found)} in the file, {_shape(needed)} in {card.variant}",
                "use an intact copy of the model file",
            )
    return network


def card_of(network: Network, data: Mapping[str, Any] | None = None) -> ModelCard:
    """The card that lets `network_of` build `network` again; `data` says what it was trained on."""
    from importlib.metadata import version

    from striate.modelfile import ModelCard

    settings = msgspec.to_builtins(network.config)
    del settings["classes"], settings["preprocess"]
    return ModelCard(
        task=network.task,
        family=variants()[network.name],
        variant=network.name,
        config=settings,
        classes=network.classes,
        preprocess=network.preprocess,
        data=dict(data or {}),
        versions={name: version(name) for name in ("striate", "torch", "numpy", "pillow")},
    )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else f"shape {shape}"


def _build(name: str, config: Mapping[str, Any], origin: str) -> Network:
    family = family_of(name)
    base = Layer(f"default of {name}", msgspec.to_builtins(family.VARIANTS[name]))
    resolved = resolve(family.Config, [base, Layer(origin, config)])
    _refuse_absurd(name, family, resolved.value, origin)
    network: Network = family.build(resolved.value)
    network.name = name
    return network


def _refuse_absurd(name: str, family: ModuleType, config: Any, origin: str) -> None:
    """Raise ModelError before allocation where the config asks for more than any network needs."""
    import torch

    with torch.device("meta"):
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
