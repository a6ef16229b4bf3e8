"""Every network refuses what it cannot take: one clear line of ours, never torch's."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from striate import modelfile, models
from striate.errors import ModelError, StriateError, UsageError
from striate.models.network import Network, NetworkConfig
from striate.runtime.pytorch import PyTorchEngine

Tensors = Mapping[str, NDArray[Any]]
Spoil = Callable[[dict[str, NDArray[Any]]], Tensors]


class Case(NamedTuple):
    family: ModuleType
    variant: str
    config: NetworkConfig


CASES = {
    f"{name}-{form}": Case(family, next(iter(family.VARIANTS)), config)
    for name, family in models.families().items()
    for form, config in {"tiny": family.TINY, **getattr(family, "TINIES", {})}.items()
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=models.families())
def tiny(request: pytest.FixtureRequest) -> Network:
    """The family's TINY under a public name, as `create` makes it."""
    family = models.families()[request.param]
    return models.create(next(iter(family.VARIANTS)), **msgspec.to_builtins(family.TINY)).eval()


def built(case: Case, side: int) -> Network | UsageError:
    """The network for pictures of `side` x `side`, or the refusal to build it."""
    spec = case.config.preprocess
    preprocess = dataclasses.replace(spec, size=(side, side), fit="stretch", resize_to=None, border=0)
    try:
        network: Network = case.family.build(msgspec.structs.replace(case.config, preprocess=preprocess))
    except UsageError as error:
        return error
    return network.eval()


def answer(network: Network, side: int) -> StriateError | None:
    """What the network says to pictures of `side` x `side`; anything but an error of ours is raised."""
    try:
        images = torch.zeros(2, network.preprocess.channels, side, side, dtype=torch.uint8)
        dense = network.dense(images, **network.blank_extras(images))
    except StriateError as error:
        return error
    assert all(tensor.isfinite().all() for tensor in dense.values())
    return None


def is_clear(error: StriateError) -> bool:
    return bool(error.where and error.what and error.fix) and "\n" not in str(error)


def written(path: Path, network: Network, tensors: Tensors, **changes: Any) -> Path:
    modelfile.write_model(path, tensors, dataclasses.replace(models.card_of(network), **changes))
    return path


def arrays(network: Network) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 15, 31])
def test_a_network_for_small_pictures_is_refused_with_the_least_size_or_works(case: Case, side: int) -> None:
    made = built(case, side)
    if isinstance(made, Network):
        assert answer(made, side) is None
        return
    assert is_clear(made)
    assert made.where == "preprocess.size"
    assert f"got {side}x{side}" in made.what
    least = int(made.fix.partition("x")[0].rpartition(" ")[2])
    assert least > side
    assert isinstance(built(case, least - 1), UsageError)
    enough = built(case, least)
    assert isinstance(enough, Network)
    assert answer(enough, least) is None


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 15, 31, 77])
def test_pictures_of_another_size_are_taken_or_refused_with_both_sizes(case: Case, side: int) -> None:
    error = answer(case.family.build(case.config).eval(), side)
    if error is not None:
        assert isinstance(error, UsageError)
        assert is_clear(error)
        assert error.where == "images"
        assert f"got {side}x{side}" in error.what


def test_gray_pictures_are_refused_by_a_colour_network_and_the_other_way_round(case: Case) -> None:
    network = case.family.build(case.config).eval()
    height, width = network.preprocess.size
    takes = network.preprocess.channels
    images = torch.zeros(1, 4 - takes, height, width, dtype=torch.uint8)
    with pytest.raises(UsageError, match=rf"takes \(B, {takes}, H, W\), got \(1, {4 - takes},") as caught:
        network.dense(images, **network.blank_extras(images))
    assert is_clear(caught.value)


def missing(tensors: dict[str, NDArray[Any]]) -> Tensors:
    del tensors[min(tensors)]
    return tensors


def surplus(tensors: dict[str, NDArray[Any]]) -> Tensors:
    return {**tensors, "stranger.weight": np.zeros(3, np.float32)}


def reshaped(tensors: dict[str, NDArray[Any]]) -> Tensors:
    name = min(tensors)
    return {**tensors, name: np.zeros((*tensors[name].shape, 2), np.float32)}


@pytest.mark.parametrize("spoil", [missing, surplus, reshaped])
def test_a_file_whose_tensors_do_not_fit_is_refused_naming_one(
    tiny: Network, tmp_path: Path, spoil: Spoil
) -> None:
    path = written(tmp_path / "model.safetensors", tiny, spoil(arrays(tiny)))
    odd = "stranger.weight" if spoil is surplus else min(arrays(tiny))
    with pytest.raises(ModelError, match=f"tensor {odd}: ") as caught:
        PyTorchEngine.from_file(path, "cpu")
    assert is_clear(caught.value)
    assert caught.value.where == str(path)


def test_a_file_with_the_tensors_of_another_network_is_refused(tiny: Network, tmp_path: Path) -> None:
    other = models.create("mlp" if tiny.name != "mlp" else "lenet5", classes=tiny.classes)
    path = written(tmp_path / "model.safetensors", tiny, arrays(other))
    with pytest.raises(ModelError, match=rf"tensor \S+: .* in the file, .* in {tiny.name}") as caught:
        PyTorchEngine.from_file(path, "cpu")
    assert is_clear(caught.value)


def test_a_card_with_another_number_of_classes_than_the_tensors_is_refused(
    tiny: Network, tmp_path: Path
) -> None:
    classes = (*tiny.classes, "one more")
    path = written(tmp_path / "model.safetensors", tiny, arrays(tiny), classes=classes)
    # A detector's layers have other numbers than the classes': with boxes, anchors and background in them.
    expected = "" if tiny.task == "detection" else rf".*{len(classes)}"
    with pytest.raises(ModelError, match=rf"tensor \S+: shape .* in the file, shape {expected}") as caught:
        PyTorchEngine.from_file(path, "cpu")
    assert is_clear(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"classes": 0}, {"classes": 3_000_000_000}, {"preprocess": {"size": [0, 8]}}, {"stranger": 1}],
    ids=str,
)
def test_an_absurd_config_is_refused_before_anything_is_allocated(
    tiny: Network, change: dict[str, Any]
) -> None:
    with pytest.raises(StriateError) as caught:
        models.create(tiny.name, **{**msgspec.to_builtins(tiny.config), **change})
    assert is_clear(caught.value)
    assert not caught.value.fix.startswith("report")


def test_a_single_class_is_nothing_to_choose_from_unless_there_are_boxes(tiny: Network) -> None:
    settings = {**msgspec.to_builtins(tiny.config), "classes": 1}
    if tiny.task == "detection":
        assert models.create(tiny.name, **settings).classes == ("0",)
        return
    with pytest.raises(UsageError, match="give at least 2"):
        models.create(tiny.name, **settings)
