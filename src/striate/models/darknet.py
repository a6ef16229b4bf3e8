"""Weights that darknet wrote: `.weights` files, as state dicts of the networks here.

Such a file holds no names and no shapes: a header (three int32: major, minor, revision; then how many
pictures were seen, 8 bytes from version 0.2 on, 4 before) and float32 values, little-endian, layer after
layer in the order of the network's definition. Of a convolution with batch norm these are its biases (the
norm's shift), scales, running means, running variances and kernels; of one without, and of a fully connected
layer, biases and weights. Where darknet divides by the deviation it guards against 0 in another way than
torch, which adds 1e-5 to the variance: outputs may differ from darknet's own by about 1e-3.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from striate.errors import ModelError, UsageError
from striate.models import create
from striate.models.network import Network
from striate.models.unweighted import unweighted

__all__ = ["MODELS", "SUFFIX", "DarknetWeights", "read_darknet"]

SUFFIX = ".weights"

MODELS = (
    *("darknet19", "darknet53", "tiny_yolo_v1"),
    *("yolo_v2", "yolo_v2_coco", "tiny_yolo_v2", "yolo_v3", "tiny_yolo_v3"),
)
"""The networks here whose layers are those of a darknet network, in its order."""

_VERSION = struct.Struct("<3i")
_FLOAT = 4  # bytes
_TRANSPOSED = 1000  # versions from which on fully connected layers are stored the other way round
_SHOWN_CLASSES = (3, 5)  # two numbers of classes, by which it is told how a file's length depends on them


@dataclass(frozen=True, slots=True)
class DarknetWeights:
    """The weights in a file, and what each was there."""

    state_dict: dict[str, Tensor]
    names: dict[str, str]  # there -> here: "convolution 1 scales" -> "trunk.stage1.0.norm.weight"
    classes: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A run of values in the file."""

    there: str
    here: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return int(np.prod(self.shape))


def read_darknet(path: Path, model: str, classes: int | None = None) -> DarknetWeights:
    """The weights in the file `path`, made for the network `model` with so many classes (None: its default).

    Raises UsageError for a network that darknet has none of; ModelError where the file is not exactly as long
    as that network's weights, before any memory is taken for them.
    """
    if model not in MODELS:
        raise UsageError(
            f"--model {model}",
            f"{SUFFIX} files are of darknet's networks",
            f"use one of {', '.join(MODELS)}",
        )
    with unweighted():
        network = create(model, classes)
    parts = list(_parts(network))
    try:
        with path.open("rb") as file:
            start = _header(file, path)
            found = path.stat().st_size - start
            if found != _length(parts):
                raise _other_length(path, model, len(network.classes), found, _length(parts))
            tensors = {part.here: _values(file, part, path) for part in parts}
    except OSError as error:
        raise ModelError(
            path, f"cannot be read ({error.strerror})", "check the path and its permissions"
        ) from None
    # Batch norm's counters are in no file; no output depends on them.
    counters = {
        name: torch.zeros((), dtype=t.dtype) for name, t in network.state_dict().items() if not t.ndim
    }
    names = {part.there: part.here for part in parts}
    return DarknetWeights(tensors | counters, names, len(network.classes))


def _header(file: BinaryIO, path: Path) -> int:
    """Read past the header: the number of bytes that it has. Raises ModelError for one that is none."""
    version = file.read(_VERSION.size)
    if len(version) < _VERSION.size:
        raise ModelError(path, "it is too short for a darknet file", "use an intact copy")
    major, minor, _ = _VERSION.unpack(version)
    if not (0 <= major < _TRANSPOSED and 0 <= minor < _TRANSPOSED):
        raise ModelError(
            path,
            f"its header says version {major}.{minor}, which no darknet network here has",
            f"give a {SUFFIX} file that darknet wrote",
        )
    seen = 8 if major * 10 + minor >= 2 else 4
    file.read(seen)
    return _VERSION.size + seen


def _parts(network: Network) -> Iterator[_Part]:
    """The runs of values that a file for `network` has, in order."""
    layers = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
    ]
    numbers = {nn.Conv2d: 0, nn.Linear: 0}
    for place, (name, layer) in enumerate(layers):
        if isinstance(layer, nn.BatchNorm2d):
            continue
        kind = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
        numbers[kind] += 1
        there = f"{'convolution' if kind is nn.Conv2d else 'connected'} {numbers[kind]}"
        tensors = {"biases": f"{name}.bias"}
        if layer.bias is None:
            norm = layers[place + 1][0]
            tensors = {
                "biases": f"{norm}.bias",
                "scales": f"{norm}.weight",
                "means": f"{norm}.running_mean",
                "variances": f"{norm}.running_var",
            }
        for what, here in {**tensors, "weights": f"{name}.weight"}.items():
            yield _Part(f"{there} {what}", here, _shape(network, here))


def _shape(network: Network, name: str) -> tuple[int, ...]:
    module, _, leaf = name.rpartition(".")
    return tuple(getattr(network.get_submodule(module), leaf).shape)


def _length(parts: list[_Part]) -> int:
    """Bytes behind the header."""
    return _FLOAT * sum(part.count for part in parts)


def _values(file: BinaryIO, part: _Part, path: Path) -> Tensor:
    values = np.fromfile(file, "<f4", part.count)
    if len(values) < part.count:
        raise ModelError(path, f"it ends within {part.there}", "use an intact copy")
    return torch.from_numpy(values.astype(np.float32, copy=False)).view(part.shape)


def _other_length(path: Path, model: str, classes: int, found: int, needed: int) -> ModelError:
    what = f"it has {found:,} bytes of weights; {model} with {classes} classes has {needed:,}"
    fitting = _fitting_classes(model, found)
    if fitting is not None:
        return ModelError(
            path, what, f"for {fitting} classes it has the right length: name them with --classes"
        )
    return ModelError(path, what, "use an intact copy, and name the network that it was made for")


def _fitting_classes(model: str, found: int) -> int | None:
    """The number of classes for which the network's weights take `found` bytes, if there is one."""
    lengths = []
    for classes in _SHOWN_CLASSES:
        with unweighted():
            lengths.append(_length(list(_parts(create(model, classes)))))
    few, more = _SHOWN_CLASSES
    each = (lengths[1] - lengths[0]) // (more - few)
    classes, rest = divmod(found - lengths[0], each)
    return classes + few if not rest and classes + few >= 1 else None
