"""`batch_size="auto"`: what is recorded, what is scaled, what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import striate
from striate.api.batch import asks_for_search, without_search
from striate.config import Layer, nested, read_toml
from striate.errors import Interrupted, UsageError
from striate.training import batch_search
from striate.training.batch_search import BatchTrial


def layer(value: Any, origin: str = "--batch-size") -> Layer:
    return Layer(origin, nested("training.batch_size", value))


def plan_of(data: Path, out: Path, *layers: Layer, batch: Any = "auto") -> Any:
    return striate.api.prepare(data, "simple_cnn", out=out, layers=[layer(batch), *layers])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock always finds 256 fastest, four times the network's usual 64."""

    def found(*_: Any) -> Iterator[BatchTrial]:
        yield BatchTrial(64, 4800.0, 10)
        yield BatchTrial(256, 5210.0, 10)

    monkeypatch.setattr(batch_search, "search", found)


def test_the_last_batch_size_decides_whether_it_is_searched() -> None:
    assert asks_for_search([layer(32), layer("auto")])
    assert not asks_for_search([layer("auto"), layer(32)])
    assert not asks_for_search([Layer("a.toml", {"training": {"epochs": 2}})])


def test_without_a_search_the_other_layers_stay() -> None:
    both = Layer("a.toml", {"training": {"batch_size": "auto", "epochs": 2}, "model": "mlp"})
    assert without_search([both, layer(32)]) == [
        Layer("a.toml", {"training": {"epochs": 2}, "model": "mlp"}),
        layer(32),
    ]


def test_the_run_records_the_number_and_that_it_was_measured(color_folder: Path, tmp_path: Path) -> None:
    told: list[BatchTrial] = []
    layers = [layer("auto"), Layer("--epochs", nested("training.epochs", 1))]
    plan = striate.api.prepare(
        color_folder, "simple_cnn", out=tmp_path / "run", layers=layers, on_trial=told.append
    )
    assert [trial.size for trial in told] == [16, 32]  # of 34 to train on
    size = plan.config.training.batch_size
    assert size in (16, 32)
    assert plan.resolved.origins["training.batch_size"].startswith("measured: ")
    lines = [line for _, lines in plan.describe() for line in lines]
    assert any(line.startswith(f"batch {size}: ") and "images/s" in line for line in lines)
    list(plan.events())
    assert f"batch_size = {size}  # measured: " in (tmp_path / "run" / "run.toml").read_text()
    assert read_toml(tmp_path / "run" / "run.toml").values["training"]["batch_size"] == size


@pytest.mark.usefixtures("measured")
def test_the_rate_of_adamw_grows_with_the_square_root_of_the_batch(
    color_folder: Path, tmp_path: Path
) -> None:
    plan = plan_of(color_folder, tmp_path / "run")
    assert plan.config.training.learning_rate == pytest.approx(4e-3 * 2)
    assert plan.resolved.origins["training.learning_rate"].startswith("scaled: 0.004 is for a batch of 64")
    lines = [line for _, lines in plan.describe() for line in lines]
    assert "batch 256: 5,210 images/s (64: 4,800)" in lines
    assert any(line.startswith("learning rate 0.008: 0.004 is for a batch of 64") for line in lines)


@pytest.mark.usefixtures("measured")
def test_the_rate_of_sgd_grows_with_the_batch(color_folder: Path, tmp_path: Path) -> None:
    sgd = Layer("--set", nested("training.optimiser", "sgd"))
    plan = plan_of(color_folder, tmp_path / "run", sgd)
    assert plan.config.training.learning_rate == pytest.approx(4e-3 * 4)
    assert "Goyal" in plan.resolved.origins["training.learning_rate"]


@pytest.mark.usefixtures("measured")
def test_a_rate_that_was_given_is_not_scaled(color_folder: Path, tmp_path: Path) -> None:
    plan = plan_of(
        color_folder, tmp_path / "run", Layer("--learning-rate", nested("training.learning_rate", 0.1))
    )
    assert plan.config.training.learning_rate == 0.1
    assert plan.resolved.origins["training.learning_rate"] == "--learning-rate"


@pytest.mark.usefixtures("measured")
def test_a_number_after_auto_is_taken_as_it_is(color_folder: Path, tmp_path: Path) -> None:
    plan = plan_of(color_folder, tmp_path / "run", layer(8))
    assert (plan.config.training.batch_size, plan.config.training.learning_rate) == (8, 4e-3)


@pytest.mark.usefixtures("measured")
def test_explain_config_shows_what_was_measured(color_folder: Path) -> None:
    toml = striate.api.explain_config(color_folder, "simple_cnn", layers=[layer("auto")]).toml
    assert "batch_size = 256  # measured: 5,210 images/s (64: 4,800)" in toml


def test_a_deterministic_run_refuses_to_measure(color_folder: Path, tmp_path: Path) -> None:
    deterministic = Layer("--deterministic", nested("training.deterministic", True))
    with pytest.raises(UsageError, match=r"nothing from the clock.*fix: give a number: --batch-size 64"):
        plan_of(color_folder, tmp_path / "run", deterministic)
    assert not (tmp_path / "run").exists()


def test_another_word_is_refused(color_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected `int`"):
        plan_of(color_folder, tmp_path / "run", batch="automatic")


@pytest.mark.usefixtures("measured")
def test_train_takes_auto_as_a_keyword(
    color_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = striate.train(color_folder, "mlp", out=tmp_path / "run", epochs=1, workers=0, batch_size="auto")
    assert "batch_size = 256  # measured: " in (run.folder / "run.toml").read_text()


def test_a_signal_while_measuring_leaves_no_folder(color_folder: Path, tmp_path: Path) -> None:
    import os
    import signal

    for number, kind, code in ((signal.SIGTERM, Interrupted, 143), (signal.SIGINT, KeyboardInterrupt, None)):

        def stop(_: BatchTrial, number: int = number) -> None:
            os.kill(os.getpid(), number)

        with pytest.raises(kind) as caught:
            striate.api.prepare(
                color_folder, "simple_cnn", out=tmp_path / "run", layers=[layer("auto")], on_trial=stop
            )
        assert getattr(caught.value, "exit_code", None) == code
        assert not (tmp_path / "run").exists()
