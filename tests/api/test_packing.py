"""Packing from beginning to end: interrupted anywhere, refused where it must be, trained from."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from striate import api
from striate.data.check import check
from striate.data.open import DataConfig, open_dataset
from striate.data.split import SplitConfig, complete
from striate.errors import DataError, DiskFull, Interrupted, UsageError
from striate.files import TEMPORARY

TINY = {"network": {"widths": [4, 8], "convolutions": [1, 1]}}


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pack(source: Path, out: Path, **options: Any) -> Any:
    return api.pack_dataset(source, out, **{"shard_megabytes": 0.03, **options})


@pytest.fixture
def whole(color_folder: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of a packing that nobody disturbed."""
    pack(color_folder, tmp_path / "whole")
    return content_of(tmp_path / "whole")


def test_parts_are_those_that_training_would_make(color_folder: Path, tmp_path: Path) -> None:
    shutil.copy(color_folder / "red" / "00.png", color_folder / "red" / "twin.png")
    found = pack(color_folder, tmp_path / "out", split={"val_fraction": 0.2, "seed": 3})
    dataset = open_dataset(DataConfig(source=str(color_folder)))
    groups = check(dataset, near_duplicates=False).groups
    expected = complete(dataset, SplitConfig(val_fraction=0.2, seed=3), groups)
    packed = open_dataset(DataConfig(source=str(tmp_path / "out")))
    assert {(item.key.partition("/")[2], item.part) for item in packed.items} == {
        (item.key, item.part) for item in expected.items
    }
    assert found.manifest.pictures == {"train": 30, "val": 9, "test": 4}
    assert found.notes == expected.notes


def test_the_manifest_counts_and_holds_the_hash_of_each_file(
    whole: dict[str, bytes], color_folder: Path
) -> None:
    manifest = json.loads(whole["manifest.json"])
    assert (manifest["source"], manifest["classes"]) == ("colors", ["blue", "green", "red"])
    assert sum(shard["pictures"] for shard in manifest["shards"]) == sum(manifest["pictures"].values()) == 42
    assert manifest["fingerprint"] == api.check(color_folder).report.facts.fingerprint
    assert set(whole) == {"manifest.json"} | {
        f"{shard['name'][:-4]}{suffix}" for shard in manifest["shards"] for suffix in (".tar", ".json")
    }


def test_pictures_that_no_training_takes_are_left_out_and_named(hostile_folder: Path, tmp_path: Path) -> None:
    found = api.pack_dataset(hostile_folder, tmp_path / "out")
    assert {finding.file for finding in found.left_out} == {
        "cat/empty.jpg", "cat/truncated.jpg", "cat/text.jpg", "cat/pipe.jpg", "cat/link.jpg",
    }  # fmt: skip
    assert not api.check(tmp_path / "out").report.errors
    assert sum(found.manifest.pictures.values()) == 24


# --- interruptions ----------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Lets the n-th call of os.fsync, os.replace or os.unlink raise."""

    def arm(name: str, number: int, error: BaseException) -> Any:
        calls, original = count(1), getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if next(calls) == number:
                raise error
            return original(*arguments, **options)

        patch = pytest.MonkeyPatch()
        patch.setattr(os, name, call)
        return patch

    return arm


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bytes(
    color_folder: Path, tmp_path: Path, whole: dict[str, bytes], fail_at: Callable[..., Any]
) -> None:
    kills = 0
    for number in count(1):
        out = tmp_path / f"out-{number}"
        patch = fail_at("fsync", number, Killed())
        try:
            pack(color_folder, out)
        except Killed:
            kills += 1
        else:
            break
        finally:
            patch.undo()
        assert "manifest.json" not in content_of(out) or "packing.json" in content_of(out)
        (out / f"{TEMPORARY}left").write_bytes(b"half a shard")  # a killed process tidies nothing
        pack(color_folder, out)
        assert content_of(out) == whole
    # Each file there is in the end and packing.json, and each time the folder around it.
    assert kills == 2 * (len(whole) + 1)


def test_what_was_looked_over_is_not_looked_over_again(
    color_folder: Path, tmp_path: Path, whole: dict[str, bytes], fail_at: Callable[..., Any]
) -> None:
    patch = fail_at("fsync", 7, Killed())
    with pytest.raises(Killed):
        pack(color_folder, tmp_path / "out")
    patch.undo()
    stages: list[str] = []
    found = pack(color_folder, tmp_path / "out", progress=lambda stage, *_: stages.append(stage))
    assert set(stages) == {"packing"}
    assert found.kept == 1
    assert found.notes == pack(color_folder, tmp_path / "out").notes
    assert content_of(tmp_path / "out") == whole


