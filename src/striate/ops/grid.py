"""Detection on a grid: the cell that holds an object's centre, and whose it is where several do."""

import torch
from torch import Tensor

from striate.ops.boxes import centred
from striate.ops.matching import BACKGROUND

__all__ = ["cell_of", "owners"]


def cell_of(boxes: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Row and column (...) int64 of the cell with the centre of each box (..., 4), and where in it: (..., 2).

    `size` is the picture's height and width, `grid` the rows and columns over it. A place is x, y in 0..1 of
    the cell's sides; a centre outside the picture belongs to the nearest cell, at its edge.
    """
    rows, columns = grid
    steps = boxes.new_tensor((columns / size[1], rows / size[0]))
    centre = centred(boxes)[..., :2] * steps
    last = torch.tensor((columns - 1, rows - 1), device=boxes.device)
    cell = torch.minimum(centre.floor().long().clamp(min=0), last)  # (..., 2), column before row
    return torch.stack((cell[..., 1], cell[..., 0]), -1), (centre - cell).clamp(0, 1)


def owners(places: Tensor, wanted: Tensor, count: int) -> Tensor:
    """The row of the object that has each of `count` places, or BACKGROUND: (B, count) int64.

    places (B, N) int64 in 0..count - 1, one an object; wanted (B, N) bool, rows that take part. Where several
    objects want one place, it is the first one's.
    """
    rows = torch.arange(places.shape[1], device=places.device).expand_as(places)
    # Rows that take no part write into a place too many.
    aimed = torch.where(wanted, places, count)
    first = places.new_full((places.shape[0], count + 1), places.shape[1])
    first = first.scatter_reduce(1, aimed, rows, "amin")[:, :-1]
    return torch.where(first < places.shape[1], first, BACKGROUND)
