import errno
import os
import stat
from pathlib import Path

import pytest

from striate.errors import DiskFull, EnvironmentProblem
from striate.files import TEMPORARY, atomic_write, new_folder, sha256_of, staged


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(TEMPORARY)]


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "new" / "a.bin") as file:
        file.write(b"whole")
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"whole"
    assert leftovers(tmp_path / "new") == []


def test_a_failure_inside_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")

    def fail_halfway() -> None:
        with atomic_write(tmp_path / "a.bin") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_at_any_step_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
    with pytest.raises(DiskFull, match=r"a.bin: no space left"), atomic_write(tmp_path / "a.bin") as file:
        file.write(b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(EnvironmentProblem, match="cannot be written"),
        atomic_write(tmp_path / "file" / "a.bin"),
    ):
        pass


def test_the_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    with atomic_write(tmp_path / "a.bin"):
        pass
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a.bin")]
    assert modes[0] == modes[1]


def test_sha256_is_the_known_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_folder_appears_with_all_that_was_put_into_it(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a/b") as folder:
        (folder / "inner").mkdir()
        (folder / "inner/1.txt").write_text("one")
        assert not (tmp_path / "a/b").exists()
    assert (tmp_path / "a/b/inner/1.txt").read_text() == "one"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_a_failure_in_filling_a_folder_leaves_nothing(tmp_path: Path) -> None:
    def fill(path: Path) -> None:
        with new_folder(path) as folder:
            (folder / "1.txt").write_text("one")
            raise OSError(errno.ENOSPC, "no space left on device")

    with pytest.raises(DiskFull, match="no space left"):
        fill(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/old.txt").touch()
    with pytest.raises(EnvironmentProblem), new_folder(tmp_path / "a") as folder:
        (folder / "new.txt").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["old.txt"]


def test_staged_files_get_their_places_together_and_scratch_goes(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("old")
    with staged(tmp_path / "model.xml") as path:
        assert path.name == "model.xml"
        path.write_text("new")
        path.with_suffix(".bin").write_text("weights")
        (path.parent / "scratch").mkdir()
        assert (tmp_path / "model.xml").read_text() == "old"
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "model.xml": "new",
        "model.bin": "weights",
    }


def test_staged_files_leave_nothing_behind_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("old")

    def half_done(path: Path) -> None:
        path.write_text("new")
        raise KeyError

    with pytest.raises(KeyError), staged(tmp_path / "model.xml") as path:
        half_done(path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"model.xml": "old"}
