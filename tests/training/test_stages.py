"""Stages of a training: what moves when, for how long, and that a stopped run passes their borders."""

import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from striate.errors import Interrupted, UsageError
from striate.modelfile import ModelCard, read_tensors
from striate.models.network import Classifier
from striate.models.stage import Stage
from striate.tasks import classification
from striate.training.checkpoints import find_newest
from striate.training.config import TrainingConfig
from striate.training.events import CheckpointEvent, Event, StepEvent
from striate.training.fit import Start, fit
from striate.training.stages import spans

HEAD_FIRST = (Stage("head", 1, ("head.*",)), Stage("all", 2))


def lengths(shares: list[float], epochs: int) -> list[tuple[int, int]]:
    found = spans([Stage(str(share), share) for share in shares], TrainingConfig(epochs=epochs))
    return [(span.first, span.config.epochs) for span in found]


def test_epochs_are_shared_out_in_proportion_and_none_is_lost() -> None:
    assert lengths([1], 10) == [(0, 10)]
    assert lengths([1, 1, 2], 8) == [(0, 2), (2, 2), (4, 4)]
    assert lengths([1, 1, 1], 7) == [(0, 2), (2, 3), (5, 2)]


def test_each_stage_has_an_epoch_however_small_its_share() -> None:
    assert lengths([1, 100, 1], 3) == [(0, 1), (1, 1), (2, 1)]
    assert lengths([0.001, 1], 10) == [(0, 1), (1, 9)]
    assert lengths([1, 0.001], 10) == [(0, 9), (9, 1)]


def test_fewer_epochs_than_stages_are_refused() -> None:
    with pytest.raises(UsageError, match="there are 1 for 2 stages: head, all"):
        spans(HEAD_FIRST, TrainingConfig(epochs=1))


def test_a_schedule_of_named_epochs_is_refused_where_there_are_stages() -> None:
    with pytest.raises(UsageError, match="each stage begins anew"):
        spans(HEAD_FIRST, TrainingConfig(epochs=4, schedule="step", step_epochs=(2,)))


@pytest.fixture
def train(
    network: Callable[..., Classifier], loaders: Callable[..., Any], card: ModelCard, tmp_path: Path
) -> Callable[..., Any]:
    """Trains a network that has stages, or goes on; gives the events as they come."""

    def start(name: str, **settings: Any) -> Any:
        module = network(norm=True, dropout=0.3)
        staged = type("Staged", (type(module),), {"training_stages": HEAD_FIRST})
        module.__class__ = staged
        config = TrainingConfig(
            **{"epochs": 3, "batch_size": 12, "precision": "fp32", "warmup_epochs": 0.0, **settings}
        )
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        checkpoint = find_newest(folder).checkpoint
        with closing(
            fit(module, classification, loaders(config), config, folder, card, Start(checkpoint))
        ) as events:
            yield from events

    return start


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = read_tensors(folder / "last.safetensors").items()
    return {name: torch.from_numpy(array) for name, array in found}


def moved(folder: Path, events: Any) -> dict[int, set[str]]:
    """Names of the tensors that changed in each epoch."""
    found, before = {}, dict[str, torch.Tensor]()
    for event in events:
        if isinstance(event, CheckpointEvent) and event.path.name == "last.safetensors":
            now = weights(folder)
            found[event.epoch] = {name for name in before if not torch.equal(before[name], now[name])}
            before = now
    return found


def test_only_what_a_stage_names_moves(train: Any, tmp_path: Path) -> None:
    found = moved(tmp_path / "run", train("run"))
    assert found[1] == {"head.weight", "head.bias"}  # the frozen norm keeps its statistics too
    assert {"convolution.weight", "norm.weight", "norm.running_mean", "head.weight"} <= found[2]


def test_what_is_frozen_stays_so_in_every_stage(
    train: Any, tmp_path: Path, network: Callable[..., Classifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = network().__class__.__init__

    def frozen(self: Any, *given: Any, **named: Any) -> None:
        real(self, *given, **named)
        self.convolution.weight.requires_grad_(False)

    monkeypatch.setattr(network().__class__, "__init__", frozen)
    found = moved(tmp_path / "run", train("run"))
    assert "head.weight" in found[2]
    assert not any("convolution.weight" in names for names in found.values())


def rates(events: Any) -> list[float]:
    return [rate for event in events if isinstance(event, StepEvent) for rate in [event.learning_rate]]


def test_the_rate_begins_anew_with_each_stage(train: Any) -> None:
    found = rates(train("run", learning_rate=0.1))
    first, second = found[:3], found[3:]
    assert first[0] == second[0] == pytest.approx(0.1)
    assert first == sorted(first, reverse=True)
    assert second == sorted(second, reverse=True)
    assert first[-1] < 0.05 > second[-1]


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_run_stopped_after_every_step_ends_with_the_bits_of_an_undisturbed_one(
    train: Any, tmp_path: Path, optimiser: str
) -> None:
    settings = {"optimiser": optimiser, "learning_rate": 0.05, "ema": 0.9}
    list(train("whole", **settings))

    def stopped(events: Any) -> list[Event]:
        seen = []
        for event in events:
            seen.append(event)
            if isinstance(event, StepEvent):
                os.kill(os.getpid(), signal.SIGTERM)
        return seen

    for _ in range(9):
        with pytest.raises(Interrupted):
            stopped(train("stopped", **settings))
    list(train("stopped", **settings))
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_stage_hears_only_its_terms_of_the_loss(
    network: Callable[..., Classifier], loaders: Callable[..., Any], card: ModelCard, tmp_path: Path
) -> None:
    module = network()
    stages = (Stage("first", terms=("cross_entropy",)), Stage("second"))

    def loss(self: Any, raw: Any, targets: Any) -> dict[str, torch.Tensor]:
        own = Classifier.loss(self, raw, targets)
        return {**own, "other": 0.5 * own["cross_entropy"]}

    module.__class__ = type("Staged", (type(module),), {"training_stages": stages, "loss": loss})
    config = TrainingConfig(epochs=2, batch_size=12, precision="fp32")
    events = list(fit(module, classification, loaders(config), config, tmp_path, card))
    named = [set(event.losses) for event in events if isinstance(event, StepEvent)]
    assert named == [{"cross_entropy"}] * 3 + [{"cross_entropy", "other"}] * 3
