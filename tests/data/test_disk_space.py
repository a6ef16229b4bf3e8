"""Room on a disk that caches share."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from striate.data import disk_space
from striate.data.disk_space import DiskSpace, hold, lock_alone
from striate.files import TEMPORARY


def cache(root: Path, name: str, size: int, used: int) -> Path:
    """A cache of `size` bytes that was last used at time `used`, by nobody now."""
    handle = hold(root / name)
    os.close(handle)
    (root / name / "some.rows").write_bytes(bytes(size))
    os.utime(root / name / "striate.lock", (used, used))
    return root / name


def test_what_fits_is_granted_and_removes_nothing(tmp_path: Path) -> None:
    kept = cache(tmp_path, "old", 700, 1)
    assert DiskSpace(tmp_path, 1000).grant(300) == 300
    assert kept.exists()


def test_the_least_recently_used_caches_give_way_and_no_more_than_need_be(tmp_path: Path) -> None:
    newest, oldest, middle = (cache(tmp_path, f"c{used}", 300, used) for used in (3, 1, 2))
    assert DiskSpace(tmp_path, 1000).grant(400) == 400
    assert (oldest.exists(), middle.exists(), newest.exists()) == (False, True, True)
    assert DiskSpace(tmp_path, 1000).grant(800) == 800
    assert (middle.exists(), newest.exists()) == (False, False)


def test_a_cache_in_use_stays_and_less_is_granted(tmp_path: Path) -> None:
    used = cache(tmp_path, "used", 700, 1)
    handle = hold(used)
    try:
        assert DiskSpace(tmp_path, 1000).grant(500) == 300
        assert used.exists()
    finally:
        os.close(handle)
    os.utime(used / "striate.lock", (1, 1))
    assert DiskSpace(tmp_path, 1000).grant(500) == 500
    assert not used.exists()


def test_holding_marks_as_used_now(tmp_path: Path) -> None:
    first, second = cache(tmp_path, "first", 500, 1), cache(tmp_path, "second", 500, 2)
    os.close(hold(first))
    DiskSpace(tmp_path, 1000).grant(500)
    assert (first.exists(), second.exists()) == (True, False)


def test_room_is_granted_in_steps_of_a_sixteenth_of_the_whole(tmp_path: Path) -> None:
    assert DiskSpace(tmp_path, 16_000).grant(1) == 1000


def test_what_else_lies_there_is_neither_counted_nor_removed(tmp_path: Path) -> None:
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    for name in ("lock", "some.rows"):
        (foreign / name).write_bytes(bytes(900))
    assert DiskSpace(tmp_path, 1000).grant(1000) == 1000
    assert DiskSpace(tmp_path, 1000).grant(2000) == 1000
    assert len(list(foreign.iterdir())) == 2


class Usage(NamedTuple):
    """What `shutil.disk_usage` gives."""

    total: int
    used: int
    free: int


def test_two_gigabytes_of_the_disk_stay_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, (2 << 30) + 100))
    assert DiskSpace(tmp_path, 1 << 30).grant(500) == 100
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 1 << 30))
    assert DiskSpace(tmp_path, 1 << 30).grant(500) == 0


def test_what_a_killed_removal_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f"{TEMPORARY}abc"
    left.mkdir()
    (left / "some.rows").write_bytes(bytes(900))
    assert DiskSpace(tmp_path, 1000).grant(500) == 500
    assert not left.exists()


@pytest.mark.parametrize("remade", [False, True], ids=["gone", "remade"])
def test_a_folder_removed_while_it_is_being_opened_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remade: bool
) -> None:
    folder = cache(tmp_path, "old", 10, 1)
    lock, removals = disk_space._lock, 0

    def lock_too_late(handle: int, alone: bool) -> None:
        nonlocal removals
        removals += 1
        if removals == 1:
            shutil.rmtree(folder)
            if remade:
                cache(tmp_path, "old", 10, 1)
        lock(handle, alone)

    monkeypatch.setattr(disk_space, "_lock", lock_too_late)
    handle = hold(folder)
    monkeypatch.undo()
    assert os.path.samestat(os.fstat(handle), os.stat(folder / "striate.lock"))
    os.close(handle)


def test_a_lock_alone_goes_to_one_only_until_it_is_closed(tmp_path: Path) -> None:
    handles = [os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT) for _ in range(2)]
    assert [lock_alone(handle) for handle in handles] == [True, False]
    os.close(handles[0])
    assert lock_alone(handles[1])
    os.close(handles[1])
