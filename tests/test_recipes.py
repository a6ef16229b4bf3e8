"""Every file in recipes/: a whole run's settings, each of them read, that a run begins with."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import striate
from striate import models
from striate.api.settings import RunConfig
from striate.api.training import settle
from striate.config import Layer, Resolved, leaves, read_toml
from striate.data.augment import Augmentation
from striate.training.schedules import learning_rate

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
RECIPES = sorted(FOLDER.glob("*.toml"))
GRAY = ("fashion_mnist",)


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def pictures(recipe: Path, tmp_path: Path) -> Path:
    """Class folders of 2 x 60 pictures of the size and the channels that the recipe is for."""
    gray = any(name in recipe.stem for name in GRAY)
    shape = (28, 28) if gray else (32, 32, 3)
    chance = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(60):
            pixels = np.clip(chance.integers(0, 128, shape) + 100 * number, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.png")
    return tmp_path / "data"


def resolved(recipe: Path, pictures: Path) -> Resolved[RunConfig]:
    return settle(str(pictures), None, [read_toml(recipe)])[0]


def flat(values: Any, above: str = "") -> dict[str, Any]:
    """The values of nested tables by dotted path."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return found


def test_there_are_recipes_for_every_goal() -> None:
    stems = {path.stem for path in RECIPES}
    assert {"fashion_mnist_90", "fashion_mnist_92", "fashion_mnist_93", "cifar10_speedrun"} <= stems
    assert {"resnet20_cifar10", "lenet5_fashion_mnist", "simple_cnn_fashion_mnist"} <= stems


def test_every_key_is_read_and_has_its_effect(recipe: Path, pictures: Path) -> None:
    asked = flat(read_toml(recipe).values)
    found = resolved(recipe, pictures)
    effective = leaves(found.value)
    for path, value in asked.items():
        assert effective[path] == (tuple(value) if isinstance(value, list) else value), path
        assert found.origins[path] == str(recipe), path


def test_the_schedule_augmentation_and_rate_are_the_files_own(recipe: Path) -> None:
    asked = flat(read_toml(recipe).values)
    needed = {"model", "training.epochs", "training.batch_size", "training.optimiser"}
    needed |= {"training.learning_rate", "training.weight_decay", "training.schedule", "augment.flip"}
    assert needed <= asked.keys()


def test_a_run_can_begin_with_it(recipe: Path, pictures: Path) -> None:
    config = resolved(recipe, pictures).value
    with torch.device("meta"):
        network = models.family_of(config.model).build(config.network)
    Augmentation(config.augment, network.preprocess)
    steps = 3 * config.training.epochs
    assert all(learning_rate(config.training, step, 3) > 0 for step in range(steps))


def test_its_comment_says_how_to_use_it(recipe: Path) -> None:
    text = recipe.read_text()
    command = rf"^#   striate train \S+/ --config recipes/{recipe.name}$"
    assert re.search(command, text, re.MULTILINE)


@pytest.mark.parametrize(
    "recipe", [FOLDER / "fashion_mnist_92.toml"], ids=["fashion_mnist_92"], indirect=True
)
def test_it_trains(recipe: Path, pictures: Path, tmp_path: Path) -> None:
    few = Layer("test", {"training": {"batch_size": 8, "epochs": 2, "workers": 0, "threads": 1}})
    plan = striate.api.prepare(str(pictures), out=tmp_path / "run", layers=[read_toml(recipe), few])
    for _ in plan.events():
        pass
    assert plan.finish().metrics["top1"] > 0.8
