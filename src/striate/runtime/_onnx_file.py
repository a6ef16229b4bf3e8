"""An ONNX file looked through before anything runs it: what it says of itself, and that it stands alone.

ONNX lets a tensor lie in another file, named by a path of the writer's choice. Here a file is read once, as
bytes, and what was looked through is what runs; nothing but the file itself is ever opened. Numbers of fields
are those of `onnx.proto`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import prod
from pathlib import Path
from types import MappingProxyType

from striate.errors import ModelError
from striate.runtime._protobuf import LENGTH, Damaged, Field, count_varints, fields, varints

__all__ = ["OnnxFile", "read_onnx"]

_MOST_BYTES = (1 << 31) - 1  # no protocol buffer is larger
_MOST_LEVELS = 64  # of graphs in nodes in graphs; our exports have 5
_MOST_AXES = 64

# ModelProto, TensorProto, SparseTensorProto, StringStringEntryProto
_IR_VERSION, _GRAPH, _METADATA = 1, 7, 14
_DIMS, _TYPE, _SEGMENT, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 3, 8, 9, 13, 14
_KEY, _VALUE = 1, 2

_INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Kind of message -> number of a field -> kind of message in it, as far as tensors can be in there."""

_BITS = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    15: 128,
    **dict.fromkeys((27, 28), 6),
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((25, 26), 2),
}
"""Type of a tensor -> bits of a value; a text (8) has no fixed size."""
_TEXT = 8
_COMPLEX = (14, 15)


def _bytes_in(width: int) -> Callable[[Field], int]:
    return lambda field: len(field.value) // width if isinstance(field.value, memoryview) else 1


# Numbers of the fields that may hold values, one after the other, where `raw_data` does not.
_COUNTS: Mapping[int, Callable[[Field], int]] = {
    4: _bytes_in(4),  # float_data
    5: count_varints,  # int32_data
    6: lambda _: 1,  # string_data
    7: count_varints,  # int64_data
    10: _bytes_in(8),  # double_data
    11: count_varints,  # uint64_data
}


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A file that holds all it needs."""

    path: Path
    content: bytes
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # `metadata_props`


def read_onnx(path: Path) -> OnnxFile:
    """The file `path`, looked through.

    Raises ModelError naming it where it is cut off or no ONNX, where a tensor lies outside it, and where
    a tensor has not the values that its shape declares.
    """
    content = _content(path)
    model = memoryview(content)
    try:
        _look_through(model, "model", _MOST_LEVELS)
        numbers = {entry.number for entry in fields(model)}
        if not {_IR_VERSION, _GRAPH} <= numbers:
            raise Damaged("it has no graph")
        return OnnxFile(path, content, _metadata(model))
    except Damaged as error:
        raise ModelError(
            path, f"it is cut off, or no ONNX file ({error})", "use an intact copy, or export it again"
        ) from None
    except _Refused as error:
        raise ModelError(path, *error.args) from None


class _Refused(Exception):
    """What is wrong with a file that is ONNX, and what to do."""


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise ModelError(
                path, f"it has {size:,} bytes, an ONNX file at most {_MOST_BYTES:,}", "give an ONNX file"
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            path, f"cannot be read ({error.strerror})", "check the path and its permissions"
        ) from None


def _look_through(message: memoryview, kind: str, levels: int) -> None:
    """Check each tensor in `message`, wherever it is."""
    if not levels:
        raise _Refused(
            f"its graphs lie in each other more than {_MOST_LEVELS} levels deep",
            "export it in a plainer form",
        )
    if kind == "tensor":
        _check_tensor(message)
    inside = _INSIDE.get(kind, {})
    for entry in fields(message):
        if entry.number in inside:
            _look_through(entry.content, inside[entry.number], levels - 1)


def _check_tensor(message: memoryview) -> None:
    """Refuse a tensor that lies elsewhere, or has not the values that its shape declares."""
    dims: list[int] = []
    name, kind, raw, counted = "without a name", 0, None, 0
    for entry in fields(message):
        if entry.number == _NAME:
            name = repr(entry.text)
        elif entry.number == _TYPE:
            kind = entry.integer
        elif entry.number == _DIMS:
            dims += islice(varints(entry), _MOST_AXES + 1)
        elif entry.number == _RAW:
            raw = len(entry.content)
        elif entry.number in _COUNTS:
            counted += _COUNTS[entry.number](entry)
        elif entry.number in (_EXTERNAL, _SEGMENT) or (entry.number == _LOCATION and entry.integer):
            raise _Refused(
                f"tensor {name} lies in another file, which is not opened",
                "export it as one file: onnx.save(onnx.load(FILE), NEW) puts all tensors inside",
            )
    _check_values(name, kind, dims, raw, counted)


def _check_values(name: str, kind: int, dims: list[int], raw: int | None, counted: int) -> None:
    """Refuse a tensor with `raw` bytes, or else `counted` values, where `dims` of its type are others."""
    if (kind not in _BITS and kind != _TEXT) or len(dims) > _MOST_AXES:
        what = f"is of the unknown type {kind}" if len(dims) <= _MOST_AXES else "has too many axes"
        raise _Refused(f"tensor {name} {what}", "use an intact copy, or upgrade striate")
    declared = prod(dims)
    shape = "x".join(map(str, dims)) or "a single value"
    if raw is not None:
        held, needed = f"{raw:,} bytes", -(-declared * _BITS.get(kind, 0) // 8)
        fits = raw == needed
    else:
        # Types of less than 8 bits may share an integer.
        least = -(-declared * min(_BITS.get(kind, 8), 8) // 8) * (2 if kind in _COMPLEX else 1)
        held, fits = f"{counted:,} values", least <= counted <= declared * (2 if kind in _COMPLEX else 1)
    if not fits:
        raise _Refused(f"tensor {name} is declared as {shape} and holds {held}", "use an intact copy")


def _metadata(model: memoryview) -> dict[str, str]:
    """The entries of `metadata_props`; where a key comes twice, the last one counts."""
    found = {}
    for entry in fields(model):
        if entry.number == _METADATA:
            texts = {part.number: part.text for part in fields(entry.content) if part.wire == LENGTH}
            found[texts.get(_KEY, "")] = texts.get(_VALUE, "")
    return found
