"""Misspellings and misuse: one line, the nearest name, the right exit code."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Striate = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["trian", "digits"], "train"),
        (["train", "digits", "--epoch-s", "1"], "--epochs"),
        (["train", "digits", "--modle", "lenet5"], "--model"),
        (["train", "digits", "--model", "lenet55"], "lenet5"),
        (["train", "digits", "--set", "training.epochz=1"], "training.epochs"),
        (["train", "digits", "--set", "trainig.epochs=1"], "training"),
        (["train", "digits", "--set", "network.preprocess.sise=[8,8]"], "network.preprocess.size"),
        (["train", "shapes", "--classes", "circel,square"], "circle"),
        (["explain-config", "digits", "--set", "augment.flipp=1"], "augment.flip"),
        (["calc", "cov", "--in", "8", "-k", "3"], "conv"),
        (["eval", "m", "--part", "tset"], "test"),
        (["models", "resnt"], "resnet18"),
        (["convert", "w.pt", "--model", "resnet20_cifr", "--out", "o"], "resnet20_cifar"),
    ],
)
def test_a_misspelling_is_answered_with_the_nearest_name_and_exit_2(
    striate: Striate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], nearest: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = striate(*arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert nearest in outcome.err.partition("fix: ")[2]
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_a_misspelt_dataset_is_a_data_error_with_the_nearest(striate: Striate) -> None:
    outcome = striate("train", "digitz")
    assert (outcome.code, "did you mean digits" in outcome.err) == (3, True)


def test_a_pickled_model_is_refused_with_the_command_that_converts_it(
    striate: Striate, tmp_path: Path
) -> None:
    (tmp_path / "net.pth").write_bytes(b"\x80\x02.")
    outcome = striate("eval", tmp_path / "net.pth", "digits")
    assert outcome.code == 4
    assert "fix: striate convert" in outcome.err


def test_an_error_as_json_is_one_object_on_stderr(striate: Striate) -> None:
    outcome = striate("hash", "nowhere", "--json")
    assert (outcome.code, outcome.out) == (4, "")
    assert json.loads(outcome.err)["exit_code"] == 4


def test_a_traceback_comes_with_debug_only(striate: Striate) -> None:
    assert "Traceback" not in striate("hash", "nowhere").err
    assert "Traceback" in striate("hash", "nowhere", "--debug").err


def test_a_failure_nobody_thought_of_is_one_line_too(
    striate: Striate, monkeypatch: pytest.MonkeyPatch
) -> None:
    from striate import api

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(api, "hash_of", broken)
    outcome = striate("hash", "m")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "unexpected ZeroDivisionError: by zero" in outcome.err


def test_help_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys\nfrom striate.cli import main\n"
        "assert main(['--help']) == 0 and main(['train', '--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'rich', 'PIL', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_help_names_every_verb(striate: Striate) -> None:
    text = striate("--help").out
    verbs = "train eval predict check models datasets explain-config hash convert calc"
    for verb in verbs.split():
        assert f"\n  {verb} " in text


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m striate models --json | head -n 1"
    result = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments", [["train", "FOLDER"], ["models"], ["convert", "w.pt", "--model", "lenet5", "--out", "o"]]
)
def test_a_command_that_lacks_its_extra_says_which(color_folder: Path, arguments: list[str]) -> None:
    given = [str(color_folder) if argument == "FOLDER" else argument for argument in arguments]
    result = without_torch(given)
    assert result.returncode == 5
    assert "torch is not installed. fix: pip install 'striate[train]'" in result.stderr


def test_check_needs_no_torch(color_folder: Path) -> None:
    result = without_torch(["check", str(color_folder)])
    assert (result.returncode, "42 usable" in result.stdout) == (0, True), result.stderr


def without_torch(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    blocked = "import sys\nsys.modules['torch'] = None\nfrom striate.cli import main\n"
    code = f"{blocked}sys.exit(main({arguments!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
