"""Winograd's convolutions: the identity, and graphs that say what they said before."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from striate.export.winograd import AT, BT, G, rewrite

CHANCE = np.random.default_rng(7)
CHANNELS = 128
ROUNDING = 5e-5  # of the largest value; transforms add and subtract up to 8 times what they are given


def test_a_tile_is_the_sixteen_sums_of_products() -> None:
    inputs, filters = CHANCE.normal(size=(6, 6)), CHANCE.normal(size=(3, 3))

    found = AT @ ((G @ filters @ G.T) * (BT @ inputs @ BT.T)) @ AT.T

    windows = np.lib.stride_tricks.sliding_window_view(inputs, (3, 3))
    np.testing.assert_allclose(found, (windows * filters).sum((2, 3)), atol=1e-12)


def weights(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array((CHANCE.normal(size=shape) / 30).astype(np.float32), name)


def model_of(
    nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], shape: list[int | str]
) -> onnx.ModelProto:
    """A model of "x" in `shape` and "y", with the shapes in between as the exporter notes them."""
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        for name, dims in (("x", shape), ("y", ["B", None, None, None]))
    ]
    graph = helper.make_graph(nodes, "toy", ports[:1], ports[1:], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(made)
    return inferred


def convolution(*, size: tuple[int, int] = (14, 14), **attributes: Any) -> onnx.ModelProto:
    """One convolution of CHANNELS maps and filters."""
    groups = attributes.get("group", 1)
    kernel = attributes.get("kernel_shape", [3, 3])
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], **{"pads": [1, 1, 1, 1], **attributes})
    tensors = [weights("w", CHANNELS, CHANNELS // groups, *kernel), weights("b", CHANNELS)]
    return model_of([node], tensors, ["B", CHANNELS, *size])


def said(model: onnx.ModelProto, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"x": inputs})[0]
    return found


def operations(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(14, 14), (13, 18), (28, 15)])
@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 0, 0, 0], [2, 0, 1, 3]])
def test_the_outputs_stay(pads: list[int], size: tuple[int, int], batch: int) -> None:
    model = convolution(size=size, pads=pads)
    inputs = CHANCE.normal(size=(batch, CHANNELS, *size)).astype(np.float32)
    before = said(model, inputs)

    assert rewrite(model) == 1

    assert operations(model)["Conv"] == 0
    after = said(model, inputs)
    assert after.shape == before.shape
    np.testing.assert_allclose(after, before, atol=ROUNDING * np.abs(before).max(), rtol=0)


def test_one_without_a_bias_is_rewritten_too() -> None:
    model = convolution()
    del model.graph.node[0].input[2]
    inputs = CHANCE.normal(size=(2, CHANNELS, 14, 14)).astype(np.float32)
    before = said(model, inputs)

    assert rewrite(model) == 1

    np.testing.assert_allclose(said(model, inputs), before, atol=ROUNDING * np.abs(before).max(), rtol=0)


@pytest.mark.parametrize(
    "unlike",
    [
        {"strides": [2, 2]},
        {"strides": [1, 2]},
        {"dilations": [2, 2], "pads": [2, 2, 2, 2]},
        {"group": 2, "size": (28, 28)},
        {"kernel_shape": [1, 1], "pads": [0, 0, 0, 0], "size": (56, 56)},
        {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]},
        {"pads": [-1, 1, 1, 1], "size": (15, 15)},
        {"pads": [0, 0, 0, 0], "auto_pad": "SAME_UPPER"},
        {"size": (6, 6)},  # too little work
        {"size": (112, 112)},  # transforms of so long a side cost more than they save
        {"size": ("H", 14)},
    ],
    ids=str,
)
def test_what_would_not_gain_or_be_the_same_is_left_alone(unlike: dict[str, Any]) -> None:
    model = convolution(**unlike)
    before = model.SerializeToString(deterministic=True)

    assert rewrite(model) == 0

    assert model.SerializeToString(deterministic=True) == before


def test_weights_that_two_share_are_kept_once_and_the_old_ones_while_somebody_reads_them() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w"], ["b"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b", "v"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "v"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2]),
    ]
    tensors = [weights(name, CHANNELS, CHANNELS, 3, 3) for name in "wv"]
    model = model_of(nodes, tensors, ["B", CHANNELS, 14, 14])
    inputs = CHANCE.normal(size=(2, CHANNELS, 14, 14)).astype(np.float32)
    before = said(model, inputs)

    assert rewrite(model) == 3

    names = [tensor.name for tensor in model.graph.initializer]
    assert len(names) == len(set(names))
    assert "w" not in names
    assert "v" in names
    places = [tensor for tensor in model.graph.initializer if list(tensor.dims) == [CHANNELS, CHANNELS]]
    assert len(places) == 2 * 36
    np.testing.assert_allclose(said(model, inputs), before, atol=ROUNDING * np.abs(before).max(), rtol=0)
