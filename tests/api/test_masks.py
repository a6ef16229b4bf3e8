"""Masks from the folder to the scores: training, resuming, measuring, predicting, checking."""

import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import striate
from striate import api
from striate.config import Layer, read_toml
from striate.errors import DataError, Interrupted, UsageError
from striate.structures import IGNORE, Segmentation

NETWORK = {"width": 8, "depth": 2}
COLORS = np.array([(90, 90, 90), (210, 60, 40), (40, 80, 220)], np.uint8)


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """24 pictures of 40 x 48, a red and a blue block on gray, with masks and names; the top row is void."""
    root, chance = tmp_path / "street", np.random.default_rng(5)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    (root / "classes.txt").write_text("ground\nred\nblue\n")
    for number in range(24):
        mask = np.zeros((40, 48), np.uint8)
        for label in (1, 2):
            y, x = chance.integers(2, 22), chance.integers(0, 30)
            mask[y : y + 14, x : x + 14] = label
        noise = chance.integers(-20, 20, (40, 48, 3))
        pixels = np.clip(COLORS[mask].astype(int) + noise, 0, 255).astype(np.uint8)
        mask[0] = IGNORE
        Image.fromarray(pixels).save(root / "images" / f"{number:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number:02}.png")
    return root


def trained(data: Path, out: Path, **training: Any) -> Any:
    table = {
        "learning_rate": 1e-2,
        "epochs": 6,
        "batch_size": 4,
        "workers": 0,
        "deterministic": True,
        **training,
    }
    settings = {"network": NETWORK, "training": {"precision": "fp32", **table}}
    return striate.train(data, "unet_same", out=out, settings=settings)


def test_a_folder_with_masks_becomes_a_network_that_finds_the_classes(street: Path, tmp_path: Path) -> None:
    run = trained(street, tmp_path / "run")
    assert set(run.metrics) == {"mean_iou", "pixel_accuracy", "class_accuracy", "dice", "frequency_iou"}
    assert run.metrics["mean_iou"] > 0.8
    found = striate.evaluate(run.folder)
    assert found.metrics == run.metrics
    assert found.scores.unit == "pixels"
    # Void pixels are no class's: 39 of 40 rows count.
    assert int(np.asarray(found.scores.confusion).sum()) == found.pictures * 39 * 48
    result = run.model.predict(street / "images" / "03.png")
    assert isinstance(result, Segmentation)
    assert result.mask.shape == (40, 48)
    with Image.open(street / "masks" / "03.png") as file:
        truth = np.array(file)
    assert (result.mask == truth)[1:].mean() > 0.95


def test_a_stopped_run_goes_on_to_the_same_weights(street: Path, tmp_path: Path) -> None:
    whole = trained(street, tmp_path / "whole", epochs=2)
    layers = [read_toml(tmp_path / "whole" / "run.toml")]
    plan = api.prepare(str(street), out=tmp_path / "stopped", layers=layers)
    with closing(plan.events()) as events:
        for event in events:
            if getattr(event, "step", 0) == 3:
                os.kill(os.getpid(), signal.SIGINT)
                with pytest.raises(Interrupted):
                    list(events)
    again = striate.train(resume=tmp_path / "stopped")
    assert api.hash_of(again.folder) == api.hash_of(whole.folder)
    assert again.metrics == whole.metrics


def test_a_network_for_classes_is_refused_for_masks_and_the_other_way_round(
    street: Path, color_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"resnet18 is for classification, .* for segmentation"):
        striate.train(street, "resnet18", out=tmp_path / "run")
    with pytest.raises(UsageError, match=r"a class each, which segmentation does not learn from"):
        striate.train(color_folder, "unet", out=tmp_path / "run")


def test_settings_of_the_other_task_are_refused_by_name(street: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mixup"):
        striate.train(street, "unet_same", out=tmp_path / "run", settings={"augment": {"mixup": 0.2}})
    with pytest.raises(UsageError, match="label_smoothing"):
        trained(street, tmp_path / "run", label_smoothing=0.1)
    with pytest.raises(UsageError, match=r"data\.classes"):
        striate.train(street, "unet_same", out=tmp_path / "run", classes=("red", "blue"))


def test_rare_classes_weigh_more_by_their_pixels(street: Path, tmp_path: Path) -> None:
    layers = [Layer("test", {"network": NETWORK, "training": {"balance": "inverse"}})]
    plan = api.prepare(str(street), "unet_same", out=tmp_path / "run", layers=layers)
    batch = next(plan.loaders.train.epoch(0))
    found = [
        {round(float(value), 4) for value in batch.targets.weight[batch.targets.labels == label]}
        for label in (0, 1, 2, IGNORE)
    ]
    assert [len(values) for values in found[:3]] == [1, 1, 1]
    ground, red, blue = (values.pop() for values in found[:3])
    assert ground < 0.6 < 1.5 < min(red, blue)
    assert found[3] in ({0.0}, set())


def test_data_with_other_classes_is_measured_by_name(street: Path, tmp_path: Path) -> None:
    run = trained(street, tmp_path / "run", epochs=1)
    (street / "classes.txt").write_text("Ground\nRED\nblue\n")
    found = striate.evaluate(run.folder, street, part="all")
    assert "without regard to capitals" in found.notes[-1]
    (street / "classes.txt").write_text("ground\nred\ngreen\n")
    with pytest.raises(DataError, match="green"):
        striate.evaluate(run.folder, street, part="all")
