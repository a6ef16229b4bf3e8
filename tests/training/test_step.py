"""What one optimiser step does where the memory is too small for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from striate.errors import EnvironmentProblem
from striate.modelfile import ModelCard, read_tensors
from striate.structures import Batch
from striate.tasks import classification
from striate.training.checkpoints import find_newest
from striate.training.config import TrainingConfig
from striate.training.estimate import try_steps
from striate.training.events import Event, NoteEvent
from striate.training.fit import Start, fit
from striate.training.step import Step, is_out_of_memory

SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 12, "workers": 0, "precision": "fp32"}


@pytest.fixture
def train(
    network: Callable[..., Any], loaders: Callable[..., Any], card: ModelCard, tmp_path: Path
) -> Callable[..., list[Event]]:
    """Trains, or goes on, in the folder `name`; gives the events."""

    def run(name: str, **settings: Any) -> list[Event]:
        config = TrainingConfig(**{**SETTINGS, **settings})
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        module, start = network(dropout=0.3), Start(find_newest(folder).checkpoint)
        return list(fit(module, classification, loaders(config), config, folder, card, start))

    return run


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many pictures fit the memory at a time."""
    forward = Step.forward

    def limit(pictures: int) -> None:
        def limited(self: Step, batch: Batch[Tensor]) -> dict[str, Tensor]:
            found = forward(self, batch)  # random numbers are drawn before the memory is full
            if len(batch) > pictures:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate ...")
            return found

        monkeypatch.setattr(Step, "forward", limited)

    return limit


def test_a_batch_that_does_not_fit_goes_in_parts_from_then_on_and_gives_the_bits_of_those_parts(
    train: Callable[..., list[Event]], memory: Callable[[int], None], tmp_path: Path
) -> None:
    train("asked", accumulate=4)
    memory(3)
    notes = [event.text for event in train("forced") if isinstance(event, NoteEvent)]
    assert notes == ["the memory is too small for a whole batch: 3 pictures at a time now"]
    asked, forced = (read_tensors(tmp_path / name / "last.safetensors") for name in ("asked", "forced"))
    for name, array in asked.items():
        # Statistics that are measured in the step that failed stay measured.
        if "running" not in name and "tracked" not in name:
            assert (forced[name] == array).all()


def test_a_resumed_run_keeps_its_parts(
    train: Callable[..., list[Event]], memory: Callable[[int], None], tmp_path: Path
) -> None:
    memory(6)
    train("run")
    newest = find_newest(tmp_path / "run").checkpoint
    assert newest is not None
    assert newest.state.progress.parts == 2
    assert not [event for event in train("run") if isinstance(event, NoteEvent)]


def test_two_pictures_that_do_not_fit_are_an_error_with_a_way_out(
    train: Callable[..., list[Event]], memory: Callable[[int], None]
) -> None:
    memory(1)
    with pytest.raises(EnvironmentProblem, match=r"on 3 pictures at a time does not fit.*smaller --size"):
        train("run")


def test_another_error_is_not_taken_for_one_of_memory(
    train: Callable[..., list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Step, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        train("run")


def test_the_trial_before_a_run_finds_the_parts(
    network: Callable[..., Any], loaders: Callable[..., Any], memory: Callable[[int], None]
) -> None:
    memory(3)
    config = TrainingConfig(**SETTINGS)
    assert try_steps(network(), loaders(config).train, config).parts == 4


def test_torchs_own_refusal_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_step_moves_each_stage_by_its_share_of_the_rate(
    train: Callable[..., list[Event]], network: Callable[..., Any], tmp_path: Path
) -> None:
    plain: dict[str, Any] = {"epochs": 1, "batch_size": 36, "momentum": 0.0, "weight_decay": 0.0}
    train("whole", **plain)
    train("halves", **plain, layer_decay=0.5)
    began = {name: weight.detach().numpy() for name, weight in network().named_parameters()}
    ends = [read_tensors(tmp_path / name / "last.safetensors") for name in ("whole", "halves")]
    for name, share in (("convolution.weight", 0.5), ("norm.bias", 0.5), ("head.weight", 1.0)):
        whole, part = (end[name] - began[name] for end in ends)
        assert abs(whole).max() > 0
        np.testing.assert_allclose(part, share * whole, rtol=1e-3, atol=1e-6)
