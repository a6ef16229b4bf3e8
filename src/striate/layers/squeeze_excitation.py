"""Maps weighed by what the whole picture shows."""

from torch import Tensor, nn

__all__ = ["SqueezeExcitation"]


class SqueezeExcitation(nn.Module):
    """Each map times a weight in 0..1 that two linear layers make of the means of all maps.

    Hu et al. 2018, arXiv:1709.01507, section 3, with the hard sigmoid of MobileNet v3 as the gate
    (Howard et al. 2019, arXiv:1905.02244, section 5.3).
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.relu = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, maps: Tensor) -> Tensor:
        means = maps.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        weights: Tensor = self.gate(self.expand(self.relu(self.reduce(means))))
        return maps * weights
