"""`striate datasets pack` by the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Striate = Callable[..., Any]


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_packing_ends_with_one_line_and_the_shards_are_data_like_any(
    striate: Striate, color_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my shards"
    outcome = striate("datasets", "pack", color_folder, "--out", out, "--shard-megabytes", "0.05")
    assert outcome.code == 0, outcome.err
    (line,) = outcome.out.splitlines()
    assert line.startswith(f"{out}: 42 pictures (train 34, val 4, test 4) in 5 shards, 0.1 MB")
    assert line.endswith(f"next: striate train '{out}'")
    assert "no parts found: split into train" in outcome.err
    checked = striate("check", out)
    assert checked.code == 0, checked.err
    assert "shards, 42 pictures" in checked.out
    again = striate("datasets", "pack", color_folder, "--out", out, "--shard-megabytes", "0.05")
    assert "5 shards (5 there already)" in again.out


def test_packing_as_json_is_one_object(striate: Striate, hostile_folder: Path, tmp_path: Path) -> None:
    options = ("--val-fraction", "0.2", "--test-fraction", "0", "--seed", "5", "--json")
    outcome = striate("datasets", "pack", hostile_folder, "--out", tmp_path / "out", *options)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["pictures"] == {"train": 19, "val": 5}
    assert found["shards"] == ["train-000000.tar", "val-000000.tar"]
    assert len(found["left_out"]) == 5
    config = json.loads((tmp_path / "out" / "manifest.json").read_text())["config"]
    assert config == {
        "shard_megabytes": 256.0, "split": {"val_fraction": 0.2, "test_fraction": 0.0, "seed": 5},
    }  # fmt: skip


def test_what_is_left_out_is_named(striate: Striate, hostile_folder: Path, tmp_path: Path) -> None:
    outcome = striate("datasets", "pack", hostile_folder, "--out", tmp_path / "out")
    for name in ("empty.jpg", "truncated.jpg", "text.jpg", "pipe.jpg", "link.jpg"):
        assert f"left out cat/{name}: " in outcome.err


def test_check_finds_a_damaged_shard_and_exits_with_1(
    striate: Striate, color_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    striate("datasets", "pack", color_folder, "--out", out)
    with (out / "train-000000.tar").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    outcome = striate("check", out)
    assert outcome.code == 1
    assert "train-000000.tar: it is damaged: its SHA-256 is not the one in the manifest" in outcome.out
    assert striate("datasets", "pack", color_folder, "--out", out).code == 0
    assert striate("check", out).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pak", "digits"), "did you mean pack?"),
        (("pack", "digits"), "missing option '--out'"),
        (("pack", "digits", "--out", "x", "--shard-megabytes", "0"), "0 is out of range"),
        (("pack", "digits", "--out", "x", "--val-fraction", "2"), "split.val_fraction: 2.0 is out of range"),
    ],
)
def test_a_misuse_is_one_line_and_exit_2(
    striate: Striate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = striate("datasets", *arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert message in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_an_option_of_the_list_is_not_one_of_the_packing(striate: Striate, tmp_path: Path) -> None:
    outcome = striate("datasets", "--json", "pack", "digits", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert json.loads(outcome.err)["what"] == "it stands before the subcommand"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_process_that_is_stopped_in_the_middle_goes_on(
    striate: Striate, tmp_path: Path, number: int, code: int
) -> None:
    options = ("--shard-megabytes", "0.1")
    assert striate("datasets", "pack", "digits", "--out", tmp_path / "whole", *options).code == 0
    out = tmp_path / "out"
    command = [sys.executable, "-m", "striate", "datasets", "pack", "digits", "--out", str(out), *options]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (out / "train-000004.tar").exists() and child.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    child.send_signal(number)
    error = child.communicate(timeout=20)[1]
    assert child.returncode == code, error
    assert code < 0 or "run the same command again" in error
    refused = striate("check", out)
    assert (refused.code, "was not packed to the end" in refused.err) == (3, True)
    outcome = striate("datasets", "pack", "digits", "--out", out, *options)
    assert "there already" in outcome.out
    assert content_of(out) == content_of(tmp_path / "whole")
