"""Cards written by hand: three entries are enough, and each mistake is told by its name."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from striate.errors import ModelError, StriateError, UsageError
from striate.modelfile import ModelCard, card_text
from striate.runtime.card_file import card_from_file, needs_card
from striate.structures import Preprocess

THREE = """
task = "classification"
classes = ["cat", "dog"]
preprocess = { size = [32, 48], fit = "stretch", mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }
"""


def write(folder: Path, text: str, name: str = "card.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_three_entries_are_a_card(tmp_path: Path) -> None:
    spec = Preprocess(size=(32, 48), fit="stretch", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert card_from_file(write(tmp_path, THREE)) == ModelCard(
        "classification", "", "card", {}, ("cat", "dog"), spec
    )


def test_a_whole_card_in_json_is_read_back(tmp_path: Path) -> None:
    card = ModelCard("detection", "ssd", "ssd300", {"score_threshold": 0.2}, ("a",), Preprocess(), context=7)
    path = write(tmp_path, card_text(card), "card.json")
    assert card_from_file(str(path)) == card


def test_the_error_of_a_file_without_card_shows_a_card_that_works(tmp_path: Path) -> None:
    fix = needs_card(Path("x.onnx")).fix
    shown = re.search("three lines: (.*)", fix)
    assert shown
    text = re.sub(r", (?=(classes|preprocess) = )", "\n", shown[1])
    card = card_from_file(write(tmp_path, text))
    assert replace(card, variant="") == ModelCard(
        "classification", "", "", {}, ("cat", "dog"), Preprocess(size=(224, 224))
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"card\.toml: it has no task\. fix: write three entries: task = "),
        ('task = "classification"', "it has no classes"),
        (THREE.replace("preprocess", "preproces"), "it has no preprocess"),
        (THREE + 'licens = "MIT"', r"card\.toml: licens: there is no 'licens'\. fix: did you mean licence"),
        (THREE.replace("mean", "means"), r"preprocess\.means.*did you mean preprocess\.mean"),
        (THREE.replace("classification", "clasification"), "task: .* did you mean classification"),
        (THREE.replace('"dog"', '"cat"'), "a name comes twice"),
        (THREE.replace('"cat", "dog"', ""), "there are none"),
        (THREE.replace('["cat", "dog"]', "2"), "classes: expected"),
        (THREE.replace('"stretch"', '"fill"'), r"preprocess\.fit: invalid enum value 'fill'"),
        (THREE.replace("[32, 48]", "[0, 48]"), r"preprocess\.size"),
        ("task =", "is not TOML"),
    ],
)
def test_mistakes_are_told_by_name(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(StriateError, match=message):
        card_from_file(write(tmp_path, text))


@pytest.mark.parametrize(("text", "message"), [("{", "cannot be read as JSON"), ("[]", "holds no entries")])
def test_json_that_is_no_card_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        card_from_file(write(tmp_path, text, "card.json"))


def test_a_card_that_is_not_there_is_told(tmp_path: Path) -> None:
    for name in ("none.toml", "none.json"):
        with pytest.raises(UsageError, match=rf"{name}: cannot be read"):
            card_from_file(tmp_path / name)


def test_the_missing_card_is_an_error_of_the_model() -> None:
    assert isinstance(needs_card(Path("x.onnx")), ModelError)
