"""The learning-rate range test: what to try it on, and what it found."""

import csv
import io
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from striate.api.batch import OnTrial
from striate.api.rate_chart import RateChart
from striate.api.runfiles import write_text
from striate.api.settings import RunConfig
from striate.api.training import Progress, begin, make_network, settle
from striate.config import Layer, Resolved
from striate.errors import UsageError
from striate.training.rate_curve import RULE, propose, smooth

if TYPE_CHECKING:
    from striate.data.loader import TrainLoader
    from striate.models.network import Network
    from striate.training.rate_sweep import RatePoint

__all__ = ["RateSweep", "SweepPlan", "curve_file", "prepare_sweep"]

Ending = Literal["rose", "not finite", "highest", "stopped"]

_ENDINGS: dict[Ending, str] = {
    "rose": "there the loss was four times its lowest",
    "not finite": "there the loss was no finite number any more",
    "highest": "the highest that is tried",
    "stopped": "stopped there: only a part of the curve",
}


@dataclass(frozen=True, slots=True, repr=False)
class RateSweep:
    """The loss of a network while its learning rate grew, and the rate that it speaks for."""

    data: str  # name of the dataset
    model: str
    optimiser: str
    batch_size: int
    rates: tuple[float, ...]  # ascending
    losses: tuple[float, ...]  # met at each of them, finite
    ending: Ending

    @property
    def smoothed(self) -> tuple[float, ...]:
        """The losses without the scatter of single batches."""
        return tuple(smooth(self.rates, self.losses))

    @property
    def proposal(self) -> float | None:
        """The highest learning rate for a run; None where the curve does not tell: see `describe`."""
        return None if self.ending == "stopped" else propose(self.rates, self.losses)

    def __repr__(self) -> str:
        return f"RateSweep({self.title}: {self.verdict})"

    def __rich__(self) -> str:
        """The curve for the terminal (rich's protocol)."""
        return "\n".join((*self.chart().lines(72), *self.describe())).replace("[", "\\[")

    def _repr_svg_(self) -> str:
        """The curve for a notebook."""
        return self.chart().svg(self.title)

    @property
    def rule(self) -> str:
        """How the proposal is chosen."""
        return RULE

    @property
    def title(self) -> str:
        """What was tried: "simple_cnn on digits, batch 64, adamw"."""
        return f"{self.model} on {self.data}, batch {self.batch_size}, {self.optimiser}"

    @property
    def verdict(self) -> str:
        """The proposal, or why there is none."""
        if self.proposal is not None:
            return f"learning rate {self.proposal:g}"
        if self.ending == "stopped":
            return "no proposal from a part of the curve"
        if self.ending == "highest" and self.smoothed[-1] == min(self.smoothed):
            return "no proposal: the loss falls up to the highest rate"
        return "no proposal: at no rate does the loss fall by more than single batches scatter"

    def describe(self) -> Iterator[str]:
        """Lines for people: how far it went, how the proposal is chosen."""
        if self.rates:
            steps = f"{len(self.rates)} step{'s' * (len(self.rates) != 1)}"
            yield f"{steps}, rates {self.rates[0]:.2g} to {self.rates[-1]:.2g}: {_ENDINGS[self.ending]}"
        yield self.verdict + (f": {self.rule}" if self.proposal is not None else "")

    def chart(self) -> RateChart:
        """The curve, to be drawn."""
        return RateChart(self.rates, self.losses, self.smoothed, self.proposal)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "data": self.data,
            "model": self.model,
            "optimiser": self.optimiser,
            "batch_size": self.batch_size,
            "proposal": self.proposal,
            "verdict": self.verdict,
            "rule": self.rule,
            "ending": self.ending,
            "rates": list(self.rates),
            "losses": list(self.losses),
            "smoothed": list(self.smoothed),
        }

    def to_csv(self) -> str:
        """A line a step: rate, loss, smoothed loss."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["learning_rate", "loss", "smoothed"])
        writer.writerows(zip(self.rates, self.losses, self.smoothed, strict=True))
        return text.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the curve as a picture (.svg) or a table (.csv). Raises UsageError for another suffix."""
        file = curve_file(path)
        write_text(file, self.to_csv() if file.suffix == ".csv" else self._repr_svg_())


@dataclass(slots=True)
class SweepPlan:
    """A range test before its first step; `points` carries it out."""

    resolved: Resolved[RunConfig]
    data: str  # name of the dataset
    network: "Network"
    loader: "TrainLoader"
    rates: Sequence[float]  # that will be tried
    found: "list[RatePoint]" = field(default_factory=list, init=False)

    @property
    def config(self) -> RunConfig:
        """The settings without their origins."""
        return self.resolved.value

    def points(self) -> "Generator[RatePoint, None, None]":
        """Each rate with its loss, as it is tried."""
        from striate.training.rate_sweep import sweep

        self.found.clear()
        with closing(sweep(self.network, self.loader, self.config.training)) as points:
            for point in points:
                self.found.append(point)
                yield point

    def outcome(self) -> RateSweep:
        """What the points so far tell."""
        kept = [point for point in self.found if math.isfinite(point.loss)]
        training = self.config.training
        return RateSweep(
            data=self.data,
            model=self.config.model,
            optimiser=training.optimiser,
            batch_size=training.batch_size,
            rates=tuple(point.rate for point in kept),
            losses=tuple(point.loss for point in kept),
            ending=self._ending(len(kept)),
        )

    def _ending(self, kept: int) -> Ending:
        from striate.training.rate_curve import has_risen

        tried = self.found
        if kept < len(tried):
            return "not finite"
        if kept == len(self.rates):
            return "highest"
        rates, losses = [point.rate for point in tried], [point.loss for point in tried]
        return "rose" if tried and has_risen(rates, losses) else "stopped"


def prepare_sweep(
    source: str,
    model: str | None = None,
    layers: Sequence[Layer] = (),
    progress: Progress | None = None,
    on_trial: OnTrial | None = None,
) -> SweepPlan:
    """A range test for the run that `prepare` would plan of the same arguments; nothing is written.

    Raises a StriateError naming what is in the way. Torch's random state stays as it is.
    """
    import torch

    from striate.training.loaders import make_loaders
    from striate.training.processes import join
    from striate.training.rate_sweep import sweep_rates

    if join().count > 1:
        raise UsageError(
            "range test", "it runs in one process, and there are several", "run it without torchrun"
        )
    with torch.random.fork_rng():
        resolved, dataset, _ = settle(source, model, layers, progress, on_trial)
        network = make_network(resolved.value, dataset)
        begin(network, resolved.value, dataset)
    config = resolved.value
    settings = (config.training, config.augment, config.cache)
    loader = make_loaders(dataset, network.preprocess, *settings).train
    rates = sweep_rates(config.training, len(loader))
    return SweepPlan(resolved, dataset.name, network, loader, rates)


def curve_file(path: str | Path) -> Path:
    """`path`, which must end in .svg or .csv; else UsageError."""
    file = Path(path)
    if file.suffix not in (".svg", ".csv"):
        raise UsageError(
            f"--out {path}",
            f"a curve is no {file.suffix or 'folder'}",
            "end the name in .svg for a picture or .csv for a table",
        )
    return file
