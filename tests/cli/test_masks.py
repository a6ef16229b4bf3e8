"""Masks on the command line: what is printed, what is written, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Striate = Callable[..., Any]
SMALL = ("--set", "network.width=4", "--set", "network.depth=2", "--epochs", "1", "--workers", "0")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on `shapes_masks` of one epoch."""
    from striate.cli import main

    out = tmp_path_factory.mktemp("masks") / "run"
    assert (
        main(["train", "shapes_masks", "--model", "unet_same", "--size", "32", *SMALL, "--out", str(out)])
        == 0
    )
    return out


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate([(40, 30), (70, 50)]):
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_an_evaluation_tells_each_class_in_pixels(striate: Striate, model: Path) -> None:
    done = striate("eval", model)
    assert done.code == 0
    for word in ("mean IoU", "pixel accuracy", "Dice", "background", "in % of the truth", "pixels"):
        assert word in done.out
    found = json.loads(striate("eval", model, "--json").out)
    assert {"mean_iou", "pixel_accuracy", "class_accuracy", "dice"} <= found["metrics"].keys()
    assert found["classes"][0]["name"] == "background"


def test_masks_and_overlays_are_written_to_a_folder(
    striate: Striate, model: Path, photos: Path, tmp_path: Path
) -> None:
    done = striate("predict", model, photos, "--out", tmp_path / "found")
    assert done.code == 0
    assert "2 pictures" in done.err
    for name, size in (("0", (40, 30)), ("1", (70, 50))):
        with Image.open(tmp_path / "found" / "masks" / f"{name}.png") as file:
            assert (file.mode, file.size) == ("P", size)
        assert (tmp_path / "found" / "overlays" / f"{name}.jpg").is_file()
    again = striate("predict", model, photos, "--out", tmp_path / "found")
    assert again.code == 2
    assert "choose a new folder" in again.err


def test_shares_and_runs_are_told_without_a_folder(striate: Striate, model: Path, photos: Path) -> None:
    lines = striate("predict", model, photos).out.splitlines()
    assert [line.split()[0].rpartition("/")[2] for line in lines] == ["0.png", "1.png"]
    rows = [json.loads(line) for line in striate("predict", model, photos, "--json").out.splitlines()]
    assert [row["size"] for row in rows] == [[30, 40], [50, 70]]
    assert sum(length for _, length in rows[1]["runs"]) == 50 * 70


def test_views_are_asked_for_by_flags(striate: Striate, model: Path, photos: Path) -> None:
    given = ("--scales", "0.75,1", "--flip")
    assert striate("predict", model, photos, *given).code == 0
    assert striate("predict", model, photos, "--tile", "96").code == 0
    refused = striate("predict", model, photos, "--tile", "8")
    assert refused.code == 2
    assert "tile" in refused.err
    assert striate("predict", model, photos, "--scales", "big").code == 2


def test_a_mask_is_no_row_of_a_table(striate: Striate, model: Path, photos: Path, tmp_path: Path) -> None:
    done = striate("predict", model, photos, "--out", tmp_path / "found.csv")
    assert done.code == 2
    assert "--out masks" in done.err
    assert not (tmp_path / "found.csv").exists()


def test_the_plan_and_the_end_of_a_training_speak_of_masks(striate: Striate, tmp_path: Path) -> None:
    given = ("--model", "unet_same", "--size", "24x32", *SMALL)
    done = striate("train", "shapes_masks", *given, "--out", tmp_path / "run")
    assert done.code == 0
    assert "24x32" in done.err
    assert "mean IoU" in done.out


@pytest.mark.parametrize("size", ["24x", "0x8", "big", "8x8x8"])
def test_a_size_that_is_none_is_refused(striate: Striate, tmp_path: Path, size: str) -> None:
    done = striate("train", "shapes_masks", "--model", "unet_same", "--size", size, "--out", tmp_path / "run")
    assert done.code == 2
    assert "size" in done.err
