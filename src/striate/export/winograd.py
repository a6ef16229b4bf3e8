"""3x3 convolutions of an ONNX graph with a quarter of the multiplications: Winograd's F(4x4, 3x3).

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308), section 4.3. A filter g
of 3x3 makes the 4x4 outputs of a tile from the 6x6 inputs d under it:

    Y = At [(G g Gt) * (Bt d B)] A

The product `*` is by element: 36 multiplications for what the definition takes 16 x 9. Over all input
channels it is a product of matrices for each of the 36 places, so the convolution becomes 36 of them.

Where the map has one size, Bt of all tiles along a side is one matrix, and so is At; what they would read of
the padding, which is zero, is left out. Maps lie as (H, W, B, C) meanwhile, so that both transforms are
products of one matrix with whole maps, and the runtime needs nothing but MatMul, Transpose, Split and Concat.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = ["AT", "BT", "G", "rewrite"]

TILE, WINDOW = 4, 6  # outputs of a tile along a side, and the inputs that they see
PLACES = WINDOW * WINDOW

# Of the points 0, 1, -1, 2, -2 and infinity.
BT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float64,
)
G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float64) / 24
AT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float64
)

# Multiplications of a convolution for a picture; of a smaller one the calls of 36 products cost more.
_LEAST_WORK = 20_000_000
# Of these that may be left: those of the transforms, whose matrices are narrow, take longer than others.
_LARGEST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class _Side:
    """The rows or the columns of a map."""

    length: int
    before: int  # padding
    after: int

    @property
    def outputs(self) -> int:
        return self.length + self.before + self.after - 2

    @property
    def tiles(self) -> int:
        return -(-self.outputs // TILE)

    @property
    def places(self) -> int:
        return WINDOW * self.tiles

    def inward(self) -> NDArray[np.float32]:
        """Bt of every tile, (places, length): row `place * tiles + tile`."""
        matrix = np.zeros((WINDOW, self.tiles, self.before + self.length + self.after + TILE))
        for tile in range(self.tiles):
            matrix[:, tile, TILE * tile : TILE * tile + WINDOW] = BT
        return matrix.reshape(self.places, -1)[:, self.before : self.before + self.length].astype(np.float32)

    def outward(self) -> NDArray[np.float32]:
        """At of every tile, (outputs, places)."""
        matrix = np.zeros((TILE * self.tiles, WINDOW, self.tiles))
        for tile in range(self.tiles):
            matrix[TILE * tile : TILE * (tile + 1), :, tile] = AT
        return matrix.reshape(-1, self.places)[: self.outputs].astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Convolution:
    """A 3x3 convolution of stride 1 on a map of one size."""

    node: "NodeProto"
    channels: int
    filters: int
    rows: _Side
    columns: _Side

    @property
    def work(self) -> int:
        """Multiplications for a picture by the definition."""
        return 9 * self.rows.outputs * self.columns.outputs * self.channels * self.filters

    @property
    def work_left(self) -> int:
        """Multiplications for a picture by Winograd, those of the transforms included."""
        rows, columns = self.rows, self.columns
        inward = rows.places * columns.length * (rows.length + columns.places)
        outward = rows.places * columns.outputs * (columns.places + rows.outputs)
        products = rows.places * columns.places * self.channels * self.filters
        return products + self.channels * inward + self.filters * outward

    @property
    def is_worth_it(self) -> bool:
        return self.work >= _LEAST_WORK and self.work_left <= _LARGEST_SHARE * self.work


def rewrite(model: "ModelProto") -> int:
    """Let the convolutions of `model` that gain by it be Winograd's; how many these are.

    Such a one has 3x3 filters, stride 1, no groups, no dilation, a map whose height and width are fixed, at
    least 20 million multiplications for a picture, and would be left with at most half of them. Answers
    differ from before by rounding in float32.
    """
    graph = model.graph
    found = {convolution.node.output[0]: convolution for convolution in _convolutions(graph)}
    if found:
        writer = _Writer(graph)
        for node in list(graph.node):
            if node.output[0] in found:
                writer.convolve(found[node.output[0]])
            else:
                writer.nodes.append(node)
        writer.finish()
    return len(found)


def _convolutions(graph: "GraphProto") -> Iterator[_Convolution]:
    """Those of `graph` that gain."""
    values = (*graph.input, *graph.value_info)
    shapes = {
        value.name: [length.dim_value for length in value.type.tensor_type.shape.dim] for value in values
    }
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights or not _is_plain(node):
            continue
        shape, (filters, channels, *kernel) = shapes.get(node.input[0], []), weights[node.input[1]]
        if kernel != [3, 3] or len(shape) != 4 or not all(shape[1:]) or shape[1] != channels:
            continue
        top, left, bottom, right = _attributes(node).get("pads", (0, 0, 0, 0))
        rows, columns = _Side(shape[2], top, bottom), _Side(shape[3], left, right)
        convolution = _Convolution(node, channels, filters, rows, columns)
        if min(top, left, bottom, right) >= 0 and convolution.is_worth_it:
            yield convolution


def _is_plain(node: "NodeProto") -> bool:
    """Whether its pads are told, and its filters go step by step over neighbours."""
    told = _attributes(node)
    plain = all(step == 1 for name in ("strides", "dilations") for step in told.get(name, ()))
    return plain and told.get("group", 1) == 1 and told.get("auto_pad", b"NOTSET") == b"NOTSET"


def _attributes(node: "NodeProto") -> dict[str, Any]:
    from onnx.helper import get_attribute_value

    return {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}


class _Writer:
    """The nodes of a graph in order, in place of those that it had."""

    def __init__(self, graph: "GraphProto") -> None:
        self.nodes: list[NodeProto] = []
        self._graph = graph
        self._constants: set[str] = set()
        self._filters_of: dict[str, list[str]] = {}  # of weights that several convolutions may share

    def convolve(self, convolution: _Convolution) -> None:
        """Add what `convolution` does."""
        node, rows, columns = convolution.node, convolution.rows, convolution.columns
        channels, filters, name = convolution.channels, convolution.filters, node.output[0]
        maps = self._node("Transpose", [node.input[0]], perm=[2, 3, 0, 1])
        # Along the height, then along the width: every place of every tile.
        maps = self._product(self._inward(rows), self._shaped(maps, rows.length, -1))
        maps = self._product(self._inward(columns), self._shaped(maps, rows.places, columns.length, -1))
        maps = self._shaped(maps, WINDOW, rows.tiles, WINDOW, columns.tiles, -1, channels)
        maps = self._node("Transpose", [maps], perm=[0, 2, 1, 3, 4, 5])
        maps = self._products(self._shaped(maps, PLACES, -1, channels), self._filters(convolution), name)
        maps = self._shaped(maps, WINDOW, WINDOW, rows.tiles, columns.tiles, -1, filters)
        maps = self._node("Transpose", [maps], perm=[0, 2, 1, 3, 4, 5])
        # And back, along the width, then along the height.
        maps = self._product(self._outward(columns), self._shaped(maps, rows.places, columns.places, -1))
        maps = self._product(self._outward(rows), self._shaped(maps, rows.places, -1))
        maps = self._shaped(maps, rows.outputs, columns.outputs, -1, filters)
        if len(node.input) == 3:
            maps = self._node("Add", [maps, node.input[2]])
        self._node("Transpose", [maps], name, perm=[2, 3, 0, 1])

    def finish(self) -> None:
        """Put the nodes into the graph, and drop the filters that nobody reads now."""
        graph = self._graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        unread = self._filters_of.keys() - {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name not in unread]
        del graph.initializer[:]
        graph.initializer.extend(kept)

    def _filters(self, convolution: _Convolution) -> list[str]:
        """G g Gt as a matrix (channels, filters) for each place; 36 values for the 9 of a filter."""
        from onnx import numpy_helper

        name = convolution.node.input[1]
        if name not in self._filters_of:
            (tensor,) = (tensor for tensor in self._graph.initializer if tensor.name == name)
            weights = numpy_helper.to_array(tensor).astype(np.float64)
            places = np.einsum("ia,kcab,jb->ijck", G, weights, G, optimize=True).astype(np.float32)
            self._filters_of[name] = [
                self._constant(f"{name}/{place}", matrix)
                for place, matrix in enumerate(places.reshape(PLACES, *places.shape[2:]))
            ]
        return self._filters_of[name]

    def _products(self, maps: str, filters: Sequence[str], name: str) -> str:
        """`maps` (36, tiles, channels) times the matrix of each place."""
        from onnx.helper import make_node

        # One by one: a matrix that is a constant lies in the runtime in the order that multiplies fastest.
        places = [f"{name}/{place}" for place in range(PLACES)]
        self.nodes.append(make_node("Split", [maps], places, axis=0, num_outputs=PLACES))
        return self._node("Concat", list(map(self._product, places, filters)), axis=0)

    def _inward(self, side: _Side) -> str:
        return self._constant(_named("winograd/inward", side), side.inward())

    def _outward(self, side: _Side) -> str:
        return self._constant(_named("winograd/outward", side), side.outward())

    def _product(self, left: str, right: str) -> str:
        return self._node("MatMul", [left, right])

    def _shaped(self, value: str, *shape: int) -> str:
        lengths = self._constant(f"winograd/shape/{'x'.join(map(str, shape))}", np.array(shape, np.int64))
        return self._node("Reshape", [value, lengths])

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        """The constant `name`, which is there once."""
        from onnx import numpy_helper

        if name not in self._constants:
            self._constants.add(name)
            self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _node(self, operation: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node; its output, which gets a name where it has none."""
        from onnx.helper import make_node

        output = output or f"winograd/{len(self.nodes)}"
        self.nodes.append(make_node(operation, inputs, [output], **attributes))
        return output


def _named(name: str, side: _Side) -> str:
    return f"{name}/{side.length}+{side.before}+{side.after}"
