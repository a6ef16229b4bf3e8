"""What tells whether a picture is still the same."""

import os
import zipfile
from pathlib import Path

import numpy as np

from striate.data.identity import identity_of
from striate.data.storage import ArrayStorage
from striate.data.tars import TarStorage
from striate.data.tree import below, open_tree


def folder(root: Path) -> Path:
    """Two files in a subfolder, of a fixed time."""
    (root / "cat").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (root / "cat" / name).write_bytes(b"same content")
        os.utime(root / "cat" / name, ns=(5, 10**18))
    return root


def test_a_file_is_its_path_size_and_time_of_change(tmp_path: Path) -> None:
    tree = open_tree(folder(tmp_path / "set"))
    path = tmp_path / "set" / "cat" / "a.jpg"
    first = identity_of(tree, "cat/a.jpg")
    assert first is not None
    assert len(first) == 16
    assert identity_of(tree, "cat/a.jpg") == first
    assert identity_of(tree, "cat/b.jpg") != first
    os.utime(path, ns=(5, 10**18 + 1))
    moved = identity_of(tree, "cat/a.jpg")
    assert moved != first
    path.write_bytes(b"other size")
    os.utime(path, ns=(5, 10**18))
    assert identity_of(tree, "cat/a.jpg") not in (first, moved)
    path.write_bytes(b"same content")
    os.utime(path, ns=(5, 10**18))
    assert identity_of(tree, "cat/a.jpg") == first


def test_a_part_of_a_tree_gives_what_the_whole_does(tmp_path: Path) -> None:
    tree = open_tree(folder(tmp_path / "set"))
    assert identity_of(below(tree, "cat"), "a.jpg") == identity_of(tree, "cat/a.jpg")


def packed(path: Path, first: bytes, second: bytes) -> Path:
    """A zip with two entries and a fixed time of change."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("a.jpg", first), ("b.jpg", second)):
            archive.writestr(zipfile.ZipInfo(name), content)
    os.utime(path, ns=(5, 10**18))
    return path


def test_an_entry_is_the_zip_and_its_checksum_and_place(tmp_path: Path) -> None:
    path = packed(tmp_path / "set.zip", b"one", b"two")
    before = {name: identity_of(open_tree(path), name) for name in ("a.jpg", "b.jpg")}
    assert len(set(before.values()) - {None}) == 2
    packed(path, b"one", b"six")  # the same size and time as before
    tree = open_tree(path)
    assert identity_of(tree, "a.jpg") == before["a.jpg"]
    assert identity_of(tree, "b.jpg") != before["b.jpg"]
    os.utime(path, ns=(5, 10**18 + 1))
    assert identity_of(tree, "a.jpg") != before["a.jpg"]


def test_a_member_of_a_tar_is_the_tar_and_its_place(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    path.write_bytes(bytes(4096))
    os.utime(path, ns=(5, 10**18))
    places = np.array([(0, 512, 10), (0, 1024, 10), (0, 512, 9)], np.int64)
    storage = TarStorage(("t.tar",), (path,), {"a": 0, "b": 1, "c": 2}, places)
    before = {key: identity_of(storage, key) for key in "abc"}
    assert len(set(before.values()) - {None}) == 3
    assert {key: identity_of(storage, key) for key in "abc"} == before
    os.utime(path, ns=(5, 10**18 + 1))
    assert identity_of(storage, "a") not in before.values()


def test_pictures_in_memory_and_missing_files_have_none(tmp_path: Path) -> None:
    tree = open_tree(folder(tmp_path / "set"))
    (tmp_path / "set" / "cat" / "a.jpg").unlink()
    assert identity_of(tree, "cat/a.jpg") is None
    assert identity_of(ArrayStorage(np.zeros((1, 2, 2, 1), np.uint8), "x"), "x[0]") is None
