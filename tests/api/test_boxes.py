"""Boxes from the folder to the scores: training, resuming, measuring, predicting, in stages too."""

import json
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
from striate.errors import Interrupted, UsageError
from striate.modelfile import read_tensors
from striate.structures import Detections

COLORS = {1: (210, 60, 40), 2: (40, 80, 220)}
NETWORK: dict[str, Any] = {"depth": 0.33, "width": 0.25, "depthwise": False, "norm_momentum": 0.1}
SMALL: dict[str, Any] = {"backbone_settings": {"depths": [1, 1, 1, 1], "width": 8}}


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """32 pictures of 48 x 56, a red and a blue block on gray, in COCO's format."""
    root, chance = tmp_path / "cells", np.random.default_rng(5)
    (root / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, 33):
        pixels = np.full((48, 56, 3), 90)
        for label, color in COLORS.items():
            height, width = chance.integers(12, 22, 2).tolist()
            x, y = int(chance.integers(0, 56 - width)), int(chance.integers(0, 48 - height))
            pixels[y : y + height, x : x + width] = color
            box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
            place = {"id": len(annotations) + 1, "image_id": number, "category_id": label}
            annotations.append(place | box)
        noisy = np.clip(pixels + chance.integers(-20, 20, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(root / "images" / f"{number:02}.png")
        images.append({"id": number, "file_name": f"{number:02}.png", "width": 56, "height": 48})
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    listed = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances.json").write_text(json.dumps(listed))
    return root


def trained(data: Path, out: Path, model: str = "yolox_nano", **changes: Any) -> Any:
    training = {"batch_size": 4, "workers": 0, "precision": "fp32", "deterministic": True, "ema": 0.0}
    training |= {"warmup_epochs": 0.5, "learning_rate": 5e-3}
    settings = {
        "network": changes.pop("network", NETWORK),
        "training": training | changes.pop("training", {}),
        "augment": changes.pop("augment", {"mosaic": 0.0, "sizes": None}),
    }
    return striate.train(data, model, out=out, size=64, settings=settings, **changes)


def test_a_folder_with_boxes_becomes_a_network_that_finds_them(cells: Path, tmp_path: Path) -> None:
    run = trained(cells, tmp_path / "run", epochs=25, training={"eval_every": 25})
    assert {
        "ap",
        "ap50",
        "ap75",
        "ar1",
        "ar10",
        "ar100",
        "voc07_ap50",
        "best_threshold",
    } <= run.metrics.keys()
    assert run.metrics["ap50"] > 0.5
    found = striate.evaluate(run.folder)
    assert found.metrics == run.metrics
    assert found.scores.class_names == ("red", "blue", "background")
    result = run.model.predict(cells / "images" / "03.png")
    assert isinstance(result, Detections)
    assert result.size == (48, 56)
    # From the score on with which the val part went best; all that was measured can be asked for.
    assert len(result) < len(run.model.at(None).predict(cells / "images" / "03.png"))
    assert len(run.model.at(0.999).predict(cells / "images" / "03.png")) == 0


def test_a_stopped_run_goes_on_to_the_same_weights(cells: Path, tmp_path: Path) -> None:
    whole = trained(cells, tmp_path / "whole", epochs=2, augment={"mosaic": 0.5})
    layers = [read_toml(tmp_path / "whole" / "run.toml")]
    plan = api.prepare(str(cells), out=tmp_path / "stopped", layers=layers)
    with closing(plan.events()) as events:
        for event in events:
            if getattr(event, "step", 0) == 3:
                os.kill(os.getpid(), signal.SIGINT)
                with pytest.raises(Interrupted):
                    list(events)
    again = striate.train(resume=tmp_path / "stopped")
    assert api.hash_of(again.folder) == api.hash_of(whole.folder)
    assert again.metrics == whole.metrics


FOUND_BEFOREHAND = {"preprocess": {"proposals": 30}}
RCNN: dict[str, Any] = {
    "network": {
        "backbone_settings": {"width": 0.25, "head": 32},
        "side": 32,
        "context": 3,
        **FOUND_BEFOREHAND,
    },
    "augment": {"rois": 8},
    "epochs": 1,
}


def test_a_network_that_takes_proposals_gets_them_in_training_and_in_use(cells: Path, tmp_path: Path) -> None:
    network = {**SMALL, **FOUND_BEFOREHAND, "head": {"hidden": 16}}
    run = trained(
        cells, tmp_path / "run", "fast_rcnn_resnet18", epochs=1, network=network, augment={"rois": 8}
    )
    assert run.model.preprocess.proposals == 30
    one = run.model.at(None).predict(cells / "images" / "03.png")
    two = run.model.at(None).predict([cells / "images" / "02.png", cells / "images" / "03.png"])[1]
    assert len(one)
    np.testing.assert_allclose(one.scores, two.scores, rtol=1e-4)


def test_what_gradients_do_not_train_is_solved_for_at_the_end(cells: Path, tmp_path: Path) -> None:
    run = trained(cells, tmp_path / "run", "rcnn_mobilenet_v2", **RCNN)
    tensors = read_tensors(run.folder / "last.safetensors")
    assert tensors["fitted"]
    assert tensors["svm.weight"].any()
    assert tensors["box.weight"].any()
    log = (run.folder / "events.jsonl").read_text()
    assert "the rest is solved for" in log


def test_a_run_stopped_while_it_solves_does_so_again(cells: Path, tmp_path: Path) -> None:
    whole = trained(cells, tmp_path / "whole", "rcnn_mobilenet_v2", **RCNN)
    layers = [read_toml(tmp_path / "whole" / "run.toml")]
    plan = api.prepare(str(cells), out=tmp_path / "stopped", layers=layers)
    with closing(plan.events()) as events:
        for event in events:
            if "solved" in getattr(event, "text", ""):
                os.kill(os.getpid(), signal.SIGINT)
                with pytest.raises(Interrupted):
                    list(events)
    again = striate.train(resume=tmp_path / "stopped")
    assert api.hash_of(again.folder) == api.hash_of(whole.folder)


def test_settings_that_have_no_meaning_for_boxes_are_refused(cells: Path, tmp_path: Path) -> None:
    for training, named in (({"balance": "inverse"}, "balance"), ({"label_smoothing": 0.1}, "smoothing")):
        layers = [Layer("test", {"network": NETWORK, "training": training})]
        with pytest.raises(UsageError, match=named):
            api.prepare(str(cells), "yolox_nano", out=tmp_path / "run", layers=layers)
    with pytest.raises(UsageError, match="not for boxes"):
        striate.load(classifier(tmp_path)).at(0.5)


def classifier(tmp_path: Path) -> Path:
    """A model file of a network for classes."""
    from striate import models
    from striate.training.saving import save

    network = models.create("lenet5")
    save(tmp_path / "classifier.safetensors", network, models.card_of(network))
    return tmp_path / "classifier.safetensors"
