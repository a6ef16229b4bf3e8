"""The first layer's weights as pictures."""

import numpy as np
import pytest
import torch
from torch import nn

import striate
from striate.errors import UnknownName, UsageError
from striate.explain.filters import filters


def test_the_first_convolution_is_shown_in_the_order_of_the_pictures_colours() -> None:
    plain = striate.create("resnet20_cifar", classes=3)
    found = filters(plain)
    weights = plain.conv1.weight.detach().numpy()  # type: ignore[union-attr, operator]
    assert (found.layer, found.kind, found.weights.shape) == ("conv1", "Conv2d", (16, 3, 3, 3))
    np.testing.assert_array_equal(found.weights, weights)
    turned = striate.create("resnet20_cifar", classes=3, preprocess={"channel_order": "bgr"})
    reds = turned.conv1.weight[:, 2].detach().numpy()  # type: ignore[union-attr, index, operator]
    np.testing.assert_array_equal(filters(turned).weights[:, 0], reds)


def test_zero_is_gray_and_the_largest_weight_full_light() -> None:
    module = nn.Conv2d(3, 1, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([2.0, 0.0, -2.0]).view(1, 3, 1, 1))
    drawn = filters(nn.Sequential(module)).sheet
    assert (drawn == np.array([255, 128, 0])).all(2).any()


def test_filters_over_other_channels_are_blue_and_orange() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
    drawn = filters(module).sheet
    for color in ((140, 57, 0), (4, 62, 110)):
        assert (drawn == np.array(color)).all(2).any()
    second = filters(module, "1")
    assert "its 2 input channels side by side" in second.meaning
    assert second.to_dict()["shape"] == [1, 2, 1, 1]


def test_a_network_without_convolutions_shows_its_weights_on_the_picture() -> None:
    found = filters(striate.create("mlp", classes=3))
    assert found.kind == "Linear"
    network = striate.create("mlp", classes=3)
    spec = network.preprocess
    assert found.weights.shape[1:] == (spec.channels, *spec.size)


def test_what_has_no_such_layer_is_refused() -> None:
    with pytest.raises(UsageError, match="no layer of it has weights that lie on the picture"):
        filters(nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(UnknownName, match="there is no 'fc'"):
        filters(striate.create("resnet20_cifar", classes=3), "fc")
