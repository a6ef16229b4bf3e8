"""Boxes cut out of pictures with some of what is around them, each warped to the same square."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["warped"]


def warped(values: Tensor, boxes: Tensor, side: int, context: int) -> Tensor:
    """Each box with its surroundings as a picture of its own: (B, P, C, side, side) float32.

    values (B, C, H, W), boxes (B, P, 4) in pixels of it. A box is stretched, whatever its aspect, to all but
    `context` pixels at each border of the square, and those show what lies around it; what lies outside of
    `values` is 0. Each value is interpolated between four. Girshick et al. 2014 (arXiv:1311.2524), appendix
    A, Figure 7 (D), without rounding boxes to pixels.
    """
    height, width = values.shape[-2:]
    centre, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    reach = sides * (side / (side - 2 * context))
    steps = (torch.arange(side, device=boxes.device) + 0.5) / side - 0.5  # centres of pixels, -.5 to .5
    places = centre[..., None, :] + steps[:, None] * reach[..., None, :]  # (B, P, side, 2): x, y
    # The pixels' outer borders are -1 and 1 for `grid_sample`.
    places = places * (2 / places.new_tensor([width, height])) - 1
    across = places[..., None, :, 0].expand(-1, -1, side, -1)
    down = places[..., :, None, 1].expand(-1, -1, -1, side)
    grid = torch.stack((across, down), -1)  # (B, P, side, side, 2)
    # All boxes of a picture below each other: one call for the batch.
    cut = F.grid_sample(values.float(), grid.flatten(1, 2).float(), align_corners=False)
    return cut.view(values.shape[0], values.shape[1], boxes.shape[1], side, side).transpose(1, 2)
