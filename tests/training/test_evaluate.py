"""Measuring a network on the val part."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from striate.tasks import classification
from striate.training import evaluate as evaluating
from striate.training.config import TrainingConfig
from striate.training.evaluate import Evaluation, Place, evaluate
from striate.training.interruption import catch_signals
from striate.training.loaders import Loaders


@pytest.fixture
def measure(network: Callable[..., Any], loaders: Callable[..., Loaders]) -> Callable[[], Evaluation]:
    """Evaluates a tiny network on the CPU."""

    def run() -> Evaluation:
        data = loaders(TrainingConfig(workers=0)).val
        with catch_signals() as stop:
            found = evaluate(network(), classification, data, Place(torch.device("cpu")), stop, "here")
        assert found is not None
        return found

    return run


def test_autocast_around_an_evaluation_changes_no_bit_of_it(measure: Callable[[], Evaluation]) -> None:
    calm = measure()
    with torch.autocast("cpu", torch.bfloat16):
        cast = measure()
    assert (cast.loss, cast.metrics) == (calm.loss, calm.metrics)


def test_every_batch_is_computed_in_the_exact_float32_of_the_device(
    measure: Callable[[], Evaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    @contextmanager
    def exact_float32(device: torch.device) -> Iterator[None]:
        told.append(f"exact on {device}")
        yield
        told.append("no longer")

    results = classification.results

    def noted_results(*given: Any) -> Any:
        told.append("batch")
        return results(*given)

    monkeypatch.setattr(evaluating, "exact_float32", exact_float32)
    monkeypatch.setattr(classification, "results", noted_results)
    measure()
    assert told == ["exact on cpu", "batch", "no longer"]
