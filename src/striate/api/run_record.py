"""What a run folder tells of its training: curves, settings, versions, and the command that repeats it."""

import json
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from striate import __version__
from striate.api.runfiles import CONFIG_FILE, EVENTS_FILE
from striate.config import read_toml
from striate.errors import DataError
from striate.modelfile import ModelCard
from striate.reports.evidence import Chart, Series

__all__ = ["RunRecord", "environment_of", "measured_with", "read_record"]

_MOST_POINTS = 400  # of a line
_LOG_FROM = 100  # largest / smallest loss, above which a plain axis shows nothing of the small ones
_SCORES = {
    "top1": "top-1",
    "macro_f1": "macro F1",
    "ap": "AP",
    "ap50": "AP50",
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
}
"""Scores of the val part whose course is shown, by their keys."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The files of a run beside its models; empty where there is no run, but a model file alone."""

    folder: Path
    events: tuple[Mapping[str, Any], ...]
    settings: str  # run.toml as it stands

    @property
    def command(self) -> str:
        """What to type to train it again; empty where no run is known."""
        from striate.models.foreign import is_code

        if not self.settings:
            return ""
        path = self.folder / CONFIG_FILE
        values = read_toml(path).values
        words = ["striate", "train", values["data"]["source"], "--config", str(path)]
        # No file names code, so this one does not count as a choice of the user's.
        words += ["--model", values["model"]] if is_code(values["model"]) else []
        return shlex.join(words)

    @property
    def images_per_second(self) -> float | None:
        """While it was trained, the median over the steps told of; None where none is."""
        rates = [event["images_per_second"] for event in self._of("step")]
        return median(rates) if rates else None

    def curves(self) -> Iterator[Chart]:
        """Loss, scores and learning rate over the epochs; only what there is."""
        steps, evaluations = self._of("step"), self._of("eval")
        loss = _series("train", [(_epoch(e), sum(e["losses"].values())) for e in steps])
        measured = _series("val", [(e["epoch"], e["loss"]) for e in evaluations])
        if series := tuple(each for each in (loss, measured) if each is not None):
            values = [value for each in series for value in each.ys]
            is_log = min(values) > 0 and max(values) > _LOG_FROM * min(values)
            yield Chart("Loss", "epoch", "loss", series, is_whole=True, is_log=is_log)
        if series := tuple(self._scores(evaluations)):
            yield Chart("Scores of the val part", "epoch", "score", series, is_percent=True, is_whole=True)
        rate = _series("learning rate", [(_epoch(e), e["learning_rate"]) for e in steps])
        if rate is not None:
            yield Chart("Learning rate", "epoch", "learning rate", (rate,), is_whole=True)

    def _of(self, kind: str) -> list[Mapping[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def _scores(self, evaluations: Sequence[Mapping[str, Any]]) -> Iterator[Series]:
        for key, name in _SCORES.items():
            points = [(e["epoch"], e["metrics"][key]) for e in evaluations if key in e["metrics"]]
            series = _series(name, points)
            if series is not None:
                yield series


def read_record(folder: Path) -> RunRecord:
    """What the run in `folder` left. Raises DataError naming a file that is damaged."""
    settings, log = folder / CONFIG_FILE, folder / EVENTS_FILE
    text = settings.read_text("utf-8") if settings.is_file() else ""
    return RunRecord(folder, tuple(_events(log)) if log.is_file() else (), text)


def environment_of(card: ModelCard) -> Iterator[tuple[str, str]]:
    """The versions that trained the model, and what measures it."""
    if card.versions:
        yield "trained with", ", ".join(f"{name} {version}" for name, version in card.versions.items())
    yield measured_with()
    if fingerprint := card.data.get("fingerprint"):
        yield "training data", f"SHA-256 {fingerprint}"


def measured_with() -> tuple[str, str]:
    """What measures a model now."""
    system = f"{platform.system()} {platform.machine()}"
    return "measured with", f"striate {__version__}, Python {platform.python_version()}, {system}"


def _events(log: Path) -> Iterator[Mapping[str, Any]]:
    with log.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError:
                raise DataError(
                    log, f"line {number} is damaged", "remove that line, or use an intact copy"
                ) from None


def _epoch(event: Mapping[str, Any]) -> float:
    """How many epochs are done after this step, with its part of the running one."""
    done: float = event["step"] / event["steps_in_epoch"]
    return done


def _series(name: str, points: Sequence[tuple[float, float]]) -> Series | None:
    """A line through `points`, means of neighbours where there are too many; None of nothing."""
    if not points:
        return None
    size = -(-len(points) // _MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    xs, ys = zip(*(map(_mean, zip(*group, strict=True)) for group in groups), strict=True)
    return Series(name, tuple(xs), tuple(ys))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
