import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from striate import api

Striate = Callable[..., Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("compare")
    rates = {"slow": 1e-4, "fast": 1e-2}
    return [
        api.train("digits", "mlp", out=root / name, epochs=1, workers=0, learning_rate=rate).folder
        for name, rate in rates.items()
    ]


def test_the_verb_tells_scores_and_pairs_and_writes_the_file(
    striate: Striate, runs: list[Path], tmp_path: Path
) -> None:
    outcome = striate("compare", *runs, "-o", tmp_path / "c.html")
    assert outcome.code == 0, outcome.err
    assert "exact McNemar test" in outcome.out
    assert "63,446" in outcome.out
    assert "<title>2 models on digits</title>" in (tmp_path / "c.html").read_text("utf-8")


def test_as_json_it_is_one_object(striate: Striate, runs: list[Path], tmp_path: Path) -> None:
    found = json.loads(striate("compare", *runs, "-o", tmp_path / "c.html", "--json").out)
    assert [Path(model["name"]).name for model in found["models"]] == ["slow", "fast"]
    assert set(found["pairs"][0]) == {"models", "only_first_right", "only_second_right", "p_value", "test"}


def test_one_run_is_no_comparison(striate: Striate, runs: list[Path]) -> None:
    assert striate("compare", runs[0]).code == 2
