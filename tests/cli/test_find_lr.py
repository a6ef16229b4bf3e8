"""`striate train DATA --find-lr` as a user types it."""

import json
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from striate import api
from striate.cli import rate_view

Striate = Callable[..., Any]

USUAL = ("--model", "simple_cnn", "--batch-size", "8", "--workers", "0")
FAST = (*USUAL, "--set", "network.widths=[4, 8]", "--set", "network.convolutions=[1, 1]")  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_shows_the_curve_and_a_command_that_trains_with_the_rate(
    striate: Striate, color_folder: Path, tmp_path: Path
) -> None:
    outcome = striate("train", color_folder, *USUAL, "--find-lr", "--epochs", 1, "--learning-rate", 3)
    assert outcome.code == 0, outcome.err
    assert "⠒" in outcome.out
    line = next(line for line in outcome.out.splitlines() if "try: " in line)
    rate = line.split()[2]
    command = shlex.split(line.partition("try: ")[2])
    assert command[:3] == ["striate", "train", str(color_folder)]
    assert command[command.index("--learning-rate") + 1] == rate
    assert "--find-lr" not in command
    assert sorted(tmp_path.iterdir()) == [color_folder]  # no run folder
    ran = striate(*command[1:], "--out", "run")
    assert ran.code == 0, ran.err
    assert f"learning_rate = {float(rate)}  # --learning-rate" in Path("run/run.toml").read_text()
    assert "epochs = 1 " in Path("run/run.toml").read_text()


def test_a_rate_given_by_set_is_replaced_in_the_command(striate: Striate, color_folder: Path) -> None:
    given = ("--set", "training.learning_rate=5", "--set", "augment.flip=0.5", "--no-sync-bn")
    out = striate("train", color_folder, *USUAL, "--find-lr", *given).out
    command = next(line for line in out.splitlines() if "try: " in line)
    assert "training.learning_rate" not in command
    assert "--set augment.flip=0.5" in command
    assert "--no-sync-bn" in command


def test_the_batch_that_was_measured_stands_in_the_command(
    striate: Striate, color_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from striate.training import batch_search

    monkeypatch.setattr(batch_search, "search", lambda *_: iter([batch_search.BatchTrial(12, 900.0, None)]))
    outcome = striate("train", color_folder, "--model", "mlp", "--batch", "auto", "--find-lr")
    assert "batch 12, adamw" in outcome.out
    assert "batch 12: 900 images/s" in outcome.err
    assert "--batch-size 12" in outcome.out or "no proposal" in outcome.out


def test_json_is_one_object_with_the_points(striate: Striate, color_folder: Path) -> None:
    found = json.loads(striate("train", color_folder, *FAST, "--find-lr", "--json").out)
    assert len(found["rates"]) == len(found["losses"]) == len(found["smoothed"]) > 20
    assert found["batch_size"] == 8
    assert "Smith 2017" in found["rule"]


def test_out_keeps_the_curve(striate: Striate, color_folder: Path) -> None:
    for name in ("curve.svg", "curve.csv"):
        assert striate("train", color_folder, *FAST, "--find-lr", "--out", name).code == 0
    assert Path("curve.svg").read_text().startswith("<svg")
    assert Path("curve.csv").read_text().startswith("learning_rate,loss,smoothed\n")


def test_out_that_is_no_curve_is_refused_before_anything_is_read(striate: Striate) -> None:
    outcome = striate("train", "nowhere", "--find-lr", "--out", "runs/a")
    assert outcome.code == 2
    assert "end the name in .svg for a picture or .csv for a table" in outcome.err


def test_a_resumed_run_has_no_rate_to_find(striate: Striate) -> None:
    outcome = striate("train", "--resume", "runs/a", "--find-lr")
    assert (outcome.code, "--find-lr cannot be given" in outcome.err) == (2, True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_interrupted_it_shows_what_it_has(
    striate: Striate,
    color_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    code: int,
    form: tuple[str, ...],
) -> None:
    told = rate_view.RateView.point

    def point(self: Any, plan: Any) -> None:
        told(self, plan)
        if len(plan.found) == 5:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(rate_view.RateView, "point", point)
    outcome = striate("train", color_folder, *FAST, "--find-lr", "--out", "curve.svg", *form)
    assert outcome.code == code
    if form:
        assert json.loads(outcome.out)["ending"] == "stopped"
        assert len(json.loads(outcome.out)["rates"]) == 5
    else:
        assert "5 steps" in outcome.out
        assert "only a part of the curve" in outcome.out
        assert "try:" not in outcome.out
    assert not Path("curve.svg").exists()


def test_batch_size_takes_a_number_or_auto(striate: Striate, color_folder: Path) -> None:
    outcome = striate("train", color_folder, "--batch-size", "many")
    assert outcome.code == 2
    assert "'many' is neither a whole number nor auto" in outcome.err


def test_train_says_each_size_it_tries(striate: Striate, color_folder: Path) -> None:
    outcome = striate(
        "train", color_folder, "--model", "mlp", "--batch", "auto", "--epochs", 1, "--out", "run"
    )
    assert outcome.code == 0, outcome.err
    assert "trying" in outcome.err
    assert "batch 16: " in outcome.err
    assert api.explain_config("run").toml.count("measured: ") == 1
