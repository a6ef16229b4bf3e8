"""Starting weights that several families share."""

from collections.abc import Iterable
from typing import Literal

from torch import nn

__all__ = ["he_normal"]


def he_normal(modules: Iterable[nn.Module], mode: Literal["fan_in", "fan_out"] = "fan_in") -> None:
    """Draw the weights of each convolution and linear layer from N(0, 2 / fan); biases become 0.

    Keeps the variance of a ReLU network's activations (fan_in) or gradients (fan_out) from layer to
    layer. Source: He et al. 2015, arXiv:1502.01852, section 2.2, equations 10 and 14.
    """
    for module in modules:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
