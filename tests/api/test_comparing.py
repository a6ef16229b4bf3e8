"""Two runs on the same pictures, and what must not be compared."""

import math
from pathlib import Path
from typing import Any

import pytest

import striate
from striate import api
from striate.errors import DataError, UsageError

OPTIONS: dict[str, Any] = {"workers": 0, "epochs": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A good and a poor classifier of digits, with the same parts."""
    root = tmp_path_factory.mktemp("compare")
    good = striate.train("digits", "mlp", out=root / "good", learning_rate=1e-2, **OPTIONS).folder
    poor = striate.train("digits", "mlp", out=root / "poor", learning_rate=1e-4, **OPTIONS).folder
    return good, poor


@pytest.fixture(scope="module")
def compared(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return api.compare(runs, tmp_path_factory.mktemp("page") / "compare.html")


def test_scores_are_those_of_eval_with_their_interval(runs: tuple[Path, Path], compared: Any) -> None:
    for run, candidate in zip(runs, compared.comparison.candidates, strict=True):
        top1 = candidate.scores[0]
        assert top1.value == striate.evaluate(run).metrics["top1"]
        assert top1.low < top1.value < top1.high
        assert candidate.parameters > 10_000
        assert candidate.macs > 10_000


def test_the_pair_adds_up_to_the_difference(compared: Any) -> None:
    good, poor = compared.comparison.candidates
    (pair,) = compared.comparison.pairs
    difference = (good.scores[0].value - poor.scores[0].value) * 180
    assert pair.only_first - pair.only_second == pytest.approx(difference)
    total = pair.only_first + pair.only_second
    tail = sum(math.comb(total, k) for k in range(min(pair.only_first, pair.only_second) + 1))
    assert pair.p_value == pytest.approx(min(1, 2 * tail / 2**total))


def test_disagreements_are_pictures_that_one_alone_gets_right(compared: Any) -> None:
    (pair,) = compared.comparison.pairs
    assert 0 < len(pair.pictures.pictures) <= 24
    for picture in pair.pictures.pictures:
        truth, first, second = picture.lines
        names = [line.partition(": ")[2].rpartition(", ")[0] for line in (first, second)]
        assert (names[0] == truth.removeprefix("is ")) != (names[1] == truth.removeprefix("is "))


def test_the_file_is_a_page_and_the_numbers_are_plain_data(compared: Any) -> None:
    assert compared.path.read_text("utf-8").startswith("<!doctype html>")
    plain = compared.to_dict()
    assert [model["name"].rpartition("/")[2] for model in plain["models"]] == ["good", "poor"]
    assert plain["pairs"][0]["test"] == "exact McNemar test"


def test_runs_with_other_test_pictures_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = striate.train(
        "digits", "mlp", out=tmp_path / "other", settings={"data": {"split": {"seed": 1}}}, **OPTIONS
    ).folder
    with pytest.raises(DataError, match=r"180 pictures and .* on 180, of which \d\d are the same"):
        api.compare([runs[0], other], tmp_path / "c.html")
    assert not (tmp_path / "c.html").exists()


def test_runs_on_other_data_are_refused(runs: tuple[Path, Path], color_folder: Path, tmp_path: Path) -> None:
    other = striate.train(color_folder, "mlp", out=tmp_path / "other", batch_size=8, **OPTIONS).folder
    with pytest.raises(DataError, match="of which 0 are the same"):
        api.compare([runs[0], other], tmp_path / "c.html")


def test_one_model_or_the_same_twice_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give two or more"):
        api.compare(runs[:1], tmp_path / "c.html")
    with pytest.raises(UsageError, match="given twice"):
        api.compare([runs[0], runs[0]], tmp_path / "c.html")
