"""A run that was stopped, in whatever way, ends as if it had not been."""

import errno
import hashlib
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from striate.api.runfiles import EventLog
from striate.data.augment import AugmentConfig
from striate.data.loader import TrainLoader
from striate.errors import DiskFull, Interrupted, ModelError, NotFiniteError
from striate.files import TEMPORARY
from striate.modelfile import ModelCard, read_card, read_tensors
from striate.tasks import classification
from striate.training import fit as fitting
from striate.training.checkpoints import Checkpoint, Found, State, find_newest
from striate.training.config import TrainingConfig
from striate.training.events import EvalEvent, Event, StepEvent
from striate.training.fit import Start, fit
from striate.training.step import Updates

ADAMW = {"optimiser": "adamw", "learning_rate": 0.02, "ema": 0.9, "workers": 2}
SGD = {"optimiser": "sgd", "learning_rate": 0.1, "layer_decay": 0.5, "workers": 0}
EVERY_STEP = 1e-9  # minutes between checkpoints
CALLS = (
    *((os, name) for name in ("open", "mkdir", "write", "fsync", "replace", "unlink", "rmdir")),
    (Updates, "take"),
)


class Killed(BaseException):
    """The process is gone: nothing it still tries has an effect."""


@pytest.fixture
def train(
    network: Callable[..., Any], loaders: Callable[..., Any], card: ModelCard, tmp_path: Path
) -> Callable[..., Any]:
    """Trains, or goes on, in a folder with a log; gives the events as they come."""

    def start(
        name: str, parts: dict[str, int] | None = None, norm: bool = True, **settings: Any
    ) -> Iterator[Event]:
        defaults = {"epochs": 3, "batch_size": 12, "precision": "fp32", "deterministic": True}
        config = TrainingConfig(**{**defaults, "checkpoint_minutes": EVERY_STEP, **settings})
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        data = loaders(config, AugmentConfig(flip=0.5, pad=1, mixup=0.2), **(parts or {}))
        module = network(dropout=0.3, norm=norm)
        checkpoint = find_newest(folder).checkpoint
        position = 0 if checkpoint is None else checkpoint.state.log_position
        torch.manual_seed(99)  # another process has drawn other numbers
        with (
            EventLog(folder, position) as log,
            closing(fit(module, classification, data, config, folder, card, Start(checkpoint))) as events,
        ):
            for event in events:
                log.write(event)
                yield event

    return start


def outcome(folder: Path) -> tuple[str, ...]:
    """The weights of both model files and the rows of the log, but for times and paths."""
    digests = []
    for name in ("model.safetensors", "last.safetensors"):
        digest = hashlib.sha256()
        for key, array in sorted(read_tensors(folder / name).items()):
            digest.update(key.encode() + array.tobytes())
        digests.append(digest.hexdigest())
    rows = []
    for line in (folder / "events.jsonl").read_text().splitlines():
        row = json.loads(line)
        for passing in ("time", "images_per_second", "seconds"):
            row.pop(passing, None)
        row["path"] = Path(row.get("path", "")).name
        rows.append(json.dumps(row, sort_keys=True))
    return (*digests, *rows)


def newest(folder: Path) -> Checkpoint:
    found = find_newest(folder).checkpoint
    assert found is not None
    return found


def kill_at(call: int, patch: pytest.MonkeyPatch) -> None:
    """From call number `call` of the system or of an update on, this process is dead."""
    count = 0

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*given: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count >= call:
                raise Killed
            return real(*given, **named)

        return inner

    for owner, name in CALLS:
        patch.setattr(owner, name, wrapped(getattr(owner, name)))


def ends(events: Iterator[Event]) -> bool:
    """Whether a run came to its end before it was killed."""
    try:
        list(events)
    except Killed:
        return False
    return True


@pytest.mark.parametrize("settings", [ADAMW, SGD], ids=["adamw", "sgd"])
def test_a_run_killed_at_random_moments_ends_with_the_bits_and_the_log_of_an_undisturbed_one(
    train: Any, tmp_path: Path, settings: dict[str, Any]
) -> None:
    list(train("whole", **settings))
    chance, kills, inside_saves = random.Random(5), 0, 0
    for attempt in range(100):
        done = False
        while not done:
            with pytest.MonkeyPatch.context() as patch:
                kill_at(chance.randint(1, 120), patch)
                done = ends(train(f"killed{attempt}", **settings))
            kills += not done
            inside_saves += bool(list((tmp_path / f"killed{attempt}").rglob(f"{TEMPORARY}*/*")))
        assert outcome(tmp_path / f"killed{attempt}") == outcome(tmp_path / "whole")
        assert not list((tmp_path / f"killed{attempt}").rglob(f"{TEMPORARY}*"))
        if kills >= 20:
            break
    assert kills >= 20
    assert inside_saves >= 3


