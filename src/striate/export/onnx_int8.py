"""An ONNX graph in 8 bits: ranges from pictures, a scale for each channel of the weights.

Activations are unsigned and weights signed, the pair that the dot products of x86 processors multiply
(VNNI, AMX). Processors without these add two such products in 16 bits, where 2 x 255 x 127 overflows. So
weights have the values of 7 bits, -64..64, and what was proven on one machine holds on every other. Ranges
are the least and the largest value: on trained networks entropy gave the same, and percentiles cost the
rare pictures that they cut off.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from striate.errors import DataError, ModelError
from striate.files import atomic_write

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = ["quantise"]

Inputs = Mapping[str, NDArray[Any]]

_WEIGHTED = ("Conv", "Gemm", "MatMul")
_BETWEEN = (
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul",
    "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""What ONNX Runtime computes in 8 bits, where it stands between two operations that have weights."""

_CHOOSERS = ("MaxRoiPool", "NonMaxSuppression", "RoiAlign", "TopK")
"""What takes boxes: how these were computed from the maps is no part of the way to the next weights."""


def quantise(source: Path, path: Path, batches: Iterable[Inputs]) -> None:
    """Write the graph of the ONNX file `source` to `path` with its weights and maps in 8 bits, and its card.

    The range of each map is the least and the largest value that `batches`, inputs by name, give it. What
    comes before the first and after the last weights stays in float: the pictures, boxes, scores and logits.
    Raises ModelError where nothing can be in 8 bits, DataError without a batch.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model = _prepared(source, path.parent)
    chosen = _chosen(model.graph)
    if not chosen:
        raise ModelError(source, "no operation of it can be in 8 bits", "export it without --int8")
    quantised = path.parent / f"{path.name}.int8"
    reader = _Reader(batches)
    quantize_static(
        model,
        quantised,
        reader,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=sorted({node.op_type for node in model.graph.node if node.name in chosen}),
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=sorted(chosen),
        extra_options={"MatMulConstBOnly": True},
    )
    written = onnx.load(quantised)
    quantised.unlink()
    _keep_ends_float(written.graph)
    del written.metadata_props[:]
    written.metadata_props.extend(onnx.load(source, load_external_data=False).metadata_props)
    with atomic_write(path) as file:
        file.write(written.SerializeToString())


class _Reader:
    """Batches, one after the other, as ONNX Runtime asks for them."""

    def __init__(self, batches: Iterable[Inputs]) -> None:
        self._batches: Iterator[Inputs] = iter(batches)
        self._asked = False

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch, None at the end. Raises DataError where there is none at all."""
        batch = next(self._batches, None)
        if batch is None and not self._asked:
            raise DataError(
                "calibration", "no picture can be read", "give readable pictures: --calibrate DATA"
            )
        self._asked = True
        return None if batch is None else dict(batch)


def _prepared(source: Path, folder: Path) -> "ModelProto":
    """The graph of `source`: batch norms in convolutions, shapes known, a name for every node."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    optimised = folder / f"{source.name}.optimised"
    quant_pre_process(source, optimised, skip_symbolic_shape=True)
    model = onnx.load(optimised)
    optimised.unlink()
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    return model


def _chosen(graph: "GraphProto") -> set[str]:
    """Names of the nodes to compute in 8 bits: those with weights, and what stands between two of them."""
    weights = {tensor.name for tensor in graph.initializer}
    behind, before = _behind_weights(graph, weights), _before_weights(graph, weights)
    return {
        node.name
        for node in graph.node
        if _has_weights(node, weights)
        or (node.op_type in _BETWEEN and node.name in behind and node.name in before)
    }


def _has_weights(node: "NodeProto", weights: set[str]) -> bool:
    return node.op_type in _WEIGHTED and len(node.input) > 1 and node.input[1] in weights


def _behind_weights(graph: "GraphProto", weights: set[str]) -> set[str]:
    """Names of the nodes that what a weighted one gives comes to."""
    tensors, found = set[str](), set[str]()
    for node in graph.node:  # in the order of computation
        if tensors & set(node.input):
            found.add(node.name)
        if node.name in found or _has_weights(node, weights):
            tensors |= set(node.output)
    return found


def _before_weights(graph: "GraphProto", weights: set[str]) -> set[str]:
    """Names of the nodes whose values come to a weighted one, other than by choosing boxes."""
    tensors, found = set[str](), set[str]()
    for node in reversed(graph.node):
        if tensors & set(node.output):
            found.add(node.name)
        if _has_weights(node, weights) or (node.name in found and node.op_type not in _CHOOSERS):
            tensors |= set(node.input)
    return found


def _keep_ends_float(graph: "GraphProto") -> None:
    """Take the rounding away from what the last weighted operations give: it is for no other of them."""
    rounding = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    readers = [
        node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in rounding
    ]
    weights = {tensor.name for tensor in graph.initializer}
    weights |= {node.output[0] for node in graph.node if node.input and node.input[0] in weights}
    before = _before_weights(graph, weights)
    useless = [node for node in readers if node.name not in before]
    exact = {node.output[0]: rounding[node.input[0]].input[0] for node in useless}
    for output in graph.output:  # what the graph gives keeps its name
        if output.name in exact:
            exact[exact.pop(output.name)] = output.name
    for node in useless:
        graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for node in [node for name, node in rounding.items() if name not in read]:
        graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [exact.get(name, name) for name in node.input]
        node.output[:] = [exact.get(name, name) for name in node.output]
