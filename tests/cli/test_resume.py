"""`striate train --resume`: what it takes, what it refuses, and a process that is really killed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import striate as package
from striate import api
from striate.errors import EnvironmentProblem, Interrupted, UsageError
from striate.files import TEMPORARY
from striate.tasks import classification

Striate = Callable[..., Any]

SETTINGS = (
    "--model", "simple_cnn", "--deterministic", "--workers", "2", "--batch-size", "4", "--epochs", "6",
    "--set", "network.widths=[4, 8]", "--set", "network.convolutions=[1, 1]", "--set", "network.dropout=0.3",
    "--set", "augment.flip=0.5", "--set", "training.optimiser='adamw'", "--set", "training.ema=0.9",
    "--set", "training.checkpoint_minutes=0.0001", "--set", "training.threads=1",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Relative folders are this file's own."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("resume"))
    yield
    os.chdir(before)


@pytest.fixture(scope="module")
def pictures() -> Path:
    """Three classes of twelve pictures that differ a little."""
    chance = random.Random(0)
    for name, color in (("blue", (60, 60, 180)), ("green", (60, 150, 60)), ("red", (180, 60, 60))):
        Path("pictures", name).mkdir(parents=True)
        for number in range(12):
            shifted = tuple(level + chance.randint(-50, 50) for level in color)
            Image.new("RGB", (12, 12), shifted).save(Path("pictures", name, f"{number:02d}.png"))
    return Path("pictures").resolve()


@pytest.fixture(scope="module")
def whole(pictures: Path) -> Path:
    """A run that nobody disturbed."""
    result = subprocess.run([*command("train", pictures, *SETTINGS, "--out", "whole")], capture_output=True)
    assert result.returncode == 0, result.stderr
    return Path("whole").resolve()


@pytest.fixture
def stopped(pictures: Path, tmp_path: Path) -> Path:
    """A run that was stopped by Ctrl-C after its fifth step."""
    folder = tmp_path / "stopped"
    plan = prepared(pictures, folder)
    with pytest.raises(Interrupted):
        signal_at(5, plan)
    return folder


def prepared(pictures: Path, folder: Path) -> Any:
    from striate.cli.commands.train import command as verb
    from striate.cli.options import layers_of

    with verb.make_context("train", [str(pictures), *SETTINGS]) as context:
        given = dict(context.params)
    known = {name: given[name] for name in ("config", "assignments")}
    flags = {name: given[name] for name in ("deterministic", "workers", "batch_size", "epochs")}
    return api.prepare(pictures, given["model"], out=folder, layers=layers_of(flags=flags, **known))


def signal_at(step: int, plan: Any) -> None:
    for event in plan.events():
        if getattr(event, "step", 0) == step:
            os.kill(os.getpid(), signal.SIGINT)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "striate", *map(str, arguments)]


def rows(run: Path) -> list[dict[str, Any]]:
    """The log but for times, speeds and places."""
    passing = ("time", "images_per_second", "seconds", "path")
    lines = (run / "events.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in passing} for line in lines]


def assert_same(run: Path, whole: Path) -> None:
    for name in ("model.safetensors", "last.safetensors"):
        assert api.hash_of(run / name) == api.hash_of(whole / name)
    assert rows(run) == rows(whole)
    scores = [json.loads((folder / "metrics.json").read_text())["metrics"] for folder in (run, whole)]
    assert scores[0] == scores[1]
    assert not list(run.rglob(f"{TEMPORARY}*"))
    assert not (run / ".lock").exists()


def wait(child: "subprocess.Popen[str]", seen: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not seen() and child.poll() is None and time.monotonic() < end:
        time.sleep(0.0005)


def test_a_process_killed_five_times_ends_with_the_hash_of_an_undisturbed_one(
    striate: Striate, pictures: Path, whole: Path, tmp_path: Path
) -> None:
    run, kills, chance = tmp_path / "killed", 0, random.Random(1)
    start: tuple[object, ...] = ("train", pictures, *SETTINGS, "--out", run)
    while True:
        known = (run / "run.toml").exists()
        child = subprocess.Popen(
            command("train", "--resume", run) if known else command(*start),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if kills < 5:
            log = run / "events.jsonl"
            before = log.stat().st_mtime_ns if log.exists() else 0
            wait(child, lambda log=log, before=before: log.exists() and log.stat().st_mtime_ns != before)
            time.sleep(chance.uniform(0, 0.05))
            if kills % 2:
                wait(child, lambda: any((run / "checkpoints").glob(f"{TEMPORARY}*")))
            child.kill()
        error = child.communicate()[1]
        if child.returncode != -signal.SIGKILL:
            break
        kills += 1
    assert child.returncode == 0, error
    assert kills >= 3
    assert_same(run, whole)
    assert striate("hash", run).out.split()[0] == striate("hash", whole).out.split()[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_process_that_is_told_to_stop_saves_says_how_to_go_on_and_does(
    pictures: Path, whole: Path, tmp_path: Path, number: int, code: int
) -> None:
    run = tmp_path / "my run"
    child = subprocess.Popen(
        command("train", pictures, *SETTINGS, "--out", run),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = run / "events.jsonl"
    wait(child, lambda: log.exists() and log.stat().st_size > 0)
    child.send_signal(number)
    error = child.communicate(timeout=10)[1]
    assert child.returncode == code
    assert error.rstrip().endswith(f"fix: striate train --resume '{run}'")
    result = subprocess.run(command("train", "--resume", run), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "goes on after step" in result.stderr
    assert_same(run, whole)


def test_python_resumes_too(stopped: Path, whole: Path) -> None:
    seen: list[Any] = []
    run = package.train(resume=stopped, on_event=seen.append)
    assert_same(stopped, whole)
    assert seen[0].step == 6
    assert run.metrics == json.loads((whole / "metrics.json").read_text())["metrics"]


def test_a_run_stopped_in_its_first_evaluation_begins_with_that(
    striate: Striate, pictures: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return results(*given)

    results = classification.results
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(classification, "results", interrupted)
        # Two batches to evaluate: the signal comes in the first.
        outcome = striate("train", pictures, *SETTINGS, "--val-fraction", "0.2", "--out", run)
    assert (outcome.code, "with 0 of 6 epochs done" in outcome.err) == (130, True)
    outcome = striate("train", "--resume", run)
    assert outcome.code == 0, outcome.err
    first = next(line for line in outcome.err.splitlines() if "epoch   1/6" in line)
    assert "loss" not in first
    assert "val" in first
    assert [row["epoch"] for row in rows(run) if row["type"] == "eval"] == [1, 2, 3, 4, 5, 6]


def test_a_training_that_ended_without_its_measurement_is_measured(
    striate: Striate, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "unmeasured"
    shutil.copytree(whole, run)
    (run / "metrics.json").unlink()
    assert striate("train", "--resume", run).code == 0
    assert_same(run, whole)


def test_a_run_without_a_checkpoint_begins_anew(striate: Striate, stopped: Path, whole: Path) -> None:
    shutil.rmtree(stopped / "checkpoints")
    outcome = striate("train", "--resume", stopped)
    assert outcome.code == 0, outcome.err
    assert "from the beginning" in outcome.err
    assert_same(stopped, whole)


def test_a_damaged_checkpoint_is_passed_over_and_said(striate: Striate, stopped: Path, whole: Path) -> None:
    newest = max((stopped / "checkpoints").iterdir())
    (newest / "state.json").write_text("{")
    outcome = striate("train", "--resume", stopped)
    assert outcome.code == 0, outcome.err
    assert f"passed over a damaged checkpoint: {newest}" in " ".join(outcome.err.split())
    notes = [row for row in rows(stopped) if row["type"] == "note"]
    assert len(notes) == 1
    assert [row for row in rows(stopped) if row["type"] != "note"] == rows(whole)
    assert api.hash_of(stopped) == api.hash_of(whole)


def test_without_an_intact_checkpoint_nothing_is_resumed(striate: Striate, stopped: Path) -> None:
    for path in (stopped / "checkpoints").iterdir():
        (path / "manifest.json").write_text("{}")
    outcome = striate("train", "--resume", stopped)
    assert (outcome.code, "no checkpoint is intact" in outcome.err) == (4, True)


def test_a_finished_run_says_how_to_train_longer(striate: Striate, whole: Path) -> None:
    outcome = striate("train", "--resume", whole)
    assert outcome.code == 2
    assert "this run is finished" in outcome.err
    assert f"--config {whole / 'run.toml'}" in outcome.err


def test_a_folder_without_a_run_cannot_be_resumed(striate: Striate, tmp_path: Path) -> None:
    outcome = striate("train", "--resume", tmp_path)
    assert (outcome.code, "there is no run in this folder" in outcome.err) == (2, True)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["digits"], "DATA"),
        (["--epochs", "9"], "--epochs"),
        (["--batch-size", "9"], "--batch-size"),
        (["--model", "lenet5"], "--model"),
        (["--no-deterministic"], "--deterministic"),
        (["--set", "training.ema=0.5"], "--set"),
        (["--config", "a.toml"], "--config"),
        (["--out", "elsewhere"], "--out"),
    ],
)
def test_a_resumed_run_takes_no_other_settings(striate: Striate, given: list[str], named: str) -> None:
    outcome = striate("train", "--resume", "runs/a", *given)
    assert outcome.code == 2
    assert f"a resumed run keeps its data and settings, so {named} cannot be given" in outcome.err


def test_inexact_is_for_a_resumed_run_only(striate: Striate) -> None:
    assert "for a resumed run only" in striate("train", "digits", "--inexact").err
    with pytest.raises(UsageError, match="for a resumed run only"):
        package.train("digits", inexact=True)
    with pytest.raises(UsageError, match="so data, epochs cannot be given"):
        package.train("digits", resume="runs/a", epochs=3)
    with pytest.raises(UsageError, match="it needs pictures"):
        package.train()


def test_data_or_a_run_is_needed(striate: Striate) -> None:
    assert striate("train").err.startswith("error: striate train: missing argument 'DATA'")


def change_circumstances(run: Path, **changes: str) -> None:
    """Have the newest checkpoint say that it was made elsewhere."""
    from striate.training.checkpoints import Checkpoints, find_newest

    found = find_newest(run).checkpoint
    assert found is not None
    state, tensors = found.state, found.tensors()
    shutil.rmtree(run / "checkpoints")
    fields = {name: getattr(state, name) for name in state.__struct_fields__}
    fields["circumstances"] = {**state.circumstances, **changes}
    Checkpoints(run).save(type(state)(**fields), tensors)


def test_other_versions_threads_device_and_processes_need_inexact(striate: Striate, stopped: Path) -> None:
    change_circumstances(stopped, torch="1.0", threads="7", processes="2")
    outcome = striate("train", "--resume", stopped)
    assert outcome.code == 2
    for difference in ("processes: 1, it was 2", "threads: 1, it was 7", "it was 1.0"):
        assert difference in outcome.err
    assert outcome.err.rstrip().endswith(f"accept it: striate train --resume {stopped} --inexact")
    before = rows(stopped)
    outcome = striate("train", "--resume", stopped, "--inexact")
    assert outcome.code == 0, outcome.err
    notes = [row["text"] for row in rows(stopped) if row["type"] == "note"]
    assert len(notes) == 3
    assert "not bit by bit" in notes[0]
    assert [row for row in before if row["type"] == "step"] == [
        row for row in rows(stopped) if row["type"] == "step" and row["step"] <= 5
    ]


@pytest.fixture
def own_pictures(stopped: Path, pictures: Path, tmp_path: Path) -> Path:
    """A copy of the pictures that the stopped run believes to be its own."""
    shutil.copytree(pictures, tmp_path / "own")
    toml = stopped / "run.toml"
    toml.write_text(toml.read_text().replace(str(pictures), str(tmp_path / "own")))
    return tmp_path / "own"


def test_pictures_may_have_moved(stopped: Path, own_pictures: Path, whole: Path) -> None:
    package.train(resume=stopped)
    assert_same(stopped, whole)


def repaint(pictures: Path) -> None:
    Image.new("RGB", (12, 12), (1, 2, 3)).save(pictures / "red" / "03.png")


def relabel(pictures: Path) -> None:
    (pictures / "red" / "03.png").rename(pictures / "blue" / "03b.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (repaint, "the data: contents or labels of pictures changed"),
        (lambda path: (path / "red" / "03.png").unlink(), "1 picture gone or unreadable (red/03.png)"),
        (relabel, "1 picture new and left out (blue/03b.png)"),
    ],
    ids=["repainted", "removed", "moved"],
)
def test_other_pictures_need_inexact(
    striate: Striate, stopped: Path, own_pictures: Path, change: Callable[[Path], object], said: str
) -> None:
    change(own_pictures)
    outcome = striate("train", "--resume", stopped)
    assert outcome.code == 2
    assert said in outcome.err
    assert striate("train", "--resume", stopped, "--inexact").code == 0
    assert said in next(row["text"] for row in rows(stopped) if row["type"] == "note")


def test_other_classes_are_refused(striate: Striate, stopped: Path, own_pictures: Path) -> None:
    (own_pictures / "amber").mkdir()
    shutil.copy(own_pictures / "red" / "01.png", own_pictures / "amber" / "a.png")
    outcome = striate("train", "--resume", stopped, "--inexact")
    assert outcome.code == 2
    assert "amber, blue, green, red now, the run was begun with blue, green, red" in outcome.err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs = 6 ", "epochs = 7 ", "training.epochs is 7, it was 6"),
        ("# clip_norm = ", "clip_norm = 1.0", "training.clip_norm is 1.0, it was null"),
    ],
)
def test_changed_settings_are_refused(striate: Striate, stopped: Path, old: str, new: str, said: str) -> None:
    toml = stopped / "run.toml"
    toml.write_text(toml.read_text().replace(old, new))
    outcome = striate("train", "--resume", stopped, "--inexact")
    assert outcome.code == 2
    assert f"its settings were changed since: {said}. fix:" in outcome.err


def test_how_many_threads_load_pictures_may_change(stopped: Path, whole: Path) -> None:
    toml = stopped / "run.toml"
    toml.write_text(toml.read_text().replace("workers = 2 ", "workers = 0 "))
    package.train(resume=stopped)
    assert_same(stopped, whole)


def test_two_processes_in_one_folder_are_refused(pictures: Path, tmp_path: Path) -> None:
    one, two = (prepared(pictures, tmp_path / "run") for _ in range(2))
    events = one.events()
    next(events)
    with pytest.raises(EnvironmentProblem, match=f"process {os.getpid()} on"):
        next(two.events())
    events.close()
    with pytest.raises(UsageError, match="another process trained there meanwhile"):
        next(two.events())


def test_a_plan_made_before_another_process_went_on_is_refused(stopped: Path) -> None:
    plan = api.prepare_resumption(stopped)
    with pytest.raises(Interrupted):
        signal_at(8, api.prepare_resumption(stopped))
    with pytest.raises(UsageError, match="another process trained there meanwhile"):
        next(iter(plan.events()))


def test_a_full_disk_ends_with_28_and_the_way_to_go_on(
    striate: Striate, stopped: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("striate.api.runfiles.write_all", full)
        outcome = striate("train", "--resume", stopped)
    assert outcome.code == 28
    assert f"fix: free some room, then striate train --resume {stopped}" in outcome.err
    package.train(resume=stopped)
    assert_same(stopped, whole)


def test_ctrl_c_while_the_test_part_is_measured_says_how_to_measure_it(
    striate: Striate, stopped: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("striate.api.training.evaluate_indices", interrupted)
        outcome = striate("train", "--resume", stopped)
    assert outcome.code == 130
    assert f"fix: striate train --resume {stopped}" in outcome.err
    package.train(resume=stopped)
    assert_same(stopped, whole)


def test_rows_that_the_log_lost_are_told(stopped: Path) -> None:
    log = stopped / "events.jsonl"
    os.truncate(log, 200)
    package.train(resume=stopped)
    found = rows(stopped)
    assert "lost rows" in next(row["text"] for row in found if row["type"] == "note")
    assert [row["step"] for row in found if row["type"] == "step"] == list(range(6, 43))
