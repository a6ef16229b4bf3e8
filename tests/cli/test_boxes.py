"""Boxes on the command line: what is printed, what is written, what is refused."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Striate = Callable[..., Any]
SMALL = (
    *("--set", "network.width=0.125", "--set", "augment.mosaic=0", "--set", "augment.sizes=none"),
    *("--epochs", "1", "--workers", "0"),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on `shapes_boxes` of one epoch."""
    from striate.cli import main

    out = tmp_path_factory.mktemp("boxes") / "run"
    given = ("--model", "yolox_nano", "--size", "32", *SMALL, "--out", str(out))
    assert main(["train", "shapes_boxes", *given]) == 0
    return out


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate([(40, 30), (70, 50)]):
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_an_evaluation_tells_each_class_in_objects(striate: Striate, model: Path) -> None:
    done = striate("eval", model)
    assert done.code == 0
    for word in ("AP50", "AR100", "best score", "circle", "backgrou", "objects"):
        assert word in done.out
    assert "in % of the truth" not in done.out
    found = json.loads(striate("eval", model, "--json").out)
    assert {"ap", "ap50", "ap75", "ar100", "voc07_ap50"} <= found["metrics"].keys()
    assert [row["name"] for row in found["classes"]] == sorted(row["name"] for row in found["classes"])


def test_pictures_with_boxes_and_labels_are_written_to_a_folder(
    striate: Striate, model: Path, photos: Path, tmp_path: Path
) -> None:
    done = striate("predict", model, photos, "--out", tmp_path / "found", "--score", "0")
    assert done.code == 0
    assert "2 pictures" in done.err
    for name, size in (("0", (40, 30)), ("1", (70, 50))):
        with Image.open(tmp_path / "found" / "pictures" / f"{name}.jpg") as file:
            assert min(file.size) >= min(size)
        assert (tmp_path / "found" / "labels" / f"{name}.txt").is_file()
    again = striate("predict", model, photos, "--out", tmp_path / "found")
    assert again.code == 2
    assert "choose a new folder" in again.err


def test_boxes_are_rows_and_lines_and_coco(
    striate: Striate, model: Path, photos: Path, tmp_path: Path
) -> None:
    every = ("--score", "0")
    lines = striate("predict", model, photos, *every).out.splitlines()
    assert [line.partition(":")[0].rpartition("/")[2] for line in lines] == ["0.png", "1.png"]
    rows = [json.loads(line) for line in striate("predict", model, photos, *every, "--json").out.splitlines()]
    assert [row["size"] for row in rows] == [[30, 40], [50, 70]]
    count = sum(len(row["detections"]) for row in rows)
    assert count > 2
    table = list(
        csv.DictReader(striate("predict", model, photos, *every, "--format", "csv").out.splitlines())
    )
    assert len(table) == count
    assert {"class", "score", "x0", "y1"} <= table[0].keys()
    out = tmp_path / "found.json"
    assert striate("predict", model, photos, *every, "--format", "coco", "--out", out).code == 0
    assert len(json.loads(out.read_text())) == count


def test_a_higher_score_leaves_out_more(striate: Striate, model: Path, photos: Path) -> None:
    def found(score: str) -> int:
        lines = striate("predict", model, photos, "--json", "--score", score).out.splitlines()
        return sum(len(json.loads(line)["detections"]) for line in lines)

    assert found("0") > found("0.9") == 0
    assert striate("predict", model, photos, "--score", "1.5").code == 2


def test_what_is_for_boxes_is_refused_where_there_are_none(
    striate: Striate, model: Path, photos: Path, tmp_path: Path
) -> None:
    coco = striate("predict", model, photos, "--format", "coco")
    assert coco.code == 2
    assert "--out" in coco.err
    flipped = striate("predict", model, photos, "--flip")
    assert flipped.code == 2
    masks = tmp_path / "masks"
    small = ("--set", "network.width=4", "--set", "network.depth=2", "--epochs", "1", "--workers", "0")
    given = ("--model", "unet_same", "--size", "32", *small, "--out", masks)
    assert striate("train", "shapes_masks", *given).code == 0
    assert "not for boxes" in striate("predict", masks, photos, "--score", "0.5").err
    assert "boxes" in striate("predict", masks, photos, "--format", "coco", "--out", tmp_path / "a.json").err


def test_the_plan_speaks_of_boxes(striate: Striate, tmp_path: Path) -> None:
    given = ("--model", "yolox_nano", "--size", "32", *SMALL)
    done = striate("train", "shapes_boxes", *given, "--out", tmp_path / "run")
    assert done.code == 0
    assert "1,361 boxes" in done.err
    assert "AP50" in done.out


def test_boxes_become_another_format(striate: Striate, tmp_path: Path) -> None:
    done = striate("convert", "shapes_boxes", "--to", "yolo", "--out", tmp_path / "yolo")
    assert done.code == 0
    assert (tmp_path / "yolo").is_dir()
    checked = json.loads(striate("check", tmp_path / "yolo", "--json").out)
    assert checked["pictures"] == 600
