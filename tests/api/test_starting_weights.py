"""Starting weights of a run: from the seed, and from training pictures where the family wants them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import striate
from striate.api.training import begin, make_network, settle
from striate.config import Layer
from striate.data.dataset import Dataset
from striate.modelfile import MODEL_FILE, read_tensors
from striate.models.classification.speedrun import Speedrun
from striate.models.network import Network
from striate.training import beginning
from striate.training.beginning import start_pictures


def settled(data: Path, model: str, **training: Any) -> Any:
    return settle(str(data), model, [Layer("test", {"training": training})])[:2]


def started(resolved: Any, dataset: Dataset) -> Network:
    network = make_network(resolved.value, dataset)
    begin(network, resolved.value, dataset)
    return network


def test_a_speedrun_network_begins_with_the_directions_of_its_training_pictures(color_folder: Path) -> None:
    resolved, dataset = settled(color_folder, "speedrun_s", seed=3)
    network = started(resolved, dataset)
    assert isinstance(network, Speedrun)
    images = start_pictures(dataset, network.preprocess, 3)
    count = network.whiten.out_channels // 2
    with torch.no_grad():
        maps = network.whiten(network.normalize(images))[:, :count, 1:-1, 1:-1]  # patches without padding
    values = maps.double().transpose(0, 1).flatten(1)
    moments = values @ values.T / values.shape[1]
    torch.testing.assert_close(moments, moments.diag().diag(), atol=1e-4, rtol=0)


def test_the_same_seed_gives_the_same_start(color_folder: Path) -> None:
    resolved, dataset = settled(color_folder, "speedrun_s", seed=3)
    first, second = (started(resolved, dataset).state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_what_was_measured_travels_with_the_model(color_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "batch_size": 8, "workers": 0}
    run = striate.train(color_folder, "speedrun_s", out=tmp_path / "run", **options)
    resolved, dataset = settled(color_folder, "speedrun_s")
    begun = started(resolved, dataset)
    kept = read_tensors(run.folder / MODEL_FILE)["whiten.weight"]
    np.testing.assert_array_equal(kept, begun.state_dict()["whiten.weight"].numpy())


def test_other_families_see_no_picture_before_training(
    color_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a picture was decoded")

    resolved, dataset = settled(color_folder, "simple_cnn")
    monkeypatch.setattr(beginning, "start_pictures", refuse)
    started(resolved, dataset)
