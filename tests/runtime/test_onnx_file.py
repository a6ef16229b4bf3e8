"""ONNX files from anywhere: nothing outside them is opened, and what is no ONNX is refused by its name."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from striate.errors import ModelError
from striate.modelfile import CARD_ENTRY, ModelCard, card_from_text
from striate.runtime._onnx_file import read_onnx
from striate.runtime.predictor import load

WriteOnnx = Callable[..., Path]


def test_a_file_gives_its_bytes_and_its_metadata(write_onnx: WriteOnnx, colors_card: ModelCard) -> None:
    path = write_onnx()
    file = read_onnx(path)
    assert file.content == path.read_bytes()
    assert card_from_text(file.metadata[CARD_ENTRY], path) == colors_card


def test_a_link_to_a_file_is_read(write_onnx: WriteOnnx, tmp_path: Path) -> None:
    link = tmp_path / "link.onnx"
    link.symlink_to(write_onnx())
    assert read_onnx(link).path == link


def test_every_cut_of_a_file_is_refused_by_its_name(write_onnx: WriteOnnx, tmp_path: Path) -> None:
    whole = write_onnx().read_bytes()
    path = tmp_path / "cut.onnx"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"cut\.onnx"):
            load(path)


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_refused(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "noise.onnx"
    path.write_bytes(random.Random(seed).randbytes(10 * 4**seed if seed < 8 else 1000 + seed))
    with pytest.raises(ModelError, match=r"noise\.onnx: it is cut off, or no ONNX file"):
        load(path)


def test_a_picture_named_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture.onnx"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelError, match="no ONNX file"):
        load(path)


def test_a_file_larger_than_any_onnx_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(3 << 30)  # a hole, which takes no room
    with pytest.raises(ModelError, match="3,221,225,472 bytes"):
        read_onnx(path)


# tensors that lie elsewhere


def outside(location: str) -> TensorProto:
    """A tensor of 4 values in the file `location`."""
    tensor = TensorProto(name="stolen", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def graph_of(tensor: TensorProto) -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], [tensor])


def in_initialiser(model: Any, tensor: TensorProto) -> None:
    model.graph.initializer.append(tensor)


def in_constant(model: Any, tensor: TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def in_list_of_tensors(model: Any, tensor: TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.add(name="list", type=onnx.AttributeProto.TENSORS).tensors.append(tensor)
    model.graph.node.append(node)


def in_branch(model: Any, tensor: TensorProto) -> None:
    node = helper.make_node("If", ["c"], ["y"], then_branch=graph_of(tensor), else_branch=graph_of(tensor))
    model.graph.node.append(node)


def in_list_of_graphs(model: Any, tensor: TensorProto) -> None:
    node = helper.make_node("If", ["c"], ["y"])
    node.attribute.add(name="list", type=onnx.AttributeProto.GRAPHS).graphs.append(graph_of(tensor))
    model.graph.node.append(node)


def in_function(model: Any, tensor: TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    model.functions.append(helper.make_function("own", "f", [], ["c"], [node], [helper.make_opsetid("", 18)]))


def in_default_of_function(model: Any, tensor: TensorProto) -> None:
    in_function(model, numpy_helper.from_array(np.zeros(1)))
    model.functions[0].attribute_proto.append(helper.make_attribute("value", tensor))


def in_sparse(model: Any, tensor: TensorProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)


def in_indices_of_sparse(model: Any, tensor: TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"])
    attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.indices.CopyFrom(tensor)
    model.graph.node.append(node)


def in_training(model: Any, tensor: TensorProto) -> None:
    model.training_info.add().initialization.CopyFrom(graph_of(tensor))


def in_algorithm(model: Any, tensor: TensorProto) -> None:
    model.training_info.add().algorithm.CopyFrom(graph_of(tensor))


PLACES = (
    in_initialiser, in_constant, in_list_of_tensors, in_branch, in_list_of_graphs, in_function,
    in_default_of_function, in_sparse, in_indices_of_sparse, in_training, in_algorithm,
)  # fmt: skip


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test where a file is given to the runtime, which might open others."""
    import onnxruntime

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the runtime was given the file")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_tensor_in_another_file_is_refused_wherever_it_is(
    place: Callable[[Any, TensorProto], None], write_onnx: WriteOnnx, no_session: None
) -> None:
    path = write_onnx(change=lambda model: place(model, outside("weights.bin")))
    with pytest.raises(ModelError, match=r"model\.onnx: tensor 'stolen' lies in another file"):
        load(path)


