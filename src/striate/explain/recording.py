"""One pass through a network that keeps values: what every explanation is read from.

`record(network, images, wanted=...)` names each call as `summary` does and keeps the float values of those
that are wanted, copied at the moment they were made; of the rest it keeps shapes, and thumbnails if asked.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from striate.errors import StriateError, UnknownName, UsageError, first_line
from striate.explain.field_rules import CONSTANTS
from striate.explain.nodes import FUNCTION, SILENT, friendly_name, unspaced
from striate.explain.operations import Step
from striate.explain.passes import (
    bound_arguments,
    composite,
    eager,
    first_tensor,
    watched,
)
from striate.explain.recorded_call import Failure, Performed, RecordedCall, Thumbnail, is_following
from striate.models.evaluating import evaluating
from striate.models.network import Network

__all__ = ["Failure", "Performed", "RecordedCall", "Recording", "Thumbnail", "among", "record"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Recording:
    """What one pass showed; the calls in order."""

    name: str  # the network's
    calls: tuple[RecordedCall, ...]
    images: Tensor  # what went in; in the graph of gradients where those were asked for
    outputs: Any  # what came out: `dense` of a Network; None where the pass failed
    failure: Failure | None  # the call that ended it, if it did not reach its end
    training: bool  # whether the network was in training mode

    def __getitem__(self, name: str) -> RecordedCall:
        """The call `name`, such as "layer1.0.relu #2".

        Raises UnknownName with the nearest; UsageError where it is a block with calls inside.
        """
        named = {unspaced(call.name): call for call in self.calls}
        if unspaced(name) not in named:
            inside = [call.name for call in self.calls if call.name.startswith(f"{name}.")]
            if inside:
                raise UsageError(
                    f"{self.name} layer {name}",
                    f"it is made of {len(inside)} calls",
                    f"choose one of them: {inside[-1]} is its last",
                )
            raise UnknownName(f"{self.name} layer", name, [call.name for call in self.calls])
        return named[unspaced(name)]

    def __repr__(self) -> str:
        kept = sum(call.output is not None for call in self.calls)
        end = "" if self.failure is None else f", ended at {self.failure}"
        return f"Recording of {self.name}: {len(self.calls)} calls, {kept} with values{end}"

    def whole(self) -> "Recording":
        """Itself. Raises UsageError naming the call where the pass failed."""
        if self.failure is not None:
            raise UsageError(
                self.failure.where,
                self.failure.what,
                "give the network the channels and the size that it was made for",
            )
        return self

    def following(self, call: RecordedCall) -> Iterator[RecordedCall]:
        """The normalisation and the activation that `call`'s output goes through next, in order.

        Found by the tensor itself, not by names. It ends where something else is done with it.
        """
        while (found := self._next(call)) is not None:
            yield found
            call = found

    def _next(self, call: RecordedCall) -> RecordedCall | None:
        place = next(i for i, other in enumerate(self.calls) if other is call)
        for other in self.calls[place + 1 :]:
            if other.inputs and other.inputs[0] is call.output and _follows(other):
                return other
        return None


def among(calls: Iterable[str]) -> Callable[[str], bool]:
    """What `record` takes as `wanted` where these `calls` are."""
    names = {unspaced(call) for call in calls}
    return lambda call: unspaced(call) in names


def record(
    module: nn.Module,
    images: Tensor,
    *,
    wanted: Callable[[str], bool] | None = None,
    thumbs: bool = False,
    gradients: bool = False,
    training: bool = False,
    **extras: Tensor,
) -> Recording:
    """One pass of `module` over `images` (B, C, H, W): uint8 or 0..255 for a Network, through its `dense`.

    wanted: tells by its name whether a call's values are kept, in float and with its inputs; so are those of
        the normalisation and activation right behind it. None keeps none.
    thumbs: keep a small picture of each map of the first image.
    gradients: keep the outputs of the wanted modules in the graph of gradients (`RecordedCall.live`); the
        images become float and are in it too.
    training: in training mode; by default in evaluation mode. Modes, statistics and the chance are put back.
    extras: further inputs of the network, such as `proposals`.

    Where `forward` raises, what was seen until then is there, and `failure` names the call. A StriateError,
    which says itself what is wrong, is raised on.
    """
    place = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), images.device)
    images = images.detach().to(place)
    if gradients:
        images = (images if images.is_floating_point() else images.float()).requires_grad_()
    recorder = _Recorder(module, wanted or _nothing, thumbs, gradients)
    with _mode(module, training), torch.random.fork_rng(devices=[]):
        outputs, failure = recorder.run(images, extras)
    name = getattr(module, "name", "") or type(module).__name__
    return Recording(name, tuple(recorder.root.calls()), images, outputs, failure, training)


@dataclass(slots=True, eq=False)
class _Frame:
    """A call of a module under way, or ended, with what its own code called inside."""

    path: str
    number: int
    module: nn.Module
    input_shapes: tuple[Shape, ...]
    sources: tuple[str, ...]
    inputs: tuple[Tensor, ...] | None
    is_wanted: bool
    members: list["_Frame | RecordedCall"] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    leaf: RecordedCall | None = None  # once it has ended, where no module was called inside

    @property
    def name(self) -> str:
        return self.path + (f" #{self.number}" if self.number > 1 else "")

    @property
    def functions(self) -> list[RecordedCall]:
        return [member for member in self.members if isinstance(member, RecordedCall)]

    def calls(self) -> Iterator[RecordedCall]:
        """Those inside in order, or the one that it is."""
        if self.leaf is not None:
            yield self.leaf
            return
        for member in self.members:
            if isinstance(member, _Frame):
                yield from member.calls()
            else:
                yield member

    def label(self, operation: str) -> str:
        """The name of a function called here now, as summaries number them."""
        label = f"({friendly_name(operation)})"
        self.counts[label] = self.counts.get(label, 0) + 1
        label += f" #{self.counts[label]}" if self.counts[label] > 1 else ""
        return f"{self.name}.{label}" if self.path else label


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operation of one pass; hooks on the modules tell it whose it is."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and asking for it imports the compiler: over a second

    def __init__(
        self, module: nn.Module, wanted: Callable[[str], bool], thumbs: bool, gradients: bool
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.module, self.wanted, self.thumbs, self.gradients = module, wanted, thumbs, gradients
        self.own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
        self.copies = _Copies()
        self.roots: MutableMapping[Tensor, Tensor] = WeakTensorKeyDictionary()  # view -> what it looks into
        # Tensors that hang on the input, and those that a normalisation or activation may follow.
        self.dependent: MutableMapping[Tensor, bool] = WeakTensorKeyDictionary()
        self.trail: MutableMapping[Tensor, bool] = WeakTensorKeyDictionary()
        self.makers: MutableMapping[Tensor, str] = WeakTensorKeyDictionary()  # names of the calls
        self.numbers: dict[str, int] = {}
        self.root = _Frame("", 1, module, (), (), None, False)
        self.stack = [self.root]
        self.attempted: tuple[Tensor, ...] = ()  # tensors of the operation under way
        self.is_paused = False

    def run(self, images: Tensor, extras: dict[str, Tensor]) -> tuple[Any, Failure | None]:
        """The outputs, or None and where it ended."""
        dense = self.module.dense if isinstance(self.module, Network) else self.module
        for tensor in (images, *extras.values()):
            self.dependent[tensor] = True
        try:
            with (
                eager(self.module),
                watched(self.module, self.start, self.end),
                torch.set_grad_enabled(self.gradients),
                _Composites(self),
                self,
            ):
                return dense(images, **extras), None
        except StriateError:
            raise
        except Exception as error:
            return None, self.failed(error)

    def failed(self, error: Exception) -> Failure:
        """Where the pass ended."""
        frame = self.stack[-1]
        shapes = tuple(tuple(tensor.shape) for tensor in self.attempted) or frame.input_shapes
        reason = first_line(error)
        return Failure(frame.name, type(frame.module).__name__, shapes, reason)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within it operations are carried out and not noted."""
        before, self.is_paused = self.is_paused, True
        try:
            yield
        finally:
            self.is_paused = before

    def start(self, path: str, module: nn.Module, inputs: Any) -> None:
        """A call of `module` begins."""
        self.numbers[path] = self.numbers.get(path, 0) + 1
        tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
        frame = _Frame(path, self.numbers[path], module, shapes, self.sources(tensors), None, False)
        frame.is_wanted = self.wanted(frame.name)
        if frame.is_wanted or (tensors and tensors[0] in self.trail):
            with self.paused():
                frame.inputs = tuple(self.copy(tensor) for tensor in tensors)
        self.stack[-1].members.append(frame)
        self.stack.append(frame)

    def end(self, outputs: Any) -> Any:
        """The call that began last has given `outputs`; what stands for them further on, if not they."""
        frame = self.stack.pop()
        if len(frame.functions) < len(frame.members):
            for place, member in enumerate(frame.members):
                if isinstance(member, RecordedCall) and not self.keeps(member):
                    frame.members[place] = _bare(member)
            return None
        output = first_tensor(outputs)
        if output is not None and frame.members:  # one that does nothing hands on what another made
            self.makers[output] = frame.name
        with self.paused():
            frame.leaf = self.leaf(frame, output)
            live = frame.leaf.live
            if live is None:
                return None
            return tree_map(lambda leaf: self.doubled(leaf) if leaf is live else leaf, outputs)

    def leaf(self, frame: _Frame, output: Tensor | None) -> RecordedCall:
        """The call that `frame` is."""
        functions = frame.functions
        performed = tuple(each for function in functions for each in function.performed)
        follows = bool(performed) and frame.inputs is not None and len(performed) == len(functions)
        keeps = output is not None and (frame.is_wanted or follows)
        return RecordedCall(
            name=frame.name,
            kind=type(frame.module).__name__,
            module=frame.module,
            operations=tuple(name for function in functions for name in function.operations),
            input_shapes=frame.input_shapes,
            sources=frame.sources,
            output_shape=None if output is None else tuple(output.shape),
            inputs=frame.inputs if keeps else None,
            output=self.copy(output) if keeps and output is not None else None,
            thumbnail=self.thumbnail(output),
            performed=performed if keeps else (),
            live=output if self.gradients and frame.is_wanted else None,
        )

    def keeps(self, function: RecordedCall) -> bool:
        """Whether the values of `function` are wanted, or right behind such."""
        return self.wanted(function.name) or any(is_following(each.step) for each in function.performed)

    def doubled(self, tensor: Tensor) -> Tensor:
        """A copy in the graph of gradients: what writes into it further on leaves `tensor` as it is."""
        double = tensor.clone()
        self.dependent[double] = True
        self.makers[double] = self.makers.get(tensor, "")
        if tensor in self.trail:
            self.trail[double] = True
        self.copies.link(double, self.copy(tensor))
        return double

    def copy(self, tensor: Tensor) -> Tensor:
        """The values of `tensor` as they are now; of a weight or a view of one, its own memory."""
        if id(self.roots.get(tensor, tensor)) in self.own:
            return tensor.detach()
        return self.copies.of(tensor)

    def thumbnail(self, output: Tensor | None) -> Thumbnail | None:
        """Of the first picture's map, where there is one and it is wanted."""
        if not self.thumbs or output is None or output.ndim != 4 or 0 in output.shape:
            return None
        return Thumbnail.of(output[0])

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.is_paused:
            return func(*args, **kwargs)
        name = func._schema.name.partition("::")[2].rstrip("_")
        arguments = bound_arguments(func, args, kwargs)
        return self.observed(func, name, arguments, lambda: func(*args, **kwargs))

    def observed(self, func: Any, name: str, arguments: dict[str, Any], perform: Callable[[], Any]) -> Any:
        """What `perform` gives, noted under the call that asked for it where it hangs on the input."""
        pointwise = torch.Tag.pointwise in getattr(func, "tags", ())
        given = Step(name, arguments, (), pointwise)
        tensors = given.tensors
        depends = name not in CONSTANTS and any(self.depends(tensor) for tensor in tensors)
        # Gradients have values detached, to keep them, where no code of the network asks for it.
        if not depends or name == "detach":
            outputs = perform()
            self.settle(func, tensors, outputs, depends)
            return outputs
        frame = self.stack[-1]
        label = frame.label(name)
        follows = tensors[0] in self.trail and is_following(given)
        keeps = frame.is_wanted or follows or self.wanted(label)
        copied = tree_map(self.copied, arguments) if keeps else arguments
        sources = self.sources(tensors)
        self.attempted = tuple(tensors)
        outputs = perform()
        self.attempted = ()
        results = self.settle(func, tensors, outputs, True)
        if not results:
            return outputs
        step = Step(name, copied, tuple(tuple(result.shape) for result in results), pointwise)
        kept = Performed(func, step, self.results(func, results)) if keeps else None
        frame.members.append(self.function(label, given, sources, results[0], kept))
        for result in results:
            self.makers[result] = label
        if keeps:
            self.trail[results[0]] = True
        else:
            self.trail.pop(results[0], None)  # something else was written into it
        return outputs

    def copied(self, value: Any) -> Any:
        """`value`, a tensor as it is now."""
        return self.copy(value) if isinstance(value, Tensor) else value

    def results(self, func: Any, results: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Copies of what an operation gave; torch counts a write into its input only when it has ended."""
        writes = _writes(func)
        return tuple(self.copies.fresh(result, writes) for result in results)

    def function(
        self, label: str, given: Step, sources: tuple[str, ...], output: Tensor, kept: Performed | None
    ) -> RecordedCall:
        """The operation as a call of its own."""
        # That of a module without others inside is made once, when it ends.
        is_shown = given.name not in SILENT and any(True for _ in self.stack[-1].module.children())
        inputs = None if kept is None else tuple(kept.step.tensors)
        return RecordedCall(
            name=label,
            kind=FUNCTION,
            module=None,
            operations=(given.name,),
            input_shapes=tuple(tuple(tensor.shape) for tensor in given.tensors),
            sources=sources,
            output_shape=tuple(output.shape),
            inputs=inputs,
            output=None if kept is None else kept.outputs[0],
            thumbnail=self.thumbnail(output) if is_shown else None,
            performed=() if kept is None else (kept,),
        )

    def sources(self, tensors: Sequence[Tensor]) -> tuple[str, ...]:
        """The calls that made `tensors`."""
        return tuple(self.makers.get(tensor, "") for tensor in tensors)

    def depends(self, tensor: Tensor) -> bool:
        """Whether `tensor` hangs on the network's input."""
        return tensor in self.dependent or self.roots.get(tensor, tensor) in self.dependent

    def settle(self, func: Any, tensors: Sequence[Tensor], outputs: Any, depends: bool) -> list[Tensor]:
        """The tensors among `outputs`, with where they look noted, and whether they hang on the input."""
        results = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
        is_view = _is_view(func)
        for result in results:
            if is_view and tensors:
                self.roots[result] = self.roots.get(tensors[0], tensors[0])
            if depends:
                self.dependent[result] = True
        if depends and _writes(func):
            self.dependent[self.roots.get(tensors[0], tensors[0])] = True
        return results


class _Copies:
    """Copies of tensors by what they held: the same values of the same tensor are copied once."""

    def __init__(self) -> None:
        # tensor -> how often it had been written into, and the values then
        self._known: MutableMapping[Tensor, tuple[int, Tensor]] = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> Tensor:
        """The values of `tensor` as they are now."""
        known = self._known.get(tensor)
        if known is not None and known[0] == _writes_into(tensor):
            return known[1]
        return self.fresh(tensor, False)

    def fresh(self, tensor: Tensor, is_being_written: bool) -> Tensor:
        """A new copy of `tensor`; a write that is under way is not yet counted by torch."""
        copy = tensor.detach().clone()
        self._known[tensor] = (_writes_into(tensor) + is_being_written, copy)
        return copy

    def link(self, tensor: Tensor, copy: Tensor) -> None:
        """Let `copy` be that of `tensor`, which holds the same."""
        self._known[tensor] = (_writes_into(tensor), copy)


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
        if self.recorder.is_paused:
            return func(*args, **kwargs)
        found = composite(func, args, kwargs)
        if found is None:
            return func(*args, **kwargs)

        def perform() -> Any:
            with self.recorder.paused():
                return func(*args, **kwargs)

        return self.recorder.observed(func, *found, perform)


@contextmanager
def _mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Within it `module` is in training mode or evaluation mode; modes and statistics are put back."""
    if not training:
        with evaluating(module):
            yield
        return
    modes = [(part, part.training) for part in module.modules()]
    # The pass writes into copies: a gradient that is asked for later needs them as they are then.
    buffers = [(part, dict(part._buffers)) for part in module.modules() if part._buffers]
    try:
        for part, own in buffers:
            part._buffers.update((name, None if it is None else it.clone()) for name, it in own.items())
        module.train()
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for part, own in buffers:
            part._buffers.update(own)


def _nothing(_: str) -> bool:
    return False


def _follows(call: RecordedCall) -> bool:
    return bool(call.performed) and all(is_following(each.step) for each in call.performed)


def _bare(call: RecordedCall) -> RecordedCall:
    """`call` without its values."""
    return dataclasses.replace(call, inputs=None, output=None, performed=())


def _writes_into(tensor: Tensor) -> int:
    """How often `tensor` was written into; one of inference mode does not count, and is copied each time."""
    written: int = -1 if tensor.is_inference() else tensor._version
    return written


def _writes(func: Any) -> bool:
    schema = getattr(func, "_schema", None)
    return schema is not None and any(
        argument.alias_info and argument.alias_info.is_write for argument in schema.arguments[:1]
    )


def _is_view(func: Any) -> bool:
    schema = getattr(func, "_schema", None)
    return schema is not None and any(
        returned.alias_info and not returned.alias_info.is_write for returned in schema.returns
    )
