"""Networks as torch.export archives, which torch runs without their code."""

import dataclasses
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch

import striate
from striate import models
from striate.errors import ModelError, StriateError
from striate.export.graph import example_inputs
from striate.export.targets.torch import opened, write
from striate.modelfile import CARD_ENTRY, ModelCard, card_from_text
from striate.models.network import Network
from striate.runtime import predictor


def network_of(family: str, **spec: Any) -> Network:
    module = models.families()[family]
    torch.manual_seed(0)
    preprocess = dataclasses.replace(module.TINY.preprocess, **spec)
    network: Network = models.create(
        next(iter(module.VARIANTS)),
        **{
            name: getattr(module.TINY, name) for name in module.TINY.__struct_fields__ if name != "preprocess"
        },
        preprocess=preprocess,
    )
    return network.eval().requires_grad_(False)


def card_of(network: Network) -> ModelCard:
    return ModelCard(network.task, "family", network.name, {}, network.classes, network.preprocess)


def assert_agrees(path: Path, network: Network, batch: int, size: tuple[int, int]) -> None:
    inputs = example_inputs(network, batch, size, seed=batch)
    found = opened(path).dense({name: tensor.numpy() for name, tensor in inputs.items()})
    expected = network.dense(**inputs)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["lenet", "fast_rcnn", "faster_rcnn", "unet"])
def test_archive_agrees_with_the_network_in_batches_of_any_size(family: str, tmp_path: Path) -> None:
    network = network_of(family)
    write(network, tmp_path / "model.pt2", card_of(network))
    for batch in (1, 3):
        assert_agrees(tmp_path / "model.pt2", network, batch, network.preprocess.size)


def test_archive_takes_pictures_of_any_size_where_the_network_does(tmp_path: Path) -> None:
    network = network_of("fcn", fit="none")
    write(network, tmp_path / "model.pt2", card_of(network))
    assert_agrees(tmp_path / "model.pt2", network, 1, (61, 87))


def test_archive_holds_the_card_and_nothing_of_the_place_of_the_code(tmp_path: Path) -> None:
    network = network_of("lenet")
    write(network, tmp_path / "model.pt2", card_of(network))
    with ZipFile(tmp_path / "model.pt2") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    (card,) = (content for name, content in contents.items() if name.endswith(f"extra/{CARD_ENTRY}"))
    assert card_from_text(card.decode(), tmp_path) == card_of(network)
    code = str(Path(striate.__file__).parent).encode()
    assert [name for name, content in contents.items() if code in content] == []


def test_engine_has_one_lane_and_refuses_what_is_no_archive_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    network = network_of("lenet")
    write(network, path, card_of(network))
    assert opened(path).lanes == 1
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"model.pt2: .*cannot be read"):
        opened(path)


def test_striate_loads_no_archive(tmp_path: Path) -> None:
    network = network_of("lenet")
    write(network, tmp_path / "model.pt2", card_of(network))
    with pytest.raises(StriateError, match=r"model\.pt2: .*torch.export archive"):
        predictor.load(tmp_path / "model.pt2")
