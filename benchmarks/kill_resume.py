"""Whether a run that is killed again and again ends with the bits of an undisturbed one.

Usage: python benchmarks/kill_resume.py [--kills 300] [--seed 0] [--out benchmarks/results/kill_resume.json]

Trains a small network on drawn pictures in a process of its own (forked, with torch loaded: 300 starts of
Python would take most of the time), sends it SIGKILL at a random moment, resumes it, and so on to its end;
then compares the weights of both model files and the rows of the log, each step exactly once, with those of a
run that nobody killed. New runs are begun until there were enough kills. A third of them come at any time of
the process, a third while it trains, a third as soon as a checkpoint is seen half written.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch when it is loaded

import striate
from striate import cli
from striate.training import fit  # noqa: F401 - loaded once, before any process is forked

SETTINGS = (
    "--model", "simple_cnn", "--deterministic", "--workers", "2", "--batch-size", "8",
    "--set", "network.widths=[4, 8]", "--set", "network.convolutions=[1, 1]", "--set", "network.dropout=0.3",
    "--set", "augment.flip=0.5", "--set", "augment.pad=2", "--set", "training.optimiser='adamw'",
    "--set", "training.ema=0.9", "--set", "training.threads=1", "--set", "training.checkpoint_minutes=0.001",
)  # fmt: skip
START = 20.0  # seconds that a process may take until it trains
WHOLE = 3.0  # seconds after its start that a kill at any time comes at the latest
PASSING = ("time", "images_per_second", "seconds")  # of a row, differ from run to run


@dataclass
class Tally:
    """What was done so far."""

    kills: Counter[str] = field(default_factory=Counter)  # by what the process was doing
    runs: int = 0
    differing: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # last words of a process that failed by itself


def main() -> None:
    """Kill, compare, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "kill_resume.json")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally = disturb(Path(folder), options.kills, options.epochs, options.seed)
    result = {
        "what": __doc__.splitlines()[0],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {name: version(name) for name in ("torch", "numpy", "pillow")} | {"striate": installed()},
        "kills": sum(tally.kills.values()),
        "kills_by_moment": dict(sorted(tally.kills.items())),
        "runs": tally.runs,
        "runs_that_differ": len(tally.differing),
        "failures": tally.failures,
        "epochs": options.epochs,
        "seed": options.seed,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(bool(tally.differing or tally.failures))


def installed() -> str:
    """The version of striate, also where it runs from its source."""
    return striate.__version__


def disturb(folder: Path, kills: int, epochs: int, seed: int) -> Tally:
    """Train undisturbed once, then killed and resumed until there were `kills`."""
    draw(folder / "pictures")
    start = ["train", str(folder / "pictures"), *SETTINGS, "--epochs", str(epochs), "--out"]
    whole = folder / "whole"
    finished = process([*start, str(whole)], folder / "words")
    finished.join()
    if finished.exitcode:
        sys.exit((folder / "words").read_text())
    expected, chance, tally = outcome(whole), random.Random(seed), Tally()
    while sum(tally.kills.values()) < kills and not tally.failures:
        run = folder / f"run{tally.runs}"
        finish(run, start, chance, tally, kills)
        tally.runs += 1
        if not tally.failures and outcome(run) != expected:
            tally.differing.append(run.name)
    return tally


def draw(folder: Path) -> None:
    """Three classes of forty noisy pictures."""
    chance = np.random.default_rng(0)
    for name, level in (("dark", 60), ("mid", 110), ("light", 160)):
        (folder / name).mkdir(parents=True)
        for number in range(40):
            pixels = level + chance.integers(-60, 60, (16, 16, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:02d}.png")


def process(arguments: list[str], words: Path) -> ForkProcess:
    """`striate` in a process of its own; what it says goes to the file `words`."""
    child = get_context("fork").Process(target=run, args=(arguments, words))
    child.start()
    return child


def run(arguments: list[str], words: Path) -> None:
    """`striate` in this process, which ends with its exit code."""
    out = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    # Not sys.exit: nothing of the parent's is to be cleaned up here.
    os._exit(cli.main(arguments))


def finish(run: Path, start: list[str], chance: random.Random, tally: Tally, kills: int) -> None:
    """Kill and resume the run in `run` until it ends by itself."""
    while True:
        known = (run / "run.toml").exists()
        words, before = run.with_suffix(".words"), (half_written(run), log_time(run))
        child = process(["train", "--resume", str(run)] if known else [*start, str(run)], words)
        if sum(tally.kills.values()) < kills:
            wait_for_moment(child, run, before, chance)
            child.kill()
        child.join()
        error, code = words.read_text(), child.exitcode or 0
        if code == 0 or (code > 0 and "this run is finished" in error):
            return
        if code != -signal.SIGKILL:
            tally.failures.append(error.strip().splitlines()[-1])
            return
        tally.kills[moment(run, before)] += 1


def wait_for_moment(
    child: ForkProcess, run: Path, before: tuple[set[Path], int], chance: random.Random
) -> None:
    """Return when it is time to kill `child`, or when it has ended."""
    kind = chance.choice(("any time", "training", "save"))
    if kind == "any time":
        wait_until(child, chance.uniform(0, WHOLE), lambda: False)
        return
    wait_until(child, START, lambda: log_time(run) != before[1])
    wait_until(child, chance.uniform(0, 0.5), lambda: False)
    if kind == "save":
        wait_until(child, 5, lambda: bool(half_written(run) - before[0]))


def wait_until(child: ForkProcess, seconds: float, seen: Any) -> None:
    """Look until something is seen, `child` has ended or `seconds` are over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and child.is_alive() and not seen():
        time.sleep(0.0002)


def half_written(run: Path) -> set[Path]:
    """The checkpoints whose writing was not finished."""
    return set((run / "checkpoints").glob(".striate-tmp-*"))


def log_time(run: Path) -> int:
    """When the log was last written to, in nanoseconds; 0 where there is none."""
    log = run / "events.jsonl"
    return log.stat().st_mtime_ns if log.exists() else 0


def moment(run: Path, before: tuple[set[Path], int]) -> str:
    """What the killed process was doing, by what it left and what was there before it."""
    if half_written(run) - before[0]:
        return "inside a save"
    return "training" if log_time(run) != before[1] else "before it trained"


def outcome(run: Path) -> tuple[str, ...]:
    """The weights of both model files and the rows of the log, but for what passes."""
    from safetensors.numpy import load_file

    digests = []
    for name in ("model.safetensors", "last.safetensors"):
        digest = hashlib.sha256()
        for key, array in sorted(load_file(run / name).items()):
            digest.update(key.encode() + array.tobytes())
        digests.append(digest.hexdigest())
    rows = []
    for line in (run / "events.jsonl").read_text().splitlines():
        row = {key: value for key, value in json.loads(line).items() if key not in PASSING}
        rows.append(json.dumps({**row, "path": Path(row.get("path", "")).name}, sort_keys=True))
    return (*digests, *rows)


if __name__ == "__main__":
    main()
