import torch
from torch import nn

from striate.layers.stack import Stack


def stack() -> Stack:
    torch.manual_seed(0)
    return Stack({"conv1": nn.Conv2d(1, 2, 3), "relu1": nn.ReLU(inplace=True), "pool1": nn.MaxPool2d(2)})


def test_layers_run_in_order_under_their_names() -> None:
    layers, values = stack(), torch.randn(1, 1, 6, 6)
    assert list(layers.state_dict()) == ["conv1.weight", "conv1.bias"]
    assert torch.equal(layers(values), layers.pool1(torch.relu(layers.conv1(values))))


def test_maps_are_the_outputs_asked_for_under_the_names_given() -> None:
    layers, values = stack(), torch.randn(1, 1, 6, 6)
    maps = layers.maps(values, {"pool1": "pool1", "relu1": "conv1"})
    assert list(maps) == ["conv1", "pool1"]
    assert torch.equal(maps["conv1"], torch.relu(layers.conv1(values)))
    assert torch.equal(maps["pool1"], layers(values))
