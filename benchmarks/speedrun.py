"""Time to accuracy: a recipe trained from the first step to the last, once for each of several seeds.

Usage: python benchmarks/speedrun.py --data DATA --recipe recipes/NAME.toml [--seeds 5]
       [--targets 0.90 0.92 0.93] [--set KEY=VALUE ...] [--out benchmarks/results/speedrun-NAME.json]

Each run is `striate.api.prepare(DATA, layers=[recipe, seed])`, its events and `finish`: what `striate train
DATA --config RECIPE` does. The clock is the plan's own, from the first step to the last file written,
evaluations and checkpoints included; `seconds_before` is what comes ahead of it: reading and checking the
pictures, resolving the settings, the starting weights, and a few timed steps.

A target is reached at the end of the first evaluation on the validation part that is at or above it; the
accuracy on the test part is measured once, after the last step. All seeds run in one process, one after
the other.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from striate import __version__, api
from striate.api.training import TrainingPlan
from striate.config import Layer, assignment, read_toml

TARGETS = (0.90, 0.92, 0.93)


@dataclass(frozen=True)
class Outcome:
    """One run."""

    seed: int
    seconds: float  # of training, evaluations and files included
    seconds_before: float  # ahead of the first step
    top1: float  # fraction of the test part, after the last step
    evaluations: list[tuple[float, float]]  # (seconds since the first step, fraction of the val part)
    seconds_to: dict[str, float | None]  # target -> when an evaluation first was at or above it


def main() -> None:
    options = arguments()
    layers = [
        read_toml(options.recipe),
        *(Layer(f"--set {text}", assignment(text)) for text in options.assignments),
    ]
    load_before, device, outcomes = os.getloadavg(), "", []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            plan, outcome = run(options.data, layers, seed, options.targets, Path(folder) / "run")
        device = plan.where
        outcomes.append(outcome)
        print(
            f"seed {seed}: {outcome.seconds:.1f} s, test {100 * outcome.top1:.2f} %, "
            f"targets {outcome.seconds_to}",
            flush=True,
        )
    result = {
        "what": "Seconds of training to an accuracy, and the accuracy on the test part at the end.",
        "recipe": options.recipe.name,
        "changes": options.assignments,
        "data": plan.dataset.name.rpartition("/")[2],
        "pictures": plan.counts,
        "model": plan.config.model,
        "epochs": plan.config.training.epochs,
        "device": device,
        "machine": machine(),
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "n": len(outcomes),
        "summary": summary(outcomes, options.targets),
        "runs": [asdict(outcome) for outcome in outcomes],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["summary"], indent=1))


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", required=True, help="what `striate train` takes")
    parser.add_argument("--recipe", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=5, help="how many: 0, 1, ...")
    parser.add_argument("--targets", type=float, nargs="*", default=TARGETS, help="fractions")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds: at least 1")
    options.out = options.out or Path(f"benchmarks/results/speedrun-{options.recipe.stem}.json")
    return options


def run(
    data: str, layers: Sequence[Layer], seed: int, targets: Sequence[float], folder: Path
) -> tuple[TrainingPlan, Outcome]:
    """Train with `seed` in `folder`; the plan and what came of it."""
    began = time.monotonic()
    plan = api.prepare(data, out=folder, layers=[*layers, Layer("--seeds", {"training": {"seed": seed}})])
    started, evaluations = time.monotonic(), []
    for event in plan.events():
        if isinstance(event, api.EvalEvent):
            evaluations.append((round(time.monotonic() - started, 3), event.metrics["top1"]))
    found = plan.finish()
    if found.part != "test":
        raise SystemExit(f"{data} has no test part, and the val part is not for a last word")
    return plan, Outcome(
        seed=seed,
        seconds=round(plan.seconds, 3),
        seconds_before=round(started - began, 3),
        top1=found.metrics["top1"],
        evaluations=evaluations,
        seconds_to={f"{target:g}": first_at(evaluations, target) for target in targets},
    )


def first_at(evaluations: Sequence[tuple[float, float]], target: float) -> float | None:
    """When an evaluation first was at or above `target`; None if none was."""
    return next((seconds for seconds, value in evaluations if value >= target), None)


def summary(outcomes: Sequence[Outcome], targets: Sequence[float]) -> dict[str, Any]:
    """Smallest, median and largest of what the runs gave, and how many reached each target."""
    reached: dict[str, Any] = {}
    for target in (f"{value:g}" for value in targets):
        times = [outcome.seconds_to[target] for outcome in outcomes]
        within = [seconds for seconds in times if seconds is not None]
        on_test = sum(outcome.top1 >= float(target) for outcome in outcomes)
        reached[target] = {
            "runs_by_val": len(within),
            "runs_by_test": on_test,
            "seconds": spread(within) if within else None,
        }
    return {
        "test_top1": spread([outcome.top1 for outcome in outcomes]),
        "seconds": spread([outcome.seconds for outcome in outcomes]),
        "seconds_before": spread([outcome.seconds_before for outcome in outcomes]),
        "targets": reached,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Smallest, median, largest, mean and standard deviation."""
    return {
        "min": round(min(values), 4),
        "median": round(statistics.median(values), 4),
        "max": round(max(values), 4),
        "mean": round(statistics.fmean(values), 4),
        "std": round(statistics.stdev(values), 4) if len(values) > 1 else 0.0,
    }


def machine() -> dict[str, Any]:
    """What the numbers hold for."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "versions": {"striate": __version__, **{name: version(name) for name in ("torch", "numpy")}},
    }


if __name__ == "__main__":
    main()
