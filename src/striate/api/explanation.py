"""Every setting of a run with where it came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.api.runfiles import CONFIG_FILE
from striate.config import Layer, leaves, to_toml
from striate.errors import UsageError

__all__ = ["ExplainedConfig", "Setting", "explain"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting."""

    key: str  # dotted path
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class ExplainedConfig:
    """A run's settings, as rows and as TOML that `train --config` reads."""

    rows: tuple[Setting, ...]
    toml: str


def explain(source: str, model: str | None, layers: Sequence[Layer]) -> ExplainedConfig:
    """The settings of the run folder `source`, or those that a run on the data `source` would have."""
    folder = Path(source)
    if (folder / CONFIG_FILE).is_file():
        return _of_run(folder, model is not None or bool(layers))
    from striate.api.training import settle

    resolved = settle(source, model, layers)[0]
    rows = tuple(Setting(key, value, resolved.origins[key]) for key, value in leaves(resolved.value).items())
    return ExplainedConfig(rows, to_toml(resolved))


def _of_run(folder: Path, has_flags: bool) -> ExplainedConfig:
    if has_flags:
        raise UsageError(folder, "a finished run's settings do not change", "leave the other flags out")
    text = (folder / CONFIG_FILE).read_text("utf-8")
    return ExplainedConfig(tuple(_rows(text)), text)


def _rows(text: str) -> list[Setting]:
    """Key, value and origin of each line of a run.toml that striate wrote."""
    import tomllib

    rows, table = [], ""
    for line in text.splitlines():
        if line.startswith("["):
            table = line.strip("[]") + "."
            continue
        assignment, _, origin = line.rpartition("  # ")
        name = assignment.lstrip("# ").partition(" = ")[0].removesuffix(" =")
        if not name:
            continue
        value = None if assignment.startswith("#") else tomllib.loads(assignment)[name]
        rows.append(Setting(table + name, value, origin))
    return rows
