"""Prepared pictures on a disk."""

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from striate.data import disk_cache
from striate.data.disk_cache import DiskCache, folder_name
from striate.data.disk_space import DiskSpace
from striate.structures import Geometry, Image

NAME = "pictures"

# What another process runs: it puts the same rows as `row` gives, from number {first} on.
WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_disk_cache import cache_at, row
cache = cache_at(Path({root!r}))
print("ready", flush=True)
sys.stdin.readline()
for number in range({first}, {last}):
    cache.put(*row(number))
"""


def cache_at(root: Path, limit: int = 1 << 30) -> DiskCache:
    """A cache as a run of its own would open it."""
    return DiskCache(DiskSpace(root, limit), NAME)


def row(number: int) -> tuple[bytes, Image, Geometry]:
    """Identity, pixels and geometry of picture `number`; sizes differ."""
    height, width = 5 + number % 3, 7
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    geometry = Geometry((50, 70 + number), (height, width), 0.1, 0.25, -1.5, number)
    return number.to_bytes(16, "big"), pixels, geometry


def filled(root: Path, count: int) -> DiskCache:
    """A cache with the rows 0 .. count - 1."""
    cache = cache_at(root)
    for number in range(count):
        cache.put(*row(number))
    return cache


def held(cache: DiskCache, count: int) -> list[int]:
    """Which of the rows 0 .. count - 1 `cache` holds; each must be exact."""
    found = []
    for number in range(count):
        identity, pixels, geometry = row(number)
        kept = cache.get(identity)
        if kept is not None:
            np.testing.assert_array_equal(kept[0], pixels)
            assert kept[1] == geometry
            found.append(number)
    return found


def only(root: Path, suffix: str) -> Path:
    """The one file of the cache that ends so."""
    (path,) = (root / NAME).glob(f"*{suffix}")
    return path


def test_what_is_put_comes_back_in_this_run_and_in_later_ones(tmp_path: Path) -> None:
    first = filled(tmp_path, 4)
    assert held(first, 5) == [0, 1, 2, 3]
    later = cache_at(tmp_path)
    assert held(later, 5) == [0, 1, 2, 3]
    assert (first.notes, later.notes, len(later)) == ((), (), 4)


def test_looking_for_a_picture_writes_nothing(tmp_path: Path) -> None:
    assert cache_at(tmp_path / "cache").get(bytes(16)) is None
    assert not (tmp_path / "cache").exists()


def test_a_picture_is_written_once(tmp_path: Path) -> None:
    cache = filled(tmp_path, 3)
    before = only(tmp_path, ".rows").stat().st_size
    cache.put(*row(1))
    cache_at(tmp_path).get(row(1)[0])
    assert only(tmp_path, ".rows").stat().st_size == before == sum(row(n)[1].nbytes for n in range(3))


def test_a_later_run_continues_the_files_of_one_that_has_ended(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    later = cache_at(tmp_path)
    later.put(*row(2))
    assert held(later, 4) == [0, 1, 2]
    only(tmp_path, ".index")  # one pair still
    assert held(cache_at(tmp_path), 4) == [0, 1, 2]


def test_two_that_write_at_once_have_files_of_their_own(tmp_path: Path) -> None:
    one, two = cache_at(tmp_path), cache_at(tmp_path)
    for number in range(6):
        (one, two)[number % 2].put(*row(number))
    assert len(list((tmp_path / NAME).glob("*.index"))) == 2
    assert held(cache_at(tmp_path), 6) == list(range(6))
    # The second opened the cache when the first had put one row.
    assert (held(one, 6), held(two, 6)) == ([0, 2, 4], [0, 1, 3, 5])


def test_a_damaged_row_is_not_given_but_said_and_replaced_for_good(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    rows = only(tmp_path, ".rows")
    content = bytearray(rows.read_bytes())
    content[row(0)[1].nbytes + 4] ^= 1
    rows.write_bytes(content)
    cache = cache_at(tmp_path)
    assert held(cache, 3) == [0, 2]
    assert cache.notes == (f"{tmp_path / NAME}: 1 damaged pictures were decoded again",)
    cache.put(*row(1))
    assert held(cache, 3) == [0, 1, 2]
    later = cache_at(tmp_path)
    assert held(later, 3) == [0, 1, 2]
    assert later.notes == ()


def test_a_replaced_row_wins_whatever_the_names_of_the_files(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    for path in list((tmp_path / NAME).glob("*.*")):
        path.rename(path.with_stem("zzz"))  # read after any other
    rows = only(tmp_path, ".rows")
    rows.write_bytes(bytes(rows.stat().st_size))
    holder = cache_at(tmp_path)
    assert held(holder, 1) == []
    blocker = cache_at(tmp_path)
    blocker.put(*row(5))  # takes the old pair, so that the new row goes to another
    holder.put(*row(0))
    assert len(list((tmp_path / NAME).glob("*.rows"))) == 2
    assert held(cache_at(tmp_path), 1) == [0]


@pytest.mark.parametrize("suffix", [".rows", ".index"])
def test_a_file_cut_off_anywhere_gives_whole_rows_and_takes_new_ones(tmp_path: Path, suffix: str) -> None:
    filled(tmp_path / "whole", 3)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole" / NAME).iterdir()}
    cut_name = next(name for name in whole if name.endswith(suffix))
    for length in range(0, len(whole[cut_name]), 7):
        root = tmp_path / str(length)
        (root / NAME).mkdir(parents=True)
        for name, content in whole.items():
            (root / NAME / name).write_bytes(content[:length] if name == cut_name else content)
        cache = cache_at(root)
        kept = held(cache, 3)
        assert kept == list(range(len(kept)))
        assert cache.notes == ()
        for number in range(len(kept), 3):
            cache.put(*row(number))
        assert held(cache, 3) == [0, 1, 2]
        assert held(cache_at(root), 3) == [0, 1, 2]


def test_a_damaged_record_is_ignored_whichever_byte_is_wrong(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    index = only(tmp_path, ".index")
    content = index.read_bytes()
    for place in range(len(content)):
        index.write_bytes(content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :])
        assert held(cache_at(tmp_path), 1) == []


def test_rows_whose_pixels_were_removed_are_ignored(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    only(tmp_path, ".rows").unlink()
    cache = cache_at(tmp_path)
    assert held(cache, 2) == []
    cache.put(*row(0))
    assert held(cache_at(tmp_path), 2) == [0]


@pytest.mark.parametrize("failing", range(1, 7))
def test_a_full_disk_stops_the_writing_with_one_note_and_keeps_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    calls = 0

    def write(handle: int, content: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            os.write(handle, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        os.write(handle, content)

    monkeypatch.setattr(disk_cache, "write_all", write)
    cache = filled(tmp_path, 5)
    whole = list(range((failing - 1) // 2))
    assert held(cache, 5) == held(cache_at(tmp_path), 5) == whole
    (note,) = cache.notes
    assert "the disk is full" in note
    assert only(tmp_path, ".rows").stat().st_size == sum(row(n)[1].nbytes for n in whole)
    assert calls == failing


def test_a_budget_that_is_used_up_is_said_once(tmp_path: Path) -> None:
    cache = cache_at(tmp_path, limit=600)
    for number in range(10):
        cache.put(*row(number))
    kept = held(cache, 10)
    assert 0 < len(kept) < 10
    assert sum(path.stat().st_size for path in (tmp_path / NAME).iterdir()) <= 600
    (note,) = cache.notes
    assert "used up" in note


def test_a_place_that_cannot_be_made_is_said_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = cache_at(tmp_path / "file")
    assert cache.get(row(0)[0]) is None
    cache.put(*row(0))
    assert cache.get(row(0)[0]) is None
    (note,) = cache.notes
    assert "cannot be written to" in note


def test_many_threads_fill_and_read_one_cache(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)

    def use(start: int) -> bool:
        for number in np.roll(np.arange(60), start).tolist():
            identity, pixels, geometry = row(number)
            kept = cache.get(identity)
            if kept is None:
                cache.put(identity, pixels, geometry)
            elif not np.array_equal(kept[0], pixels):
                return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(use, range(0, 60, 10)))
    assert held(cache, 60) == held(cache_at(tmp_path), 60) == list(range(60))
    assert only(tmp_path, ".rows").stat().st_size == sum(row(n)[1].nbytes for n in range(60))


def writer(root: Path, first: int, last: int) -> "subprocess.Popen[str]":
    """A process that is ready to put rows and begins when it is written to."""
    code = WRITER.format(tests=str(Path(__file__).parent), root=str(root), first=first, last=last)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_fill_one_cache_at_once(tmp_path: Path) -> None:
    processes = [writer(tmp_path, 0, 300), writer(tmp_path, 100, 400)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    cache = cache_at(tmp_path)
    assert held(cache, 400) == list(range(400))
    assert cache.notes == ()


def test_a_process_killed_while_it_writes_leaves_whole_rows_only(tmp_path: Path) -> None:
    for attempt in range(3):
        process = writer(tmp_path, 1000 * attempt, 10**9)
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        time.sleep(0.02 * (attempt + 1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    cache = cache_at(tmp_path)
    assert len(held(cache, 3000)) >= 3
    assert cache.notes == ()
    only(tmp_path, ".index")  # each took over what the one before had left


def test_the_name_depends_on_the_preparation_and_on_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    name = folder_name([{"size": [224, 224]}])
    assert name == folder_name([{"size": (224, 224)}])
    assert name != folder_name([{"size": [224, 192]}])
    monkeypatch.setattr(disk_cache.PIL, "__version__", "0.0")
    assert name != folder_name([{"size": [224, 224]}])
