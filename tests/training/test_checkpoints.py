"""Checkpoints on disk: whole, verified, the last two kept, whatever fails while one is written."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from striate.errors import DiskFull, ModelError
from striate.files import TEMPORARY
from striate.training.checkpoints import (
    Checkpoint,
    Checkpoints,
    Progress,
    State,
    find_newest,
    log_position,
    read_checkpoint,
)
from striate.training.evaluate import Evaluation

CALLS = ((os, "open"), (os, "mkdir"), (os, "write"), (os, "fsync"), (os, "replace"), (os, "chmod"))


class Killed(BaseException):
    """The process is gone: nothing it still tries has an effect."""


def state(step: int, epoch: int = 0, **changes: Any) -> State:
    progress = Progress(step=step, epoch=epoch, best=(0.5, -1.25), **changes)
    return State(progress=progress, average_updates=step, log_position=7, circumstances={"torch": "1"})


def tensors(value: float) -> dict[str, np.ndarray]:
    return {"weights/a": np.full((2, 3), value, np.float32), "random/cpu": np.arange(5, dtype=np.uint8)}


def newest(folder: Path) -> Checkpoint:
    found = find_newest(folder).checkpoint
    assert found is not None
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    saved = state(12, 3, measured=Evaluation({"top1": 0.5}, 1.25, 0.1), batches=4, seconds=2.5)
    Checkpoints(tmp_path).save(saved, tensors(0.25))
    checkpoint = newest(tmp_path)
    assert checkpoint.state == saved
    assert checkpoint.path.name == "0000000012"
    for name, array in tensors(0.25).items():
        np.testing.assert_array_equal(checkpoint.tensors()[name], array)


def test_there_is_nothing_to_resume_from_in_a_new_folder(tmp_path: Path) -> None:
    assert find_newest(tmp_path).checkpoint is None


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (9, 10, 11, 12):
        checkpoints.save(state(step), tensors(step))
    assert names(tmp_path) == ["0000000011", "0000000012"]
    assert newest(tmp_path).tensors()["weights/a"][0, 0] == 12


def test_one_before_and_one_after_an_evaluation_differ_in_name_and_the_later_wins(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for epoch in (0, 1):
        checkpoints.save(state(12, epoch), tensors(epoch))
    assert names(tmp_path) == ["0000000012", "0000000012-2"]
    assert newest(tmp_path).state.progress.epoch == 1


def test_the_tenth_checkpoint_of_a_step_is_newer_than_the_ninth(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(state(12, 9), tensors(9))
    (tmp_path / "checkpoints" / "0000000012").rename(tmp_path / "checkpoints" / "0000000012-9")
    shutil.copytree(tmp_path / "checkpoints" / "0000000012-9", tmp_path / "checkpoints" / "0000000012-10")
    assert newest(tmp_path).path.name == "0000000012-10"


def test_the_same_moment_is_written_once(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for _ in range(2):
        checkpoints.save(state(12), tensors(1))
    assert names(tmp_path) == ["0000000012"]


def test_a_resumed_run_keeps_what_it_came_from_and_removes_the_damaged(tmp_path: Path) -> None:
    before = Checkpoints(tmp_path)
    for step in (10, 20):
        before.save(state(step), tensors(step))
    (tmp_path / "checkpoints" / "0000000020" / "state.json").write_text("{}")
    Checkpoints(tmp_path, newest(tmp_path)).save(state(15), tensors(15))
    assert names(tmp_path) == ["0000000010", "0000000015"]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip_a_bit(path / "tensors.safetensors"),
        lambda path: (path / "state.json").write_text("{}"),
        lambda path: os.truncate(path / "tensors.safetensors", 20),
        lambda path: (path / "tensors.safetensors").unlink(),
        lambda path: (path / "manifest.json").unlink(),
        lambda path: (path / "manifest.json").write_text("{"),
        lambda path: (path / "manifest.json").write_text("[]"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (10, 20):
        checkpoints.save(state(step), tensors(step))
    damage(tmp_path / "checkpoints" / "0000000020")
    found = find_newest(tmp_path)
    assert found.checkpoint is not None
    assert found.checkpoint.state.progress.step == 10
    assert len(found.damaged) == 1
    assert "0000000020" in found.damaged[0]
    damage(tmp_path / "checkpoints" / "0000000010")
    with pytest.raises(ModelError, match="no checkpoint is intact"):
        find_newest(tmp_path)


def test_a_state_of_another_format_is_refused(tmp_path: Path) -> None:
    newer = State(progress=Progress(), average_updates=0, log_position=0, circumstances={}, format_version=2)
    Checkpoints(tmp_path).save(newer, tensors(1))
    with pytest.raises(ModelError, match="format is version 2, this striate reads 1"):
        read_checkpoint(tmp_path / "checkpoints" / "0000000000")


def test_what_a_killed_process_left_is_removed_at_the_start(tmp_path: Path) -> None:
    place = tmp_path / "checkpoints"
    (place / f"{TEMPORARY}abc").mkdir(parents=True)
    (place / f"{TEMPORARY}abc" / "state.json").write_text("half")
    (tmp_path / f"{TEMPORARY}def").write_text("half")
    Checkpoints(tmp_path)
    assert list(tmp_path.rglob(f"{TEMPORARY}*")) == []


def test_the_log_position_is_its_size(tmp_path: Path) -> None:
    assert log_position(tmp_path) == 0
    (tmp_path / "events.jsonl").write_bytes(b"12345\n")
    assert log_position(tmp_path) == 6


def fail_at(call: int, error: BaseException, stays: bool, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make call number `call`, counted from 1, of the system raise `error`; if it `stays`, all later too."""
    count = [0]

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*given: Any, **named: Any) -> Any:
            count[0] += 1
            if count[0] == call or (stays and count[0] > call):
                raise error
            return real(*given, **named)

        return inner

    for module, name in CALLS:
        monkeypatch.setattr(module, name, wrapped(getattr(module, name)))
    return count


@pytest.mark.parametrize(
    ("error", "expected", "stays"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFull, False),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), DiskFull, True),
        (Killed(), Killed, True),
    ],
    ids=["one call finds no room", "no room any more", "killed"],
)
def test_a_fault_at_any_call_of_a_save_leaves_a_valid_checkpoint(
    tmp_path: Path, error: BaseException, expected: type[BaseException], stays: bool
) -> None:
    call, done = 0, False
    while not done:
        call += 1
        folder = tmp_path / str(call)
        checkpoints = Checkpoints(folder)
        for step in (10, 20):
            checkpoints.save(state(step), tensors(step))
        with pytest.MonkeyPatch.context() as patch:
            count = fail_at(call, error, stays, patch)
            try:
                checkpoints.save(state(30), tensors(30))
                done = True
            except expected:
                pass
        assert newest(folder).tensors()["weights/a"][0, 0] in (20, 30)
        if expected is DiskFull and not stays:
            assert not [name for name in names(folder) if name.startswith(TEMPORARY)]
        # Whoever comes next goes on as if nothing had been.
        after = Checkpoints(folder, newest(folder))
        after.save(state(40), tensors(40))
        assert newest(folder).state.progress.step == 40
        assert len(names(folder)) == 2
    # Three files opened, written and synced, a folder made and synced, a rename, its folder synced, ...
    assert count[0] >= 15


def test_a_write_that_comes_back_short_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, content: real(handle, content[:7]))
    Checkpoints(tmp_path).save(state(1), tensors(1))
    assert newest(tmp_path).tensors()["weights/a"][0, 0] == 1
