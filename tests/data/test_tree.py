"""Trees: what is listed, what is left out and why, and that a zip cannot do harm."""

import os
import pickle
import socket
import stat
import struct
import threading
import zipfile
from pathlib import Path

import pytest

from striate.data.tree import Tree, below, bytes_of, head_of, listed_tree, open_tree, text_of
from striate.errors import DataError


def write(root: Path, *paths: str, content: bytes = b"x") -> Path:
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return root


def make_zip(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def codes(tree: Tree) -> dict[str, str]:
    return {finding.file: finding.code for finding in tree.findings}


def read(tree: Tree, key: str) -> bytes:
    content = tree.content(key)
    return content.read_bytes() if isinstance(content, Path) else content


def test_folder_and_zip_of_it_list_the_same(tmp_path: Path) -> None:
    paths = ["b/2.jpg", "b/10.jpg", "a/x/1.jpg", "ä b.txt", "a-1/1.jpg"]
    folder = open_tree(write(tmp_path / "data", *paths))
    archive = open_tree(make_zip(tmp_path / "data.zip", dict.fromkeys(paths, b"x")))
    assert folder.files == archive.files == tuple(sorted(paths))
    assert folder.folders == archive.folders == ("a", "a-1", "a/x", "b")
    assert read(folder, "b/2.jpg") == read(archive, "b/2.jpg") == b"x"
    assert folder.findings == archive.findings == ()


def test_files_of_file_managers_are_not_listed(tmp_path: Path) -> None:
    paths = [".DS_Store", "a/._1.jpg", "a/Thumbs.db", "__MACOSX/a/1.jpg", ".git/config", "a/1.jpg"]
    folder = open_tree(write(tmp_path / "data", *paths))
    archive = open_tree(make_zip(tmp_path / "data.zip", dict.fromkeys(paths, b"x")))
    assert folder.files == archive.files == ("a/1.jpg",)
    assert folder.findings == archive.findings == ()


def test_empty_folders_are_listed(tmp_path: Path) -> None:
    (tmp_path / "data/cat").mkdir(parents=True)
    make_zip(tmp_path / "data.zip", {"cat/": b""})
    assert open_tree(tmp_path / "data").folders == open_tree(tmp_path / "data.zip").folders == ("cat",)


def test_pipes_and_sockets_are_found_and_not_opened(tmp_path: Path) -> None:
    root = write(tmp_path, "a.jpg")
    os.mkfifo(root / "pipe.jpg")
    (root / "link.jpg").symlink_to("pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket.jpg"))
        tree = open_tree(root)
    assert tree.files == ("a.jpg",)
    assert codes(tree) == dict.fromkeys(("pipe.jpg", "link.jpg", "socket.jpg"), "special-file")
    assert "named pipe" in next(f.message for f in tree.findings if f.file == "pipe.jpg")


def test_links_out_of_the_root_are_refused_and_links_inside_followed(tmp_path: Path) -> None:
    write(tmp_path, "secret/1.jpg", "secret.jpg")
    root = write(tmp_path / "secret-not/..data", "a/1.jpg").parent / "..data"
    (root / "file.jpg").symlink_to("a/1.jpg")
    (root / "folder").symlink_to("a")
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "out").symlink_to("../../secret")
    (root / "nothing.jpg").symlink_to("absent")
    tree = open_tree(root)
    assert tree.files == ("a/1.jpg", "file.jpg", "folder/1.jpg")
    assert codes(tree) == {"out.jpg": "symlink", "out": "symlink", "nothing.jpg": "symlink"}


def test_link_to_a_folder_whose_name_begins_like_the_root_is_outside(tmp_path: Path) -> None:
    write(tmp_path, "data/1.jpg", "data-other/2.jpg")
    (tmp_path / "data/link.jpg").symlink_to("../data-other/2.jpg")
    assert codes(open_tree(tmp_path / "data")) == {"link.jpg": "symlink"}


def test_link_loops_end(tmp_path: Path) -> None:
    root = write(tmp_path, "a/b/1.jpg", "c/2.jpg")
    (root / "a/b/up").symlink_to("..")
    (root / "round").symlink_to("round")
    (root / "a/to_c").symlink_to("../c")
    (root / "c/to_a").symlink_to("../a")
    tree = open_tree(root)
    assert "a/to_c/2.jpg" in tree.files
    assert "c/to_a/b/1.jpg" in tree.files
    found = codes(tree)
    assert found["a/b/up"] == found["round"] == found["a/to_c/to_a"] == "symlink-loop"
    assert len(tree.files) < 10


