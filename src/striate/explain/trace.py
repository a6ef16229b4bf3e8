"""One pass through a network that sees every call of a module and every operation of torch.

On meta tensors, which have a shape and no memory, so that nothing is computed and no weight is needed. A
network whose path depends on values is run on a random picture instead, if it has weights.
"""

import dataclasses
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from striate.errors import ModelError, StriateError, UsageError, first_line
from striate.explain.field_rules import fields_after, is_understood, padded_field
from striate.explain.operations import RECURRENCES, Step, Window, macs_of, window_of
from striate.explain.passes import (
    bound_arguments,
    composite,
    eager,
    first_tensor,
    watched,
)
from striate.explain.receptive_field import Field, Track
from striate.explain.shortcuts import shortcut
from striate.models.evaluating import evaluating
from striate.models.network import Network

__all__ = ["Call", "Operation", "Trace", "trace"]

Shape = tuple[int, ...]


@dataclass(slots=True)
class Operation:
    """An operation that a module's own code asked for."""

    name: str
    macs: int
    window: Window | None
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    input_fields: tuple[Field | None, ...]
    field: Field | None
    parameters: tuple[Tensor, ...]  # those among its inputs


@dataclass(slots=True)
class Call:
    """One call of a module, with what happened inside in order."""

    path: str  # the module's name in the network; "" is the network itself
    number: int  # 1 for the first call of this module, 2 for the next
    kind: str  # the module's class
    input_shape: Shape | None
    output_shape: Shape | None = None
    field: Field | None = None
    members: list["Call | Operation"] = dataclasses.field(default_factory=list)


@dataclass(slots=True)
class Trace:
    """What one pass showed."""

    root: Call
    input_shape: Shape  # batch axis included
    ran: bool  # on a random picture, because the path depends on values
    not_understood: dict[str, int]  # operations without a rule for receptive fields, how often


def trace(module: nn.Module, shape: Sequence[int]) -> Trace:
    """One pass of `module`, in evaluation mode, over one input of `shape` (without the batch axis).

    The module is left as it was. Raises UsageError naming the call that refused its input, ModelError where
    a parameter has no shape yet.
    """
    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise ModelError(
                type(module).__name__, f"its parameter {name} has no shape yet", "call the module once first"
            )
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    input_shape = (1, *shape)
    recorder = _Recorder(module, input_shape, computes=False)
    try:
        recorder.run(torch.empty(input_shape, dtype=dtype, device="meta"))
    except StriateError:
        raise
    except Exception as refusal:
        if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
            raise recorder.refused(refusal) from refusal
        return _real_trace(module, input_shape, dtype)
    return recorder.trace()


