import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from striate import api

Striate = Callable[..., Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "run"
    return api.train("digits", "mlp", out=out, epochs=1, workers=0).folder


def test_the_verb_writes_the_file_and_says_where(striate: Striate, run: Path, tmp_path: Path) -> None:
    outcome = striate("report", run, "-o", tmp_path / "r.html")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"{tmp_path / 'r.html'}   0.")
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "<title>mlp on digits</title>" in page
    assert "Where it looked is not shown" in page  # an MLP has no maps
    assert "No layer of it gives maps of this picture alone" in page
    assert "layers.0: linear" in page


def test_as_json_it_is_one_object(striate: Striate, run: Path, tmp_path: Path) -> None:
    outcome = striate("report", run, "-o", tmp_path / "r.html", "--json")
    assert json.loads(outcome.out) == {"report": str(tmp_path / "r.html")}


def test_a_folder_without_a_model_is_exit_code_4(striate: Striate, tmp_path: Path) -> None:
    assert striate("report", tmp_path).code == 4
