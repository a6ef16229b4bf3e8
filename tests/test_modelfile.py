import json
import struct
from pathlib import Path

import numpy as np
import pytest

from striate.errors import ModelError
from striate.modelfile import ModelCard, find_model_file, read_card, read_shapes, read_tensors, write_model
from striate.structures import Preprocess

CARD = ModelCard(
    task="classification",
    family="resnet",
    variant="resnet18",
    config={"depths": [2, 2, 2, 2]},
    classes=("ant", "bee"),
    preprocess=Preprocess(size=(64, 48), mean=(0.1, 0.2, 0.3)),
    metrics={"top1": 0.5},
)
TENSORS = {"conv.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(7)}


def headed(path: Path, header: bytes) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_model(path, TENSORS, CARD)
    assert read_card(path) == CARD
    assert read_shapes(path) == {"conv.weight": (2, 3), "count": ()}
    np.testing.assert_array_equal(read_tensors(path)["conv.weight"], TENSORS["conv.weight"])


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_model(tmp_path / name, TENSORS, CARD)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_folder_stands_for_the_model_in_it(tmp_path: Path) -> None:
    write_model(tmp_path / "model.safetensors", TENSORS, CARD)
    assert find_model_file(tmp_path) == tmp_path / "model.safetensors"


def test_pickled_weights_are_refused_with_the_command_that_converts_them(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ModelError, match=r"fix: striate convert .*net.pth --model NAME"):
        find_model_file(tmp_path / "net.pth")


def test_a_folder_without_a_model_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        find_model_file(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        find_model_file(tmp_path / "missing.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"\xff" * 64, struct.pack("<Q", 5) + b"{ nop", struct.pack("<Q", 2) + b"[]"]
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_card(path)


def test_weights_without_a_card_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds weights only"):
        read_card(headed(tmp_path / "bare.safetensors", b"{}"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format is version 2"),
        ({"callable": "os.system"}, "unknown entry 'callable'"),
        ({"classes": 3}, "card is damaged"),
    ],
)
def test_a_card_that_we_did_not_write_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    write_model(tmp_path / "good", {}, CARD)
    length = struct.unpack("<Q", (tmp_path / "good").read_bytes()[:8])[0]
    header = json.loads((tmp_path / "good").read_bytes()[8 : 8 + length])
    fields = json.loads(header["__metadata__"]["striate"]) | change
    header["__metadata__"]["striate"] = json.dumps(fields)
    with pytest.raises(ModelError, match=message):
        read_card(headed(tmp_path / "changed", json.dumps(header).encode()))


def test_a_cut_file_is_refused_when_its_tensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_model(path, TENSORS, CARD)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match="tensors cannot be read"):
        read_tensors(path)
