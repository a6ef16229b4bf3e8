"""The sums behind one call's numbers: output size, parameters, multiply-adds and receptive field."""

import math
from collections.abc import Iterator, Mapping, Sequence

from striate.explain.nodes import Node
from striate.explain.operations import RECURRENCES, Window
from striate.explain.receptive_field import Field, Status
from striate.explain.rows import times
from striate.explain.trace import Operation

__all__ = ["worked"]


def worked(node: Node, network: str, names: Mapping[int, str]) -> Iterator[str]:
    """Lines of text; for a call with others inside, the sums over those.

    network: name to print for the network itself; names: that of each parameter by its id.
    """
    shapes = " -> ".join(times(shape) for shape in (node.input_shape, node.output_shape) if shape is not None)
    yield f"{node.call or network}: {node.kind}, {shapes}"
    if node.children:
        yield from _sums(node)
        return
    for operation in node.operations:
        if operation.window is not None:
            yield from _output(operation, operation.window)
    yield from _parameters(node, names)
    for operation in node.operations:
        yield from _of_operation(operation)
    if node.is_shared:
        yield "parameters  shared with an earlier call, so counted there"
    if not node.macs:
        yield "MACs        0: it multiplies no matrices"
    if node.field is not None:
        seen = node.field
        jump = f", {seen.jump_text} apart" if seen.jump_text else ""
        size = "the whole input" if seen.is_whole else f"{times(seen.size)} pixels"
        yield f"sees        {size}{jump}: {seen.status.label}"


def _sums(node: Node) -> Iterator[str]:
    for what in ("parameters", "macs"):
        parts = [(child.name, getattr(child, what)) for child in node.children if getattr(child, what)]
        total = getattr(node, what)
        own = total - sum(count for _, count in parts)
        parts += [("its own", own)] if own else []
        label = "MACs" if what == "macs" else what
        terms = " + ".join(f"{count:,} ({name})" for name, count in parts)
        yield f"{label:<12}{terms} = {total:,}" if len(parts) > 1 else f"{label:<12}{terms or 0}"


def _of_operation(operation: Operation) -> Iterator[str]:
    if operation.macs:
        yield from _macs(operation)
    source = next((field for field in operation.input_fields if field), None)
    if operation.field and source:
        yield from _field(operation, source, operation.field)


def _output(operation: Operation, window: Window) -> Iterator[str]:
    axes = len(window.kernel)
    lengths, outputs = operation.input_shapes[0][-axes:], operation.output_shape[-axes:]
    names = ("height", "width") if axes == 2 else ("depth", "height", "width")[-axes:]
    if window.kind == "transposed":
        yield "output      out = (in - 1)·stride - 2·padding + dilation·(kernel - 1) + output_padding + 1"
    else:
        yield f"output      {window.size(0, lengths[0]).formula}"
    lines = [
        _transposed(window, axis, lengths[axis], outputs[axis])
        if window.kind == "transposed"
        else window.size(axis, lengths[axis]).worked
        for axis in range(axes)
    ]
    if len(set(lines)) == 1:
        yield f"            {lines[0]} (each side)"
    else:
        yield from (f"            {name}: {line}" for name, line in zip(names, lines, strict=True))


def _transposed(window: Window, axis: int, length: int, output: int) -> str:
    return (
        f"({length} - 1)·{window.stride[axis]} - 2·{window.padding[axis]} + {window.dilation[axis]}·"
        f"({window.kernel[axis]} - 1) + {window.output_padding[axis]} + 1 = {output}"
    )


def _parameters(node: Node, names: Mapping[int, str]) -> Iterator[str]:
    used = {id(p): p for operation in node.operations for p in operation.parameters}
    if not used:
        return
    parts = [f"{names[key].rpartition('.')[2]} {_product(tuple(p.shape))}" for key, p in used.items()]
    yield f"parameters  {' + '.join(parts)} = {sum(p.numel() for p in used.values()):,}"


def _macs(operation: Operation) -> Iterator[str]:
    window, output = operation.window, operation.output_shape
    if operation.name in RECURRENCES:
        positions = operation.input_shapes[0][:-1]
        weights = operation.macs // math.prod(positions)
        yield f"MACs        {_product(positions)} positions x {weights:,} weights = {operation.macs:,}"
        return
    if window is None:
        values = math.prod(output)
        rest = operation.macs // values
        yield f"MACs        {_product(output)} values x {rest:,} products each = {operation.macs:,}"
        return
    positions = operation.input_shapes[0] if window.kind == "transposed" else output
    weight = operation.input_shapes[1]
    which = "inputs" if window.kind == "transposed" else "outputs"
    yield (
        f"MACs        {which} {_product(positions[1:])} x kernel {_product(weight[1:])} = {operation.macs:,}"
    )


def _field(operation: Operation, source: Field, found: Field) -> Iterator[str]:
    before, after = source[0], found[0]
    window = operation.window
    if window is not None and window.kind != "transposed" and before.moves and after.status is Status.EXACT:
        kernel, stride, dilation = window.kernel[0], window.stride[0], window.dilation[0]
        yield "field       size = size_in + dilation·(kernel - 1)·jump_in;  jump = jump_in·stride"
        size = f"size = {before.size:g} + {dilation}·({kernel} - 1)·{before.jump:g} = {after.size:g}"
        yield f"            {size};  jump = {before.jump:g}·{stride} = {before.jump * stride:g}"
        return
    fields = [field[0] for field in operation.input_fields if field]
    if len(fields) > 1:
        sizes = " and ".join(f"{track.size:g}" for track in fields)
        yield f"field       the union of what its inputs see, {sizes}: {after.size:g}"
    elif before.moves and not after.moves and after.size > before.size:
        each = f"each {before.size:g}, {before.jump:g} apart"
        yield f"field       all positions of its input, {each}: {after.size:g}"


def _product(shape: Sequence[int]) -> str:
    return "·".join(map(str, shape)) or "1"
