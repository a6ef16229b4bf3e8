"""Whether the memory of a long prediction job stays flat: its growth in MB per 10,000 pictures.

Usage: python benchmarks/memory.py [N] [--batch-size B] [--out benchmarks/results/memory.json]

N pictures (100,000), a few over and over, go through a tiny network in ONNX Runtime to a file of rows, with
the journal and all else that `striate predict --out` has. The resident memory is read N / 50 pictures apart;
the growth is the slope of a line through the readings behind the first fifth, in which buffers find their
size. Without B the job looks for the fastest number of pictures to a pass, as `striate predict` does, and
each larger one that it tries takes its buffers: thousands of pictures may go by until that is settled.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from startup import machine

from striate.api.inputs import find_pictures
from striate.api.prediction_job import PredictionJob
from striate.api.prediction_output import RowsOutput
from striate.errors import DataError, ModelError
from striate.runtime.predictor import load

READINGS = 50
VERSIONED = ("striate", "onnxruntime", "numpy", "pillow")
FEW = 16  # different pictures, of sizes that differ too


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=int, nargs="?", default=100_000)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "memory.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), options.pictures, options.batch_size)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "readings_mb"}, indent=1))


def measured(folder: Path, pictures: int, batch_size: int | None) -> dict[str, Any]:
    """The readings of a job over so many pictures, and their slope."""
    predictor, few = load(model(folder)), few_pictures(folder / "in")
    watch = Readings(max(1, pictures // READINGS))
    out = folder / "found.jsonl"
    given = find_pictures(few[number % FEW] for number in range(pictures))
    done = PredictionJob(given, partial(RowsOutput, out, rows), out).run(predictor, watch, batch_size)
    assert done.worked == pictures
    return {
        "what": (__doc__ or "").splitlines()[0],
        "machine": machine() | {"versions": {name: version(name) for name in VERSIONED}},
        "pictures": pictures,
        "batch_size": batch_size or "found",
        "mb_per_10000_pictures": slope(watch.taken),
        "readings_mb": [round(megabytes, 2) for _, megabytes in watch.taken],
    }


def model(folder: Path) -> Path:
    """A tiny network as ONNX; made in a process of its own, for torch would hide what grows."""
    path = folder / "model.onnx"
    code = (
        "from pathlib import Path; from striate.models import card_of, create\n"
        "from striate.export.targets import onnx\n"
        "small = {'preprocess': {'size': [32, 32]}, 'widths': [4, 8], 'convolutions': [1, 1]}\n"
        "network = create('simple_cnn', 5, **small)\n"
        f"onnx.write(network.eval(), Path({str(path)!r}), card_of(network))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
    return path


def few_pictures(folder: Path) -> list[Path]:
    """JPEG and PNG files of noise, each of another size."""
    folder.mkdir()
    chance, paths = np.random.default_rng(0), []
    for number in range(FEW):
        pixels = chance.integers(0, 256, (40 + 3 * number, 90 - 2 * number, 3), dtype=np.uint8)
        paths.append(folder / f"{number}.{'jpg' if number % 2 else 'png'}")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def rows(stream: Any) -> Any:
    """Writes results as lines of JSON."""
    return lambda result: stream.write(json.dumps(result.to_dict()) + "\n")


class Readings:
    """Reads the memory after every so many pictures."""

    def __init__(self, apart: int) -> None:
        self.taken: list[tuple[int, float]] = []
        self._apart = apart

    def failed(self, _: str, error: DataError | ModelError) -> None:
        """There is no bad picture."""
        raise error

    def advanced(self, done: int, _: int) -> None:
        """Take a reading where one is due."""
        if done % self._apart == 0:
            self.taken.append((done, resident_megabytes()))


def resident_megabytes() -> float:
    """Memory of this process that is in use."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def slope(readings: list[tuple[int, float]]) -> float:
    """MB per 10,000 pictures, by least squares, without the first fifth of the readings."""
    done, megabytes = np.array(readings[len(readings) // 5 :]).T
    return round(float(np.polyfit(done, megabytes, 1)[0]) * 10_000, 3)


if __name__ == "__main__":
    main()
