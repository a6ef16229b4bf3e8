"""Checkpoints: everything that the rest of a run depends on, in folders that are whole or not there.

`checkpoints/0000000120/` is the state after step 120: `tensors.safetensors`, `state.json`, and
`manifest.json` with the size and SHA-256 of the two. Nothing is pickled, and nothing is believed before its
hash is right. A second checkpoint after the same step, such as before and after an evaluation, ends in `-2`.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError
from striate.files import remove_folder, remove_leftovers, sha256_of, write_error, write_folder
from striate.modelfile import read_tensors
from striate.training.evaluate import Evaluation
from striate.training.events import EVENTS_FILE
from striate.training.layout import Layout

__all__ = [
    "CHECKPOINTS",
    "Checkpoint",
    "Checkpoints",
    "Found",
    "Progress",
    "State",
    "find_newest",
    "log_position",
    "read_checkpoint",
]

CHECKPOINTS = "checkpoints"
FORMAT_VERSION = 1

_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_NAME = re.compile(r"(\d{10,})(?:-(\d+))?")
_DAMAGED = "delete that folder; an older checkpoint beside it is used then"


@dataclass(slots=True)
class Progress:
    """How far a run is; plain numbers."""

    step: int = 0  # optimiser steps done
    epoch: int = 0  # epochs done, their evaluation included
    batches: int = 0  # done of the epoch in hand; all of them: its evaluation is due
    best_epoch: int = 0
    best: tuple[float, float] | None = None  # score and minus loss of the best evaluation
    has_best_file: bool = False
    measured: Evaluation | None = None  # of the weights as they are
    seconds: float = 0.0  # of training, wall clock, interruptions left out
    layout: Layout = "channels_last"  # of maps and filters in memory, chosen before the first step
    parts: int = 1  # that a batch goes through the network in, so that it fits the memory


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint holds beside tensors."""

    progress: Progress
    average_updates: int  # of the moving average; 0 without one
    log_position: int  # bytes of events.jsonl that tell what happened until here
    circumstances: dict[str, str]  # what the bits of the result depend on, by name
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk, its hashes right."""

    path: Path
    state: State

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Its tensors by name."""
        return read_tensors(self.path / _TENSORS)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to resume from."""

    checkpoint: Checkpoint | None  # None: no step was saved yet
    damaged: tuple[str, ...] = ()  # newer ones that were passed over, and why


class Checkpoints:
    """Writes the checkpoints of one run; the last two stay."""

    def __init__(self, folder: Path, resumed: Checkpoint | None = None) -> None:
        self._place = folder / CHECKPOINTS
        self._newest = resumed
        remove_leftovers(folder)
        remove_leftovers(self._place)

    def save(self, state: State, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Write a checkpoint; once it is on disk, remove all but it and the one before.

        Does nothing where the newest one is of the same step and the same evaluation. Raises DiskFull
        where there is no room, the ones from before intact.
        """
        before = self._newest
        if before is not None and _moment(before.state) == _moment(state):
            return
        path = self._free_path(state.progress.step)
        write_folder(path, _contents(state, tensors))
        self._newest = Checkpoint(path, state)
        kept = {path} if before is None else {path, before.path}
        for other in _folders(self._place):
            if other not in kept:
                remove_folder(other)

    def _free_path(self, step: int) -> Path:
        first = self._place / f"{step:010d}"
        number, path = 1, first
        while path.exists():
            number += 1
            path = first.with_name(f"{first.name}-{number}")
        return path


def find_newest(folder: Path) -> Found:
    """The newest checkpoint of the run in `folder` whose hashes are right.

    Raises ModelError if there are some, but none that is intact.
    """
    damaged: list[str] = []
    for path in reversed(_folders(folder / CHECKPOINTS)):
        try:
            return Found(read_checkpoint(path), tuple(damaged))
        except ModelError as error:
            damaged.append(f"{error.where}: {error.what}")
    if damaged:
        what = f"no checkpoint is intact ({'; '.join(damaged)})"
        raise ModelError(folder / CHECKPOINTS, what, "start a new run with --config and its run.toml")
    return Found(None)


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in the folder `path`. Raises ModelError saying what is damaged."""
    try:
        entries = json.loads((path / _MANIFEST).read_bytes())["files"]
        for name in (_TENSORS, _STATE):
            file = path / name
            if file.stat().st_size != entries[name]["bytes"] or sha256_of(file) != entries[name]["sha256"]:
                raise ModelError(path, f"{name} is not what was written", _DAMAGED)
        fields = json.loads((path / _STATE).read_bytes())
        version = fields.get("format_version")
        if version != FORMAT_VERSION:
            what = f"its format is version {version}, this striate reads {FORMAT_VERSION}"
            raise ModelError(path, what, "use the striate that wrote it, or a newer one")
        return Checkpoint(path, msgspec.convert(fields, State))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(path, f"it cannot be read ({reason})", _DAMAGED) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(path, f"it is damaged ({error!r})", _DAMAGED) from None


def log_position(folder: Path) -> int:
    """Bytes that the log in `folder` has, all of them on disk; 0 where there is none."""
    path = folder / EVENTS_FILE
    try:
        with path.open("r+b") as log:
            # A checkpoint that survives a power cut must not tell of rows that did not.
            os.fsync(log.fileno())
            return os.fstat(log.fileno()).st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise write_error(path, error) from error


def _moment(state: State) -> tuple[int, int]:
    return state.progress.step, state.progress.epoch


def _contents(state: State, tensors: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    from safetensors.numpy import save

    files = {
        _TENSORS: save({name: np.asarray(array, order="C") for name, array in tensors.items()}),
        _STATE: json.dumps(msgspec.to_builtins(state), allow_nan=False, indent=1).encode(),
    }
    entries = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files.items()
    }
    manifest = {"format_version": FORMAT_VERSION, "files": entries}
    return {**files, _MANIFEST: json.dumps(manifest, indent=1).encode()}


def _folders(place: Path) -> list[Path]:
    """The checkpoints in `place`, oldest first."""
    if not place.is_dir():
        return []
    named = [path for path in place.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(named, key=_age)


def _age(path: Path) -> tuple[int, int]:
    """Step, and which one of that step; the larger the newer."""
    step, _, number = path.name.partition("-")
    return int(step), int(number or 1)
