"""The training loop."""

import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from striate import models
from striate.data.augment import AugmentConfig
from striate.data.builtin import digits
from striate.data.split import SplitConfig, complete
from striate.errors import Interrupted, NotFiniteError, UsageError
from striate.modelfile import ModelCard, read_card, read_tensors
from striate.models.network import Network
from striate.tasks import classification
from striate.training.config import TrainingConfig
from striate.training.events import CheckpointEvent, EvalEvent, Event, StepEvent, StopEvent
from striate.training.fit import fit
from striate.training.loaders import Loaders, make_loaders

MakeNetwork = Callable[..., Any]
MakeLoaders = Callable[..., Loaders]


@pytest.fixture
def train(
    network: MakeNetwork, loaders: MakeLoaders, card: ModelCard, tmp_path: Path
) -> Callable[..., tuple[Network, Iterator[Event]]]:
    """Starts a small training; gives the network and its events."""

    def start(
        folder: str = "run",
        options: dict[str, Any] | None = None,
        augment: AugmentConfig | None = None,
        parts: dict[str, int] | None = None,
        **settings: Any,
    ) -> tuple[Network, Iterator[Event]]:
        defaults = {"epochs": 2, "batch_size": 12, "workers": 0, "precision": "fp32", "learning_rate": 0.1}
        config = TrainingConfig(**{**defaults, **settings})
        module = network(**(options or {}))
        data = loaders(config, augment, **(parts or {}))
        return module, fit(module, classification, data, config, tmp_path / folder, card)

    return start


def kinds(events: list[Event]) -> list[str]:
    return [event.to_dict()["type"] for event in events]


def watch(events: Iterator[Event], see: Callable[[Event], None]) -> None:
    for event in events:
        see(event)


def weights_hash(path: Path) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(read_tensors(path).items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def test_the_events_of_a_run_come_in_order_and_are_json(train: Any, tmp_path: Path) -> None:
    _, events = train()
    told = list(events)
    epoch = ["step", "step", "step", "eval", "checkpoint"]
    assert [kind for kind in kinds(told) if kind != "checkpoint"] == [*epoch[:4], *epoch[:4], "stop"]
    assert kinds(told)[:6] == ["checkpoint", *epoch]
    steps = [event for event in told if isinstance(event, StepEvent)]
    assert [event.step for event in steps] == [1, 2, 3, 4, 5, 6]
    assert [event.epoch for event in steps] == [1, 1, 1, 2, 2, 2]
    assert {event.steps_in_epoch for event in steps} == {3}
    assert all(event.images_per_second > 0 for event in steps)
    assert steps[0].losses == {"cross_entropy": steps[0].loss}
    assert told[-1] == StopEvent("finished", 2)
    lines = [json.loads(json.dumps(event.to_dict())) for event in told]
    assert lines[0] == {
        "type": "checkpoint",
        "path": str(tmp_path / "run" / "last.safetensors"),
        "epoch": 0,
        "best": False,
    }


def test_it_learns_and_the_files_hold_what_was_measured(train: Any, tmp_path: Path) -> None:
    module, events = train(epochs=6)
    measured = [event for event in events if isinstance(event, EvalEvent)]
    best = [event for event in measured if event.best][-1]
    assert best.metrics["top1"] == 1.0
    assert measured[0].best
    card = read_card(tmp_path / "run" / "model.safetensors")
    assert card.metrics == {**best.metrics, "loss": best.loss}
    last = read_card(tmp_path / "run" / "last.safetensors")
    assert last.metrics == {**measured[-1].metrics, "loss": measured[-1].loss}
    tensors = read_tensors(tmp_path / "run" / "last.safetensors")
    np.testing.assert_array_equal(tensors["head.weight"], module.head.weight.detach().numpy())


def test_the_measured_loss_and_score_are_those_of_the_saved_weights(
    train: Any, network: MakeNetwork, loaders: MakeLoaders, tmp_path: Path
) -> None:
    _, events = train(ema=0.9)
    measured = [event for event in events if isinstance(event, EvalEvent)][-1]
    module = network().eval()
    tensors = read_tensors(tmp_path / "run" / "last.safetensors")
    module.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    val = loaders(TrainingConfig(workers=0)).val
    ((_, batch, truths),) = list(val)
    with torch.inference_mode():
        raw = module(batch.images)
        loss = module.loss(raw, batch.targets)["cross_entropy"]
    assert measured.loss == pytest.approx(float(loss), rel=1e-5)
    assert measured.metrics["top1"] == pytest.approx(
        float((raw.logits.argmax(1).numpy() == np.array(truths)).mean())
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "fp32"},
        {"precision": "bf16", "deterministic": True},
        {"optimiser": "adamw", "learning_rate": 0.01, "ema": 0.9, "clip_norm": 1.0, "accumulate": 2},
    ],
    ids=["fp32", "bf16", "everything"],
)
def test_equal_seeds_give_equal_bits_whatever_the_workers(
    train: Any, tmp_path: Path, settings: dict[str, Any]
) -> None:
    found = set()
    for number, workers in enumerate((0, 2, 4, 0)):
        augment = AugmentConfig(flip=0.5, pad=1, mixup=0.2)
        _, events = train(f"run{number}", {"dropout": 0.3}, augment, workers=workers, **settings)
        torch.manual_seed(number)  # what was drawn before does not matter
        list(events)
        found.add(weights_hash(tmp_path / f"run{number}" / "last.safetensors"))
    assert len(found) == 1
    list(train("other", {"dropout": 0.3}, workers=0, seed=1, **settings)[1])
    assert weights_hash(tmp_path / "other" / "last.safetensors") not in found


