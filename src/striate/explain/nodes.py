"""The tree of calls that a trace showed, each with its shapes, window, field and costs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from striate.explain.operations import Window
from striate.explain.receptive_field import Field, Status
from striate.explain.trace import Call, Operation, Trace

__all__ = ["FUNCTION", "SILENT", "Node", "SeenField", "friendly_name", "tree_of", "unspaced"]

FUNCTION = "function"

# Functions between modules that only look at their input in another way.
SILENT = tuple(
    word
    for words in (
        "_reshape_alias _to_copy _unsafe_view alias as_strided clone contiguous copy detach expand",
        "lift_fresh permute reshape select slice split split_with_sizes squeeze t transpose unbind",
        "unsafe_split unsqueeze view",
    )
    for word in words.split()
)

_FRIENDLY = {"convolution": "conv", "addmm": "linear", "mm": "matmul", "bmm": "matmul", "baddbmm": "matmul"}


@dataclass(frozen=True, slots=True)
class SeenField:
    """The receptive field of a value, an entry for each axis of the input that has pixels in a row."""

    size: tuple[int, ...]  # input pixels, those in the padding too while the field moves
    jump: tuple[float, ...]  # input pixels from one value to the next; 0 where the field does not move
    status: Status
    is_whole: bool  # every value sees all of the input

    @classmethod
    def of(cls, found: Field, input_shape: Sequence[int]) -> "SeenField":
        """Of the tracks `found`, over an input of `input_shape`, batch axis included."""
        sizes, wholes = [], []
        for track, length in zip(found, input_shape[2:], strict=True):
            first, last = max(0.0, track.start), min(float(length), track.start + track.size)
            wholes.append(not track.moves and first == 0 and last == length)
            sizes.append(math.ceil(track.size if track.moves else max(0.0, last - first)))
        status = max((track.status for track in found), default=Status.EXACT)
        return cls(tuple(sizes), tuple(track.jump for track in found), status, all(wholes))

    @property
    def size_text(self) -> str:
        """In short: "35", "35x27", "≤35", "all"; "?" where the values decide."""
        if self.status is Status.DATA_DEPENDENT:
            return "?"
        text = "all" if self.is_whole else _one_or_all(self.size)
        return f"≤{text}" if self.status is Status.UPPER_BOUND else text

    @property
    def jump_text(self) -> str:
        """In short: "4", "4x2"; nothing where the field does not move."""
        return _one_or_all(self.jump) if any(self.jump) else ""


@dataclass(frozen=True, slots=True)
class Node:
    """A call of a module, or a function between the modules, with those inside it."""

    name: str  # of its own: "conv1", "relu #2", "(add)"
    call: str  # from the root on: "layer1.0.conv1"
    kind: str  # the module's class, or "function"
    input_shape: tuple[int, ...] | None  # without the batch axis
    output_shape: tuple[int, ...] | None
    window: Window | None
    field: SeenField | None
    parameters: int  # those met here first; in the nodes inside, too
    is_shared: bool  # it has parameters, all met before
    macs: int
    operations: tuple[Operation, ...]  # its own, where no module is called inside
    children: tuple["Node", ...] = ()

    @property
    def signature(self) -> tuple[Any, ...]:
        """Equal for repeated blocks: all but the names and the receptive field."""
        kind = self.operations[0].name if self.kind == FUNCTION else self.kind
        own = (kind, self.input_shape, self.output_shape, self.window, self.parameters, self.macs)
        return (*own, tuple((child.name, child.signature) for child in self.children))

    def walk(self, depth: int = 0) -> Iterator[tuple[int, "Node"]]:
        """This node and all inside it with their depths, in the order of the calls."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)

    def to_dict(self, depth: int) -> dict[str, Any]:
        """Plain data for `summary --json`."""
        window, seen = self.window, self.field
        return {
            "call": self.call,
            "depth": depth,
            "type": self.kind,
            "input": None if self.input_shape is None else list(self.input_shape),
            "output": None if self.output_shape is None else list(self.output_shape),
            "kernel": None if window is None else list(window.kernel),
            "stride": None if window is None else list(window.stride),
            "padding": None if window is None else list(window.padding),
            "dilation": None if window is None else list(window.dilation),
            "groups": None if window is None else window.groups,
            "field_size": None if seen is None else list(seen.size),
            "field_jump": None if seen is None else list(seen.jump),
            "field_status": None if seen is None else seen.status.label,
            "field_is_whole_input": None if seen is None else seen.is_whole,
            "parameters": self.parameters,
            "shared": self.is_shared,
            "macs": self.macs,
        }


