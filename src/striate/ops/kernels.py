"""torchvision's compiled operations, imported when first called: that takes a second, and few call them."""

from torch import Tensor

__all__ = ["nms", "roi_align", "roi_pool"]


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Rows of `boxes` (N, 4) that no surer one overlaps by more than `threshold`, the surest first: (M,)."""
    from torchvision import ops

    kept: Tensor = ops.nms(boxes, scores, threshold)
    return kept


def roi_align(maps: Tensor, rows: Tensor, grid: int, scale: float, samples: int) -> Tensor:
    """`grid` x `grid` means of `samples` x `samples` interpolated values in each box of `rows` (R, 5)."""
    from torchvision import ops

    cut: Tensor = ops.roi_align(maps, rows, grid, scale, samples)
    return cut


def roi_pool(maps: Tensor, rows: Tensor, grid: int, scale: float) -> Tensor:
    """`grid` x `grid` largest values in each box of `rows` (R, 5): picture, x0, y0, x1, y1."""
    from torchvision import ops

    pooled: Tensor = ops.roi_pool(maps, rows, grid, scale)
    return pooled