def _real_trace(module: nn.Module, input_shape: Shape, dtype: torch.dtype) -> Trace:
    device = next(
        (tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu")
    )
    recorder = _Recorder(module, input_shape, computes=True)
    chance = torch.Generator().manual_seed(0)
    picture = torch.rand(input_shape, generator=chance, dtype=torch.float64).to(device, dtype)
    try:
        with torch.random.fork_rng(devices=[]):
            recorder.run(picture)
    except StriateError:
        raise
    except Exception as refusal:
        raise recorder.refused(refusal) from refusal
    return recorder.trace()


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operation of one pass; hooks on the modules tell it whose it is."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and asking for it imports the compiler: over a second

    def __init__(self, module: nn.Module, input_shape: Shape, computes: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.module = module
        self.computes = computes  # values, not shapes alone
        self.input_shape = input_shape
        self.parameters = {id(parameter): parameter for parameter in module.parameters()}
        self.fields: MutableMapping[Tensor, Field] = WeakTensorKeyDictionary()
        # view -> the tensor it looks into, and that tensor -> all its views
        self.views: MutableMapping[Tensor, Tensor] = WeakTensorKeyDictionary()
        self.looking: MutableMapping[Tensor, list[Tensor]] = WeakTensorKeyDictionary()
        self.not_understood: dict[str, int] = {}
        self.numbers: dict[str, int] = {}
        self.root = Call("", 1, type(module).__name__, input_shape)
        self.stack = [self.root]
        self.is_paused = False

    def run(self, inputs: Tensor) -> None:
        """The pass itself."""
        # Every axis behind the channels has pixels in a row.
        self.fields[inputs] = tuple(
            Track.of_input(self.input_shape, axis) for axis in range(2, len(self.input_shape))
        )
        dense: Any = self.module
        extras: dict[str, Tensor] = {}
        if isinstance(self.module, Network):
            dense, extras = self.module.dense, self.module.blank_extras(inputs)
        with (
            eager(self.module),
            watched(self.module, self.start, self.end),
            evaluating(self.module),
            torch.no_grad(),
            _Composites(self),
            self,
        ):
            self.finish(self.root, dense(inputs, **extras))

    def trace(self) -> Trace:
        """What was seen."""
        return Trace(self.root, self.input_shape, self.computes, self.not_understood)

    def refused(self, error: Exception) -> UsageError:
        """What to say of the call that was the last to start."""
        call = self.stack[-1]
        name = call.path or "the network"
        shape = "no tensor" if call.input_shape is None else "x".join(map(str, call.input_shape[1:]))
        reason = first_line(error)
        given = "x".join(map(str, self.input_shape[1:]))
        return UsageError(
            f"{name} ({call.kind})",
            f"it cannot take {shape} ({reason})",
            f"the network was given {given}: choose the channels and size that it was made for",
        )

    def start(self, path: str, module: nn.Module, inputs: Any) -> None:
        """A call of `module` begins."""
        self.numbers[path] = self.numbers.get(path, 0) + 1
        first = first_tensor(inputs)
        shape = None if first is None else tuple(first.shape)
        call = Call(path, self.numbers[path], type(module).__name__, shape)
        self.stack[-1].members.append(call)
        self.stack.append(call)

    def end(self, outputs: Any) -> None:
        """The call that began last has given `outputs`."""
        self.finish(self.stack[-1], outputs)
        self.stack.pop()

    def finish(self, call: Call, outputs: Any) -> None:
        """`call` has given `outputs`."""
        first = first_tensor(outputs)
        if first is not None:
            call.output_shape, call.field = tuple(first.shape), self.fields.get(first)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        # The network's own weights may lie in memory; what meets the input has a shape only.
        empty = not self.computes and any(tensor.is_meta or tensor in self.fields for tensor in tensors)
        passed = tree_map(_to_meta, (args, kwargs)) if empty else (args, kwargs)
        outputs = shortcut(func, passed[0]) if empty and not kwargs else None
        outputs = func(*passed[0], **passed[1]) if outputs is None else outputs
        if not self.is_paused:
            self.record(func, args, kwargs, outputs)
        return outputs

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within it operations are carried out and not noted."""
        self.is_paused = True
        try:
            yield
        finally:
            self.is_paused = False

    def record(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
        """Note the operation under the call that asked for it."""
        results = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
        name = func._schema.name.partition("::")[2].rstrip("_")
        arguments = bound_arguments(func, args, kwargs)
        pointwise = torch.Tag.pointwise in func.tags
        step = Step(name, arguments, tuple(tuple(r.shape) for r in results), pointwise)
        self.settle(func, step.tensors, results, self.note(step))

    def note(self, step: Step) -> list[Field | None]:
        """Put `step` under the call that asked for it; the fields of its outputs."""
        inputs = step.tensors
        before = tuple(self.fields.get(tensor) for tensor in inputs)
        fields = fields_after(step, self.fields.get)
        if any(found is not None for found in before) and not is_understood(step):
            self.not_understood[step.name] = self.not_understood.get(step.name, 0) + 1
        if step.output_shapes:
            operation = Operation(
                name=step.name,
                macs=macs_of(step),
                window=window_of(step),
                input_shapes=tuple(tuple(tensor.shape) for tensor in inputs),
                output_shape=step.shape,
                input_fields=before,
                field=fields[0],
                parameters=tuple(t for t in inputs if id(t) in self.parameters),
            )
            self.stack[-1].members.append(operation)
        return fields

    def settle(
        self, func: Any, inputs: Sequence[Tensor], results: Sequence[Tensor], fields: Sequence[Field | None]
    ) -> None:
        """Remember the fields of `results`; what else looks into memory that was written sees more too."""
        is_view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        # Statistics that a norm keeps are written too, but nobody reads those for a picture.
        writes = inputs and any(a.alias_info and a.alias_info.is_write for a in func._schema.arguments[:1])
        for result, found in zip(results, fields, strict=True):
            if is_view and inputs:
                root = self.views.get(inputs[0], inputs[0])
                self.views[result] = root
                self.looking.setdefault(root, []).append(result)
            if writes:
                self.overwrite(inputs[0], found)
            if found is not None:
                self.fields[result] = found

    def overwrite(self, target: Tensor, found: Field | None) -> None:
        """`target` now has the field `found`, and so have in part the tensors that share its memory."""
        changed = found != self.fields.get(target)
        root = self.views.get(target, target)
        others = [root, *self.looking.get(root, [])]
        if found is None or not changed:
            return
        self.fields[target] = found
        for other in others:
            if other is not target:
                old = self.fields.get(other) or found
                shape = tuple(other.shape)
                self.fields[other] = tuple(
                    _lost_both(first, second, shape) for first, second in zip(old, found, strict=True)
                )


def _lost_both(first: Track, second: Track, shape: Shape) -> Track:
    one, other = first.lost(shape), second.lost(shape)
    start = min(one.start, other.start)
    end = max(one.start + one.size, other.start + other.size)
    return Track(end - start, start, one.axes, max(one.status, other.status))


class _Composites(TorchFunctionMode):
    """Sees functions whose parts do not show what they are.

    That it is there also has attention computed in its parts, not in one opaque operation.
    """

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name, given = composite(func, args, kwargs) or ("", {})
        if name == "pad":
            return self.pad(func, args, kwargs, given)
        if name in RECURRENCES:
            return self.recur(func, args, name, given)
        return func(*args, **kwargs)

    def recur(self, func: Any, args: tuple[Any, ...], name: str, given: dict[str, Any]) -> tuple[Tensor, ...]:
        """A recurrent layer, whose steps are hundreds of operations, as one."""
        runs = self.recorder.computes or not given["input"].is_meta
        with self.recorder.paused():
            outputs: tuple[Tensor, ...] = func(*args) if runs else _empty_outputs(given)
        step = Step(name, given, tuple(tuple(output.shape) for output in outputs), False)
        for output, field in zip(outputs, self.recorder.note(step), strict=True):
            if field is not None:
                self.recorder.fields[output] = field
        return outputs

    def pad(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], given: dict[str, Any]) -> Any:
        """Circular padding."""
        with self.recorder.paused():
            padded = func(*args, **kwargs)
        field = self.recorder.fields.get(given["input"])
        if field is not None:
            self.recorder.fields[padded] = padded_field(field, tuple(padded.shape), given["pad"])
        return padded


def _empty_outputs(given: dict[str, Any]) -> tuple[Tensor, ...]:
    """Those of a recurrent layer, by its arguments: of all positions, then the last states."""
    values: Tensor = given["input"]
    states = [given["hx"]] if isinstance(given["hx"], Tensor) else given["hx"]
    width = states[0].shape[-1] * (2 if given["bidirectional"] else 1)
    return values.new_empty(*values.shape[:-1], width), *(torch.empty_like(s, device="meta") for s in states)


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) and not value.is_meta else value
