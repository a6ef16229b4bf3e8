"""Two processes that train together, as torchrun starts them, end where one alone would."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import striate
from striate import api
from striate.errors import EnvironmentProblem, UsageError
from striate.modelfile import read_tensors
from striate.training.interruption import Stop
from striate.training.processes import Team, team

SCRIPT = Path(__file__).with_name("together.py")


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("together", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_two_processes(job: str, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.run(
        [*command, str(SCRIPT), job, str(out)], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs of two processes."""
    out = tmp_path_factory.mktemp("two")
    done = in_two_processes("runs", out)
    assert done.returncode == 0, done.stderr
    return out


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["type"] == kind]


def largest_difference(one: Path, two: Path, statistics: bool) -> float:
    """Of the weights, or of the statistics of batch norm, these as a share of the largest in their layer."""
    first, second = (read_tensors(folder / "last.safetensors") for folder in (one, two))
    assert first.keys() == second.keys()
    names = [name for name in first if name.rpartition(".")[2].startswith("running") == statistics]
    # A mean that is 0 by construction has no scale of its own.
    scales = {name: max(np.abs(first[name]).max(), 1e-2) if statistics else 1 for name in names}
    differences = [float(np.abs(first[name] - second[name]).max() / scales[name]) for name in names]
    return max(differences, default=0.0)


@pytest.mark.parametrize(
    ("name", "steps", "images"),
    [
        ("simple_cnn", 23, 1437),
        ("tutorial_cnn", 23, 1437),
        ("vgg11", 23, 1437),
        ("resnet20_cifar", 23, 1437),
        ("short tail", 7, 1437),
        ("accumulated", 23, 1437),
        ("masks", 8, 480),
        ("boxes", 8, 480),
    ],
)
def test_two_processes_end_with_the_weights_and_the_samples_of_one(
    together: Path, tmp_path: Path, name: str, steps: int, images: int
) -> None:
    script().run_in_double(tmp_path, name)
    alone, both = tmp_path / name, together / name
    assert largest_difference(alone, both, statistics=False) < 1e-7
    assert largest_difference(alone, both, statistics=True) < 1e-7
    one, two = rows(alone, "step"), rows(both, "step")
    assert len(one) == len(two) == steps
    for ours, theirs in zip(one, two, strict=True):
        for key in ("step", "epoch", "images", "checksum", "learning_rate"):
            assert ours[key] == theirs[key]
        assert theirs["losses"] == pytest.approx(ours["losses"], rel=1e-6)
    assert sum(row["images"] for row in two) == images


def test_scores_of_two_processes_are_those_of_one_to_the_last_bit(together: Path) -> None:
    for found in json.loads((together / "found.json").read_text()):
        both, alone = found["scores"]
        assert both == alone


def test_batch_norm_over_uneven_shares_is_that_of_the_whole_batch(together: Path) -> None:
    for found in json.loads((together / "found.json").read_text()):
        assert all(difference < 1e-9 for difference in found["norm"].values()), found["norm"]


def test_a_run_of_two_killed_and_resumed_ends_with_the_bits_of_an_undisturbed_one(tmp_path: Path) -> None:
    assert in_two_processes("killed", tmp_path).returncode != 0
    killed, alone = tmp_path / "killed", tmp_path / "alone"
    assert 0 < len(rows(killed, "step")) < 46
    shutil.copytree(killed, alone)
    with pytest.raises(UsageError, match="processes: 1, it was 2"):
        striate.train(resume=alone)
    assert striate.train(resume=alone, inexact=True).metrics["top1"] > 0.9
    done = in_two_processes("resumed", tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("last.safetensors", "model.safetensors"):
        assert api.hash_of(killed / name) == api.hash_of(tmp_path / "undisturbed" / name)
    passing = {"time", "images_per_second"}
    whole, resumed, in_one = (
        [{key: value for key, value in row.items() if key not in passing} for row in rows(folder, "step")]
        for folder in (tmp_path / "undisturbed", killed, alone)
    )
    assert resumed == whole
    assert [row["checksum"] for row in in_one] == [row["checksum"] for row in whole]


def test_one_process_is_a_team_of_its_own() -> None:
    assert team() == Team(0, 1)
    assert Team().gather("all") == ["all"]
    stop = Stop()
    assert not stop.agree(Team())
    stop.signal = 15
    assert stop.agree(Team())


def test_an_error_of_the_first_process_is_everybodys() -> None:
    def fail() -> None:
        raise EnvironmentProblem("here", "it fails", "mend it")

    with pytest.raises(EnvironmentProblem, match="it fails"):
        Team().from_first(fail)
