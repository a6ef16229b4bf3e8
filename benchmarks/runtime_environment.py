"""The environment without torch: what it weighs, how fast it starts, and that its answers are the same."""

import json
import os
import statistics
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runtime_answers import agreement
from runtime_processes import cost_of

__all__ = ["environment"]

ROOT = Path(__file__).parents[1]
INSTALLER = ("pip", "setuptools", "wheel")
# What a fresh process says: seconds of each step, and which of these modules it has loaded or could load.
LOADING = """
import importlib.util, json, sys, time
started = time.perf_counter()
import striate
imported = time.perf_counter()
striate.load(sys.argv[1])
loaded = time.perf_counter()
names = ("torch", "torchvision", "onnx", "sklearn", "scipy")
print(json.dumps({
    "import_seconds": imported - started,
    "load_seconds": loaded - imported,
    "loaded": [name for name in names if name in sys.modules],
    "present": [name for name in names if importlib.util.find_spec(name)],
}))
"""

Row = dict[str, Any]


def environment(model: Path, photos: Path, trained: Path, folder: Path, runs: int) -> Row:
    """Sizes and times of `pip install .` in a fresh environment, and how its answers agree with `trained`.

    model: an ONNX file; trained: the results for `photos` that this environment wrote.
    """
    python = installed(folder / "environment")
    packages = sizes(python)
    said = [json.loads(output(python, "-c", LOADING, str(model))) for _ in range(runs + 1)][1:]
    out = folder / f"without_torch{trained.suffix}"
    cost = cost_of(
        [str(python), "-m", "striate", "predict", str(model), str(photos), "--out", str(out)],
        {"PYTHONPATH": ""},
    )
    count = len(list(photos.iterdir()))
    return {
        "megabytes": round(sum(packages.values()), 1),
        "packages": packages,
        "modules_present": said[0]["present"],
        "modules_loaded": said[0]["loaded"],
        "import_seconds": middle(said, "import_seconds"),
        "load_seconds": middle(said, "load_seconds"),
        "process_seconds": round(statistics.median(process_seconds(python, model, runs)), 3),
        "torch_import_seconds": torch_seconds(runs),
        "predict_seconds": round(cost.seconds, 2),
        "predict_peak_megabytes": round(cost.peak_megabytes, 1),
        "agreement": agreement(trained, out, is_detector=False, photos=count),
    }


def installed(folder: Path) -> Path:
    """The interpreter of a new environment with the package and what it needs, no extras."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    output(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT))
    return python


def sizes(python: Path) -> dict[str, float]:
    """Size of each package in 10**6 bytes with its byte code, largest first; without pip and its like."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    found = {
        entry.name: sum(file.stat().st_size for file in entry.rglob("*") if file.is_file()) / 1e6
        for entry in site.iterdir()
        if entry.is_dir() and not entry.name.startswith(INSTALLER)
    }
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return {name: round(megabytes, 2) for name, megabytes in ordered if megabytes >= 0.005}


def process_seconds(python: Path, model: Path, runs: int) -> list[float]:
    """Wall clock of whole processes that load the model and end."""
    code = "import sys, striate; striate.load(sys.argv[1])"
    return [cost_of([str(python), "-c", code, str(model)], {"PYTHONPATH": ""}).seconds for _ in range(runs)]


def torch_seconds(runs: int) -> float | None:
    """Wall clock of `import torch` in this environment, for comparison; None where it has none."""
    if find_spec("torch") is None:
        return None
    times = [cost_of([sys.executable, "-c", "import torch"]).seconds for _ in range(runs)]
    return round(statistics.median(times), 3)


def middle(said: list[Row], key: str) -> float:
    """The median over the processes."""
    return round(float(statistics.median(row[key] for row in said)), 3)


def output(python: Path, *words: str) -> str:
    """What the interpreter prints; no module of this environment reaches it."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), *words]
    return subprocess.run(
        command, stdout=subprocess.PIPE, check=True, text=True, cwd=python.parent, env=outside
    ).stdout
