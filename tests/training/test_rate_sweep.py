"""The range test: what it tries, when it ends, what it leaves alone."""

import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from striate.data.augment import AugmentConfig
from striate.modelfile import ModelCard
from striate.tasks import classification
from striate.training import rate_sweep
from striate.training.config import TrainingConfig
from striate.training.events import StepEvent
from striate.training.fit import fit
from striate.training.rate_curve import has_risen
from striate.training.rate_sweep import sweep, sweep_rates

CONFIG = TrainingConfig(batch_size=8, workers=0, threads=1, precision="fp32")


def points_of(make: Callable[..., Any], loaders: Callable[..., Any], config: TrainingConfig = CONFIG) -> Any:
    return list(sweep(make(), loaders(config).train, config))


def test_the_rates_grow_by_one_factor() -> None:
    rates = sweep_rates(CONFIG, 1000)
    assert (len(rates), rates[0], rates[-1]) == (100, pytest.approx(1e-5), pytest.approx(10))
    assert rates[34] / rates[33] == pytest.approx(rates[99] / rates[98])
    assert sweep_rates(TrainingConfig(optimiser="adamw"), 1000)[0] == pytest.approx(1e-6)


@pytest.mark.parametrize(("steps_in_epoch", "steps"), [(1, 40), (10, 40), (20, 80), (25, 100), (999, 100)])
def test_a_small_set_is_gone_through_fewer_times(steps_in_epoch: int, steps: int) -> None:
    assert len(sweep_rates(CONFIG, steps_in_epoch)) == steps


def test_each_point_has_its_rate_and_equal_settings_give_equal_points(
    network: Callable[..., Any], loaders: Callable[..., Any]
) -> None:
    points = points_of(network, loaders)
    assert [point.rate for point in points] == sweep_rates(CONFIG, 5)[: len(points)]
    assert points == points_of(network, loaders)


def test_the_first_losses_are_those_of_the_run(
    network: Callable[..., Any],
    loaders: Callable[..., Any],
    card: ModelCard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Same batches, augmentation, dropout, optimiser: with the run's rates the sweep is the run."""
    config = TrainingConfig(
        batch_size=8, workers=0, threads=1, epochs=1, schedule="constant", warmup_epochs=0
    )
    augment = AugmentConfig(flip=0.5)
    run = fit(network(dropout=0.5), classification, loaders(config, augment), config, tmp_path, card)
    trained = [event.loss for event in run if isinstance(event, StepEvent)]
    monkeypatch.setattr(rate_sweep, "sweep_rates", lambda *_: [config.peak_rate] * 5)
    monkeypatch.setattr(rate_sweep, "has_risen", lambda *_: False)
    points = sweep(network(dropout=0.5), loaders(config, augment).train, config)
    assert [point.loss for point in points] == trained


def test_the_network_and_the_random_state_stay_as_they_are(
    network: Callable[..., Any], loaders: Callable[..., Any]
) -> None:
    made = network(dropout=0.5)
    made.eval()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    list(sweep(made, loaders(CONFIG).train, CONFIG))
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    assert not made.training
    assert all(parameter.grad is None for parameter in made.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_sweep_that_is_closed_early_puts_the_random_state_back(
    network: Callable[..., Any], loaders: Callable[..., Any]
) -> None:
    made, state = network(dropout=0.5), torch.get_rng_state()
    points = sweep(made, loaders(CONFIG).train, CONFIG)
    assert len(list(islice(points, 3))) == 3
    points.close()
    assert torch.equal(torch.get_rng_state(), state)


def test_it_ends_at_the_first_point_where_the_curve_has_risen(
    network: Callable[..., Any], loaders: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    steep = [10.0 ** (-4 + step / 10) for step in range(80)]
    monkeypatch.setattr(rate_sweep, "sweep_rates", lambda *_: steep)
    points = points_of(network, loaders)
    rates, losses = [point.rate for point in points], [point.loss for point in points]
    assert len(points) < 80
    assert has_risen(rates, losses)
    assert not has_risen(rates[:-1], losses[:-1])


def test_a_loss_of_nan_is_the_last_point(
    network: Callable[..., Any], loaders: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_sweep, "sweep_rates", lambda *_: [1e30] * 9)
    points = points_of(lambda: network(norm=False), loaders)
    assert 1 < len(points) < 9
    assert not math.isfinite(points[-1].loss)
    assert all(math.isfinite(point.loss) for point in points[:-1])


def test_a_batch_in_parts_gives_the_whole_batchs_loss(
    network: Callable[..., Any], loaders: Callable[..., Any]
) -> None:
    parts = TrainingConfig(batch_size=8, workers=0, threads=1, accumulate=2, precision="fp32")
    whole = points_of(lambda: network(norm=False), loaders)
    found = points_of(lambda: network(norm=False), loaders, parts)
    assert [point.loss for point in found[:20]] == pytest.approx(
        [point.loss for point in whole[:20]], rel=1e-4
    )
