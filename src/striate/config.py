"""Settings: layers of plain data (defaults, a recipe, a TOML file, flags) resolved into frozen structs.

A key nobody reads is an error that names its dotted path and the nearest key; each value remembers
which layer it came from.
"""

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from striate.errors import UnknownName, UsageError

__all__ = [
    "DEFAULT",
    "Layer",
    "Resolved",
    "Settings",
    "assignment",
    "leaves",
    "nested",
    "read_toml",
    "resolve",
    "to_toml",
]

DEFAULT = "default"
"""Origin of a value that no layer set."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every settings struct: frozen, by keyword, no unknown field."""


SettingsT = TypeVar("SettingsT")


@dataclass(frozen=True, slots=True)
class Layer:
    """Nested values and where they come from: a file's name, `--flag`, "default of resnet18"."""

    origin: str
    values: Mapping[str, Any]
    is_file: bool = False  # what a file says may set values, but name no code


@dataclass(frozen=True, slots=True)
class Resolved(Generic[SettingsT]):
    """Settings together with the origin of each, by dotted path."""

    value: SettingsT
    origins: Mapping[str, str]


def resolve(kind: type[SettingsT], layers: Iterable[Layer]) -> Resolved[SettingsT]:
    """The settings of type `kind` that `layers` give; a later layer wins, key by key.

    Raises UnknownName for a key that `kind` does not have, UsageError for a value of the wrong type.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        _check_keys(kind, layer, layer.values, ())
        _merge(kind, merged, layer.values, (), layer.origin, origins)
    try:
        value = msgspec.convert(merged, kind)
    except msgspec.ValidationError as error:
        raise _wrong_value(error, merged, origins) from None
    every = {path: origins.get(path, DEFAULT) for path in leaves(value)}
    return Resolved(value, every)


def leaves(settings: object) -> dict[str, Any]:
    """The values in `settings` by dotted path, in the order of the fields."""
    found: dict[str, Any] = {}
    for name in _field_types(type(settings)):
        value = getattr(settings, name)
        if _field_types(type(value)):
            found |= {f"{name}.{below}": leaf for below, leaf in leaves(value).items()}
        else:
            found[name] = value
    return found


def assignment(text: str) -> dict[str, Any]:
    """`a.b=1` as {"a": {"b": 1}}: the value is TOML, or `none` for no value, or else plain text."""
    path, equals, literal = text.partition("=")
    if not equals or not path.strip():
        raise UsageError(f"--set {text}", "this is not KEY=VALUE", "write it as training.epochs=5")
    try:
        value: Any = tomllib.loads(f"value = {literal}")["value"]
    except tomllib.TOMLDecodeError:
        value = None if literal.strip() == "none" else literal.strip()
    return nested(path.strip(), value)


def nested(path: str, value: Any) -> dict[str, Any]:
    """`value` under the dotted `path`, as nested tables: "a.b", 1 is {"a": {"b": 1}}."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return typing.cast("dict[str, Any]", value)


def read_toml(path: Path) -> Layer:
    """The layer that a TOML file holds. Raises UsageError naming the file and line."""
    try:
        return Layer(str(path), tomllib.loads(path.read_text("utf-8")), is_file=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(path, f"cannot be read ({error})", "give a TOML file in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(path, f"is not TOML: {error}", "correct that line") from None


def to_toml(resolved: Resolved[Any]) -> str:
    """`resolved` as TOML that `read_toml` reads back, each value with its origin as a comment."""
    tables: dict[str, list[str]] = {"": []}  # keys of the root stand before any table, or they would be in it
    for path, value in leaves(resolved.value).items():
        table, _, name = path.rpartition(".")
        origin = " ".join(resolved.origins[path].split())
        # TOML has no null: a value that is absent stays visible as a comment.
        line = f"# {name} =" if value is None else f"{name} = {_literal(value)}"
        tables.setdefault(table, []).append(f"{line}  # {origin}")
    blocks = [
        "\n".join([*([f"[{table}]"] if table else []), *lines]) for table, lines in tables.items() if lines
    ]
    return "\n\n".join(blocks) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_literal(v)}" for k, v in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_literal, value)) + "]"
    # JSON's strings, numbers and booleans are TOML's too, but for infinities, which TOML spells bare.
    return {"Infinity": "inf", "-Infinity": "-inf", "NaN": "nan"}.get(
        text := json.dumps(value, ensure_ascii=False), text
    )


def _field_types(kind: Any) -> dict[str, Any]:
    """Field name -> type of a settings struct or dataclass; empty for any other type."""
    if not isinstance(kind, type) or not (issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind)):
        return {}
    hints = typing.get_type_hints(kind)
    names = (
        kind.__struct_fields__
        if issubclass(kind, msgspec.Struct)
        else [f.name for f in dataclasses.fields(kind)]
    )
    return {name: hints[name] for name in names}


def _nested(kind: Any) -> Any:
    """The struct inside `Struct | None`, or `kind` itself."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return next((option for option in typing.get_args(kind) if _field_types(option)), None)
    return kind


def _check_keys(kind: Any, layer: Layer, values: Mapping[str, Any], above: tuple[str, ...]) -> None:
    known = _field_types(kind)
    for name, value in values.items():
        if name not in known:
            path = ".".join((*above, name))
            siblings = [".".join((*above, other)) for other in known]
            raise UnknownName(f"{layer.origin}: {path}", path, siblings)
        below = _nested(known[name])
        if _field_types(below) and isinstance(value, Mapping):
            _check_keys(below, layer, value, (*above, name))


def _merge(
    kind: Any,
    merged: dict[str, Any],
    values: Mapping[str, Any],
    above: tuple[str, ...],
    origin: str,
    origins: dict[str, str],
) -> None:
    known = _field_types(kind)
    for name, value in values.items():
        below, path = _nested(known[name]), (*above, name)
        if _field_types(below) and isinstance(value, Mapping):
            if not isinstance(merged.get(name), dict):
                merged[name] = {}
            _merge(below, merged[name], value, path, origin, origins)
        else:
            merged[name] = _together(merged.get(name), value)
            origins[".".join(path)] = origin


def _together(before: Any, value: Any) -> Any:
    """`value`, with what `before` had besides where both are tables of names that no struct knows."""
    return {**before, **value} if isinstance(before, Mapping) and isinstance(value, Mapping) else value


def _wrong_value(
    error: msgspec.ValidationError, merged: Mapping[str, Any], origins: Mapping[str, str]
) -> UsageError:
    message, _, location = str(error).partition(" - at `$.")
    path = location.rstrip("`").split("[")[0]
    received: Any = merged
    for name in path.split("."):
        received = received.get(name) if isinstance(received, Mapping) else received
    origin = origins.get(path, DEFAULT)
    return UsageError(
        f"{origin}: {path}", f"{message[0].lower()}{message[1:]}; received {received!r}", "correct that value"
    )