@pytest.mark.parametrize("location", ["/etc/hostname", "../secret.bin", "secret.bin", "*/_ORT_MEM_ADDR_/*"])
def test_no_other_file_is_opened_whatever_its_path(
    location: str, write_onnx: WriteOnnx, tmp_path: Path, no_session: None
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    with pytest.raises(ModelError, match="lies in another file"):
        load(write_onnx(change=lambda model: in_initialiser(model, outside(location))))


def changed(**fields: Any) -> Callable[[Any], None]:
    """Sets `fields` of the initialiser `weight`, three floats."""

    def change(model: Any) -> None:
        weight = model.graph.initializer[1]
        assert weight.name == "weight"
        for name, value in fields.items():
            weight.ClearField(name)
            if isinstance(value, list):
                getattr(weight, name).extend(value)
            else:
                setattr(weight, name, value)

    return change


def test_a_tensor_that_only_says_that_it_lies_elsewhere_is_refused(
    write_onnx: WriteOnnx, no_session: None
) -> None:
    with pytest.raises(ModelError, match="tensor 'weight' lies in another file"):
        load(write_onnx(change=changed(data_location=TensorProto.EXTERNAL)))


def test_a_location_that_its_reader_would_cut_to_32_bits_is_refused(
    write_onnx: WriteOnnx, tmp_path: Path, no_session: None
) -> None:
    # 2^32 + 1 as a varint: a reader that keeps 32 bits takes it for 1, EXTERNAL.
    def change(model: Any) -> None:
        model.graph.initializer[1].data_location = TensorProto.EXTERNAL
        model.graph.initializer[1].doc_string = "1234"  # four bytes to be taken for the longer number

    path = write_onnx(change=change)
    short, long = b"\x70\x01", b"\x70\x81\x80\x80\x80\x10"
    content = path.read_bytes()
    assert content.count(b"\x62\x041234" + short) == 1
    path.write_bytes(content.replace(b"\x62\x041234" + short, long + b"\x62\x00", 1))
    assert onnx.load_model_from_string(path.read_bytes()).graph.initializer[1].data_location == 1
    with pytest.raises(ModelError, match="tensor 'weight' lies in another file"):
        load(path)


# shapes that are not true


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dims": [1 << 40, 1 << 40]}, "declared as 1099511627776x1099511627776 and holds 12 bytes"),
        ({"dims": [4]}, "declared as 4 and holds 12 bytes"),
        ({"dims": [-3]}, "declared as 18446744073709551613 and holds 12 bytes"),
        ({"dims": []}, "declared as a single value and holds 12 bytes"),
        ({"dims": [3] + [1] * 64}, "has too many axes"),
        ({"raw_data": b""}, "declared as 3 and holds 0 bytes"),
        ({"data_type": TensorProto.DOUBLE}, "declared as 3 and holds 12 bytes"),
        ({"data_type": 99}, "of the unknown type 99"),
    ],
)
def test_a_tensor_that_has_not_the_values_of_its_shape_is_refused(
    fields: dict[str, Any], message: str, write_onnx: WriteOnnx, no_session: None
) -> None:
    with pytest.raises(ModelError, match=rf"model\.onnx: tensor 'weight' (is )?{message}"):
        load(write_onnx(change=changed(**fields)))


def test_values_that_are_declared_and_missing_are_refused(write_onnx: WriteOnnx, no_session: None) -> None:
    def change(model: Any) -> None:
        model.graph.initializer[1].ClearField("raw_data")
        model.graph.initializer[1].dims[:] = [1 << 50]

    with pytest.raises(ModelError, match="declared as 1125899906842624 and holds 0 values"):
        load(write_onnx(change=change))


