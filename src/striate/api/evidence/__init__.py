"""What a report shows of a task's results, one file per task: `Gatherer`, fed picture by picture.

A report needs the pictures behind the numbers, which scores do not keep.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from striate.reports.evidence import Calibration, Chart, Confusion, Gallery, Headline

__all__ = ["Example", "Gathered", "TaskGatherer"]


@dataclass(frozen=True, slots=True)
class Example:
    """A picture that the model answers well, to be followed through the network."""

    index: int  # among the dataset's items
    text: str  # how it was chosen, and what the model says of it


@dataclass(frozen=True, slots=True)
class Gathered:
    """The parts of a report that differ from task to task."""

    headline: tuple[Headline, ...]
    confusion: Confusion
    galleries: tuple[Gallery, ...]
    example: Example
    precision_recall: Chart | None = None
    calibration: Calibration | None = None


class TaskGatherer(Protocol):
    """What each file of this folder offers as `Gatherer(dataset, predictor)`."""

    takes_unmeasured: bool  # whether pictures that no score is of are of use too

    def add(self, index: int, result: Any, truth: Any) -> None:
        """Remember what is needed of item `index`: an `OnMeasured` of `api.evaluation`."""
        ...

    def end_of_measured(self) -> None:
        """What is added from here on is in no score."""
        ...

    def gathered(self, scores: Any) -> Gathered:
        """What the report shows of all that was added, whose scores these are."""
        ...
