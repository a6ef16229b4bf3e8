"""How maps and filters lie in memory: chosen by the clock once, and kept."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from striate.modelfile import ModelCard, read_tensors
from striate.tasks import classification
from striate.training import estimate
from striate.training.checkpoints import find_newest
from striate.training.config import TrainingConfig
from striate.training.estimate import try_steps
from striate.training.events import CheckpointEvent, StepEvent
from striate.training.fit import Start, fit
from striate.training.layout import Layout


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Layout]]:
    """Sets what a step takes in each layout; gives the layouts that were tried, as they are."""

    def set_pace(**seconds: float) -> list[Layout]:
        tried: list[Layout] = []

        def take(_: object, __: object, layout: Layout) -> float:
            tried.append(layout)
            return seconds[layout]

        monkeypatch.setattr(estimate._Steps, "take", take)
        return tried

    return set_pace


class Window(nn.Module):
    """As the network's convolution in shape only."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps[:, :, 1:-1, 1:-1].expand(-1, 4, -1, -1)


@pytest.fixture(autouse=True)
def _large_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "is_small_step", lambda *_: False)


def choose(network: Any, loaders: Callable[..., Any], known: Layout | None = None, **settings: Any) -> Layout:
    config = TrainingConfig(batch_size=12, workers=0, **settings)
    return try_steps(network, loaders(config).train, config, known).layout


def test_the_faster_layout_is_taken_where_the_difference_is_no_noise(
    network: Callable[..., Any], loaders: Callable[..., Any], pace: Callable[..., list[Layout]]
) -> None:
    pace(channels_last=1.0, contiguous=0.8)
    assert choose(network(), loaders) == "contiguous"
    pace(channels_last=1.0, contiguous=0.95)
    assert choose(network(), loaders) == "channels_last"
    pace(channels_last=1.0, contiguous=2.0)
    assert choose(network(), loaders) == "channels_last"


def test_nothing_is_compared_where_the_layout_is_settled(
    network: Callable[..., Any], loaders: Callable[..., Any], pace: Callable[..., list[Layout]]
) -> None:
    tried = pace(channels_last=1.0, contiguous=0.5)
    assert choose(network(), loaders, deterministic=True) == "channels_last"
    assert choose(network(), loaders, layout="channels_last") == "channels_last"
    assert set(tried) == {"channels_last"}
    assert choose(network(), loaders, known="contiguous", deterministic=True) == "contiguous"
    assert choose(network(), loaders, layout="contiguous", deterministic=True) == "contiguous"


def test_a_small_step_is_not_left_to_the_clock(
    network: Callable[..., Any],
    loaders: Callable[..., Any],
    pace: Callable[..., list[Layout]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace(channels_last=1.0, contiguous=0.5)
    monkeypatch.undo()
    tried = pace(channels_last=1.0, contiguous=0.5)
    assert choose(network(), loaders) == "channels_last"
    assert set(tried) == {"channels_last"}


def test_a_network_without_convolutions_has_nothing_to_choose(
    network: Callable[..., Any], loaders: Callable[..., Any], pace: Callable[..., list[Layout]]
) -> None:
    tried = pace(channels_last=1.0, contiguous=0.5)
    module = network()
    module.convolution = Window()
    assert choose(module, loaders) == "channels_last"
    assert set(tried) == {"channels_last"}


def test_the_choice_is_in_a_checkpoint_before_the_first_step_and_the_resumed_run_keeps_it(
    network: Callable[..., Any], loaders: Callable[..., Any], card: ModelCard, tmp_path: Path
) -> None:
    config = TrainingConfig(epochs=1, batch_size=12, workers=0)

    def run(start: Start) -> Any:
        module = network()
        return module, fit(module, classification, loaders(config), config, tmp_path, card, start)

    _, events = run(Start(layout="contiguous"))
    first = list(islice(events, 2))
    assert [type(event) for event in first] == [CheckpointEvent, StepEvent]
    checkpoint = find_newest(tmp_path).checkpoint
    assert checkpoint is not None
    assert (checkpoint.state.progress.step, checkpoint.state.progress.layout) == (0, "contiguous")
    module, events = run(Start(checkpoint))
    list(events)
    assert module.convolution.weight.is_contiguous()


def test_both_layouts_learn_the_same(
    network: Callable[..., Any], loaders: Callable[..., Any], card: ModelCard, tmp_path: Path
) -> None:
    config = TrainingConfig(epochs=2, batch_size=12, workers=0, precision="fp32")
    layouts: tuple[Layout, ...] = ("channels_last", "contiguous")
    for layout in layouts:
        (tmp_path / layout).mkdir()
        start = Start(layout=layout)
        list(fit(network(), classification, loaders(config), config, tmp_path / layout, card, start))
    one, two = (read_tensors(tmp_path / layout / "last.safetensors") for layout in layouts)
    for name, array in one.items():
        assert abs(array - two[name]).max() < 1e-5
