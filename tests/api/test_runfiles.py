"""The files of a run folder."""

import errno
import json
import os
from pathlib import Path

import pytest

from striate.api.runfiles import EventLog, read_split
from striate.errors import DataError, DiskFull, EnvironmentProblem
from striate.training.events import NoteEvent, StopEvent

LOG = b'{"a": 1}\n{"b": 2}\n{"c": 3}\n'


def test_what_stands_after_the_position_is_cut_off_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(LOG)
    with EventLog(tmp_path, 9) as log:
        assert not log.is_short
        assert (tmp_path / "events.jsonl").read_bytes() == LOG[:9]
        log.write(NoteEvent("later"))
        # Nothing waits in a buffer that a killed process would take with it.
        last = json.loads((tmp_path / "events.jsonl").read_bytes().splitlines()[-1])
    assert last.pop("time") > 1e9
    assert last == {"type": "note", "text": "later"}


def test_a_log_that_is_shorter_than_it_was_keeps_its_whole_lines(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(LOG[:-3])
    with EventLog(tmp_path, len(LOG)) as log:
        assert log.is_short
    assert (tmp_path / "events.jsonl").read_bytes() == LOG[:18]


def test_a_new_log_is_made(tmp_path: Path) -> None:
    with EventLog(tmp_path, 0) as log:
        assert not log.is_short
    assert (tmp_path / "events.jsonl").read_bytes() == b""


def test_a_log_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with EventLog(tmp_path, 0) as log:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(DiskFull, match=r"events\.jsonl: no space left"):
            log.write(StopEvent("finished", 1))


def test_a_log_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").mkdir()
    with pytest.raises(EnvironmentProblem, match=r"events\.jsonl: cannot be written"):
        EventLog(tmp_path, 0)


def test_a_split_keeps_its_order(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("part,key\ntrain,b.png\ntest,a.png\n")
    assert list(read_split(tmp_path).items()) == [("b.png", "train"), ("a.png", "test")]


@pytest.mark.parametrize("content", [None, "key\nb.png\n"])
def test_a_split_that_cannot_be_read_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "split.csv").write_text(content)
    with pytest.raises(DataError, match=r"split\.csv: cannot be read"):
        read_split(tmp_path)
