"""`striate predict` killed again and again: every picture is there once, as if nobody had disturbed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from striate.export.targets import onnx
from striate.models import card_of, create

PICTURES, KILLS = 160, 10


class Job(NamedTuple):
    """A folder with a model and pictures, in which commands run."""

    folder: Path

    def start(self, out: str, *more: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "striate", "predict", "model.onnx", "in", "--batch-size", "4"]
        return subprocess.Popen(
            [*command, "--out", out, *more], cwd=self.folder, stderr=subprocess.PIPE, text=True
        )

    def end(self, process: "subprocess.Popen[str]") -> tuple[int, str]:
        _, told = process.communicate(timeout=120)
        return process.returncode, told

    def journal_size(self, out: str) -> int:
        path = self.folder / f"{out}.journal"
        return path.stat().st_size if path.exists() else 0

    def stop_when(
        self, process: "subprocess.Popen[str]", out: str, size: int, number: int
    ) -> tuple[int, str]:
        """Send the signal `number` when the journal is so long; the exit code and stderr then."""
        while process.poll() is None and self.journal_size(out) < size:
            time.sleep(0.001)
        process.send_signal(number)
        return self.end(process)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    network = create("simple_cnn", 5, preprocess={"size": [96, 96]}).eval()
    onnx.write(network, folder / "model.onnx", card_of(network))
    (folder / "in").mkdir()
    chance = np.random.default_rng(0)
    for number in range(PICTURES):
        pixels = chance.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "in" / f"{number:03d}.png")
    (folder / "in" / "077.png").write_bytes(b"no picture")
    return Job(folder)


@pytest.fixture(scope="module")
def whole(job: Job) -> bytes:
    """What a job that nobody disturbs writes; every number with all its digits."""
    code, told = job.end(job.start("whole.jsonl"))
    assert code == 0, told
    return (job.folder / "whole.jsonl").read_bytes()


def test_a_job_killed_at_random_moments_writes_the_bytes_of_an_undisturbed_one(
    job: Job, whole: bytes
) -> None:
    chance, kills, out = random.Random(7), 0, "killed.jsonl"
    for _ in range(3 * KILLS):
        more = ("--resume",) if job.journal_size(out) else ()
        process = job.start(out, *more)
        # A line of the journal has some 50 bytes: a kill behind each handful of pictures, and at any byte.
        size = job.journal_size(out) + chance.randint(1, 900)
        kills += job.stop_when(process, out, size, signal.SIGKILL)[0] == -signal.SIGKILL
        partial = job.folder / f"{out}.partial"
        if partial.exists() and kills % 3 == 0:
            with partial.open("ab") as rows:
                rows.write(b'{"key": "in/0')  # as the power going off may leave it
        if (job.folder / out).exists() or kills == KILLS:
            break
    assert kills >= KILLS // 2
    code, told = job.end(job.start(out, "--resume"))
    assert code == 0, told
    assert (job.folder / out).read_bytes() == whole
    assert len(whole.splitlines()) == PICTURES - 1
    assert [path.name for path in job.folder.glob(f"*{out}*")] == [out]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_whole_rows_and_says_how_to_go_on(
    job: Job, whole: bytes, number: int, code: int
) -> None:
    out = f"stopped-{code}.jsonl"
    process = job.start(out)
    exit_code, told = job.stop_when(process, out, 1000, number)
    assert exit_code == code
    assert f"of {PICTURES} pictures were done" in told
    assert f"fix: striate predict model.onnx in --out {out} --batch-size 4 --resume" in told
    kept = (job.folder / f"{out}.partial").read_bytes()
    assert whole.startswith(kept)
    assert kept.endswith(b"\n")
    assert job.end(job.start(out, "--resume"))[0] == 0
    assert (job.folder / out).read_bytes() == whole


def test_torchruns_processes_divide_the_job_and_together_write_all_of_it(job: Job, whole: bytes) -> None:
    rows: list[bytes] = []
    for rank in range(2):
        environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"}
        command = [sys.executable, "-m", "striate", "predict", "model.onnx", "in", "--out", "part.csv"]
        done = subprocess.run(
            command, cwd=job.folder, env=environment, capture_output=True, text=True, check=True
        )
        assert f"shard {rank + 1}/2: 80 of 160 pictures -> part-{rank + 1}-of-2.csv" in done.stderr
        rows += (job.folder / f"part-{rank + 1}-of-2.csv").read_bytes().splitlines()[1:]
    keys = sorted(row.split(b",")[0].decode() for row in rows)
    assert keys == [f"in/{number:03d}.png" for number in range(PICTURES) if number != 77]
