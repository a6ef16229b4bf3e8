"""A prediction job that is stopped at any moment and gone on with writes each picture exactly once."""

import errno
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from striate.api import prediction_output
from striate.api.detection_files import CocoIds, YoloFolder, detection_writer
from striate.api.inputs import Pictures, find_pictures
from striate.api.prediction_job import JobDone, PredictionJob, hashes_of, job_header
from striate.api.prediction_output import CocoOutput, FolderOutput, Output, RowsOutput, StreamOutput
from striate.errors import DataError, DiskFull, EnvironmentProblem, Interrupted, ModelError, UsageError
from striate.files import TEMPORARY
from striate.modelfile import ModelCard
from striate.runtime.predictor import Predictor
from striate.structures import Preprocess
from striate.training.lock import locked

BATCH = 3


class Neighbourly:
    """An engine whose answer hangs on the number of pictures in a pass too, as rounding does."""

    lanes = 2

    def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        images = inputs["images"]
        if (images == 66).all(axis=(1, 2, 3)).any():
            raise ModelError("graph", "it fails on a picture", "export it again")
        means = images.mean(axis=(2, 3)).astype(np.float32) / 64
        return {"logits": means + len(images) * np.array([0.001, 0, 0], np.float32)}


class Boxes:
    """An engine that finds one box in each picture, its score the brightness."""

    lanes = 1

    def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        images = inputs["images"]
        scores = images.mean(axis=(1, 2, 3)).astype(np.float32)[:, None] / 255
        boxes = np.tile(np.array([1, 2, 6, 7], np.float32), (len(images), 1, 1))
        return {"boxes": boxes, "scores": scores, "labels": np.zeros((len(images), 1), np.int64)}


def predictor(engine: Any = None, task: str = "classification") -> Predictor:
    spec, engine = Preprocess(size=(8, 8), fit="stretch"), engine or Neighbourly()
    return Predictor(ModelCard(task, "none", "toy", {}, ("red", "green", "blue"), spec), engine)


