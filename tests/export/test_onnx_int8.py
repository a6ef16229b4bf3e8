"""Graphs in 8 bits: what is rounded and what is not, and that the answers stay."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from striate.errors import DataError, ModelError
from striate.export.onnx_int8 import quantise

CHANCE = np.random.default_rng(5)


def pictures(count: int = 8) -> Iterator[Mapping[str, NDArray[Any]]]:
    for _ in range(count):
        yield {"images": CHANCE.integers(0, 256, (1, 3, 16, 16), np.uint8)}


def weights(name: str, *shape: int) -> onnx.TensorProto:
    # Channels of very different sizes, which one scale for all would blur.
    values = CHANCE.normal(size=shape) * np.logspace(-3, 0, shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
    return numpy_helper.from_array(values.astype(np.float32), name)


def graph(
    path: Path, nodes: list[Any], tensors: list[onnx.TensorProto], outputs: dict[str, list[Any]]
) -> Path:
    """An ONNX file of images (B, 3, 16, 16) uint8 with a card."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", 3, 16, 16])
    model = helper.make_model(
        helper.make_graph(nodes, "toy", [images], ports, tensors),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    model.metadata_props.add(key="striate", value="{card}")
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """Pixels scaled, two convolutions with a shortcut, and a decoding with an exponential behind."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("Conv", ["d", "w3"], ["e"]),
        helper.make_node("Exp", ["e"], ["sizes"]),
        helper.make_node("Mul", ["sizes", "scale"], ["boxes"]),
    ]
    tensors = [weights("w1", 8, 3, 3, 3), weights("w2", 8, 8, 3, 3), weights("w3", 4, 8, 1, 1)]
    scale = numpy_helper.from_array(np.float32(1 / 255), "scale")
    return graph(
        tmp_path / "detector.onnx",
        nodes,
        [*tensors, scale],
        {"boxes": ["B", 4, 16, 16], "e": ["B", 4, 16, 16]},
    )


def run(path: Path, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: list[NDArray[np.float32]] = session.run(["e", "boxes"], {"images": images})
    return found


def test_every_channel_keeps_its_answers_however_small_its_weights(detector: Path, tmp_path: Path) -> None:
    quantise(detector, tmp_path / "int8.onnx", pictures())
    (batch,) = pictures(1)
    images = np.concatenate([batch["images"]] * 3)
    exact, rounded = (run(path, images)[0] for path in (detector, tmp_path / "int8.onnx"))

    def size(values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Root of the mean square of each channel."""
        return np.sqrt((values.astype(np.float64) ** 2).mean(axis=(0, 2, 3)))

    share = size(exact - rounded) / size(exact)
    assert (share > 0).all()
    assert (share < 0.1).all(), share


def test_weights_have_7_bits_and_a_scale_for_each_channel(detector: Path, tmp_path: Path) -> None:
    quantise(detector, tmp_path / "int8.onnx", pictures())
    tensors = {tensor.name: tensor for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    maps = [numpy_helper.to_array(tensor) for tensor in tensors.values() if len(tensor.dims) == 4]
    # Two products of 255 and 64 fit in the 16 bits that older processors add them in.
    assert {(array.dtype.name, int(np.abs(array.astype(int)).max())) for array in maps} == {("int8", 64)}
    scales = sorted(
        tuple(tensor.dims) for name, tensor in tensors.items() if name.startswith("w") and "scale" in name
    )
    assert scales == [(4,), (8,), (8,)]


def test_pictures_and_decoding_stay_in_float(detector: Path, tmp_path: Path) -> None:
    quantise(detector, tmp_path / "int8.onnx", pictures())
    nodes = onnx.load(tmp_path / "int8.onnx").graph.node
    made_by = {name: node for node in nodes for name in node.output}
    # What the graph gives comes from the last convolution without a rounding between.
    assert made_by["e"].op_type == "Conv"
    assert made_by[made_by["boxes"].input[0]].op_type == "Exp"
    assert made_by["boxes"].op_type == "Mul"
    # Rounded are the pixels behind their scaling, what comes out of Relu, the second Conv and the Add.
    assert Counter(node.op_type for node in nodes)["QuantizeLinear"] == 4
    first = next(node for node in nodes if node.op_type == "QuantizeLinear")
    assert made_by[first.input[0]].op_type == "Mul"


def test_the_card_and_the_ports_stay_and_nothing_else_does(detector: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    quantise(detector, out / "int8.onnx", pictures())
    assert [path.name for path in out.iterdir()] == ["int8.onnx"]
    before, after = onnx.load(detector), onnx.load(out / "int8.onnx")
    onnx.checker.check_model(after)
    assert [(entry.key, entry.value) for entry in after.metadata_props] == [("striate", "{card}")]
    assert [port.name for port in after.graph.output] == [port.name for port in before.graph.output]
    assert after.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert after.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "B"


def test_how_boxes_are_chosen_stays_in_float(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["pixels", "w1"], ["maps"]),
        helper.make_node("Conv", ["maps", "w2"], ["moves"]),
        helper.make_node("Reshape", ["moves", "flat"], ["rows"]),
        helper.make_node("Mul", ["rows", "less"], ["placed"]),
        helper.make_node(
            "RoiAlign", ["maps", "placed", "where"], ["regions"], output_height=2, output_width=2
        ),
        helper.make_node("Conv", ["regions", "w3"], ["e"]),
    ]
    tensors = [
        weights("w1", 4, 3, 1, 1), weights("w2", 4, 4, 16, 16), weights("w3", 2, 4, 2, 2),
        numpy_helper.from_array(np.array([-1, 4]), "flat"), numpy_helper.from_array(np.float32(1e-4), "less"),
        numpy_helper.from_array(np.zeros(1, np.int64), "where"),
    ]  # fmt: skip
    source = graph(tmp_path / "regions.onnx", nodes, tensors, {"e": ["R", 2, 1, 1]})
    quantise(source, tmp_path / "int8.onnx", pictures())
    made_by = {name: node for node in onnx.load(tmp_path / "int8.onnx").graph.node for name in node.output}
    # The way from the boxes back to the convolution that says how they move has no rounding.
    node, kinds = made_by["placed"], list[str]()
    while node.op_type != "Conv":
        kinds.append(node.op_type)
        node = made_by[node.input[0]]
    assert kinds == ["Mul", "Reshape"]


def test_a_graph_without_weights_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["images"], ["e"], to=TensorProto.FLOAT)]
    source = graph(tmp_path / "none.onnx", nodes, [], {"e": ["B", 3, 16, 16]})
    with pytest.raises(ModelError, match="no operation of it can be in 8 bits"):
        quantise(source, tmp_path / "int8.onnx", pictures())


def test_without_a_picture_there_is_no_range(detector: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no picture can be read"):
        quantise(detector, tmp_path / "int8.onnx", [])
    assert not (tmp_path / "int8.onnx").exists()