def test_accumulated_parts_equal_the_whole_batch(train: Any) -> None:
    weights = []
    for accumulate in (1, 2, 5):
        # 34 pictures: batches of 12, 12 and 10, which 5 does not divide evenly.
        module, events = train(
            "run",
            {"norm": False},
            parts={"train": 34},
            accumulate=accumulate,
            label_smoothing=0.1,
            balance="inverse",
        )
        losses = [event.loss for event in events if isinstance(event, StepEvent)]
        weights.append((module.head.weight.detach().clone(), losses))
    for weight, losses in weights[1:]:
        torch.testing.assert_close(weight, weights[0][0], rtol=1e-4, atol=1e-6)
        assert losses == pytest.approx(weights[0][1], rel=1e-4)


def test_a_clipped_gradient_moves_the_weights_no_further_than_the_rate_allows(train: Any) -> None:
    settings = {
        "epochs": 1,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "schedule": "constant",
        "warmup_epochs": 0.0,
    }
    module, events = train(options={"norm": False}, clip_norm=0.01, **settings)
    start = torch.cat([weight.detach().flatten() for weight in module.parameters()]).clone()
    next(event for event in events if isinstance(event, StepEvent))
    moved = torch.cat([weight.detach().flatten() for weight in module.parameters()]) - start
    assert float(moved.norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_the_moving_average_is_what_is_measured_and_saved(train: Any, tmp_path: Path) -> None:
    module, events = train(ema=0.9)
    list(events)
    saved = read_tensors(tmp_path / "run" / "last.safetensors")
    assert (saved["head.weight"] != module.head.weight.detach().numpy()).any()
    np.testing.assert_array_equal(saved["norm.running_mean"], module.norm.running_mean.numpy())


def test_ties_of_the_score_go_to_the_lower_loss(train: Any) -> None:
    _, events = train(epochs=8)
    measured = [event for event in events if isinstance(event, EvalEvent)]
    best: tuple[float, float] | None = None
    for event in measured:
        rank = (event.metrics["top1"], -event.loss)
        assert event.best == (best is None or rank >= best)
        best = rank if event.best else best
    assert sum(event.metrics["top1"] == 1.0 for event in measured) > 1


def test_the_later_of_two_equal_evaluations_is_the_best(train: Any) -> None:
    # So small a rate changes no weight, hence no score and no loss.
    _, events = train(options={"norm": False}, learning_rate=1e-30, epochs=3)
    measured = [event for event in events if isinstance(event, EvalEvent)]
    assert len({event.loss for event in measured}) == 1
    assert [event.best for event in measured] == [True, True, True]


def test_patience_stops_a_run_that_no_longer_gets_better(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.7, 0.6, 0.6, 0.9])
    monkeypatch.setattr(
        classification.ClassificationMetric,
        "compute",
        lambda _: type("Scores", (), {"values": {"top1": next(scores)}}),
    )
    _, events = train(epochs=5, patience=2)
    told = list(events)
    assert told[-1] == StopEvent("patience", 4)
    best = [event.epoch for event in told if isinstance(event, CheckpointEvent) and event.best]
    assert best == [1, 2]