def test_a_save_changes_nothing(train: Any, tmp_path: Path) -> None:
    list(train("often", **ADAMW))
    list(train("seldom", **{**ADAMW, "checkpoint_minutes": 0}))
    assert outcome(tmp_path / "often") == outcome(tmp_path / "seldom")


def signal_at(kind: type, events: Iterator[Event], number: int = signal.SIGINT) -> None:
    """Send this process a signal at each event of a kind."""
    for event in events:
        if isinstance(event, kind):
            os.kill(os.getpid(), number)


@pytest.mark.parametrize("settings", [ADAMW, SGD], ids=["adamw", "sgd"])
def test_a_run_stopped_by_a_signal_after_every_step_ends_the_same(
    train: Any, tmp_path: Path, settings: dict[str, Any]
) -> None:
    # Without timed checkpoints: what the signal saves is all there is.
    settings = {**settings, "checkpoint_minutes": 0}
    list(train("whole", **settings))
    for step in range(1, 10):
        with pytest.raises(Interrupted, match=f"after step {step}, ") as caught:
            signal_at(StepEvent, train("stopped", **settings), signal.SIGTERM)
        assert caught.value.exit_code == 143
        assert caught.value.fix == f"striate train --resume {tmp_path / 'stopped'}"
    list(train("stopped", **settings))
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def test_a_run_stopped_in_an_evaluation_does_it_after_the_resumption(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(train("whole", **ADAMW))
    results = classification.results

    def interrupted(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return results(*given)

    for _ in range(2):  # the second time nothing is trained before it
        with monkeypatch.context() as patch:
            patch.setattr(classification, "results", interrupted)
            with pytest.raises(Interrupted, match="after step 3, with 0 of 3 epochs done"):
                # Two batches to evaluate; the signal comes in the first.
                list(train("stopped", **ADAMW, parts={"val": 24}))
        assert newest(tmp_path / "stopped").state.progress.batches == 3
    list(train("stopped", **ADAMW, parts={"val": 24}))
    list(train("same", **ADAMW, parts={"val": 24}))
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "same")


def test_a_signal_in_a_save_lets_it_end_and_another_save_is_not_needed(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(train("whole", **ADAMW))
    replace_, signalled = os.replace, []

    def interrupted(source: Any, target: Any) -> None:
        if Path(target).name == "0000000002":
            os.kill(os.getpid(), signal.SIGINT)
            signalled.append(target)
        replace_(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(Interrupted, match="after step 2"):
        list(train("stopped", **ADAMW))
    assert len(signalled) == 1
    assert newest(tmp_path / "stopped").path.name == "0000000002"
    list(train("stopped", **ADAMW))
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def signal_while_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Ctrl-C come while a batch is loaded to train on."""
    epoch = TrainLoader.epoch

    def interrupted(self: TrainLoader, number: int, skip: int = 0) -> Iterator[Any]:
        for batch in epoch(self, number, skip):
            os.kill(os.getpid(), signal.SIGINT)
            yield batch

    monkeypatch.setattr(TrainLoader, "epoch", interrupted)


def test_a_signal_while_the_first_batch_loads_stops_before_it_is_trained_on(
    train: Any, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        signal_while_loading(patch)
        with pytest.raises(Interrupted, match="after step 0"):
            list(train("stopped", **SGD))
    list(train("stopped", **SGD))
    list(train("whole", **SGD))
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def without(piece: str, found: Found, patch: pytest.MonkeyPatch) -> Found:
    """`found` with one piece of its state as it is in a new run."""
    checkpoint = found.checkpoint
    assert checkpoint is not None
    if "/" not in piece:
        plain = msgspec.to_builtins(checkpoint.state)
        (plain if piece in plain else plain["progress"])[piece] = None if piece == "best" else 0
        return replace(found, checkpoint=replace(checkpoint, state=msgspec.convert(plain, State)))
    tensors = checkpoint.tensors()
    for name in tensors:
        if name.startswith("random/") and piece == "random/":
            tensors[name] = torch.Generator().manual_seed(1).get_state().numpy()
        elif name.startswith("average/") and piece == "average/":
            tensors[name] = tensors["weights/" + name.removeprefix("average/")]
        elif name.startswith(piece):
            tensors[name] = np.zeros_like(tensors[name])
    patch.setattr(Checkpoint, "tensors", lambda _: tensors)
    return found


def score_by_epoch(scores: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the evaluation after epoch n find `scores[n - 1]`."""
    real = fitting.evaluate

    def scored(*given: Any) -> Any:
        measured = real(*given)
        epoch = int(given[-1].removeprefix("epoch "))
        return measured and replace(measured, metrics={"top1": scores[epoch - 1]})

    monkeypatch.setattr(fitting, "evaluate", scored)


@pytest.mark.parametrize(
    "piece",
    [
        "nothing/", "random/", "average/", "weights/", "optimiser/exp_avg/", "optimiser/exp_avg_sq/",
        "optimiser/step/", "average_updates", "batches", "best",
    ],
)  # fmt: skip
def test_each_piece_of_the_state_is_needed(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: str
) -> None:
    settings = {**ADAMW, "epochs": 4}
    score_by_epoch([0.5, 0.9, 0.6, 0.7], monkeypatch)
    list(train("whole", **settings))
    for event in train("stopped", **settings):
        if isinstance(event, StepEvent) and event.step == 8:
            break
    real = find_newest
    monkeypatch.setitem(globals(), "find_newest", lambda folder: without(piece, real(folder), monkeypatch))
    list(train("stopped", **settings))
    assert (outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")) == (piece == "nothing/")


def test_patience_counts_on_over_an_interruption(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_by_epoch([0.5, 0.7, 0.6, 0.6, 0.9], monkeypatch)
    list(train("whole", **SGD, epochs=5, patience=2))
    for event in train("stopped", **SGD, epochs=5, patience=2):
        if isinstance(event, StepEvent) and event.epoch == 4:
            break
    list(train("stopped", **SGD, epochs=5, patience=2))
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")
    assert '"epoch": 4, "path": "", "reason": "patience"' in outcome(tmp_path / "whole")[-1]


def test_a_finished_training_tells_its_end_once_more_and_changes_nothing(train: Any, tmp_path: Path) -> None:
    list(train("run", **ADAMW))
    before = outcome(tmp_path / "run")
    told = list(train("run", **ADAMW))
    assert [event.to_dict() for event in told] == [{"type": "stop", "reason": "finished", "epoch": 3}]
    assert outcome(tmp_path / "run") == before


def test_the_last_file_keeps_its_scores_when_a_run_is_stopped_again_before_its_next_step(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted, match="after step 3, with 1 of 3 epochs done"):
        signal_at(EvalEvent, train("run", **SGD))
    metrics = read_card(tmp_path / "run" / "last.safetensors").metrics
    signal_while_loading(monkeypatch)
    with pytest.raises(Interrupted, match="after step 3, with 1 of 3 epochs done"):
        list(train("run", **SGD))
    assert metrics
    assert read_card(tmp_path / "run" / "last.safetensors").metrics == metrics


def test_weights_that_became_nan_are_in_no_checkpoint(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = fitting._Run._update

    def broken(run: Any, *given: Any) -> Any:
        losses = update(run, *given)
        if run.progress.step == 2:
            with torch.no_grad():
                run.average.network.head.bias[0] = float("nan")
        return losses

    monkeypatch.setattr(fitting._Run, "_update", broken)
    with pytest.raises(NotFiniteError, match=r"average/head\.bias holds NaN or infinity"):
        list(train("run", **ADAMW))
    assert newest(tmp_path / "run").state.progress.step == 2


def test_another_networks_checkpoint_is_refused(train: Any, tmp_path: Path) -> None:
    next(event for event in train("run", **SGD) if isinstance(event, StepEvent) and event.step == 2)
    with pytest.raises(ModelError, match=r"0000000001: its tensors are another network's"):
        list(train("run", **SGD, norm=False))


def test_a_disk_that_fills_while_training_leaves_the_checkpoint_before(train: Any, tmp_path: Path) -> None:
    real, syncs = os.fsync, []

    def full(handle: int) -> None:
        syncs.append(handle)
        if len(syncs) > 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFull, match="no space left"):
            list(train("run", **ADAMW))
    assert len(syncs) > 40
    assert not list((tmp_path / "run").rglob(f"{TEMPORARY}*"))
    assert newest(tmp_path / "run").state.progress.step > 0
    list(train("run", **ADAMW))
    list(train("whole", **ADAMW))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_the_seconds_before_an_interruption_count(train: Any, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        signal_at(StepEvent, train("run", **SGD))
    before = newest(tmp_path / "run").state.progress.seconds
    assert before > 0
    list(train("run", **SGD))
    assert newest(tmp_path / "run").state.progress.seconds > before
