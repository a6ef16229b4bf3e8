import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import striate as package
from striate import models


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes the state dict of a fresh network under names that tell nothing."""

    def write(name: str, leave_out: str = "nothing", **config: Any) -> Path:
        torch.manual_seed(0)
        state_dict = models.create(name, **config).state_dict()
        kept = [tensor for key, tensor in state_dict.items() if leave_out not in key]
        path = tmp_path / "weights.pt"
        torch.save({f"t{number}": tensor for number, tensor in enumerate(kept)}, path)
        return path

    return write


def test_tensors_are_matched_by_their_order(
    striate: Callable[..., Any], save: Callable[..., Path], tmp_path: Path
) -> None:
    file, out = save("mlp", classes=3), tmp_path / "out"
    outcome = striate("convert", file, "--model", "mlp", "--match", "order", "--out", out)
    assert (outcome.code, outcome.err) == (0, "")
    assert "mlp, 8 tensors, in their order" in outcome.out
    assert "t0 -> layers.0.weight" in outcome.out
    assert "next: striate eval" in outcome.out
    assert package.load(out).classes == ("0", "1", "2")


def test_an_absent_last_layer_is_said(
    striate: Callable[..., Any], save: Callable[..., Path], tmp_path: Path
) -> None:
    file = save("mlp", leave_out="layers.6")
    arguments = ("convert", file, "--model", "mlp", "--match", "order", "--classes", "ant,bee")
    outcome = striate(*arguments, "--out", tmp_path / "a")
    assert outcome.code == 0
    assert "0 until it is trained: layers.6.weight, layers.6.bias" in outcome.out
    assert "striate eval" not in outcome.out
    report = json.loads(striate(*arguments, "--out", tmp_path / "b", "--json").out)
    assert report["untrained"] == ["layers.6.weight", "layers.6.bias"]
    assert report["matched"] == 6


def test_the_only_network_of_these_shapes_is_taken_and_named(
    striate: Callable[..., Any], save: Callable[..., Path], tmp_path: Path
) -> None:
    file = save("tutorial_cnn", classes=4)
    outcome = striate("convert", file, "--match", "order", "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "tutorial_cnn is the only network here with tensors of these shapes" in outcome.out


def test_other_names_in_the_same_order_are_pointed_out(
    striate: Callable[..., Any], save: Callable[..., Path], tmp_path: Path
) -> None:
    state_dict = models.create("mlp").state_dict()
    file = tmp_path / "half.pt"
    torch.save({k.replace("layers.6", "last"): tensor for k, tensor in state_dict.items()}, file)
    outcome = striate("convert", file, "--out", tmp_path / "out")
    assert outcome.code == 4
    assert "fix: in order they fit: --model mlp --match order" in outcome.err


def test_networks_that_shapes_cannot_tell_apart_are_named(
    striate: Callable[..., Any], save: Callable[..., Path], tmp_path: Path
) -> None:
    outcome = striate("convert", save("resnet20_cifar"), "--out", tmp_path / "out")
    assert outcome.code == 4
    assert "resnet20_cifar and of plain20_cifar" in outcome.err
    assert "--model resnet20_cifar" in outcome.err


def test_the_nearest_networks_are_named_where_none_fits(
    striate: Callable[..., Any], save: Callable[..., Path], tmp_path: Path
) -> None:
    state_dict = models.create("mobilenet_v1_0.25").state_dict()
    file = tmp_path / "odd.pt"
    torch.save({**state_dict, "extra": torch.zeros(3)}, file)
    outcome = striate("convert", file, "--out", tmp_path / "out")
    assert outcome.code == 4
    assert "no network here; nearest: mobilenet_v1_0.25 (99% of the tensors)" in outcome.err
    assert not (tmp_path / "out").exists()


def test_tensors_like_no_networks_name_none(striate: Callable[..., Any], tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(3, 5, 7)}, tmp_path / "w.pt")
    outcome = striate("convert", tmp_path / "w.pt", "--out", tmp_path / "out")
    assert outcome.code == 4
    assert "nearest" not in outcome.err
    assert "with --model" in outcome.err
