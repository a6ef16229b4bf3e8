"""What a person sees of a learning-rate range test: its progress, the curve, the command to try."""

import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from rich.text import Text

from striate import api
from striate.api.stopping import stopped_by_sigterm
from striate.api.sweep import curve_file
from striate.cli.options import command_line, layers_of
from striate.cli.terminal import ACCENT, CountingView, data_console, emit_json, print_labelled
from striate.errors import Interrupted

__all__ = ["RateView", "find_rate"]

_SECONDS_BETWEEN_LINES = 10
_WIDEST, _NARROWEST = 92, 40  # columns of the chart
_CHOSEN = "bold dark_orange"


class RateView(CountingView):
    """A bar while it runs, plain lines now and then where nobody watches, and the curve on stdout."""

    title = "trying rates"

    def __init__(self) -> None:
        super().__init__()
        self.checking = CountingView()
        self.checking.title = "checking"
        self._last_line = time.monotonic()

    def stop(self) -> None:
        """Take the bars away."""
        self.checking.stop()
        super().stop()

    def begin(self, plan: "api.SweepPlan") -> None:
        """What is about to be tried."""
        self.checking.stop()
        rates = f"{len(plan.rates)} learning rates from {plan.rates[0]:g} to {plan.rates[-1]:g}"
        print_labelled(self.console, "trying", [f"{plan.outcome().title}: {rates}"])

    def trial(self, trial: "api.BatchTrial") -> None:
        """What one batch size told."""
        self.checking.stop()
        print_labelled(self.console, "trying", [trial.describe()])

    def point(self, plan: "api.SweepPlan") -> None:
        """One more step."""
        done, total, last = len(plan.found), len(plan.rates), plan.found[-1]
        self.progress(done, total)
        if not self.console.is_terminal and time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            told = f"step {done}/{total}  learning rate {last.rate:.2g}  loss {last.loss:.3f}"
            self.console.print(f"  {told}", markup=False)
            self._last_line = time.monotonic()

    def outcome(self, sweep: "api.RateSweep", command: str) -> None:
        """The curve and what it tells, on stdout; `command` trains at the proposed rate."""
        console = data_console()
        console.print()
        print_labelled(console, "rates", [sweep.title, *list(sweep.describe())[:1]])
        console.print()
        width = max(_NARROWEST, min(_WIDEST, console.width - 2))
        for line in sweep.chart().lines(width, console.encoding):
            style = _CHOSEN if line.lstrip()[:1] in ("▲", "^") else ACCENT
            console.print(Text(f"  {line}", style=style), soft_wrap=True)
        console.print()
        tried = Text.assemble("  ", (sweep.verdict, "bold"))
        if sweep.proposal is not None:
            tried.append(f"   try: {command}")
        # One line however long, or it could not be copied.
        console.print(tried, soft_wrap=True)
        if sweep.proposal is not None:
            console.print(Text(f"  {sweep.rule}", style="dim"), soft_wrap=True)
        console.print()


def find_rate(data: str, given: Mapping[str, Any], as_json: bool) -> None:
    """Try rates with the options `given` to `train` and show what they tell.

    Interrupted, it shows as much as there is; the file of --out gets a whole curve only.
    """
    options = {name: value for name, value in given.items() if name != "out"}
    file = None if given["out"] is None else curve_file(given["out"])
    with RateView() as view:
        plan = _plan(data, view, **options)
        view.begin(plan)
        stop: BaseException | None = None
        try:
            with stopped_by_sigterm("range test"), closing(plan.points()) as points:
                for _ in points:
                    view.point(plan)
        except (KeyboardInterrupt, Interrupted) as error:
            stop = error
        sweep = plan.outcome()
        view.stop()
    if as_json:
        emit_json(sweep.to_dict())
    else:
        measured = {"batch_size": sweep.batch_size} if given["batch_size"] == "auto" else {}
        changed = {"learning_rate": sweep.proposal, **measured}
        view.outcome(sweep, command_line("train", data, options, changed))
    if stop is not None:
        raise stop
    if file is not None:
        sweep.save(file)


def _plan(
    data: str, view: RateView, *, model: str | None, config: str | None, assignments: Any, **flags: Any
) -> "api.SweepPlan":
    layers = layers_of(config, assignments, flags)
    checking = view.checking.progress
    return api.prepare_sweep(data, model, layers=layers, progress=checking, on_trial=view.trial)
