"""Public sets: read from a copy in torchvision's layout, and honest words where there is none."""

import gzip
import hashlib
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from torchvision import datasets

from striate.data import public
from striate.errors import DiskFull, EnvironmentProblem, UnknownName


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network in tests")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)


def write_idx(folder: Path, count: int = 2) -> None:
    folder.mkdir(parents=True)
    for stem, number in (("train", count), ("t10k", 1)):
        pictures = struct.pack(">IIII", 0x0803, number, 28, 28) + bytes(number * 784)
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(pictures))
        labels = struct.pack(">II", 0x0801, number) + bytes(range(number))
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Any]) -> None:
    """Tiny files in the layout of `kind`, whose checksums it is made to expect."""
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    is_hundred = kind is datasets.CIFAR100

    def write(name: str, content: dict[str, Any]) -> list[str]:
        raw = pickle.dumps(content)
        (folder / name).write_bytes(raw)
        return [name, hashlib.md5(raw).hexdigest()]

    def batch(value: int, labels: list[int]) -> dict[str, Any]:
        planes = np.repeat(np.array([[value, value + 1, value + 2]] * len(labels), np.uint8), 1024, axis=1)
        return {"data": planes, "fine_labels" if is_hundred else "labels": labels}

    train = [write(name, batch(i * 10, [i, 9 - i])) for i, (name, _) in enumerate(kind.train_list)]
    monkeypatch.setattr(kind, "train_list", train)
    monkeypatch.setattr(kind, "test_list", [write(kind.test_list[0][0], batch(200, [7]))])
    names = [f"name{i}" for i in range(100 if is_hundred else 10)]
    name, md5 = write(kind.meta["filename"], {kind.meta["key"]: names})
    monkeypatch.setattr(kind, "meta", {**kind.meta, "filename": name, "md5": md5})


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST/raw"), ("mnist", "mnist"), ("fashion-mnist", "FashionMNIST/raw")]
)
def test_mnist_from_a_copy(tmp_path: Path, name: str, folder: str) -> None:
    write_idx(tmp_path / folder)
    dataset = public.read(name, str(tmp_path))
    assert dataset.name == name
    assert [(item.part, item.label) for item in dataset.items] == [("train", 0), ("train", 1), ("test", 0)]
    assert dataset.classes[0] == ("0" if name == "mnist" else "t-shirt/top")


def test_fashion_mnist_is_not_read_as_mnist(tmp_path: Path) -> None:
    write_idx(tmp_path / "FashionMNIST/raw")
    with pytest.raises(EnvironmentProblem, match="mnist: is not complete"):
        public.read("mnist", str(tmp_path))


def test_cifar10_from_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch, datasets.CIFAR10)
    dataset = public.read("cifar10", str(tmp_path))
    assert [len(dataset.indices(part)) for part in ("train", "test")] == [10, 1]
    assert dataset.classes == tuple(f"name{i}" for i in range(10))
    assert dataset.items[3].key == "cifar10-train[3]"
    assert dataset.items[3].label == 8
    assert dataset.sample(3).image[5, 6].tolist() == [10, 11, 12]
    assert dataset.sample(10).image[31, 31].tolist() == [200, 201, 202]


def test_cifar100_from_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch, datasets.CIFAR100)
    dataset = public.read("cifar100", str(tmp_path))
    assert len(dataset.classes) == 100
    assert [item.label for item in dataset.items] == [0, 9, 7]


def test_altered_cifar_file_is_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch, datasets.CIFAR10)
    (tmp_path / "cifar-10-batches-py/data_batch_2").write_bytes(b"changed")
    with pytest.raises(EnvironmentProblem, match="cifar10: is not complete"):
        public.read("cifar10", str(tmp_path))


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_failed_download_says_where_to_put_the_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        public.read(name, str(tmp_path / "new"))
    assert "no network in tests" in caught.value.what
    assert str(tmp_path / "new" / public.SETS[name].folder) in caught.value.fix
    assert caught.value.exit_code == 5


def test_absent_files_are_downloaded_into_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(self: datasets.MNIST) -> None:
        calls.append(self.raw_folder)
        print("downloading")
        write_idx(Path(self.raw_folder))
        for file in Path(self.raw_folder).glob("*.gz"):
            file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))

    monkeypatch.setattr(datasets.MNIST, "download", download)
    assert len(public.read("mnist", str(tmp_path))) == 3
    assert len(public.read("mnist", str(tmp_path))) == 3
    assert calls == [str(tmp_path / "MNIST/raw")]


def test_progress_of_a_download_stays_off_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(self: datasets.MNIST) -> None:
        print("downloading")
        raise RuntimeError("no")

    monkeypatch.setattr(datasets.MNIST, "download", download)
    with pytest.raises(EnvironmentProblem):
        public.read("mnist", str(tmp_path))
    assert capsys.readouterr() == ("", "downloading\n")


def test_full_disk_is_said_to_be_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(_: datasets.MNIST) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datasets.MNIST, "download", download)
    with pytest.raises(DiskFull, match="no room for mnist"):
        public.read("mnist", str(tmp_path))


def test_imagenet_comes_only_from_a_copy(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot be downloaded without an account"):
        public.read("imagenet", str(tmp_path))
    for root in (tmp_path / "imagenet", tmp_path / "elsewhere"):
        (root / "train/n01440764").mkdir(parents=True)
        (root / "train/n01440764/1.JPEG").touch()
    assert len(public.read("imagenet", str(tmp_path))) == 1
    assert public.read("imagenet", str(tmp_path / "elsewhere")).name == "imagenet"


def test_root_comes_from_the_argument_the_environment_or_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIATE_DATA", "/from/environment")
    assert public.data_root("/given") == Path("/given")
    assert public.data_root() == Path("/from/environment")
    monkeypatch.delenv("STRIATE_DATA")
    monkeypatch.setenv("HOME", "/home/someone")
    assert public.data_root() == Path("/home/someone/.cache/striate")


def test_no_home_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("STRIATE_DATA", raising=False)
    monkeypatch.setattr(Path, "expanduser", nowhere)
    with pytest.raises(EnvironmentProblem, match="STRIATE_DATA"):
        public.data_root()


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean cifar10"):
        public.read("cifar-10")


def test_descriptions_are_one_line_each() -> None:
    assert public.NAMES == ("mnist", "fashion-mnist", "cifar10", "cifar100", "imagenet")
    assert public.SETS["cifar100"].description == (
        "60,000 pictures 32×32 RGB, 100 classes, downloaded on first use; "
        "Krizhevsky 2009, cs.toronto.edu/~kriz/cifar.html; no licence stated"
    )


def test_real_fashion_mnist_under_its_name(shared_data: Callable[[str], Path]) -> None:
    root = shared_data("fashion-mnist").parent
    assert len(public.read("fashion-mnist", str(root))) == 70_000
