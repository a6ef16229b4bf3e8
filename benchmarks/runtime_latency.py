"""How fast engines are on pictures that lie in memory: a process for each, in interleaved rounds.

As a program it is one such process: python runtime_latency.py ENGINE MODEL.safetensors|MODEL.onnx

Milliseconds are of one call at a time. Images a second are of as many calls side by side as the engine says
are fastest, which is what the predictor does.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from runtime_processes import peak_megabytes

__all__ = ["BY_HAND", "CHANNELS_LAST", "EAGER", "ENGINES", "RUNTIME", "VINO", "WINOGRAD", "in_memory"]

EAGER, CHANNELS_LAST = "PyTorch eager", "PyTorch eager, channels_last"
RUNTIME, BY_HAND, VINO = "ONNX Runtime", "ONNX Runtime, default session", "OpenVINO"
WINOGRAD = "ONNX Runtime, Winograd"
ENGINES = (EAGER, CHANNELS_LAST, RUNTIME, BY_HAND, WINOGRAD, VINO, f"{RUNTIME} int8", f"{VINO} int8")
BATCHES = (1, 16)
TIMES_EAGER = 2.5  # of int8, aimed at for ResNet-18
SECONDS = 1.0  # of each measurement
SETTLE = 3  # calls that do not count

Row = dict[str, Any]
Call = Callable[[NDArray[np.uint8]], Any]


def in_memory(files: Mapping[str, Path], rounds: int) -> Row:
    """The figures of each engine on its file; medians over the rounds."""
    present = {name: path for name, path in files.items() if is_installed(name)}
    found = [{name: figures_of(name, path) for name, path in present.items()} for _ in range(rounds)]
    engines = {name: over_rounds([row[name] for row in found]) for name in present}
    return {"engines": engines, "int8": times_eager(engines)}


def times_eager(engines: Mapping[str, Row]) -> Row:
    """Pictures a second of each engine in int8 / those of PyTorch eager, beside the goal."""
    rates = {name: row["images_per_second_batch_16"]["median"] for name, row in engines.items()}
    eager = max(rates[EAGER], rates[CHANNELS_LAST])
    found = {name: round(rate / eager, 2) for name, rate in rates.items() if name.endswith("int8")}
    return {name: {"times_eager": times, "is_met": times >= TIMES_EAGER} for name, times in found.items()}


def is_installed(engine: str) -> bool:
    """Whether what runs it is here."""
    return find_spec("openvino" if engine.startswith(VINO) else "onnxruntime") is not None


def figures_of(engine: str, path: Path) -> Row:
    """What a fresh process says."""
    said = subprocess.run([sys.executable, __file__, engine, path], stdout=subprocess.PIPE, check=True)
    found: Row = json.loads(said.stdout)
    return found


def over_rounds(rows: list[Row]) -> Row:
    """Median, least and largest of each figure."""
    return {
        key: {
            "median": round(statistics.median(values), 2),
            "least": round(min(values), 2),
            "largest": round(max(values), 2),
        }
        for key, values in ((key, [row[key] for row in rows]) for key in rows[0])
    }


def main() -> None:
    """Be one engine, and print what it reaches."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    call, shape, lanes = opened(options.engine, options.model)
    print(json.dumps(dict(measured(call, shape, lanes))))


def measured(call: Call, shape: tuple[int, int, int], lanes: int) -> Iterator[tuple[str, float]]:
    """Name and value of each figure."""
    chance = np.random.default_rng(0)
    for size in BATCHES:
        # In memory channels come last, as the predictor stacks pictures.
        height, width, channels = shape
        images = chance.integers(0, 256, (size, height, width, channels), np.uint8).transpose(0, 3, 1, 2)
        for _ in range(SETTLE):
            call(images)
        times = list(seconds_of(call, images))
        yield f"milliseconds_batch_{size}", 1000 * statistics.median(times)
        yield f"images_per_second_batch_{size}", size * side_by_side(call, images, lanes)
    peak = peak_megabytes(os.getpid())
    if peak is not None:
        yield "peak_megabytes", peak


def seconds_of(call: Call, images: NDArray[np.uint8]) -> Iterator[float]:
    """The time of each call, one after the other, for SECONDS in all."""
    end = time.perf_counter() + SECONDS
    while (started := time.perf_counter()) < end:
        call(images)
        yield time.perf_counter() - started


def side_by_side(call: Call, images: NDArray[np.uint8], lanes: int) -> float:
    """Calls a second of `lanes` threads."""
    started = time.perf_counter()
    with ThreadPoolExecutor(lanes) as pool:
        counts = list(pool.map(lambda _: sum(1 for _ in seconds_of(call, images)), range(lanes)))
    return sum(counts) / (time.perf_counter() - started)


def opened(engine: str, path: Path) -> tuple[Call, tuple[int, int, int], int]:
    """What runs (B, C, H, W) uint8; height, width and channels of a picture; how many lanes it has."""
    import striate

    kind = "openvino" if engine.startswith(VINO) else "auto"
    predictor = striate.load(path, "cpu", engine=kind)
    preprocess, lanes = predictor.preprocess, predictor.engine.lanes
    shape = (*preprocess.size, preprocess.channels)
    if engine == EAGER:
        import torch

        # The engine lays filters out for channels_last; a plain module has them as they were built.
        network: Any = predictor.engine
        network.network.to(memory_format=torch.contiguous_format)
        return lambda images: network.dense({"images": np.ascontiguousarray(images)}), shape, lanes
    if engine == BY_HAND:
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        return lambda images: session.run(None, {"images": images}), shape, 1
    return lambda images: predictor.engine.dense({"images": images}), shape, lanes


if __name__ == "__main__":
    main()