def test_folders_full_of_links_to_each_other_do_not_explode(tmp_path: Path) -> None:
    for name in map(str, range(8)):
        write(tmp_path, f"{name}/1.jpg")
        for other in map(str, range(8)):
            (tmp_path / name / f"to{other}").symlink_to(f"../{other}")
    assert len(open_tree(tmp_path).files) == 8 + 8 * 7


def test_names_that_are_not_utf8_are_left_out_by_a_printable_finding(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    tree = open_tree(tmp_path)
    assert tree.files == ()
    assert codes(tree) == {r"caf\xe9.jpg": "file-name"}


def test_folder_that_cannot_be_listed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scandir = write(tmp_path, "a/1.jpg", "b/1.jpg"), os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    tree = open_tree(root)
    assert tree.files == ("b/1.jpg",)
    assert codes(tree) == {"a": "unreadable"}


def test_deep_folders_do_not_exhaust_the_stack(tmp_path: Path) -> None:
    folder = str(tmp_path)
    for _ in range(1050):
        folder += "/d"
        os.mkdir(folder)
    assert open_tree(tmp_path).folders[-1] == "/".join("d" * 1050)
    # pytest removes its folders recursively, and would exhaust its own.
    while folder != str(tmp_path):
        os.rmdir(folder)
        folder = os.path.dirname(folder)


def test_neither_folder_nor_zip_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, "data.tar")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"data\.tar: is neither a folder nor a zip"):
        open_tree(tmp_path / "data.tar")
    with pytest.raises(DataError, match="pipe: is a named pipe"):
        open_tree(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"absent: cannot be read \(No such file"):
        open_tree(tmp_path / "absent")


def test_listed_tree_takes_only_what_is_below_the_root(tmp_path: Path) -> None:
    root = write(tmp_path / "data", "a/1.jpg")
    write(tmp_path, "secret.jpg")
    (root / "out.jpg").symlink_to("../secret.jpg")
    (root / "up").symlink_to("..")
    (root / "in.jpg").symlink_to("a/1.jpg")
    os.mkfifo(root / "pipe.jpg")
    wanted = ["a/1.jpg", "in.jpg", "absent.jpg", "out.jpg", "up/secret.jpg", "../secret.jpg", "pipe.jpg", "a"]
    tree = listed_tree(root, wanted)
    assert tree.files == ("a/1.jpg", "in.jpg")
    assert codes(tree) == {
        "out.jpg": "symlink",
        "up/secret.jpg": "symlink",
        "../secret.jpg": "symlink",
        "pipe.jpg": "special-file",
    }


def test_below_is_the_folder_as_a_tree(tmp_path: Path) -> None:
    write(tmp_path, "x/a/1.jpg", "x/b.txt", "xy/1.jpg", content=b"1")
    os.mkfifo(tmp_path / "x/pipe")
    tree = below(open_tree(tmp_path), "x")
    assert tree.files == ("a/1.jpg", "b.txt")
    assert tree.folders == ("a",)
    assert codes(tree) == {"pipe": "special-file"}
    assert read(tree, "a/1.jpg") == b"1"
    assert tree.name == f"{tmp_path}/x"


def test_text_is_read_with_and_without_mark_and_refused_when_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf\xc3\xa4")
    (tmp_path / "b.txt").write_bytes(b"ok\nok\ncaf\xe9\n")
    tree = open_tree(tmp_path)
    assert text_of(tree, "a.txt") == "ä"
    with pytest.raises(DataError, match=r"b\.txt:3: is not UTF-8"):
        text_of(tree, "b.txt")


# --- zips -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_is_read_by_many_threads_and_after_pickling(tmp_path: Path, method: int) -> None:
    contents = {f"{i}.bin": bytes([i]) * (1000 + i) for i in range(50)}
    tree = pickle.loads(pickle.dumps(open_tree(make_zip(tmp_path / "a.zip", contents, method))))
    wrong = []

    def check() -> None:
        wrong.extend(name for name in contents if tree.content(name) != contents[name])

    threads = [threading.Thread(target=check) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_zip_with_something_before_it_is_read(tmp_path: Path) -> None:
    raw = make_zip(tmp_path / "a.zip", {"1.jpg": b"hello"}).read_bytes()
    (tmp_path / "b.zip").write_bytes(b"#!/bin/sh\n" + raw)
    assert open_tree(tmp_path / "b.zip").content("1.jpg") == b"hello"


def test_zip_bomb_is_refused_and_flat_small_entries_are_not(tmp_path: Path) -> None:
    tree = open_tree(
        make_zip(tmp_path / "a.zip", {"bomb.bin": bytes(20_000_000), "flat.bmp": bytes(900_000)})
    )
    assert len(read(tree, "flat.bmp")) == 900_000
    with pytest.raises(DataError, match=r"a\.zip/bomb\.bin: unpacks to more than 4 MB from 19,\d+ bytes"):
        tree.content("bomb.bin")


def test_zip_bomb_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"bomb.bin": bytes(20_000_000)})
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 20_000_000), struct.pack("<I", 1000)))
    tree = open_tree(path)
    with pytest.raises(DataError, match="unpacks to more than"):
        tree.content("bomb.bin")


