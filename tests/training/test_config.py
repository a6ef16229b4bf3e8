"""The settings of training."""

from typing import Any

import pytest

from striate.config import Layer, resolve
from striate.errors import UsageError
from striate.training.config import TrainingConfig


def test_the_defaults_are_valid_and_complete() -> None:
    config = TrainingConfig()
    assert (config.peak_rate, config.uses_nesterov) == (0.05, True)
    assert TrainingConfig(optimiser="adamw").peak_rate == 0.001
    assert not TrainingConfig(momentum=0.0).uses_nesterov


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("inf")),
        ("learning_rate", float("nan")),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("warmup_epochs", -1.0),
        ("step_factor", 1.0),
        ("ema", 1.0),
        ("label_smoothing", 1.0),
        ("clip_norm", 0.0),
        ("accumulate", 0),
        ("patience", 0),
        ("seed", -1),
        ("workers", -1),
        ("eval_every", 0),
        ("checkpoint_minutes", -1.0),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=rf"training\.{field}: .* is out of range"):
        TrainingConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("nesterov", {"nesterov": True, "optimiser": "adamw"}),
        ("nesterov", {"nesterov": True, "momentum": 0.0}),
        ("step_epochs", {"schedule": "step"}),
        ("step_epochs", {"step_epochs": (3,)}),
        ("step_epochs", {"schedule": "step", "step_epochs": (5, 3)}),
        ("step_epochs", {"schedule": "step", "step_epochs": (3, 3)}),
        ("step_epochs", {"schedule": "step", "step_epochs": (10,)}),
        ("step_factor", {"step_factor": 0.5}),
        ("accumulate", {"accumulate": 5, "batch_size": 8}),
        ("accumulate", {"accumulate": 2, "batch_size": 1}),
    ],
)
def test_settings_that_exclude_each_other_are_refused(field: str, values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=rf"training\.{field}: .* does not go with"):
        TrainingConfig(**values)


def test_an_unknown_optimiser_is_refused_with_its_origin() -> None:
    with pytest.raises(UsageError, match=r"run\.toml: optimiser"):
        resolve(TrainingConfig, [Layer("run.toml", {"optimiser": "adam"})])


def test_warmup_takes_a_fifth_of_a_short_run_at_most() -> None:
    assert TrainingConfig(epochs=30, warmup_epochs=2.0).effective_warmup == 2.0
    assert TrainingConfig(epochs=1, warmup_epochs=2.0).effective_warmup == pytest.approx(0.2)
