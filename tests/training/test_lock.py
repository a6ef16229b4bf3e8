"""One run a folder."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from striate.errors import EnvironmentProblem
from striate.training import lock
from striate.training.lock import LOCK_FILE, locked


def leave(folder: Path, **changes: Any) -> Path:
    """A lock file as this very process would hold it, but for `changes`."""
    path = folder / LOCK_FILE
    path.write_text(json.dumps({**lock._own_entry(), **changes}))
    return path


def test_a_second_run_in_a_folder_is_refused_with_the_process_of_the_first(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(EnvironmentProblem, match=f"process {os.getpid()} on .* works in this folder"):
            locked(tmp_path).__enter__()
        assert (tmp_path / LOCK_FILE).exists()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        pass


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_dead_processs_lock_is_taken_over(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    leave(tmp_path, pid=gone.pid)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_was_given_to_another_process_since_does_not_hold_the_lock(tmp_path: Path) -> None:
    leave(tmp_path, started="another boot 12345")
    with locked(tmp_path):
        pass


def test_another_machines_lock_is_left_alone(tmp_path: Path) -> None:
    path = leave(tmp_path, host=platform.node() + "-other", pid=2**30)
    with pytest.raises(EnvironmentProblem, match=f"if it is gone, delete {path}"), locked(tmp_path):
        pass
    assert path.exists()


@pytest.mark.parametrize("content", ["", "no json", "[1]"])
def test_a_damaged_lock_is_left_to_a_person(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK_FILE).write_text(content)
    with pytest.raises(EnvironmentProblem, match="it is damaged"), locked(tmp_path):
        pass


def test_a_file_system_without_links_has_a_lock_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with locked(tmp_path):
        with pytest.raises(EnvironmentProblem, match="works in this folder"):
            locked(tmp_path).__enter__()
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_took_the_place_of_the_stale_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another process removed the stale lock and made its own between our look and our removal.
    stale = {"pid": 2**30, "host": platform.node(), "started": ""}
    path = leave(tmp_path)
    lock._remove_stale(path, stale)
    assert json.loads(path.read_text())["pid"] == os.getpid()
    assert [entry.name for entry in tmp_path.iterdir()] == [LOCK_FILE]
