"""`striate explain` as it is typed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate import create
from striate.modelfile import write_model
from striate.models import card_of

Striate = Callable[..., Any]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model file and a picture, which the command runs in."""
    network = create("simple_cnn", classes=("ant", "bee", "cat"), preprocess={"size": (16, 16)})
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    write_model(tmp_path / "run" / "model.safetensors", tensors, card_of(network))
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "some photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_is_on_stdout_and_its_pictures_in_a_folder(striate: Striate, places: Path) -> None:
    outcome = striate("explain", "run", "some photo.png")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0] == "simple_cnn on some photo.png"
    assert {"What it says", "Where it looked", "Why is this number here?"} <= set(lines)
    assert "pictures in explained-some photo: prediction.png, gradcam.png" in outcome.err
    names = {path.name for path in (places / "explained-some photo").iterdir()}
    assert {"prediction.png", "gradcam.png", "receptive-field.png", "filters.png"} <= names
    assert sum(name.startswith("maps-") for name in names) == 2
    again = striate("explain", "run", "some photo.png")
    assert again.code == 2
    assert "there is something there already. fix: choose a new folder" in again.err


def test_json_is_one_object_and_writes_nothing_unasked(striate: Striate, places: Path) -> None:
    outcome = striate("explain", "run", "some photo.png", "--what", "gradcam", "--target", "bee", "--json")
    found = json.loads(outcome.out)
    assert found["sections"][0]["target"]["name"] == "bee"
    assert found["files"] == []
    assert not list(places.glob("explained*"))
    asked = striate("explain", "run", "some photo.png", "--what", "filters", "--json", "--out", "new")
    assert [Path(path).name for path in json.loads(asked.out)["files"]] == ["filters.png"]
    assert (places / "new" / "filters.png").is_file()


def test_one_number_is_worked_out(striate: Striate, places: Path) -> None:
    outcome = striate(
        "explain", "run", "some photo.png", "--layer", "stages.stage1.0", "--pixel", "3,7", "--channel", "1"
    )
    assert outcome.code == 0
    assert "channel 1, row 3, column 7" in outcome.out
    assert "agrees" in outcome.out
    assert not list(places.glob("explained*"))


def test_shift_is_a_table_and_a_chart(striate: Striate, places: Path) -> None:
    outcome = striate("explain", "run", "some photo.png", "--what", "shift", "--against", "run")
    assert outcome.code == 0
    assert "   -8" in outcome.out
    assert "least" in outcome.out
    assert (places / "explained-some photo-shift" / "shift.svg").is_file()


def test_a_kernel_reads_a_picture_alone(striate: Striate, places: Path) -> None:
    outcome = striate("explain", "some photo.png", "--kernel", "sobel-x")
    assert outcome.code == 0
    assert "kernel sobel-x, 3x3" in outcome.out
    assert "total =" in outcome.out
    assert (places / "explained-some photo-kernel" / "kernel.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run"], 2, "name a model and one picture"),
        (["run", "a.png", "b.png"], 2, "name a model and one picture"),
        (["run", "some photo.png", "--pixel", "3"], 2, "is no row and column"),
        (["run", "some photo.png", "--what", "gradcan"], 2, "did you mean gradcam"),
        (["run", "some photo.png", "--what", "maps", "--pixel", "1,1"], 2, "maps does not read it"),
        (["run", "absent.png"], 3, "absent.png"),
        (["absent", "some photo.png"], 4, "there is no such file or folder"),
        (["some photo.png", "--kernel", "nine"], 2, "there is no 'nine'"),
        (["run", "some photo.png", "--layer", "stages.stage9"], 2, "did you mean"),
    ],
)
def test_mistakes_are_told_in_one_line(
    striate: Striate, places: Path, arguments: list[str], code: int, message: str
) -> None:
    outcome = striate("explain", *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.startswith("error: ")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not list(places.glob("explained*"))
