import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from striate import create
from striate.modelfile import write_model
from striate.models import card_of

Striate = Callable[..., Any]


def test_the_table_is_on_stdout_and_as_wide_as_a_page(striate: Striate) -> None:
    outcome = striate("summary", "resnet18")
    lines = outcome.out.splitlines()
    assert (outcome.code, outcome.err) == (0, "")
    assert lines[0] == "resnet18, input 3x224x224"
    assert lines[1].split()[0] == "call"
    assert max(map(len, lines[: lines.index("")])) <= 100
    assert "11,689,512 parameters, 1,814,073,344 MACs" in outcome.out
    assert "FLOPs = 2 x MACs" in outcome.out


def test_json_is_one_object_and_csv_has_a_line_for_each_call(striate: Striate) -> None:
    found = json.loads(striate("summary", "lenet5", "--json").out)
    rows = list(csv.DictReader(io.StringIO(striate("summary", "lenet5", "--csv").out)))
    assert (found["macs"], found["input"]) == (416_520, [1, 32, 32])
    assert [row["call"] for row in rows] == [call["call"] for call in found["calls"]]


def test_another_input_gives_other_numbers(striate: Striate) -> None:
    found = json.loads(striate("summary", "resnet18", "--input", "3x64x96", "--json").out)
    assert found["calls"][2]["output"] == [64, 32, 48]


def test_why_prints_the_sums_of_one_layer(striate: Striate) -> None:
    outcome = striate("summary", "resnet18", "--why", "conv1")
    assert outcome.code == 0
    assert "floor((224 + 2·3 - 1·(7 - 1) - 1) / 2) + 1 = floor(111.5) + 1 = 112" in outcome.out


def test_a_model_file_is_summarised_without_its_weights(striate: Striate, tmp_path: Path) -> None:
    network = create("lenet5", classes=("ant", "bee"))
    state = network.state_dict()
    tensors = {name: np.full(tensor.shape, np.nan, np.float32) for name, tensor in state.items()}
    write_model(tmp_path / "model.safetensors", tensors, card_of(network))
    for place in (tmp_path, tmp_path / "model.safetensors"):
        found = json.loads(striate("summary", place, "--json").out)
        assert found["parameters"] == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["resnet5O"], 2, "did you mean resnet50"),
        (["runs/none"], 4, "no such file or folder"),
        (["resnet18", "--input", "3x224xx"], 2, "channels x height x width: 3x224x224"),
        (["resnet18", "--input", "4x224x224"], 2, "this network takes (B, 3, H, W), got (1, 4, 224, 224)"),
        (["lenet5", "--input", "1x40x40"], 2, "takes pictures of 32x32, got 40x40"),
        (["resnet18", "--why", "layer9"], 2, "fix: did you mean layer4"),
        (["resnet18", "--json", "--csv"], 2, "--json and --csv contradict each other"),
        (["resnet18", "--depth", "0"], 2, "depth"),
    ],
)
def test_misuse_is_one_line_with_the_way_out(
    striate: Striate, arguments: list[str], code: int, told: str
) -> None:
    outcome = striate("summary", *arguments)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (code, "", 1)
    assert told in outcome.err


@pytest.mark.parametrize("width", [60, 80, 100])
def test_on_a_terminal_the_table_keeps_to_its_width_and_no_color_is_honoured(
    striate: Striate, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    for name, value in (("COLUMNS", str(width)), ("FORCE_COLOR", "1"), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    colored = striate("summary", "resnet18").out
    monkeypatch.setenv("NO_COLOR", "1")
    bare = striate("summary", "resnet18").out
    assert "\x1b[1;36m" in colored
    assert "\x1b[1;36m" not in bare
    assert "36m" not in bare
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", bare).splitlines())) <= width


def test_where_the_terminal_has_no_such_signs_plain_ones_stand() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "striate", "summary", "lenet5", "--why", "c1"],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path), "PATH": ""},
    )
    assert result.returncode == 0, result.stderr
    assert b"2*padding" in result.stdout


def test_nothing_that_compiles_is_imported_for_a_summary() -> None:
    """It would take longer than all the rest of `striate summary resnet152`."""
    code = (
        "import sys, striate; striate.summary('resnet152'); "
        "print(sorted({'torch._dynamo', 'torch._inductor'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
