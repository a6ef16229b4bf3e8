"""What `fit` tells while it works: one stream for the progress bar, the log, the page and the tests."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["EVENTS_FILE", "CheckpointEvent", "EvalEvent", "Event", "NoteEvent", "StepEvent", "StopEvent"]

EVENTS_FILE = "events.jsonl"
"""Log of a run folder: what happened, one typed event a line."""


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One or more steps are done."""

    step: int  # optimiser steps finished, counted from 1 over the whole run
    epoch: int  # counted from 1
    steps_in_epoch: int
    losses: dict[str, float]  # mean of each term over the steps since the last event
    learning_rate: float  # of the last of these steps
    images_per_second: float  # wall clock, loading included
    images: int  # trained on in these steps
    checksum: int  # sum of the CRC-32 of the keys of these pictures: equal for equal pictures in any order

    @property
    def loss(self) -> float:
        """The sum of the terms."""
        return sum(self.losses.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a line of the log."""
        return {"type": "step", **asdict(self)}


@dataclass(frozen=True, slots=True)
class EvalEvent:
    """The validation part was measured."""

    epoch: int  # epochs finished
    metrics: dict[str, float]
    loss: float  # mean over the pictures, targets not smoothed
    seconds: float
    best: bool  # the best so far

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a line of the log."""
        return {"type": "eval", **asdict(self)}


@dataclass(frozen=True, slots=True)
class CheckpointEvent:
    """A model file was written."""

    path: Path
    epoch: int  # epochs finished
    best: bool  # it is the file of the best weights, not of the last

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a line of the log."""
        return {"type": "checkpoint", **asdict(self), "path": str(self.path)}


@dataclass(frozen=True, slots=True)
class StopEvent:
    """Training is over."""

    reason: Literal["finished", "patience"]
    epoch: int  # epochs finished

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a line of the log."""
        return {"type": "stop", **asdict(self)}


@dataclass(frozen=True, slots=True)
class NoteEvent:
    """Something that whoever reads the run's results should know."""

    text: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a line of the log."""
        return {"type": "note", **asdict(self)}


Event = StepEvent | EvalEvent | CheckpointEvent | StopEvent | NoteEvent
