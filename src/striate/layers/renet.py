"""ReNet: recurrent sweeps over the rows and columns of a map, instead of convolution and pooling.

Visin et al. 2015, "ReNet: A Recurrent Neural Network Based Alternative to Convolutional Networks",
arXiv:1505.00393, section 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ReNet", "StackedSweep", "Sweep", "patches_of"]


class ReNet(nn.Module):
    """Maps (B, C, H, W) -> (B, 2 units, ceil(H / patch height), ceil(W / patch width)), within -1..1.

    The map is cut into patches that do not overlap; where they do not fit, zeros go on at the bottom and
    right. A sweep reads the patches of each row from both ends, then another one reads what it found along
    each column: every position of the output depends on the whole map. `stacked`: in each sweep the way back
    reads what the way there found.
    """

    def __init__(
        self, channels: int, units: int, patch: tuple[int, int] = (1, 1), stacked: bool = False
    ) -> None:
        super().__init__()
        self.patch = patch
        sweep = StackedSweep if stacked else Sweep
        # The paper goes along the columns first; ReSeg's authors along the rows, which is kept here.
        self.rows = sweep(channels * patch[0] * patch[1], units)
        self.columns = sweep(2 * units, units)

    def forward(self, maps: Tensor) -> Tensor:
        rows: Tensor = self.rows(patches_of(maps, self.patch))  # (B, rows, columns, 2 units)
        columns: Tensor = self.columns(rows.transpose(1, 2))  # (B, columns, rows, 2 units)
        return columns.permute(0, 3, 2, 1)

    def extra_repr(self) -> str:
        return f"patch={self.patch}"


class Sweep(nn.Module):
    """Lines (B, lines, length, F) -> (B, lines, length, 2 units): read from the start, and from the end.

    A bidirectional GRU, the same for all lines. Torch's GRU has two biases a gate, the papers' one: of the
    gates r and z only the sum of the two counts, of the candidate the second is a weight more,
    `n = tanh(W x + b + r (U h + c))`.
    """

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.gru = nn.GRU(features, units, batch_first=True, bidirectional=True)
        _initialise(self.gru)

    def forward(self, lines: Tensor) -> Tensor:
        return _along_lines(self.gru, lines)


class StackedSweep(nn.Module):
    """The same shapes, but what is read from the end is not the line: it is what was read from the start."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.there = nn.GRU(features, units, batch_first=True)
        self.back = nn.GRU(units, units, batch_first=True)
        _initialise(self.there)
        _initialise(self.back)

    def forward(self, lines: Tensor) -> Tensor:
        there = _along_lines(self.there, lines)
        back = _along_lines(self.back, there.flip(2)).flip(2)
        return torch.cat((there, back), 3)


def patches_of(maps: Tensor, patch: tuple[int, int]) -> Tensor:
    """The patches of maps (B, C, H, W) that do not overlap, as (B, rows, columns, C * height * width).

    Zeros go on at the bottom and right where the height or width is no multiple of the patch's.
    """
    height, width = patch
    if patch == (1, 1):
        return maps.permute(0, 2, 3, 1)
    maps = F.pad(maps, (0, -maps.shape[3] % width, 0, -maps.shape[2] % height))
    batch, channels, *sides = maps.shape
    cut = maps.reshape(batch, channels, sides[0] // height, height, sides[1] // width, width)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3)


def _along_lines(gru: nn.GRU, lines: Tensor) -> Tensor:
    """What `gru` gives for lines (B, lines, length, F), all of them as one batch of sequences."""
    batch, count, length, features = lines.shape
    values = lines.reshape(batch * count, length, features)
    start = values.new_zeros(2 if gru.bidirectional else 1, batch * count, gru.hidden_size)
    # Not gru(values): that keeps its weights in a list as well, of which torch.export warns.
    weights: list[Tensor] = list(gru.parameters())
    found: Tensor = torch.gru(
        values, start, weights, gru.bias, 1, 0.0, gru.training, gru.bidirectional, gru.batch_first
    )[0]
    return found.reshape(batch, count, length, -1)


def _initialise(gru: nn.GRU) -> None:
    """Orthogonal recurrent weights, so that long lines neither fade nor explode; the rest Glorot's, biases 0.

    Saxe et al. 2014 (arXiv:1312.6120), section 3; Glorot, Bengio 2010, equation 16; gate by gate.
    """
    for name, parameter in gru.named_parameters():
        for gate in parameter.data.chunk(3):
            if name.startswith("weight_hh"):
                nn.init.orthogonal_(gate)
            elif name.startswith("weight_ih"):
                nn.init.xavier_uniform_(gate)
            else:
                nn.init.zeros_(gate)
