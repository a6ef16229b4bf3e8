"""The options that several verbs share: a run's settings as flags."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from striate.api.shorthands import SHORTHANDS, shorthand_layers
from striate.errors import UsageError

if TYPE_CHECKING:
    from striate.config import Layer

__all__ = ["command_line", "layers_of", "run_options", "typed_again"]

Command = Callable[..., Any]


def integer_or_auto(text: str) -> int | str:
    """The value of a flag; its name is what the help shows for it."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a whole number nor auto") from None


def height_x_width(text: str) -> int | tuple[int, int]:
    """The value of --size: the side of a square, or height and width."""
    sides = text.lower().split("x")
    if not (len(sides) in (1, 2) and all(side.isdecimal() for side in sides)):
        raise click.BadParameter(f"{text!r} is no size: give 224, or 240x320 (height x width)")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


_TYPES: dict[str, Any] = {
    "int": int,
    "int or auto": integer_or_auto,
    "size": height_x_width,
    "float": float,
    "text": str,
    "names": str,
}


def run_options(function: Command) -> Command:
    """`function` with --model, --config, --set and a flag for each of the run's short names."""
    for shorthand in reversed(SHORTHANDS):
        flag = f"--{shorthand.name.replace('_', '-')}"
        if shorthand.kind == "flag":
            option = click.option(
                f"{flag}/--no-{flag[2:]}", shorthand.name, default=None, help=shorthand.help
            )
        elif shorthand.kind == "patterns":
            several: dict[str, Any] = {"multiple": True, "metavar": "PATTERN", "callback": _none_if_empty}
            option = click.option(flag, shorthand.name, help=shorthand.help, **several)
        else:
            flags = [flag] + ([f"--{shorthand.alias}"] if shorthand.alias else [])
            option = click.option(*flags, shorthand.name, type=_TYPES[shorthand.kind], help=shorthand.help)
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


def _none_if_empty(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> Any:  # noqa: ARG001
    """Like other flags, one that was not typed is None."""
    return value or None


def layers_of(config: str | None, assignments: Sequence[str], flags: dict[str, Any]) -> "list[Layer]":
    """The layers that a command line gives: the file, then --set, then the flags."""
    from striate.config import Layer, assignment, read_toml

    layers = [read_toml(Path(config))] if config else []
    layers += [Layer(f"--set {text}", assignment(text)) for text in assignments]
    named = {name: _names(name, value) if name == "classes" else value for name, value in flags.items()}
    return layers + shorthand_layers(named)


def command_line(verb: str, data: str, given: Mapping[str, Any], changed: Mapping[str, Any]) -> str:
    """What to type for `verb` on `data` with the options `given`, but for those that `changed` has."""
    paths = {shorthand.name: shorthand.path for shorthand in SHORTHANDS}
    replaced = {paths[name] for name in changed}
    words = ["striate", verb, data]
    for name in ("model", "config"):
        words += [f"--{name}", given[name]] if given[name] is not None else []
    for text in given["assignments"]:
        words += [] if text.partition("=")[0].strip() in replaced else ["--set", text]
    for name in paths:
        value = changed.get(name, given[name])
        if value is not None:
            words += _typed(name.replace("_", "-"), "x".join(map(str, value)) if _is_size(value) else value)
    return shlex.join(words)


def typed_again(context: click.Context, more: Sequence[str]) -> str:
    """What to type for the command of `context` with the arguments and options it was given, and `more`."""
    words = ["striate", str(context.info_name)]
    options = []
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if context.get_parameter_source(str(parameter.name)) != ParameterSource.COMMANDLINE:
            continue
        if isinstance(parameter, click.Argument):
            words += map(str, value if isinstance(value, tuple) else [value])
        elif isinstance(parameter, click.Option) and parameter.opts[0] not in more:
            text = ",".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)
            options += [parameter.opts[0]] if parameter.is_flag else [parameter.opts[0], text]
    return shlex.join([*words, *options, *more])


def _is_size(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(side, int) for side in value)


def _typed(flag: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, tuple):
        return [word for pattern in value for word in (f"--{flag}", pattern)]
    return [f"--{flag}", str(value)]


def _names(flag: str, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(
            f"--{flag} {text}", "there is an empty name", "separate names with single commas: ant,bee"
        )
    return names
