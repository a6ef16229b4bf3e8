"""The ways from a folder of photos to a file of results: striate's commands and the scripts of its peers."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from runtime_models import Case, Files

__all__ = ["LOOP", "OURS", "TORCHVISION", "WINOGRAD", "Way", "ways_of"]

OURS = "striate, ONNX Runtime"
WINOGRAD = "striate, ONNX Runtime, Winograd"
TORCHVISION = "torchvision"
LOOP = "ONNX Runtime, simple loop"
PEERS = Path(__file__).parent / "runtime_peers"
WORKERS = (0, 2)


@dataclass(frozen=True)
class Way:
    """One way, by its name; of several variants the fastest one is raced."""

    name: str
    suffix: str  # of what it writes
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # PHOTOS and OUT stand for paths
    only: str | None = None  # the variant that was chosen

    def command(self, photos: Path, out: Path, variant: str | None = None) -> list[str]:
        """The words of a variant, else of the chosen or the only one."""
        chosen = self.variants[variant or self.only or next(iter(self.variants))]
        places = {"PHOTOS": str(photos), "OUT": str(out)}
        return [places.get(word, word) for word in chosen]


def ways_of(case: Case, files: Files) -> Iterator[Way]:
    """Every way that `case` can go, striate's first."""
    yield from striate_ways(case, files)
    if case.is_detector:
        if files.torchvision is not None:
            yield from detecting_ways(case, files, files.torchvision)
        return
    if case.torchvision is not None and files.torchvision is not None:
        arguments = (case.torchvision, str(files.torchvision), "PHOTOS", "OUT")
        yield with_workers(TORCHVISION, "torchvision_classify.py", arguments)
        yield with_workers(
            f"{TORCHVISION}, channels_last", "torchvision_classify.py", (*arguments, "--channels-last")
        )
    if case.timm is not None:
        yield with_workers("timm", "timm_classify.py", (case.timm, str(files.timm), "PHOTOS", "OUT"))
    if files.plain_onnx is not None:
        words = script("onnxruntime_classify.py", str(files.plain_onnx), "PHOTOS", "OUT")
        yield Way(LOOP, ".csv", {f"batch {size}": (*words, "--batch", str(size)) for size in (1, 8)})


def striate_ways(case: Case, files: Files) -> Iterator[Way]:
    """`striate predict` with each engine that is installed."""
    suffix = ".jsonl" if case.network.startswith("deeplab") else ".csv"
    score = () if files.score is None else ("--score", repr(files.score))
    models = {
        OURS: (str(files.onnx),),
        "striate, OpenVINO": (str(files.onnx), "--engine", "openvino"),
        "striate, PyTorch": (str(files.model),),
    }
    if files.winograd is not None:
        models[WINOGRAD] = (str(files.winograd),)
    if find_spec("openvino") is None:
        del models["striate, OpenVINO"]
    for name, (model, *options) in models.items():
        words = (sys.executable, "-m", "striate", "predict", model, "PHOTOS", "--out", "OUT")
        yield Way(name, suffix, {"": (*words, *options, *score)})


def detecting_ways(case: Case, files: Files, weights: Path) -> Iterator[Way]:
    """torchvision's detector; its classes include the background."""
    arguments = (str(case.torchvision), str(weights), str(files.classes + 1), "PHOTOS", "OUT")
    asked = (*arguments, "--score", repr(files.score))
    yield with_workers(TORCHVISION, "torchvision_detect.py", asked)
    yield with_workers(f"{TORCHVISION}, channels_last", "torchvision_detect.py", (*asked, "--channels-last"))


def with_workers(name: str, file: str, arguments: tuple[str, ...]) -> Way:
    """A script that loads with or without processes beside it."""
    words = script(file, *arguments)
    return Way(name, ".csv", {f"{count} workers": (*words, "--workers", str(count)) for count in WORKERS})


def script(file: str, *arguments: str) -> tuple[str, ...]:
    """The words that run one of the peers' scripts."""
    return (sys.executable, str(PEERS / file), *arguments)
