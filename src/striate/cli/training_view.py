"""What a person sees of a training run: the plan, the progress, the outcome."""

import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from striate import api
from striate.cli.scores_view import mistakes, score_line
from striate.cli.terminal import (
    ACCENT,
    data_console,
    duration,
    is_first_process,
    message_console,
    percent,
    print_labelled,
    sparkline,
)
from striate.errors import Interrupted, StriateError

__all__ = ["TrainingView"]

_SECONDS_BETWEEN_LINES = 10
_MOST_FINDINGS = 6


class TrainingView:
    """Prints a plan, follows the events of a run and sums it up; plain lines where nobody watches."""

    def __init__(self) -> None:
        self.console = message_console()
        self.bar = _bar(self.console) if self.console.is_terminal and not self.console.quiet else None
        self.task: Any = None
        self.best = 0.0
        self.score = ""  # which of the metrics tells one model from a better one
        self.scores: list[float] = []
        self.epochs = 0
        self.epochs_before = 0  # done before this process
        self.patience: int | None = None
        self.started = self.last_line = time.monotonic()
        self.last_step: Any = None
        self.losses: list[float] = []  # of the steps of this epoch

    def __enter__(self) -> "TrainingView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stop_bar()

    def checking(self, done: int, total: int) -> None:
        """Progress of the look at the data."""
        if self.bar is not None:
            self._show("checking", done, total, "pictures")

    def trial(self, trial: "api.BatchTrial") -> None:
        """What one batch size told."""
        self._stop_bar()
        print_labelled(self.console, "trying", [trial.describe()])

    def plan(self, plan: "api.TrainingPlan") -> None:
        """The plan, before anything is trained."""
        self.started = time.monotonic()
        self._stop_bar()
        self.score = plan.task.SCORE
        self.epochs, self.patience = plan.config.training.epochs, plan.config.training.patience
        checkpoint = plan.resumption and plan.resumption.checkpoint
        if checkpoint:
            progress = checkpoint.state.progress
            self.epochs_before, self.best = progress.epoch, progress.best[0] if progress.best else 0.0
        self.console.print()
        for heading, lines in plan.describe():
            print_labelled(self.console, heading, lines)
        self._findings(plan)
        self.console.print()

    def _findings(self, plan: "api.TrainingPlan") -> None:
        found = [finding for finding in plan.report.findings if finding.level != "note"]
        for finding in found[:_MOST_FINDINGS]:
            style = "red" if finding.level == "error" else "yellow"
            text = f"{finding.file}: {finding.message}" if finding.file else finding.message
            print_labelled(self.console, finding.level, [text], style)
        if len(found) > _MOST_FINDINGS:
            more = f"and {len(found) - _MOST_FINDINGS} more: striate check {plan.config.data.source}"
            print_labelled(self.console, "", [more])

    def event(self, event: Any) -> None:
        """One event of the run."""
        if isinstance(event, api.StepEvent):
            self._step(event)
        elif isinstance(event, api.EvalEvent):
            self._evaluated(event)
        elif isinstance(event, api.NoteEvent):
            print_labelled(self.console, "note", [event.text], "yellow")
        elif isinstance(event, api.StopEvent) and event.reason == "patience":
            self._line(f"stopped: no better epoch in the last {self.patience}")

    def _step(self, event: Any) -> None:
        self.last_step = event
        self.losses.append(event.loss)
        position = (event.step - 1) % event.steps_in_epoch + 1
        text = f"loss {event.loss:.3f}  {event.images_per_second:,.0f} img/s"
        if self.bar is not None:
            self._show(f"epoch {event.epoch}/{self.epochs}", position, event.steps_in_epoch, text)
        elif time.monotonic() - self.last_line > _SECONDS_BETWEEN_LINES:
            self._line(f"epoch {event.epoch}/{self.epochs}  step {position}/{event.steps_in_epoch}  {text}")

    def _evaluated(self, event: Any) -> None:
        self._stop_bar()
        score = event.metrics[self.score]
        self.scores.append(score)
        self.best = max(self.best, score)
        per_epoch = (time.monotonic() - self.started) / (event.epoch - self.epochs_before)
        left = (self.epochs - event.epoch) * per_epoch
        row = Text.assemble(
            (f"  epoch {event.epoch:>3}/{self.epochs}   ", f"bold {ACCENT}"),
            # A run may be resumed between the last step of an epoch and its evaluation.
            f"loss {sum(self.losses) / len(self.losses):.3f}   " if self.losses else "",
            (f"val {percent(score):>7}   ", "bold green" if event.best else ""),
            f"best {percent(self.best):>7}   ",
            (f"{self.last_step.images_per_second:>7,.0f} img/s   " if self.last_step else "", "dim"),
        )
        self.losses = []
        if left > 1:
            row.append(f"{duration(left)} left", style="dim")
        self.console.print(row)
        self.last_line = time.monotonic()

    def _line(self, text: str) -> None:
        self.console.print(f"  {text}", markup=False)
        self.last_line = time.monotonic()

    def outcome(self, run: "api.Run") -> None:
        """The measured outcome, on stdout."""
        self._stop_bar()
        console = data_console()
        console.print()
        if len(self.scores) > 1:
            curve = sparkline(self.scores, 40, console.encoding)
            span = f"{percent(min(self.scores))} to {percent(max(self.scores))}"
            print_labelled(console, "learned", [f"{curve}  validation, {span} in {len(self.scores)} epochs"])
        unseen = (
            f"{run.pictures:,} pictures it never saw"
            if run.part == "test"
            else f"{run.pictures:,} {run.part} pictures"
        )
        print_labelled(console, "test", [unseen, score_line(run.scores), *mistakes(run.scores)])
        print_labelled(console, "took", [duration(run.seconds)])

    def report(self, run: "api.Run") -> Path | None:
        """The page that shows `run`, written now; None where that fails, which the reader is told."""
        if not is_first_process():
            return None
        try:
            return run.report(progress=self._stage)
        except Interrupted:
            raise
        except StriateError as error:
            print_labelled(self.console, "note", [f"there is no report: {error}"], "yellow")
            return None
        finally:
            self._stop_bar()

    def next(self, run: "api.Run", page: Path | None) -> None:
        """Where the report is, and what to do next, on stdout."""
        console = data_console()
        if page is not None:
            print_labelled(console, "report", [str(page)])
        console.print()
        print_labelled(console, "next", _next(run, page))
        console.print()

    def _stage(self, name: str, done: int, total: int) -> None:
        if self.bar is not None:
            self._show("report", done, total, name)

    def _show(self, title: str, done: int, total: int, text: str) -> None:
        assert self.bar is not None
        if self.task is None:
            self.task = self.bar.add_task(title, total=total, text=text)
            self.bar.start()
        self.bar.update(self.task, description=title, completed=done, total=total, text=text)

    def _stop_bar(self) -> None:
        if self.bar is not None and self.task is not None:
            self.bar.remove_task(self.task)
            self.bar.stop()
            self.task = None


class _Left(ProgressColumn):
    """Time that the epoch still needs."""

    def render(self, task: Task) -> Text:
        return Text(f"{duration(task.time_remaining)} left" if task.time_remaining else "", style="dim")


def _bar(console: Any) -> Progress:
    return Progress(
        TextColumn("  [bold cyan]{task.description:<12}"),
        BarColumn(bar_width=30, complete_style=ACCENT, finished_style=ACCENT),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[text]}"),
        _Left(),
        console=console,
        transient=True,
    )


def _next(run: "api.Run", page: Path | None) -> list[str]:
    """Commands to try now, each with what it shows."""
    commands = {
        f"striate predict {run.folder} PHOTO.jpg": "what is on a picture",
        f"striate explain {run.folder} PHOTO.jpg": "why it says so",
        f"striate eval {run.folder}": "every class in detail",
        f"striate report {run.folder}": "all of it as a page, with pictures",
        f"striate explain-config {run.folder}": "every setting and its origin",
    }
    if page is not None:
        del commands[f"striate report {run.folder}"]
    width = max(map(len, commands))
    return [f"{command:<{width}}   {shows}" for command, shows in commands.items()]
