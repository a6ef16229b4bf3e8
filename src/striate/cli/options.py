"""The options that several verbs share: a run's settings as flags."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from striate.api.shorthands import SHORTHANDS, shorthand_layers
from striate.errors import UsageError

if TYPE_CHECKING:
    from striate.config import Layer

__all__ = ["layers_of", "run_options"]

Command = Callable[..., Any]

_TYPES: dict[str, Any] = {"int": int, "float": float, "text": str, "names": str}


def run_options(function: Command) -> Command:
    """`function` with --model, --config, --set and a flag for each of the run's short names."""
    for shorthand in reversed(SHORTHANDS):
        flag = f"--{shorthand.name.replace('_', '-')}"
        if shorthand.kind == "flag":
            option = click.option(
                f"{flag}/--no-{flag[2:]}", shorthand.name, default=None, help=shorthand.help
            )
        else:
            option = click.option(flag, shorthand.name, type=_TYPES[shorthand.kind], help=shorthand.help)
        function = option(function)
    for option in (
        click.option(
            "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any setting: augment.flip=0.5"
        ),
        click.option("--config", type=click.Path(), help="TOML file of settings, such as a run.toml."),
        click.option("--model", help="Network to train; see `striate models`. [chosen by the data]"),
    ):
        function = option(function)
    return function


def layers_of(config: str | None, assignments: Sequence[str], flags: dict[str, Any]) -> "list[Layer]":
    """The layers that a command line gives: the file, then --set, then the flags."""
    from striate.config import Layer, assignment, read_toml

    layers = [read_toml(Path(config))] if config else []
    layers += [Layer(f"--set {text}", assignment(text)) for text in assignments]
    named = {name: _names(name, value) if name == "classes" else value for name, value in flags.items()}
    return layers + shorthand_layers(named)


def _names(flag: str, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(
            f"--{flag} {text}", "there is an empty name", "separate names with single commas: ant,bee"
        )
    return names
