"""A moving average of the weights, often better than the weights themselves."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from striate.models.network import Network

__all__ = ["MovingAverage"]


class MovingAverage:
    """A copy of a network whose weights are the exponential moving average of the network's.

    After update n (counted from 0) the decay is `min(decay, (1 + n) / (10 + n))`, so that a short run is
    not held back by its random start. Buffers, such as the statistics of batch normalisation, are copied:
    they are averages already.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.network = deepcopy(network).eval().requires_grad_(False)
        self._averaged: list[Tensor] = list(self.network.parameters())
        self._buffers = list(self.network.buffers())

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one step of the average towards `network`'s weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = [parameter.detach() for parameter in network.parameters()]
        torch._foreach_lerp_(self._averaged, current, 1 - decay)
        for mine, theirs in zip(self._buffers, network.buffers(), strict=True):
            mine.copy_(theirs)
        self.updates += 1
