"""`striate train --init` and `--freeze`, from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import striate as package
from striate.api.starting_weights import FINE_TUNING

Striate = Callable[..., Any]

QUICK = ("--epochs", 1, "--batch-size", 8, "--workers", 0)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A state dict of simple_cnn for ten classes, converted."""
    torch.manual_seed(1)
    torch.save(package.create("simple_cnn", 10).state_dict(), tmp_path / "weights.pt")
    package.convert(tmp_path / "weights.pt", model="simple_cnn", out=tmp_path / "converted")
    return tmp_path / "converted"


def test_converted_weights_are_trained_further_and_the_plan_says_so(
    striate: Striate, weights: Path, color_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    outcome = striate("train", color_folder, "--init", weights, "--size", 16, "--out", run, *QUICK)
    assert outcome.code == 0, outcome.err
    lines = [line.strip() for line in outcome.err.splitlines()]
    count = len(package.create("simple_cnn").state_dict())
    assert f"weights  {weights} (simple_cnn)" in lines
    assert f"{count - 2} tensors matched, 0 missing, 0 unexpected, 2 of another shape" in lines
    assert "other classes, so drawn anew: fc.weight, fc.bias" in lines
    assert package.load(run).classes == ("blue", "green", "red")


def test_patterns_freeze_and_the_plan_counts(
    striate: Striate, weights: Path, color_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    frozen = ("--freeze", "stages.stage1.*", "--freeze", "stages.stage2.*")
    outcome = striate("train", color_folder, "--init", weights, *frozen, "--size", 16, "--out", run, *QUICK)
    network = package.create("simple_cnn", 3)
    stages = [getattr(network.stages, name) for name in ("stage1", "stage2")]
    norms = sum(isinstance(module, nn.BatchNorm2d) for stage in stages for module in stage.modules())
    tensors = [tensor for stage in stages for tensor in stage.parameters()]
    told = (
        f"frozen: {sum(map(torch.numel, tensors)):,} weights in {len(tensors)} tensors; {norms} batch normal"
    )
    assert told in outcome.err
    assert 'freeze = ["stages.stage1.*", "stages.stage2.*"]  # --freeze' in (run / "run.toml").read_text()


def test_a_pattern_that_matches_nothing_is_a_usage_error(striate: Striate, color_folder: Path) -> None:
    outcome = striate("train", color_folder, "--model", "simple_cnn", "--freeze", "stage.*", "--out", "no")
    assert outcome.code == 2
    assert outcome.err == (
        "error: training.freeze: there is no 'stage.*'. fix: did you mean stages.* or stages.stage3.* "
        "or stages.stage2.*?\n"
    )


def test_explain_config_says_which_settings_the_weights_bring(
    striate: Striate, weights: Path, color_folder: Path
) -> None:
    outcome = striate("explain-config", color_folder, "--init", weights, "--json")
    rows = {row["key"]: (row["value"], row["origin"]) for row in json.loads(outcome.out)}
    assert rows["init.weights"] == (str(weights), "--init")
    assert rows["model"] == ("simple_cnn", f"weights {weights}")
    assert rows["training.layer_decay"] == (FINE_TUNING["training"]["layer_decay"], "fine-tuning")


def test_pickled_weights_are_a_model_error_with_the_way_to_convert(
    striate: Striate, weights: Path, color_folder: Path
) -> None:
    pickled = weights.parent / "weights.pt"
    outcome = striate("train", color_folder, "--init", pickled)
    assert outcome.code == 4
    assert f"fix: striate convert {pickled} --model NAME --out FOLDER" in outcome.err


def test_a_resumed_run_takes_no_other_weights(striate: Striate, weights: Path) -> None:
    outcome = striate("train", "--resume", "runs/a", "--init", weights, "--freeze", "*")
    assert outcome.code == 2
    assert "--init, --freeze cannot be given" in outcome.err


def test_a_proposed_command_repeats_the_patterns() -> None:
    from striate.api.shorthands import SHORTHANDS
    from striate.cli.options import command_line

    given = dict.fromkeys(shorthand.name for shorthand in SHORTHANDS)
    given |= {"model": None, "config": None, "assignments": (), "freeze": ("a.*", "b.*"), "init": "runs/a"}
    line = command_line("train", "digits", given, {"learning_rate": 0.1})
    assert line == "striate train digits --init runs/a --freeze 'a.*' --freeze 'b.*' --learning-rate 0.1"