def test_other_pictures_since_the_interruption_are_refused(
    color_folder: Path, tmp_path: Path, fail_at: Callable[..., Any]
) -> None:
    patch = fail_at("fsync", 7, Killed())
    with pytest.raises(Killed):
        pack(color_folder, tmp_path / "out")
    patch.undo()
    before = content_of(tmp_path / "out")
    shutil.copy(color_folder / "red" / "00.png", color_folder / "blue" / "00.png")
    with pytest.raises(UsageError, match="made from other pictures"):
        pack(color_folder, tmp_path / "out")
    assert content_of(tmp_path / "out") == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("stage", ["checking", "packing"])
def test_a_signal_ends_it_with_the_way_to_go_on(
    color_folder: Path, tmp_path: Path, whole: dict[str, bytes], number: int, code: int, stage: str
) -> None:
    def progress(now: str, done: int, _: int) -> None:
        if now == stage and done >= 20:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match="run the same command again") as stop:
        pack(color_folder, tmp_path / "out", progress=progress)
    assert stop.value.exit_code == code
    assert not [name for name in content_of(tmp_path / "out") if name.startswith(".")]
    pack(color_folder, tmp_path / "out")
    assert content_of(tmp_path / "out") == whole


def test_a_full_disk_keeps_what_is_there_and_says_what_to_do(
    color_folder: Path, tmp_path: Path, whole: dict[str, bytes], fail_at: Callable[..., Any]
) -> None:
    patch = fail_at("fsync", 9, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(DiskFull, match=r"free some room, then run the same command again") as full:
        pack(color_folder, tmp_path / "out")
    patch.undo()
    assert full.value.exit_code == 28
    assert not [name for name in content_of(tmp_path / "out") if name.startswith(".")]
    assert pack(color_folder, tmp_path / "out").kept == 1
    assert content_of(tmp_path / "out") == whole


# --- what is refused --------------------------------------------------------------------------------


def test_a_finished_folder_is_mended_and_else_left_as_it_is(
    color_folder: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    assert pack(color_folder, tmp_path / "whole").kept == 7
    (tmp_path / "whole" / "val-000000.tar").write_bytes(b"damaged")
    assert pack(color_folder, tmp_path / "whole").kept == 6
    assert content_of(tmp_path / "whole") == whole


def test_other_options_or_pictures_are_refused_for_a_finished_folder(
    color_folder: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    for options in ({"shard_megabytes": 0.04}, {"split": {"seed": 1}}):
        with pytest.raises(UsageError, match="packed with other options"):
            pack(color_folder, tmp_path / "whole", **options)
    (color_folder / "red" / "00.png").unlink()
    with pytest.raises(UsageError, match="made from other pictures"):
        pack(color_folder, tmp_path / "whole")
    assert content_of(tmp_path / "whole") == whole


def test_other_parts_are_other_pictures(
    tmp_path: Path, fail_at: Callable[..., Any], color_folder: Path
) -> None:
    rows = [
        f"{path.relative_to(color_folder)},{path.parent.name}" for path in sorted(color_folder.rglob("*.png"))
    ]
    table = color_folder / "labels.csv"
    for end in (("train", "test"), ("test", "train")):
        lines = [f"{row},{end[number % 3 == 0]}" for number, row in enumerate(rows)]
        table.write_text("\n".join(["file,label,split", *lines]) + "\n")
        if end[0] == "train":
            patch = fail_at("fsync", 9, Killed())
            with pytest.raises(Killed):
                pack(table, tmp_path / "begun")
            patch.undo()
            pack(table, tmp_path / "done")
    for name in ("begun", "done"):
        with pytest.raises(UsageError, match="made from other pictures"):
            pack(table, tmp_path / name)


def test_a_folder_with_other_files_and_a_file_are_refused(color_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are other files in that folder"):
        pack(color_folder, color_folder)
    (tmp_path / "file").touch()
    with pytest.raises(Exception, match="cannot be written"):
        pack(color_folder, tmp_path / "file")
    with pytest.raises(UsageError, match=r"split\.sead"):
        pack(color_folder, tmp_path / "out", split={"sead": 1})


def test_data_without_a_usable_picture_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "x.jpg").write_text("no picture")
    with pytest.raises(DataError, match="no picture with a class is left to pack"):
        pack(tmp_path / "set", tmp_path / "out")


# --- training from shards ---------------------------------------------------------------------------


@pytest.fixture
def shards(color_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """More train shards than are mixed at a time."""
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    found = pack(color_folder, tmp_path / "shards", shard_megabytes=0.0103)
    assert sum(shard.part == "train" for shard in found.manifest.shards) == 12
    return tmp_path / "shards"


def plan(shards: Path, out: Path, cache: str = "off", workers: int = 2, **tables: Any) -> Any:
    from striate.config import Layer

    training = {
        "epochs": 2, "batch_size": 4, "workers": workers, "threads": 1, "device": "cpu",
        "deterministic": True, "checkpoint_minutes": 1e-4,
    }  # fmt: skip
    values = {**TINY, "training": training, "augment": {"flip": 0.5}, "cache": {"mode": cache}, **tables}
    return api.prepare(shards, "simple_cnn", out=out, layers=[Layer("test", values)])


def finished(made: Any) -> str:
    for _ in made.events():
        pass
    made.finish()
    return api.hash_of(made.folder)


def test_a_run_from_shards_that_was_cut_off_ends_with_the_same_bits(shards: Path, tmp_path: Path) -> None:
    whole = finished(plan(shards, tmp_path / "whole"))
    cut = plan(shards, tmp_path / "cut")
    # In the middle of the second of two epochs of 9 steps; what it has begun is dropped as by a kill.
    with closing(cut.events()) as events:
        assert next(event.epoch for event in events if getattr(event, "step", 0) == 14) == 2
    steps: list[int] = []
    run = api.train(resume=tmp_path / "cut", on_event=lambda event: steps.append(getattr(event, "step", 99)))
    assert 10 < min(steps) <= 15
    assert api.hash_of(run.folder) == whole


@pytest.mark.parametrize(("cache", "workers"), [("memory", 2), ("disk", 0)])
def test_neither_cache_nor_workers_change_a_bit(
    shards: Path, tmp_path: Path, cache: str, workers: int
) -> None:
    assert finished(plan(shards, tmp_path / "a")) == finished(plan(shards, tmp_path / "b", cache, workers))


def test_an_epoch_reads_few_shards_at_a_time_and_each_picture_once(shards: Path, tmp_path: Path) -> None:
    loader = plan(shards, tmp_path / "run").loaders.train
    epochs = [[key for batch in loader.epoch(number) for key in batch.keys] for number in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert len(set(epochs[0])) == 34
    assert epochs[0] != epochs[1]
    for keys in epochs:
        tars = np.array([int(key[6:12]) for key in keys])
        spans = [np.ptp(np.flatnonzero(tars == tar)) + 1 for tar in set(tars.tolist())]
        # Each of 12 is mixed with the next three alone; in any order a tar of 3 spans half of an epoch.
        assert np.mean(spans) < len(keys) / 4


def test_pictures_are_mixed_with_others_of_their_shard(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from striate.data.cache import Pictures

    asked: list[Any] = []
    original = Pictures.batch
    loader = plan(shards, tmp_path / "run", workers=0, augment={"mixup": 0.4}).loaders.train

    def batch(pictures: Pictures, indices: Any) -> Any:
        asked.append(indices)
        return original(pictures, indices)

    monkeypatch.setattr(Pictures, "batch", batch)
    assert len(list(loader.epoch(0))) == 9
    blocks = loader.pictures.dataset.blocks()
    for own, partners in zip(asked[::2], asked[1::2], strict=True):
        np.testing.assert_array_equal(blocks[own], blocks[partners])
    assert any((own != partners).any() for own, partners in zip(asked[::2], asked[1::2], strict=True))


def test_a_model_is_evaluated_on_shards(shards: Path, tmp_path: Path) -> None:
    made = plan(shards, tmp_path / "run")
    finished(made)
    own = api.evaluate(made.folder)
    assert own.to_dict()["pictures"] == 4
    assert own.scores.values == api.evaluate(made.folder, shards).scores.values


@pytest.mark.parametrize(
    ("source", "task"), [("shapes_boxes", "detection"), ("shapes_masks", "segmentation")]
)
def test_boxes_and_masks_are_refused_before_anything_is_written(
    source: str, task: str, tmp_path: Path
) -> None:
    with pytest.raises(
        UsageError, match=f"{source}: its task is {task}. fix: give pictures with a class each"
    ):
        api.pack_dataset(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
