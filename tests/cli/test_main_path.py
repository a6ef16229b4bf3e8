"""From a folder of pictures to predictions, by command line alone."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate import api
from striate.errors import DiskFull

Striate = Callable[..., Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, trained once for this file on pictures that lie beside it."""
    root = tmp_path_factory.mktemp("main")
    chance = np.random.default_rng(3)
    for name, level in (("dark", 60), ("light", 190)):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(20):
            noise = chance.integers(-40, 40, (20, 24, 3))
            Image.fromarray((level + noise).astype(np.uint8)).save(root / "photos" / name / f"{number}.png")
    api.train(root / "photos", "simple_cnn", out=root / "run", epochs=2, batch_size=8, workers=0)
    return root / "run"


def test_train_plans_trains_and_measures(striate: Striate, color_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = striate("train", color_folder, "--epochs", 3, "--batch-size", 8, "--out", out)
    assert outcome.code == 0, outcome.err
    assert "42 pictures of 16x16, 3 classes" in outcome.err
    assert "no parts found: split into train" in outcome.err
    assert "epoch   3/3" in outcome.err
    assert "top-1" in outcome.out
    assert f"striate predict {out}" in outcome.out
    assert f"  report   {out / 'report.html'}\n" in outcome.out
    assert f"striate report {out}" not in outcome.out
    assert (out / "report.html").read_text("utf-8").startswith("<!doctype html>")
    names = {path.name for path in out.iterdir()}
    assert names == {
        "run.toml", "split.csv", "events.jsonl", "metrics.json", "model.safetensors", "last.safetensors",
        "checkpoints", "report.html",
    }  # fmt: skip
    kinds = [json.loads(line)["type"] for line in (out / "events.jsonl").read_text().splitlines()]
    assert {"step", "eval", "checkpoint", "stop"} == set(kinds)


def test_train_as_json_is_one_object(striate: Striate, color_folder: Path, tmp_path: Path) -> None:
    outcome = striate("train", color_folder, "--epochs", 1, "--out", tmp_path / "run", "--json")
    found = json.loads(outcome.out)
    assert found["part"] == "test"
    assert found["report"] == str(tmp_path / "run" / "report.html")
    assert set(found["metrics"]) == {"top1", "top5", "macro_precision", "macro_recall", "macro_f1", "ece"}


def test_no_report_is_written_where_none_is_wanted(
    striate: Striate, color_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    outcome = striate("train", color_folder, "--epochs", 1, "--no-report", "--out", out)
    assert outcome.code == 0, outcome.err
    assert not (out / "report.html").exists()
    assert f"striate report {out}" in outcome.out


def test_a_report_that_fails_does_not_fail_the_training(
    striate: Striate, color_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise DiskFull("report.html", "the disk is full", "make room")

    monkeypatch.setattr("striate.api.reporting.write_text", full)
    outcome = striate("train", color_folder, "--epochs", 1, "--out", tmp_path / "run")
    assert outcome.code == 0
    assert "there is no report: report.html: the disk is full" in outcome.err
    assert "top-1" in outcome.out
    assert f"striate report {tmp_path / 'run'}" in outcome.out


def test_a_second_run_never_overwrites_the_first(striate: Striate, trained: Path) -> None:
    before = (trained / "model.safetensors").read_bytes()
    outcome = striate("train", trained.parent / "photos", "--out", trained)
    assert outcome.code == 2
    assert "there is a run in that folder already" in outcome.err
    assert (trained / "model.safetensors").read_bytes() == before


def test_eval_measures_the_test_part_it_was_trained_beside(striate: Striate, trained: Path) -> None:
    found = json.loads(striate("eval", trained, "--json").out)
    recorded = json.loads((trained / "metrics.json").read_text())
    assert found["pictures"] == sum(row["support"] for row in recorded["classes"])
    assert found["metrics"] == recorded["metrics"]
    assert found["confusion"] == recorded["confusion"]


def test_eval_names_every_class_and_the_confusion(striate: Striate, trained: Path) -> None:
    outcome = striate("eval", trained, "--part", "train")
    assert outcome.code == 0, outcome.err
    for word in ("dark", "light", "precision", "recall", "F1", "confusion", "calibration error"):
        assert word in outcome.out


def test_eval_does_not_measure_on_pictures_it_was_trained_on(striate: Striate, trained: Path) -> None:
    given = json.loads(striate("eval", trained, trained.parent / "photos", "--json").out)
    own = json.loads(striate("eval", trained, "--json").out)
    assert given["pictures"] == own["pictures"] < 40
    assert "parts of that run" in given["notes"][0]


def test_eval_says_when_a_picture_of_its_test_part_is_gone(
    striate: Striate, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained.parent, tmp_path / "copy")
    toml = tmp_path / "copy" / "run" / "run.toml"
    toml.write_text(toml.read_text().replace(str(trained.parent), str(tmp_path / "copy")))
    (tmp_path / "copy" / "photos" / "dark" / "3.png").unlink()
    outcome = striate("eval", tmp_path / "copy" / "run")
    assert outcome.code == 3
    assert "1 of the 40 pictures" in outcome.err


def test_predict_prints_a_line_per_picture(striate: Striate, trained: Path) -> None:
    outcome = striate("predict", trained, trained.parent / "photos" / "dark")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert len(lines) == 20
    assert all("dark" in line and "%" in line for line in lines)


def test_predict_writes_csv_and_json_lines_by_suffix(striate: Striate, trained: Path, tmp_path: Path) -> None:
    folder = trained.parent / "photos" / "light"
    for name in ("found.csv", "found.jsonl"):
        assert striate("predict", trained, folder, "--out", tmp_path / name).code == 0
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    objects = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows] == [found["key"] for found in objects]
    assert [row["label"] for row in rows] == [found["label"] for found in objects]


def test_predict_reads_a_list_on_stdin(
    striate: Striate, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    path = trained.parent / "photos" / "dark" / "0.png"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{path}\n\n"))
    outcome = striate("predict", trained, "-", "--json")
    assert json.loads(outcome.out)["key"] == str(path)


def test_a_bad_file_is_reported_and_the_others_are_predicted(
    striate: Striate, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_text("no picture")
    good = trained.parent / "photos" / "dark" / "0.png"
    outcome = striate("predict", trained, tmp_path / "bad.jpg", good)
    assert outcome.code == 0
    assert outcome.out.startswith(str(good))
    assert "bad.jpg" in outcome.err
    assert "1 pictures, 1 could not be read" in outcome.err
    assert striate("predict", trained, tmp_path / "bad.jpg", good, "--strict").code == 3
    assert striate("predict", trained, tmp_path / "bad.jpg").code == 3


def test_a_spreadsheet_cannot_run_a_file_name(
    striate: Striate, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(trained.parent / "photos" / "dark" / "0.png", tmp_path / "=1+1.png")
    monkeypatch.chdir(tmp_path)
    outcome = striate("predict", trained, "=1+1.png", "--format", "csv")
    assert "'=1+1.png" in outcome.out


def test_explain_config_shows_the_origin_of_each_value(striate: Striate, color_folder: Path) -> None:
    outcome = striate("explain-config", color_folder, "--epochs", 3, "--set", "augment.flip=0.5")
    assert "epochs = 3  # --epochs" in outcome.out
    assert "flip = 0.5  # --set augment.flip=0.5" in outcome.out
    assert "size = [16, 16]  # size of the pictures" in outcome.out


def test_explain_config_of_a_run_is_its_run_toml(striate: Striate, trained: Path) -> None:
    assert striate("explain-config", trained).out == (trained / "run.toml").read_text()
    rows = {row["key"]: row for row in json.loads(striate("explain-config", trained, "--json").out)}
    assert rows["training.epochs"] == {"key": "training.epochs", "value": 2, "origin": "train(epochs=)"}


def test_a_printed_config_trains_the_same_again(striate: Striate, color_folder: Path, tmp_path: Path) -> None:
    first = ("train", color_folder, "--epochs", 1, "--deterministic", "--out")
    assert striate(*first, tmp_path / "a").code == 0
    again = ("train", color_folder, "--config", tmp_path / "a" / "run.toml", "--out", tmp_path / "b")
    assert striate(*again).code == 0
    a, b = (striate("hash", tmp_path / name).out.split()[0] for name in "ab")
    assert a == b


def test_hash_is_equal_for_equal_weights_whatever_the_card_says(
    striate: Striate, trained: Path, tmp_path: Path
) -> None:
    shutil.copy(trained / "model.safetensors", tmp_path / "copy.safetensors")
    copied, own = striate("hash", tmp_path / "copy.safetensors").out, striate("hash", trained).out
    assert copied.split()[0] == own.split()[0]
    assert len(own.split()[0]) == 64


def test_check_lists_findings_with_their_fixes(striate: Striate, color_folder: Path) -> None:
    (color_folder / "red" / "empty.png").write_bytes(b"")
    outcome = striate("check", color_folder)
    assert outcome.code == 1
    assert "red/empty.png" in outcome.out
    assert "fix:" in outcome.out
    found = json.loads(striate("check", color_folder, "--json").out)
    assert set(found["findings"][0]) == {"file", "id", "level", "code", "message", "fix"}


def test_models_and_datasets_are_listed(striate: Striate) -> None:
    rows = [json.loads(line) for line in striate("models", "--json").out.splitlines()]
    assert {"name": "resnet18", "parameters": 11_689_512}.items() <= next(
        row for row in rows if row["name"] == "resnet18"
    ).items()
    names = striate("datasets").out
    for name in ("digits", "shapes", "fashion-mnist", "class folders"):
        assert name in names


def test_convert_makes_a_model_that_every_verb_takes(
    striate: Striate, shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    weights = shared_data("weights/resnet20-12fca82f.th")
    out = tmp_path / "r20"
    assert striate("convert", weights, "--model", "resnet20_cifar", "--out", out).code == 0
    assert striate("hash", out).code == 0
    report = json.loads(
        striate("convert", weights, "--model", "resnet20_cifar", "--out", tmp_path / "again", "--json").out
    )
    assert (report["source"], report["names"]["linear.bias"]) == ("akamaster", "fc.bias")
    assert len(report["names"]) == report["matched"] == 97
    again = striate("convert", weights, "--model", "resnet20_cifar", "--out", out)
    assert (again.code, "already" in again.err) == (2, True)
    wrong = striate("convert", weights, "--model", "resnet32_cifar", "--out", tmp_path / "r32")
    assert (wrong.code, "missing" in wrong.err) == (4, True)


def test_training_does_not_import_torchs_compiler(tmp_path: Path) -> None:
    # It takes over a second of every run, and several harmless names of torch import it.
    script = (
        "import sys; from striate.cli import main; "
        f"code = main(['train', 'digits', '--epochs', '1', '--out', {str(tmp_path / 'run')!r}]); "
        "sys.exit(code or 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
