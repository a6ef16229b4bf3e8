"""Stages of a network in the order of their depth."""

import pytest
import torch
from torch import nn

from striate import models
from striate.layers.stack import Stack
from striate.models.unweighted import unweighted
from striate.training.depth import rate_scales, stages


def firsts(network: nn.Module) -> list[str]:
    """The name of the first parameter of each stage."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return [names[found[0]].removesuffix(".weight") for found in stages(network)]


def created(name: str) -> nn.Module:
    with unweighted():
        return models.create(name)


def test_a_resnet_has_its_stem_its_four_layers_and_its_classifier() -> None:
    expected = ["conv1", *(f"layer{number}.0.conv1" for number in (1, 2, 3, 4)), "fc"]
    assert firsts(created("resnet18")) == expected


def test_the_stages_of_a_trunk_count_one_by_one() -> None:
    found = firsts(created("mobilenet_v2"))
    assert (len(found), found[0], found[-2:]) == (
        10,
        "trunk.stem.conv",
        ["trunk.head.conv", "classifier.linear"],
    )


def test_a_normalisation_belongs_to_the_convolution_before_it() -> None:
    network = created("resnet18")
    named = dict(network.named_parameters())
    assert [
        p is named[n]
        for p, n in zip(stages(network)[0], ("conv1.weight", "bn1.weight", "bn1.bias"), strict=True)
    ]


def test_a_wrapped_network_is_looked_into() -> None:
    wrapper = nn.Sequential(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2)))
    assert firsts(wrapper) == ["0.0.0", "0.0.1", "0.1"]


def test_all_behind_a_backbone_is_its_last_stage() -> None:
    network = created("deeplab_v3plus_resnet18")
    encoder = ["backbone.conv1", *(f"backbone.layer{number}.0.conv1" for number in (1, 2, 3, 4))]
    assert firsts(network) == [*encoder, "aspp.pointwise.conv"]
    names = {parameter: name for name, parameter in network.named_parameters()}
    scales = {names[parameter]: scale for parameter, scale in rate_scales(network, 0.5).items()}
    behind = {scale for name, scale in scales.items() if not name.startswith("backbone.")}
    assert behind == {1.0}
    assert (scales["backbone.layer4.1.conv2.weight"], scales["backbone.bn1.weight"]) == (0.5, 0.5**5)


def test_the_stages_of_a_trunk_in_a_backbone_count_one_by_one() -> None:
    found = firsts(created("deeplab_v3plus_mobilenet_v2"))
    assert (len(found), found[0], found[-1]) == (9, "backbone.trunk.stem.conv", "aspp.pointwise.conv")


def test_rates_shrink_from_stage_to_stage_towards_the_input() -> None:
    network = Stack(
        {
            "first": nn.Linear(2, 2),
            "norm": nn.BatchNorm1d(2),
            "second": nn.Linear(2, 2),
            "last": nn.Linear(2, 2),
        }
    )
    names = {parameter: name for name, parameter in network.named_parameters()}
    scales = {names[parameter]: scale for parameter, scale in rate_scales(network, 0.5).items()}
    layers = {"first": 0.25, "norm": 0.25, "second": 0.5, "last": 1.0}
    assert scales == {
        f"{layer}.{kind}": scale for layer, scale in layers.items() for kind in ("weight", "bias")
    }


def test_a_parameter_in_no_stage_has_the_whole_rate() -> None:
    network = nn.Module()
    network.free = nn.Parameter(torch.zeros(1))
    network.a, network.b = nn.Linear(1, 1), nn.Linear(1, 1)
    assert rate_scales(network, 0.5)[network.free] == 1.0


@pytest.mark.parametrize("family", models.families())
def test_every_parameter_of_every_family_is_in_one_stage(family: str) -> None:
    network = created(next(iter(models.families()[family].VARIANTS)))
    found = [parameter for stage in stages(network) for parameter in stage]
    assert len(found) == len(set(found)) == len(list(network.parameters()))
    assert len(stages(network)) >= 3
