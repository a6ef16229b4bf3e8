"""The report of a run that was really trained, on pictures whose names would break a careless page."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import striate
from striate import api
from striate.api import Run
from striate.api.evaluation import data_of_model
from striate.api.reporting import ReportRequest, gather
from striate.errors import DataError, ModelError, UsageError
from striate.reports.evidence import Evidence

HOSTILE = "<img src=x onerror=alert(1)>"
COLORS = {HOSTILE: (30, 60, 200), "green": (40, 180, 60), "red": (210, 40, 30)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch on three classes of 40 pictures, four of which bear the name of another."""
    root, chance = tmp_path_factory.mktemp("report"), np.random.default_rng(5)
    for name, color in COLORS.items():
        (root / "colors" / name).mkdir(parents=True)
        for number in range(40):
            noise = chance.integers(-25, 25, (60, 52, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            wrong = "green" if name == "red" and number % 10 == 0 else name
            (root / "colors" / wrong).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / "colors" / wrong / f"{name[:3]}{number}{HOSTILE}.png")
    options: dict[str, Any] = {"epochs": 4, "batch_size": 8, "workers": 0, "size": 16}
    return striate.train(root / "colors", "simple_cnn", out=root / "run", **options).folder


@pytest.fixture(scope="module")
def found(run: Path) -> Evidence:
    return gather(ReportRequest(run, run / "report.html"))


def test_the_file_is_whole_and_small_and_its_names_are_text(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert api.report(run, out) == out
    page = out.read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert HOSTILE not in page
    assert len(page) < 10_000_000


def test_it_lies_beside_the_model_unless_told_otherwise(run: Path) -> None:
    assert api.report(run) == run / "report.html"
    (run / "report.html").unlink()


def test_a_run_writes_its_own_report(run: Path, tmp_path: Path) -> None:
    scores = striate.evaluate(run).scores
    assert Run(run, scores, "test", 12, 1.0).report(tmp_path / "r.html") == tmp_path / "r.html"
    assert "simple_cnn on colors" in (tmp_path / "r.html").read_text("utf-8")


def test_the_scores_are_those_of_eval(run: Path, found: Evidence) -> None:
    evaluated = striate.evaluate(run)
    assert found.headline[0].value == evaluated.metrics["top1"]
    assert found.confusion.counts == tuple(map(tuple, evaluated.scores.confusion.tolist()))
    assert [row[0] for row in found.classes.rows] == [row["name"] for row in evaluated.scores.classes]
    assert found.calibration is not None
    assert sum(each.pictures for each in found.calibration.bins) == evaluated.pictures


def test_curves_come_from_the_log(run: Path, found: Evidence) -> None:
    loss, scores, rate = found.curves
    assert [series.name for series in loss.series] == ["train", "val"]
    assert scores.series[0].xs == (1.0, 2.0, 3.0, 4.0)
    assert loss.series[0].xs[-1] == rate.series[0].xs[-1] == 4.0


def test_the_data_has_the_parts_of_the_run(found: Evidence) -> None:
    assert [column.heading for column in found.data.classes.columns] == ["class", "train", "val", "test"]
    assert sum(row[1] + row[2] + row[3] for row in found.data.classes.rows) == 120  # type: ignore[operator]
    shown = [line for picture in found.data.samples.pictures for line in picture.lines]
    assert set(shown) == set(COLORS)


def test_mistakes_are_shown_with_where_the_network_looked(found: Evidence) -> None:
    worst = next(each for each in found.galleries if each.title == "Worst mistakes")
    assert len(worst.pictures[0].images) == 2
    assert worst.pictures[0].images[1].alt.startswith("where it looked for")
    assert worst.legend[0] == ("0", "#440154")


def test_the_network_is_there_with_its_receptive_fields(found: Evidence) -> None:
    network = found.network
    assert network is not None
    assert "sees" in [column.heading for column in network.columns]
    assert {layer.depth for layer in network.layers} >= {0, 1, 2}
    assert "not trained" not in dict(network.legend)["total"]


def test_the_first_right_picture_is_followed_through_the_network(run: Path, found: Evidence) -> None:
    data, _ = data_of_model(run, None)
    predictor = striate.load(run)
    (picture,) = found.inside.picture.pictures
    right = [
        data.items[index].key
        for index in data.indices("test").tolist()
        if predictor.predict(data.image(index)).index == data.items[index].label
    ]
    assert picture.key == right[0]
    assert "The first picture that the model is right about" in found.inside.picture.text
    assert [maps.title for maps in found.inside.maps] == [
        f"stages.stage{n}.{p}" for n, p in ((1, 2), (2, 5), (3, 5))
    ]
    worked = found.inside.worked
    assert worked is not None
    assert len(worked.channels) == 3
    assert [step.title for step in worked.steps] == [
        "stages.stage1.0: convolution",
        "stages.stage1.1: batch norm",
        "stages.stage1.2: ReLU",
    ]
    assert all(step.agrees for step in (*worked.entering, *worked.steps))


def test_the_command_repeats_the_run(run: Path, found: Evidence) -> None:
    assert found.provenance.command.startswith("striate train ")
    assert found.provenance.command.endswith(f"--config {run / 'run.toml'}")
    assert found.provenance.settings == (run / "run.toml").read_text()


def test_pictures_that_the_run_left_out_are_told_of(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run.parent / "colors", tmp_path / "colors")
    (tmp_path / "colors" / "red" / "empty.png").touch()
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    settings = (copied / "run.toml").read_text().replace(str(run.parent / "colors"), str(tmp_path / "colors"))
    (copied / "run.toml").write_text(settings)
    data = gather(ReportRequest(copied, tmp_path / "r.html")).data
    assert [(each.level, each.where) for each in data.findings if each.level == "error"] == [
        ("error", "red/empty.png")
    ]


def test_other_data_is_measured_as_a_whole_and_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    for name in ("green", "red"):
        shutil.copytree(run.parent / "colors" / name, tmp_path / "others" / name)
    found = gather(ReportRequest(run, tmp_path / "r.html", str(tmp_path / "others")))
    assert sum(map(sum, found.confusion.counts)) == 80
    assert "all pictures" in found.subject[1]
    assert "never saw" not in found.subject[1]


def test_a_model_file_alone_needs_data(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="does not say what it was trained on"):
        api.report(tmp_path / "model.safetensors")
    found = gather(
        ReportRequest(tmp_path / "model.safetensors", tmp_path / "r.html", str(run.parent / "colors"))
    )
    assert found.curves == ()
    assert found.provenance.command == ""


def test_what_cannot_be_reported_on_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        api.report(tmp_path / "none")
    with pytest.raises(UsageError, match="this is a folder"):
        api.report(run, tmp_path)


def test_a_damaged_log_is_named_with_its_line(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    lines = (copied / "events.jsonl").read_text().splitlines()
    (copied / "events.jsonl").write_text("\n".join([lines[0], lines[1][:20]]) + "\n")
    with pytest.raises(DataError, match=re.escape("line 2 is damaged")):
        api.report(copied, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_labels_are_checked_by_networks_that_never_saw_them(run: Path, tmp_path: Path) -> None:
    found = gather(ReportRequest(run, tmp_path / "r.html", folds=3))
    doubted = found.galleries[-1]
    assert doubted.title == "Likely label errors"
    assert "3 networks were trained as this one" in doubted.text
    assert "Of all 120 pictures" in doubted.text
    # Four reds are called green.
    wrong = {f"green/red{number}{HOSTILE}.png" for number in (0, 10, 20, 30)}
    assert len(wrong & {picture.key for picture in doubted.pictures[:12]}) >= 2
    assert sum(each.title == doubted.title for each in found.galleries) == 1
    with pytest.raises(UsageError, match="leave it out"):
        gather(ReportRequest(run, tmp_path / "r.html", str(run.parent / "colors"), folds=3))


def test_progress_names_what_is_done(run: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    api.report(run, tmp_path / "r.html", progress=lambda *stage: told.append(stage))
    assert list(dict.fromkeys(name for name, _, _ in told)) == ["measuring", "looking", "checking"]
