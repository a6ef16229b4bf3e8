import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Run = Callable[..., Any]


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Two pictures of 100x50 pixels in YOLO's format, one line of the second naming no class."""
    folder = tmp_path / "boxes"
    folder.mkdir()
    for name in ("1", "2"):
        Image.new("RGB", (100, 50)).save(folder / f"{name}.jpg")
        (folder / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    (folder / "2.txt").write_text("5 0.5 0.5 0.2 0.4\n")
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder


def test_boxes_are_written_and_what_is_left_out_is_said(striate: Run, boxes: Path, tmp_path: Path) -> None:
    outcome = striate("convert", boxes, "--to", "coco", "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "2 pictures, 1 boxes of 2 classes as COCO boxes; next: striate check" in outcome.out
    assert "2.txt, line 1: its class '5' is none of the listed ones" in outcome.err
    assert (tmp_path / "out/annotations/instances.json").is_file()


def test_json_holds_counts_and_losses(striate: Run, boxes: Path, tmp_path: Path) -> None:
    outcome = striate("convert", boxes, "--to", "voc", "--out", tmp_path / "out", "--json")
    report = json.loads(outcome.out)
    assert (report["format"], report["boxes"], report["lost"]) == ("VOC boxes", 1, [])
    assert report["left_out"][0]["code"] == "box-class"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "coco", "--model", "mlp"), "--model: it is for weights"),
        (("--to", "coco", "--match", "name"), "--match: it is for weights"),
        (("--to", "coco", "--classes", "cat"), "--classes: it is for weights"),
        (("--format", "voc_boxes"), "--format: it says how to read data"),
        (("--to", "yollo"), "did you mean yolo?"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    striate: Run, boxes: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    outcome = striate("convert", boxes, *options, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_target_is_told_of_it(striate: Run, boxes: Path, tmp_path: Path) -> None:
    outcome = striate("convert", boxes, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "give --to coco, pascal, voc or yolo" in outcome.err