def test_evaluations_come_every_so_many_epochs_and_at_the_end(train: Any, tmp_path: Path) -> None:
    _, events = train(epochs=5, eval_every=2)
    told = []
    for event in events:
        told.append(event)
        if isinstance(event, CheckpointEvent) and event.epoch == 3:
            # Nothing was measured after the third epoch, so the file claims nothing.
            assert read_card(event.path).metrics == {}
    assert [event.epoch for event in told if isinstance(event, EvalEvent)] == [2, 4, 5]


def test_without_val_pictures_the_best_is_the_last(train: Any, tmp_path: Path) -> None:
    _, events = train(parts={"val": 0})
    told = list(events)
    assert not [event for event in told if isinstance(event, EvalEvent)]
    run = tmp_path / "run"
    assert weights_hash(run / "model.safetensors") == weights_hash(run / "last.safetensors")
    with pytest.raises(UsageError, match=r"training\.patience"):
        next(train(parts={"val": 0}, patience=2)[1])


def test_the_learning_rate_of_each_step_is_the_schedules(train: Any) -> None:
    _, events = train(epochs=5, schedule="step", step_epochs=(2,), warmup_epochs=0.0)
    rates = [event.learning_rate for event in events if isinstance(event, StepEvent)]
    assert rates == pytest.approx([0.1] * 6 + [0.01] * 9)


