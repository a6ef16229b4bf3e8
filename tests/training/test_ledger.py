"""Several steps told in one event."""

import pytest
import torch

from striate.errors import NotFiniteError
from striate.training.ledger import Ledger, StepRecord


def record(step: int, *losses: float) -> StepRecord:
    terms = {f"term{number}": torch.tensor(loss) for number, loss in enumerate(losses)}
    return StepRecord(step, step / 10, (f"a{step}", f"b{step}"), True, terms)


def test_an_event_tells_the_mean_of_each_term_since_the_last_one() -> None:
    ledger = Ledger(epoch=2, steps_in_epoch=9)
    ledger.add(record(4, 1.0, 10.0))
    ledger.add(record(5, 3.0, 20.0))
    event = ledger.drain()
    assert event.losses == {"term0": 2.0, "term1": 15.0}
    assert event.loss == 17.0
    assert (event.step, event.epoch, event.steps_in_epoch, event.learning_rate) == (5, 2, 9, 0.5)
    ledger.add(record(6, 7.0, 0.0))
    assert ledger.drain().losses == {"term0": 7.0, "term1": 0.0}


def test_the_first_step_that_is_not_finite_is_the_one_named() -> None:
    ledger = Ledger(epoch=1, steps_in_epoch=9)
    for step, loss in ((1, 1.0), (2, float("inf")), (3, float("nan"))):
        ledger.add(record(step, 0.5, loss))
    with pytest.raises(NotFiniteError) as caught:
        ledger.drain()
    expected = "step 2, epoch 1: the loss term1 is inf, at learning rate 0.2, on a2, b2."
    assert str(caught.value).startswith(expected)


def test_images_per_second_counts_every_picture_since_the_epoch_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([100.0, 102.0, 103.0])
    monkeypatch.setattr("striate.training.ledger.time.perf_counter", lambda: next(clock))
    ledger = Ledger(epoch=1, steps_in_epoch=2)
    for step, expected in ((1, 2 / 2), (2, 4 / 3)):
        ledger.add(record(step, 0.5))
        assert ledger.drain().images_per_second == pytest.approx(expected)