class Watch:
    """Sends a signal to this process when so many pictures are done."""

    def __init__(self, at: int | None = None, number: int = signal.SIGINT) -> None:
        self.at, self.number = at, number
        self.errors: list[str] = []
        self.steps: list[int] = []

    def failed(self, key: str, _: DataError | ModelError) -> None:
        self.errors.append(Path(key).name)

    def advanced(self, done: int, total: int) -> None:
        assert total == 10
        self.steps.append(done)
        if done == self.at:
            self.at = None
            os.kill(os.getpid(), self.number)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """Ten pictures, of which the sixth is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(10):
        pixels = np.full((9, 9, 3), (20 * number, 200 - 20 * number, 66), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "5.png").write_bytes(b"no picture")
    return find_pictures([folder])


def rows(stream: IO[str]) -> Callable[[Any], None]:
    stream.write("headings\n")
    return lambda result: (stream.write(json.dumps(result.to_dict()) + "\n"), None)[1]


def job(pictures: Pictures, out: Path, **changes: Any) -> PredictionJob:
    settings = {"header": {"--top": 3}, "way_on": "type this", **changes}
    return PredictionJob(pictures, lambda: RowsOutput(out, rows), out, **settings)


def interrupted(pictures: Pictures, out: Path, at: int = 6) -> None:
    with pytest.raises(Interrupted):
        job(pictures, out).run(predictor(), Watch(at), BATCH)


@pytest.fixture
def whole(pictures: Pictures, tmp_path: Path) -> bytes:
    """What an undisturbed job writes."""
    watch = Watch()
    done = job(pictures, tmp_path / "whole.jsonl").run(predictor(), watch, BATCH)
    assert done == JobDone(9, 1)
    assert (watch.errors, watch.steps) == (["5.png"], list(range(1, 11)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "whole.jsonl"]
    content = (tmp_path / "whole.jsonl").read_bytes()
    assert content.count(b"\n") == 10
    return content


def beside(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir() if path.name not in ("in", "whole.jsonl"))


@pytest.mark.parametrize("at", range(1, 11))
def test_a_job_stopped_behind_any_picture_ends_as_if_nobody_had_disturbed(
    pictures: Pictures, whole: bytes, tmp_path: Path, at: int
) -> None:
    out = tmp_path / "found.jsonl"
    with pytest.raises(Interrupted, match=f"by Ctrl-C when {at} of 10 pictures were done.*type this") as stop:
        job(pictures, out).run(predictor(), Watch(at), BATCH)
    assert stop.value.exit_code == 130
    assert beside(tmp_path) == ["found.jsonl.journal", "found.jsonl.partial"]
    kept = (tmp_path / "found.jsonl.partial").read_bytes()
    assert whole.startswith(kept)
    assert kept.endswith(b"\n")
    done = job(pictures, out).resume(predictor(), Watch(), BATCH)
    assert (done.worked, done.failed, done.before) == (9, 1, at - (at > 5))
    assert out.read_bytes() == whole
    assert beside(tmp_path) == ["found.jsonl"]


def test_sigterm_has_its_own_exit_code(pictures: Pictures, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="by SIGTERM") as stop:
        job(pictures, tmp_path / "a").run(predictor(), Watch(2, signal.SIGTERM), BATCH)
    assert stop.value.exit_code == 143


@pytest.mark.parametrize("missing", range(0, 400, 19))
def test_a_journal_cut_anywhere_loses_work_and_nothing_else(
    pictures: Pictures, whole: bytes, tmp_path: Path, missing: int
) -> None:
    out, journal = tmp_path / "found.jsonl", tmp_path / "found.jsonl.journal"
    interrupted(pictures, out, 8)
    size = journal.stat().st_size
    os.truncate(journal, max(0, size - missing))
    job(pictures, out).resume(predictor(), Watch(), BATCH)
    assert out.read_bytes() == whole


@pytest.mark.parametrize("missing", range(1, 1200, 97))
def test_rows_that_never_reached_the_disk_are_made_again(
    pictures: Pictures, whole: bytes, tmp_path: Path, missing: int
) -> None:
    out, partial = tmp_path / "found.jsonl", tmp_path / "found.jsonl.partial"
    interrupted(pictures, out, 8)
    os.truncate(partial, max(0, partial.stat().st_size - missing))
    job(pictures, out).resume(predictor(), Watch(), BATCH)
    assert out.read_bytes() == whole


def test_rows_that_are_not_what_was_written_are_made_again(
    pictures: Pictures, whole: bytes, tmp_path: Path
) -> None:
    out, partial = tmp_path / "found.jsonl", tmp_path / "found.jsonl.partial"
    interrupted(pictures, out, 8)
    content = bytearray(partial.read_bytes())
    content[len(content) // 2] ^= 1
    partial.write_bytes(bytes(content) + b'{"key": "torn')
    job(pictures, out).resume(predictor(), Watch(), BATCH)
    assert out.read_bytes() == whole


def test_a_job_may_be_stopped_again_and_again(pictures: Pictures, whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    interrupted(pictures, out, 2)
    for at in (4, 7, 9):
        with pytest.raises(Interrupted):
            job(pictures, out).resume(predictor(), Watch(at), BATCH)
    job(pictures, out).resume(predictor(), Watch(), BATCH)
    assert out.read_bytes() == whole


def test_a_picture_that_failed_is_tried_again_and_is_there_once(
    pictures: Pictures, whole: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "found.jsonl"
    interrupted(pictures, out, 8)
    (tmp_path / "in" / "5.png").write_bytes((tmp_path / "in" / "4.png").read_bytes())
    done = job(pictures, out).resume(predictor(), Watch(), BATCH)
    assert done == JobDone(10, 0, 7)
    keys = [json.loads(line)["key"] for line in out.read_text().splitlines()[1:]]
    assert sorted(keys) == [key for key, _, _ in pictures.places]


def test_a_model_that_fails_from_the_start_is_an_error_and_one_picture_is_not(
    pictures: Pictures, tmp_path: Path
) -> None:
    odd = Image.fromarray(np.full((9, 9, 3), 66, np.uint8))
    odd.save(tmp_path / "in" / "7.png")
    watch = Watch()
    assert job(pictures, tmp_path / "a").run(predictor(), watch, BATCH) == JobDone(8, 2)
    assert watch.errors == ["5.png", "7.png"]
    odd.save(tmp_path / "in" / "0.png")
    with pytest.raises(ModelError, match="fails on a picture"):
        job(pictures, tmp_path / "b").run(predictor(), watch, BATCH)
    assert beside(tmp_path) == ["a"]


# what is refused


def test_a_place_with_a_stopped_job_is_refused_with_both_ways_out(pictures: Pictures, tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    interrupted(pictures, out)
    with pytest.raises(UsageError, match=r"--resume, or remove .*journal and .*partial"):
        job(pictures, out).run(predictor(), Watch(), BATCH)
    assert beside(tmp_path) == ["found.jsonl.journal", "found.jsonl.partial"]


def test_another_job_is_not_gone_on_with(pictures: Pictures, tmp_path: Path) -> None:
    out, model = tmp_path / "found.jsonl", tmp_path / "model"
    model.write_bytes(b"weights")
    header = job_header(hashes_of(model), predictor(), pictures, {"--top": 3})
    with pytest.raises(Interrupted):
        job(pictures, out, header=header).run(predictor(), Watch(4), BATCH)
    fewer = Pictures(pictures.places[1:])
    others = {
        r"--top was 3 and is 5\.": job_header(hashes_of(model), predictor(), pictures, {"--top": 5}),
        r"pictures was 10 and is 9, another list of pictures\.": job_header(
            hashes_of(model), predictor(), fewer, {"--top": 3}
        ),
    }
    model.write_bytes(b"other weights")
    others[r"another model\."] = job_header(hashes_of(model), predictor(), pictures, {"--top": 3})
    for told, other in others.items():
        with pytest.raises(UsageError, match=f"of another job: {told}.*remove .*journal and .*partial"):
            job(pictures, out, header=other).resume(predictor(), Watch(), BATCH)
    job(pictures, out, header=header).resume(predictor(), Watch(), BATCH)


def test_nothing_to_go_on_with_is_refused_and_a_complete_job_is_told_of(
    pictures: Pictures, tmp_path: Path
) -> None:
    out = tmp_path / "found.jsonl"
    with pytest.raises(UsageError, match="never begun"):
        job(pictures, out).resume(predictor(), Watch(), BATCH)
    job(pictures, out).run(predictor(), Watch(), BATCH)
    content = out.read_bytes()
    assert job(pictures, out).resume(predictor(), Watch(), BATCH).was_complete
    assert out.read_bytes() == content
    (tmp_path / "found.jsonl.partial").touch()
    with pytest.raises(UsageError, match="lost its journal"):
        job(pictures, out).resume(predictor(), Watch(), BATCH)


def test_a_job_killed_just_before_its_name_appears_gets_it(
    pictures: Pictures, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found.jsonl"

    def killed(self: RowsOutput) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RowsOutput, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        job(pictures, out).run(predictor(), Watch(), BATCH)
    monkeypatch.undo()
    assert not out.exists()
    done = job(pictures, out).resume(predictor(), Watch(), BATCH)
    assert (done.was_complete, done.worked, done.failed) == (True, 9, 1)
    assert out.read_bytes() == whole
    assert beside(tmp_path) == ["found.jsonl"]


def test_two_processes_cannot_do_the_same_job(pictures: Pictures, tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    with (
        locked(tmp_path, ".found.jsonl.lock"),
        pytest.raises(EnvironmentProblem, match=f"process {os.getpid()}"),
    ):
        job(pictures, out).run(predictor(), Watch(), BATCH)
    assert beside(tmp_path) == []


def test_a_full_disk_leaves_whole_rows_to_go_on_from(
    pictures: Pictures, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found.jsonl"
    real, calls = prediction_output.write_all, []

    def full(handle: int, content: bytes) -> None:
        calls.append(1)
        if len(calls) == 5:
            real(handle, content[:20])
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle, content)

    monkeypatch.setattr(prediction_output, "write_all", full)
    with pytest.raises(DiskFull, match="free some room; type this"):
        job(pictures, out).run(predictor(), Watch(), BATCH)
    monkeypatch.undo()
    kept = (tmp_path / "found.jsonl.partial").read_bytes()
    assert whole.startswith(kept)
    assert kept.endswith(b"\n")
    job(pictures, out).resume(predictor(), Watch(), BATCH)
    assert out.read_bytes() == whole


# other outputs


def coco_job(pictures: Pictures, out: Path) -> PredictionJob:
    return PredictionJob(pictures, lambda: CocoOutput(out, CocoIds.of(pictures.keys)), out)


def test_coco_files_of_a_stopped_job_are_those_of_the_writer(pictures: Pictures, tmp_path: Path) -> None:
    found = predictor(Boxes(), "detection")
    with detection_writer("coco", tmp_path / "whole.json", pictures) as writer:
        for result in found.stream(pictures, BATCH, on_error=lambda *_: None):
            writer.write(result)  # type: ignore[arg-type]
    with pytest.raises(Interrupted):
        coco_job(pictures, tmp_path / "found.json").run(found, Watch(7), BATCH)
    assert not (tmp_path / "found.json").exists()
    coco_job(pictures, tmp_path / "found.json").resume(found, Watch(), BATCH)
    for kind in ("", ".images"):
        files = [(tmp_path / f"{name}{kind}.json").read_bytes() for name in ("whole", "found")]
        assert files[0] == files[1]
    assert len(json.loads((tmp_path / "found.json").read_bytes())) == 9
    assert not list(tmp_path.glob("*.partial"))


def test_a_folder_of_a_stopped_job_is_that_of_an_undisturbed_one(pictures: Pictures, tmp_path: Path) -> None:
    found = predictor(Boxes(), "detection")

    def folder_job(out: Path, is_begun: bool) -> PredictionJob:
        def output() -> Output:
            return FolderOutput(out, YoloFolder(out, pictures, is_begun).write)

        return PredictionJob(pictures, output, out)

    folder_job(tmp_path / "whole", False).run(found, Watch(), BATCH)
    with pytest.raises(Interrupted):
        folder_job(tmp_path / "found", False).run(found, Watch(7), BATCH)
    (tmp_path / "found" / "labels" / f"{TEMPORARY}torn").write_bytes(b"half a li")
    folder_job(tmp_path / "found", True).resume(found, Watch(), BATCH)
    contents = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*.txt")}
        for root in (tmp_path / "whole", tmp_path / "found")
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 10
    assert not list(tmp_path.rglob(f"{TEMPORARY}*"))
    assert not list(tmp_path.glob("*.journal"))


def test_what_is_printed_is_whole_lines_and_cannot_be_gone_on_with(
    pictures: Pictures, whole: bytes, tmp_path: Path
) -> None:
    with (tmp_path / "stdout").open("w", encoding="utf-8") as stream:
        printed = PredictionJob(pictures, lambda: StreamOutput(stream, rows))
        with pytest.raises(Interrupted, match="predict: stopped by Ctrl-C when 4 of 10"):
            printed.run(predictor(), Watch(4), BATCH)
        assert whole.startswith((tmp_path / "stdout").read_bytes())
        with pytest.raises(UsageError, match="--out"):
            printed.resume(predictor(), Watch(), BATCH)
