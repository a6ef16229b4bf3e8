"""`striate export` on the command line: the plan, the outcome, JSON, the exit code."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from striate import api
from striate.errors import DataError, StriateError

Striate = Callable[..., Any]


class Agreed:
    """An `Agreement` that a test can read."""

    summary = "top-1 the same in all"

    @staticmethod
    def to_dict() -> dict[str, Any]:
        return {"same": 1.0}


class Scored:
    values = {"top1": 0.975}  # noqa: RUF012
    headline = (("top-1", 0.975), ("calibration error", 0.02))


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What `prepare_export` was asked for; its plan writes nothing and finds what the tests expect."""
    from striate.api.export_proof import Proof
    from striate.api.exporting import Export

    asked: list[dict[str, Any]] = []
    proof = Proof(Agreed(), "20 pictures of digits, part val", 20, 8, 8, 1, "top1", Scored(), Scored())  # type: ignore[arg-type]

    class Plan:
        @staticmethod
        def describe() -> Iterator[tuple[str, list[str]]]:
            yield "proof", ["20 pictures of digits, part val"]

        @staticmethod
        def finish(progress: Any, on_error: Any) -> Export:
            progress("calibrating", 1, 2)
            progress("comparing", 1, 20)
            on_error("bad.png", DataError("bad.png", "is no picture", "remove it"))
            if asked[-1]["max_drop"] == 0:
                raise StriateError("model.onnx", "nothing was written", "report it")
            return Export(
                tmp_path / "my models" / "model.onnx", asked[-1]["to"], False, 1_120_000, 44_800_000,
                ("images uint8 (batch, 1, 8, 8)",), ("logits float32 (batch, 10)",), proof,
                {"model": 40.0, "export": 160.0},
            )  # fmt: skip

    def prepare(model: str, **options: Any) -> type[Plan]:
        asked.append({"model": model, **options})
        return Plan

    monkeypatch.setattr(api, "prepare_export", prepare)
    return asked


def test_the_outcome_is_on_stdout_and_the_plan_is_not(
    striate: Striate, plan: list[dict[str, Any]], tmp_path: Path
) -> None:
    outcome = striate("export", "runs/a")
    assert outcome.code == 0, outcome.err
    path = tmp_path / "my models" / "model.onnx"
    for text in (
        f"{path}: 1.12 MB, the model file has 44.8 MB",
        "images uint8 (batch, 1, 8, 8)",
        "logits float32 (batch, 10)",
        "20 pictures of digits, part val, 1 left out; 8 of them also alone, and 8 at odd sizes",
        "top-1 the same in all",
        "top-1               model  97.5 %   export  97.5 %",
        "calibration error   model   2.0 %   export   2.0 %",
        "model 40, export 160 pictures/s one at a time, 4.0 times the model (roughly)",
        f"striate predict '{path}' PHOTO.jpg",
    ):
        assert text in outcome.out, text
    assert "20 pictures of digits" in outcome.err
    assert "error: bad.png: is no picture" in outcome.err
    assert plan == [
        {
            "model": "runs/a", "to": "onnx", "out": None, "data": None, "int8": False, "calibrate": None,
            "max_drop": None, "made_by": None,
        }
    ]  # fmt: skip


def test_options_are_handed_on(striate: Striate, plan: list[dict[str, Any]]) -> None:
    words = (
        "--to",
        "torch",
        "--out",
        "a.pt2",
        "--data",
        "d",
        "--int8",
        "--calibrate",
        "c",
        "--max-drop",
        "2",
    )
    outcome = striate("export", "runs/a", *words, "--model", "p.m:f")
    assert plan[0] == {
        "model": "runs/a", "to": "torch", "out": "a.pt2", "data": "d", "int8": True, "calibrate": "c",
        "max_drop": 2.0, "made_by": "p.m:f",
    }  # fmt: skip
    # Of a .pt2 striate predicts nothing.
    assert "torch.export.load" in outcome.out
    assert "striate predict" not in outcome.out


@pytest.mark.usefixtures("plan")
def test_json_is_one_object(striate: Striate) -> None:
    outcome = striate("export", "runs/a", "--json")
    found = json.loads(outcome.out)
    assert found["inputs"] == ["images uint8 (batch, 1, 8, 8)"]
    assert found["speed"] == {"model": 40.0, "export": 160.0}
    assert found["proof"]["metrics"]["export"] == {"top1": 0.975}
    assert found["proof"]["agreement"] == {"same": 1.0}


@pytest.mark.usefixtures("plan")
def test_a_refused_export_exits_with_1(striate: Striate) -> None:
    outcome = striate("export", "runs/a", "--max-drop", "0")
    assert outcome.code == 1
    assert "error: model.onnx: nothing was written. fix: report it" in outcome.err
    assert outcome.out == ""


def test_a_misspelled_target_is_answered_with_the_nearest(striate: Striate, tmp_path: Path) -> None:
    outcome = striate("export", tmp_path, "--to", "opnvino")
    assert outcome.code == 2
    assert "did you mean openvino?" in outcome.err
