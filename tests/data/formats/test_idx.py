"""MNIST's files: read whole, or refused with the file's name before anything is allocated."""

import gzip
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from striate.data.dataset import Dataset
from striate.data.formats import idx
from striate.data.tree import open_tree
from striate.errors import DataError

PICTURES = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)


def images(pictures: np.ndarray = PICTURES) -> bytes:
    return struct.pack(">IIII", 0x0803, *pictures.shape) + pictures.tobytes()


def labels(*values: int) -> bytes:
    return struct.pack(">II", 0x0801, len(values)) + bytes(values)


def folder(root: Path, **changes: bytes) -> Path:
    files = {
        "train-images-idx3-ubyte": images(),
        "train-labels-idx1-ubyte": labels(3, 0, 9),
        "t10k-images-idx3-ubyte": images(PICTURES[:1] + np.uint8(100)),
        "t10k-labels-idx1-ubyte": labels(7),
    }
    root.mkdir(parents=True, exist_ok=True)
    for name, content in (files | {key.replace("_", "-"): value for key, value in changes.items()}).items():
        (root / name).write_bytes(content)
    return root


def read(root: Path) -> Dataset:
    return idx.read(open_tree(root))


def check(dataset: Dataset) -> None:
    assert [(item.key, item.part, item.label) for item in dataset.items] == [
        ("train-images-idx3-ubyte[0]", "train", 3),
        ("train-images-idx3-ubyte[1]", "train", 0),
        ("train-images-idx3-ubyte[2]", "train", 9),
        ("t10k-images-idx3-ubyte[0]", "test", 7),
    ]
    image = dataset.storage.content("train-images-idx3-ubyte[1]")
    assert isinstance(image, np.ndarray)
    assert image.tolist() == [[[8], [9], [10], [11]], [[12], [13], [14], [15]]]
    assert dataset.sample(3).image[0, 0, 0] == 100
    assert dataset.classes == tuple("0123456789")


def test_pictures_labels_and_parts(tmp_path: Path) -> None:
    check(read(folder(tmp_path)))


def test_gzipped_in_raw_below_the_folder(tmp_path: Path) -> None:
    for file in folder(tmp_path / "raw").iterdir():
        (tmp_path / "raw" / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    check(read(tmp_path))


def test_inside_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder(tmp_path / "data").iterdir():
            archive.write(file, file.name)
    check(read(tmp_path / "a.zip"))


def test_dotted_names(tmp_path: Path) -> None:
    for file in list(folder(tmp_path).iterdir()):
        file.rename(tmp_path / file.name.replace("-idx", ".idx"))
    dataset = read(tmp_path)
    assert dataset.items[0].key == "train-images.idx3-ubyte[0]"
    assert [item.label for item in dataset.items] == [3, 0, 9, 7]


def test_gz_wins_over_a_torn_unpacked_file(tmp_path: Path) -> None:
    root = folder(tmp_path)
    packed = gzip.compress((root / "train-images-idx3-ubyte").read_bytes())
    (root / "train-images-idx3-ubyte.gz").write_bytes(packed)
    (root / "train-images-idx3-ubyte").write_bytes(b"torn")
    check(read(root))


def test_train_alone_is_enough(tmp_path: Path) -> None:
    for file in folder(tmp_path).glob("t10k*"):
        file.unlink()
    assert {item.part for item in read(tmp_path).items} == {"train"}


@pytest.mark.parametrize("name", ["fashion-mnist", "FashionMNIST/raw"])
def test_fashion_names_where_the_folder_says_so(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / name)
    assert read(root).classes[:2] == ("t-shirt/top", "trouser")
    monkeypatch.chdir(root)
    assert read(Path(".")).classes[9] == "ankle boot"


def test_fashion_further_up_says_nothing(tmp_path: Path) -> None:
    assert read(folder(tmp_path / "fashion/sets/mnist")).classes == tuple("0123456789")


def test_more_than_ten_classes_are_numbered(tmp_path: Path) -> None:
    dataset = read(folder(tmp_path, train_labels_idx1_ubyte=labels(0, 1, 25)))
    assert dataset.classes == tuple(map(str, range(26)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is cut off in its header"),
        (images()[:-1], "its header promises 3 × 2 × 4 bytes"),
        (images() + b"x", "its header promises 3 × 2 × 4 bytes"),
        (struct.pack(">IIII", 0x0803, 2**31, 2**15, 2**15), "its header promises"),
        (struct.pack(">IIII", 0x0803, 0, 28, 28), "its header promises 0 × 28 × 28"),
        (b"\x03\x08\x00\x00" + images()[4:], "is no idx file of images: it starts with 03080000"),
        (labels(1, 2, 3) + bytes(9), "is no idx file of images: it starts with 00000801"),
    ],
)
def test_damaged_pictures_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"/train-images-idx3-ubyte: {message}"):
        read(folder(tmp_path, train_images_idx3_ubyte=content))


def test_as_many_labels_as_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte: has 2 labels for 3 pictures"):
        read(folder(tmp_path, train_labels_idx1_ubyte=labels(1, 2)))


def test_missing_labels_are_refused_by_the_name_they_should_have(tmp_path: Path) -> None:
    (folder(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        DataError, match=r"has no t10k-labels-idx1-ubyte\. fix: put t10k-labels-idx1-ubyte\.gz"
    ):
        read(tmp_path)


def gzipped(tmp_path: Path, content: bytes) -> Path:
    root = folder(tmp_path)
    (root / "train-images-idx3-ubyte").unlink()
    (root / "train-images-idx3-ubyte.gz").write_bytes(content)
    return root


def test_cut_gzip_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    whole = gzip.compress(images())
    for length in range(len(whole)):
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: "):
            read(gzipped(tmp_path, whole[:length]))


def test_gzip_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(images()))
    whole[-8] ^= 1
    with pytest.raises(DataError, match="CRC check failed"):
        read(gzipped(tmp_path, bytes(whole)))


def test_gzip_that_goes_on_beyond_its_header_is_not_unpacked_to_the_end(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds more than its header says"):
        read(gzipped(tmp_path, gzip.compress(images() + bytes(50_000_000))))


def test_gzip_that_promises_more_than_deflate_can_hold_allocates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("allocated"))
    header = struct.pack(">IIII", 0x0803, 60_000, 28, 28)
    with pytest.raises(DataError, match="promises 60000 × 28 × 28 bytes"):
        read(gzipped(tmp_path, gzip.compress(header)))


def test_other_files_are_not_recognised(tmp_path: Path) -> None:
    (tmp_path / "train-images.zip").touch()
    assert not idx.recognise(open_tree(tmp_path))
    assert idx.recognise(open_tree(folder(tmp_path / "data")))


def test_fashion_mnist_is_whole(shared_data: Callable[[str], Path]) -> None:
    dataset = idx.read(open_tree(shared_data("fashion-mnist")))
    assert np.bincount(dataset.labels()[dataset.indices("train")]).tolist() == [6000] * 10
    assert np.bincount(dataset.labels()[dataset.indices("test")]).tolist() == [1000] * 10
    assert dataset.classes[dataset.items[0].label or 0] == "ankle boot"
    assert dataset.sample(0).image.shape == (28, 28, 1)
