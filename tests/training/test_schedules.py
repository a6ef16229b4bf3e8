"""The learning rate of each step, 10 steps an epoch."""

import pytest

from striate.training.config import TrainingConfig
from striate.training.schedules import learning_rate


def rates(config: TrainingConfig) -> list[float]:
    return [learning_rate(config, step, 10) for step in range(10 * config.epochs)]


def test_warmup_rises_linearly_to_the_peak_and_no_step_has_rate_zero() -> None:
    config = TrainingConfig(epochs=10, learning_rate=0.5, warmup_epochs=1.0, schedule="constant")
    assert rates(config)[:11] == pytest.approx([0.05 * n for n in range(1, 11)] + [0.5])


def test_cosine_starts_at_the_peak_passes_half_in_the_middle_and_ends_near_zero() -> None:
    found = rates(TrainingConfig(epochs=4, learning_rate=1.0, warmup_epochs=0.0))
    assert found[0] == 1.0
    assert found[20] == pytest.approx(0.5)
    assert 0 < found[-1] < 0.002
    assert found == sorted(found, reverse=True)


def test_cosine_after_warmup_falls_from_the_peak_over_the_rest() -> None:
    found = rates(TrainingConfig(epochs=10, learning_rate=1.0, warmup_epochs=1.0))
    assert found[9] == 1.0
    assert max(found) == 1.0
    assert found.index(max(found)) == 9
    # 91 steps lie between the peak and the end; half the rate is in their middle.
    assert found[9 + 45] > 0.5 > found[9 + 46]


def test_triangular_rises_and_falls_in_straight_lines() -> None:
    found = rates(TrainingConfig(epochs=10, learning_rate=1.0, warmup_epochs=2.0, schedule="triangular"))
    assert found[:20] == pytest.approx([0.05 * n for n in range(1, 21)])
    # From the peak at step 19 the 81 steps to the end, where it would be 0, are all of one height.
    assert found[19:] == pytest.approx([1 - n / 81 for n in range(81)])


def test_a_fractional_warmup_is_counted_in_steps() -> None:
    config = TrainingConfig(epochs=10, learning_rate=1.0, warmup_epochs=0.25, schedule="constant")
    assert rates(config)[:3] == pytest.approx([0.4, 0.8, 1.0])


def test_step_multiplies_after_each_epoch_given() -> None:
    config = TrainingConfig(
        epochs=5,
        learning_rate=1.0,
        warmup_epochs=0.0,
        schedule="step",
        step_epochs=(2, 4),
        step_factor=0.5,
    )
    assert rates(config) == [1.0] * 20 + [0.5] * 20 + [0.25] * 10
