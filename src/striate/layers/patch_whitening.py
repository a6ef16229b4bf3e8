"""A fixed first layer whose outputs have one size and no correlation over the training pictures."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PatchWhitening"]

# Added to the variances before the division: directions that hardly vary, such as the noise of flat
# surfaces, are not blown up. Normalised pixels have a variance of 1.
_FLOOR = 1e-2


class PatchWhitening(nn.Module):
    """Every patch in terms of the main directions of training patches, each with both signs.

    Maps (B, C, H, W) become (B, 2 C side^2, H, W) for an odd side, a row and a column less for an even
    one. Direction i is eigenvector i of the patches' second moments divided by the root of its
    eigenvalue, so the layers above need not learn to undo how alike neighbouring pixels are; the negated
    copy keeps what a rectifier would cut off. Nothing in it is trained. Ideas: Page 2018-19, "How to
    train your ResNet", and Jordan 2024 (arXiv:2404.00498), section 3.2.
    """

    weight: Tensor

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        values = channels * side * side
        # Before pictures are seen any orthogonal directions serve, as an image of white noise would give.
        random = nn.init.orthogonal_(torch.empty(values, values))
        self.register_buffer("weight", self._both_signs(random))

    @property
    def out_channels(self) -> int:
        """Maps that it gives."""
        return int(self.weight.shape[0])

    @torch.no_grad()
    def measure(self, maps: Tensor) -> None:
        """Take the directions from the patches of `maps` (B, C, H, W), a few hundred normalised pictures."""
        patches = F.unfold(maps.float(), self.side).transpose(1, 2).flatten(0, 1).double()  # (N, values)
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        strongest_first = (directions / (variances + _FLOOR).sqrt()).T.flip(0)
        self.weight.copy_(self._both_signs(strongest_first))

    def forward(self, maps: Tensor) -> Tensor:
        return F.conv2d(maps, self.weight, padding=(self.side - 1) // 2)

    def _both_signs(self, directions: Tensor) -> Tensor:
        """`directions` (values, values) and their negatives as kernels (2 values, C, side, side)."""
        kernels = directions.view(len(directions), -1, self.side, self.side)
        return torch.cat((kernels, -kernels))
