import math

import torch
from torch import nn

from striate.layers.initialise import he_normal


def test_weights_have_the_variance_of_the_fan() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 256, kernel_size=3)
    for mode, fan in (("fan_in", 64 * 9), ("fan_out", 256 * 9)):
        he_normal([layer], mode)
        assert math.isclose(layer.weight.std().item(), math.sqrt(2 / fan), rel_tol=0.02)


def test_biases_start_at_zero_and_other_layers_are_left_alone() -> None:
    linear, norm = nn.Linear(4, 3), nn.BatchNorm2d(3)
    nn.init.constant_(norm.weight, 5.0)
    he_normal([linear, norm, nn.Conv2d(1, 1, 1, bias=False)])
    assert linear.bias.tolist() == [0, 0, 0]
    assert norm.weight.tolist() == [5, 5, 5]