def tree_of(found: Trace) -> tuple[Node, dict[int, Tensor]]:
    """The node of the network itself, and the parameters that were met, by their ids."""
    met: dict[int, Tensor] = {}
    return _Builder(found, met).node(found.root, "", ""), met


@dataclass(frozen=True, slots=True)
class _Builder:
    """Makes nodes of a trace; a parameter counts where it is met first."""

    trace: Trace
    met: dict[int, Tensor]

    def node(self, call: Call, name: str, full: str) -> Node:
        """The node of `call`."""
        operations = [member for member in call.members if isinstance(member, Operation)]
        # A module that calls none inside is one row, but the network itself is always opened.
        is_leaf = bool(full) and len(operations) == len(call.members)
        children = () if is_leaf else tuple(self.children(call, full))
        used = [parameter for operation in operations for parameter in operation.parameters]
        fresh = self.meet(used)  # behind the children: what is left was met by silent functions
        windows = {operation.window for operation in operations} - {None} if is_leaf else set()
        own_macs = sum(operation.macs for operation in operations) if is_leaf else 0
        return Node(
            name=name,
            call=full,
            kind=call.kind,
            input_shape=None if call.input_shape is None else call.input_shape[1:],
            output_shape=None if call.output_shape is None else call.output_shape[1:],
            window=windows.pop() if len(windows) == 1 else None,
            field=self.seen(call.field),
            parameters=fresh + sum(child.parameters for child in children),
            is_shared=is_leaf and bool(used) and not fresh,
            macs=own_macs + sum(child.macs for child in children),
            operations=tuple(operations) if is_leaf else (),
            children=children,
        )

    def children(self, call: Call, full: str) -> Iterator[Node]:
        """The nodes of the calls inside `call`, and of its functions that do something."""
        counts: dict[str, int] = {}
        for member in call.members:
            if isinstance(member, Call):
                mark = f" #{member.number}" if member.number > 1 else ""
                inside = f"{call.path}." if call.path else ""
                yield self.node(member, member.path.removeprefix(inside) + mark, member.path + mark)
            elif _is_shown(member):
                label = f"({friendly_name(member.name)})"
                counts[label] = counts.get(label, 0) + 1
                label += f" #{counts[label]}" if counts[label] > 1 else ""
                yield self.function(member, label, f"{full}.{label}" if full else label)

    def function(self, operation: Operation, name: str, full: str) -> Node:
        """The node of an operation between modules."""
        fresh = self.meet(operation.parameters)
        return Node(
            name=name,
            call=full,
            kind=FUNCTION,
            input_shape=operation.input_shapes[0][1:],
            output_shape=operation.output_shape[1:],
            window=operation.window,
            field=self.seen(operation.field),
            parameters=fresh,
            is_shared=bool(operation.parameters) and not fresh,
            macs=operation.macs,
            operations=(operation,),
        )

    def meet(self, parameters: Sequence[Tensor]) -> int:
        """How many values of `parameters` were not met before."""
        count = 0
        for parameter in parameters:
            if id(parameter) not in self.met:
                self.met[id(parameter)] = parameter
                count += parameter.numel()
        return count

    def seen(self, found: Field | None) -> SeenField | None:
        """The field in numbers for people."""
        return None if not found else SeenField.of(found, self.trace.input_shape)


def _is_shown(operation: Operation) -> bool:
    """Whether a function makes something of the input, and does not only look at it in another way."""
    return bool(operation.macs or operation.parameters) or (
        operation.field is not None and operation.name not in SILENT
    )


def friendly_name(name: str) -> str:
    """What people call the operation `name` of torch: "add", "linear", "conv"."""
    bare = name.lstrip("_").removeprefix("native_").removesuffix("_with_indices")
    return _FRIENDLY.get(bare, bare)


def unspaced(call: str) -> str:
    """The name of a call as names are compared: "layer1.0.relu #2" may be asked for without its space."""
    return call.replace(" ", "")


def _one_or_all(numbers: Sequence[float]) -> str:
    shown = [f"{number:g}" for number in numbers]
    return shown[0] if len(set(shown)) == 1 else "x".join(shown)