def test_entries_that_leave_the_zip_are_left_out(tmp_path: Path) -> None:
    entries = dict.fromkeys(
        ("../up.jpg", "/abs.jpg", "a/../../b.jpg", "..\\c.jpg", "C:/d.jpg", "ok.jpg"), b"x"
    )
    tree = open_tree(make_zip(tmp_path / "a.zip", entries))
    assert tree.files == ("ok.jpg",)
    assert set(codes(tree).values()) == {"path"}
    assert len(tree.findings) == 5


def test_backslashes_separate_folders(tmp_path: Path) -> None:
    tree = open_tree(make_zip(tmp_path / "a.zip", {"cat\\1.jpg": b"1"}))
    assert tree.files == ("cat/1.jpg",)
    assert tree.content("cat/1.jpg") == b"1"


def test_links_and_devices_in_a_zip_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, kind in (("link.jpg", stat.S_IFLNK), ("pipe.jpg", stat.S_IFIFO)):
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | 0o644) << 16
            archive.writestr(info, "/etc/passwd")
    assert codes(open_tree(tmp_path / "a.zip")) == {"link.jpg": "symlink", "pipe.jpg": "special-file"}


def test_entry_compressed_otherwise_is_left_out_by_name(tmp_path: Path) -> None:
    tree = open_tree(make_zip(tmp_path / "a.zip", {"1.jpg": b"1"}, zipfile.ZIP_BZIP2))
    assert codes(tree) == {"1.jpg": "compression"}


def test_entry_that_is_there_twice_is_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.jpg", b"first")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("1.jpg", b"second")
    tree = open_tree(tmp_path / "a.zip")
    assert tree.content("1.jpg") == b"first"
    assert codes(tree) == {"1.jpg": "duplicate-entry"}


def test_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"1.jpg": b"1"})
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.zip: is encrypted"):
        open_tree(path)


def test_zip_with_too_many_entries_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("striate.data.zips.MAX_ENTRIES", 2)
    path = make_zip(tmp_path / "a.zip", dict.fromkeys("123", b""))
    with pytest.raises(DataError, match="3 entries, more than 2"):
        open_tree(path)


def test_cut_zip_is_refused_by_name_wherever_it_is_cut(tmp_path: Path) -> None:
    raw = make_zip(tmp_path / "a.zip", {"1.jpg": b"hello" * 9}).read_bytes()
    for length in range(0, len(raw), 7):
        (tmp_path / "cut.zip").write_bytes(raw[:length])
        with pytest.raises(DataError, match=r"cut\.zip: is not a zip that can be read"):
            open_tree(tmp_path / "cut.zip")


def test_damaged_entry_is_refused_by_name(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"1.jpg": b"hello"}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"hello", b"hallo"))
    with pytest.raises(DataError, match=r"a\.zip/1\.jpg: is damaged: its checksum"):
        open_tree(path).content("1.jpg")


def test_zip_that_shrank_after_it_was_opened_is_refused_by_name(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"1.jpg": bytes(range(256)) * 4})
    tree = open_tree(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"a\.zip/1\.jpg: is cut off"):
        tree.content("1.jpg")


def test_the_head_and_the_bytes_of_a_file_are_those_of_its_entry_in_a_zip(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.txt").write_bytes(b"0123456789")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.txt", b"0123456789")
    for source in ("set", "set.zip"):
        tree = open_tree(tmp_path / source)
        assert (head_of(tree, "a.txt", 4), bytes_of(tree, "a.txt", 10)) == (b"0123", b"0123456789")
        with pytest.raises(DataError, match="is larger than") as caught:
            bytes_of(tree, "a.txt", 9)
        assert caught.value.where.endswith("a.txt")


def test_a_file_that_is_gone_has_no_head(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    tree = open_tree(tmp_path)
    (tmp_path / "a.txt").unlink()
    assert head_of(tree, "a.txt", 4) == b""
    with pytest.raises(DataError, match="cannot be read"):
        bytes_of(tree, "a.txt", 4)