def kinds() -> Iterator[Any]:
    """Three values of each type that a tensor can have, once as bytes and once as numbers."""
    for kind in helper.get_all_tensor_dtypes():
        name = TensorProto.DataType.Name(kind)
        if kind == TensorProto.STRING:
            yield pytest.param(helper.make_tensor("t", kind, [3], ["a", "b", ""]), id=name)
            continue
        yield pytest.param(helper.make_tensor("t", kind, [3], [1, 0, 1]), id=name)
        array = helper.make_tensor("t", kind, [3], [1, 0, 1])
        yield pytest.param(numpy_helper.from_array(numpy_helper.to_array(array), "t"), id=f"{name}-raw")


@pytest.mark.parametrize("tensor", list(kinds()))
def test_tensors_of_every_type_are_read(tensor: TensorProto, write_onnx: WriteOnnx) -> None:
    assert read_onnx(write_onnx(change=lambda model: in_constant(model, tensor))).metadata
    longer = TensorProto()
    longer.CopyFrom(tensor)
    longer.dims[:] = [9]
    with pytest.raises(ModelError, match="declared as 9"):
        read_onnx(write_onnx(change=lambda model: in_constant(model, longer)))


@pytest.mark.parametrize("dims", [[0], [3, 0], []])
def test_empty_tensors_and_single_values_are_read(dims: list[int], write_onnx: WriteOnnx) -> None:
    tensor = numpy_helper.from_array(np.zeros(dims, np.float32), "t")
    assert read_onnx(write_onnx(change=lambda model: in_initialiser(model, tensor))).metadata


# nests and numbers


def length_prefixed(number: int, content: bytes) -> bytes:
    size, prefix = len(content), bytearray()
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes(prefix) + bytes([size]) + content


def test_graphs_in_graphs_without_end_are_refused(tmp_path: Path) -> None:
    graph = b""
    for _ in range(5000):  # graph.node.attribute.g
        graph = length_prefixed(1, length_prefixed(5, length_prefixed(6, graph)))
    path = tmp_path / "deep.onnx"
    path.write_bytes(b"\x08\x0a" + length_prefixed(7, graph))
    with pytest.raises(ModelError, match=r"deep\.onnx: its graphs lie in each other more than 64 levels"):
        load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x08" + b"\xff" * 10,  # a number of more than ten bytes
        b"\x08",  # none at all
        b"\x08\x0a\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a graph of 2^64 - 1 bytes
        b"\x00\x01",  # field 0
        b"\x0b\x0c",  # a group
        b"\x38\x05",  # a graph written as a number
        b"\x08\x0a\x3a\x00\x09\x01",  # eight bytes announced, one there
        b"\x08\x0a",  # no graph
        b"",
    ],
)
def test_what_is_no_message_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"odd\.onnx: it is cut off, or no ONNX file"):
        load(path)


def tensors_in(message: Any) -> Iterator[Any]:
    """Every TensorProto in a message, as the library of the format sees it."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from tensors_in(part)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_no_damage_hides_a_tensor_that_lies_elsewhere(
    place: Callable[[Any, TensorProto], None], write_onnx: WriteOnnx
) -> None:
    whole = write_onnx(card=None, change=lambda model: place(model, outside("secret.bin"))).read_bytes()
    chance, path = random.Random(3), write_onnx()
    lies = whole.index(b"location") - 4, whole.index(b"secret.bin") + 12  # the entry, and `data_location`
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 2, 3))):
            damaged[chance.randrange(*lies)] = chance.choice((0, 1, 8, 10, 0x70, 0x7A, chance.randrange(256)))
        path.write_bytes(damaged)
        try:
            read_onnx(path)
            model = onnx.load_model_from_string(bytes(damaged))
        except (ModelError, DecodeError):
            continue
        assert not any(tensor.data_location or tensor.external_data for tensor in tensors_in(model))