def poison(module: Any, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its call number `at`, counted from 1, the loss of `module` is NaN."""
    calls, loss = [], module.loss

    def broken(raw: Any, targets: Any) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = loss(raw, targets)
        calls.append(1)
        return {name: term * float("nan") for name, term in terms.items()} if len(calls) >= at else terms

    monkeypatch.setattr(module, "loss", broken)


def test_a_loss_that_is_nan_names_step_epoch_rate_and_pictures_and_spares_the_files(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, events = train(epochs=3)
    poison(module, 4 + 1, monkeypatch)  # three steps, one evaluation, then the first step of epoch 2
    before: dict[str, str] = {}

    def note(event: Event) -> None:
        if isinstance(event, CheckpointEvent):
            before[event.path.name] = weights_hash(event.path)

    with pytest.raises(NotFiniteError) as caught:
        watch(events, note)
    message = str(caught.value)
    assert message.startswith("step 4, epoch 2: the loss cross_entropy is nan, at learning rate ")
    assert message.count("shade[") == 8
    assert " and 4 more" in message
    assert caught.value.__notes__[0].count("shade[") == 12
    assert before == {name: weights_hash(tmp_path / "run" / name) for name in before}
    assert set(before) == {"last.safetensors", "model.safetensors"}


def test_a_run_that_fails_in_its_first_step_leaves_a_finite_file(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, events = train()
    poison(module, 1, monkeypatch)
    with pytest.raises(NotFiniteError, match="step 1, epoch 1"):
        list(events)
    tensors = read_tensors(tmp_path / "run" / "last.safetensors")
    assert all(np.isfinite(array).all() for array in tensors.values())


def test_weights_that_became_nan_are_told_by_epoch_and_not_by_picture(train: Any) -> None:
    module, events = train()
    for event in events:
        if isinstance(event, StepEvent) and event.step == 3:
            with torch.no_grad():
                module.head.bias[0] = float("nan")
            break
    with pytest.raises(NotFiniteError, match="epoch 1: the loss on the val part is nan"):
        list(events)


def test_a_loss_that_is_nan_in_evaluation_is_an_error(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module, events = train()
    poison(module, 4, monkeypatch)
    with pytest.raises(NotFiniteError, match="epoch 1: the loss on the val part is nan"):
        list(events)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_ends_the_run_after_the_step_in_hand_with_usable_files(
    train: Any, tmp_path: Path, number: int, code: int, workers: int
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    module, events = train(epochs=50, workers=workers)
    told = []

    def interrupt(event: Event) -> None:
        told.append(event)
        if isinstance(event, StepEvent) and event.step == 2:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match="after step 2, with 0 of 50 epochs done") as caught:
        watch(events, interrupt)
    assert caught.value.exit_code == code
    assert max(event.step for event in told if isinstance(event, StepEvent)) == 2
    for name in ("last.safetensors", "model.safetensors"):
        tensors = read_tensors(tmp_path / "run" / name)
        np.testing.assert_array_equal(tensors["head.weight"], module.head.weight.detach().numpy())
        assert read_card(tmp_path / "run" / name).metrics == {}
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("striate-loader")]


def test_a_signal_during_evaluation_saves_and_keeps_the_best_file_of_before(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two batches to evaluate; the signal comes in the first of the second evaluation.
    _, events = train(epochs=50, parts={"val": 24})
    best: list[str] = []
    results = classification.results

    def interrupted_results(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return results(*given)

    def arm(event: Event) -> None:
        if isinstance(event, CheckpointEvent) and event.best and not best:
            best.append(weights_hash(event.path))
            monkeypatch.setattr(classification, "results", interrupted_results)

    with pytest.raises(Interrupted, match="after step 6, with 1 of 50 epochs done"):
        watch(events, arm)
    assert weights_hash(tmp_path / "run" / "model.safetensors") == best[0]
    assert weights_hash(tmp_path / "run" / "last.safetensors") != best[0]


def test_closing_the_events_early_leaves_a_usable_model(train: Any, tmp_path: Path) -> None:
    handlers = signal.getsignal(signal.SIGINT)
    module, events = train(epochs=50, workers=2)
    next(event for event in events if isinstance(event, StepEvent) and event.step == 2)
    events.close()
    for name in ("last.safetensors", "model.safetensors"):
        tensors = read_tensors(tmp_path / "run" / name)
        np.testing.assert_array_equal(tensors["head.weight"], module.head.weight.detach().numpy())
    assert signal.getsignal(signal.SIGINT) == handlers


def test_torchs_switches_are_put_back(train: Any) -> None:
    list(train(deterministic=True, epochs=1)[1])
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark


def test_frozen_weights_and_their_files_stay(train: Any, tmp_path: Path) -> None:
    module, events = train(clip_norm=1.0)
    module.convolution.weight.requires_grad_(False)
    before = module.convolution.weight.detach().clone()
    list(events)
    np.testing.assert_array_equal(
        read_tensors(tmp_path / "run" / "last.safetensors")["convolution.weight"], before.numpy()
    )


def test_the_network_is_trained_in_channels_last(train: Any) -> None:
    module, events = train()
    next(events)
    assert module.convolution.weight.is_contiguous(memory_format=torch.channels_last)
    list(events)


def test_the_network_is_in_train_mode_again_after_an_evaluation(train: Any) -> None:
    module, events = train(epochs=3)
    modes = {event.epoch: module.training for event in events if isinstance(event, StepEvent)}
    assert modes == {1: True, 2: True, 3: True}


def test_handwritten_digits_are_learned_to_over_95_percent(tmp_path: Path) -> None:
    dataset = complete(digits.read(), SplitConfig(), None)
    torch.manual_seed(0)
    preprocess = {"size": [8, 8], "fit": "stretch", "color": "gray", "mean": [0.3], "std": [0.35]}
    network = models.create("simple_cnn", classes=dataset.classes, preprocess=preprocess)
    config = TrainingConfig(epochs=8, batch_size=64, learning_rate=0.05, workers=1)
    data = make_loaders(dataset, network.preprocess, config, AugmentConfig(pad=1))
    card = ModelCard("classification", "simple_cnn", "simple_cnn", {}, dataset.classes, network.preprocess)
    list(fit(network, classification, data, config, tmp_path, card))
    assert read_card(tmp_path / "model.safetensors").metrics["top1"] > 0.95
    assert replace(read_card(tmp_path / "model.safetensors"), metrics={}) == card
