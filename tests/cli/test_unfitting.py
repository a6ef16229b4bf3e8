"""A model, a size or data that do not fit each other: one line that says so, and nothing is begun."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from striate import modelfile, models

Striate = Callable[..., Any]
COLORS = ("blue", "green", "red")


def model_file(path: Path, name: str, weights_of: str, classes: tuple[str, ...] = COLORS) -> Path:
    """A model file that says it is `name` with `classes`, holding weights of `weights_of` for three."""
    tensors = models.create(weights_of, COLORS).state_dict()
    card = replace(models.card_of(models.create(name, COLORS)), classes=classes)
    modelfile.write_model(path, {key: tensor.numpy() for key, tensor in tensors.items()}, card)
    return path


def test_predict_refuses_the_tensors_of_another_network(
    striate: Striate, tmp_path: Path, color_folder: Path
) -> None:
    model = model_file(tmp_path / "m.safetensors", "lenet5", weights_of="mlp")
    outcome = striate("predict", model, color_folder / "red")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (4, "", 1)
    assert outcome.err.startswith(f"error: {model}: tensor c1.bias: none in the file, shape (6,) in lenet5.")


def test_predict_refuses_a_card_with_another_number_of_classes_than_its_tensors(
    striate: Striate, tmp_path: Path, color_folder: Path
) -> None:
    model = model_file(tmp_path / "m.safetensors", "lenet5", "lenet5", classes=("blue", "red"))
    outcome = striate("predict", model, color_folder / "red")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (4, "", 1)
    assert "shape (3,) in the file, shape (2,) in lenet5" in outcome.err


def test_eval_refuses_data_of_other_classes_and_names_them(
    striate: Striate, tmp_path: Path, color_folder: Path
) -> None:
    model = model_file(tmp_path / "m.safetensors", "lenet5", "lenet5")
    (color_folder / "blue").rename(color_folder / "violet")
    outcome = striate("eval", model, color_folder)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (3, "", 1)
    assert "violet" in outcome.err.partition("fix: ")[0]
    assert "blue, green, red" in outcome.err.partition("fix: ")[2]


@pytest.mark.parametrize(
    ("model", "least"),
    [("vgg16", 32), ("alexnet", 63), ("googlenet", 31), ("lenet5", 16), ("tutorial_cnn", 15)],
)
def test_train_refuses_a_size_below_the_least_before_anything_is_written(
    striate: Striate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    color_folder: Path,
    model: str,
    least: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = striate("train", color_folder, "--model", model, "--size", "6", "--epochs", "1")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "preprocess.size" in outcome.err
    assert f"{least}x{least} or more" in outcome.err.partition("fix: ")[2]
    assert not (tmp_path / "runs").exists()
