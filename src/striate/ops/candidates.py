"""What a detector's outputs are narrowed down to, in shapes that no value decides."""

import torch
from torch import Tensor

from striate.ops import kernels

__all__ = ["best_candidates", "unsuppressed"]

_COLUMNS = 16  # places side by side


def best_candidates(boxes: Tensor, scores: Tensor, per_class: int) -> dict[str, Tensor]:
    """The `per_class` highest scores of each class with their boxes: the dense outputs of a detector.

    boxes (B, A, 4), or (B, A, K, 4) where each class has its own; scores (B, A, K) in 0..1, no background
    among the K. Gives boxes (B, M, 4), scores (B, M) and labels (B, M) int64, M = K * min(per_class, A), the
    classes in order and each from its highest score down.
    """
    # Torch's `min`: of a free size Python's would be decided while the graph is made.
    count, classes = torch.sym_min(per_class, scores.shape[1]), scores.shape[2]
    best, places = scores.transpose(1, 2).topk(count, dim=2)  # (B, K, count)
    if boxes.ndim == 3:
        chosen = boxes.gather(1, places.flatten(1)[..., None].expand(-1, -1, 4))
    else:
        chosen = boxes.transpose(1, 2).gather(2, places[..., None].expand(-1, -1, -1, 4)).flatten(1, 2)
    labels = torch.arange(classes, device=scores.device)[:, None].expand(-1, count).flatten()
    return {"boxes": chosen, "scores": best.flatten(1), "labels": labels.expand(scores.shape[0], -1)}


def unsuppressed(boxes: Tensor, scores: Tensor, threshold: float, groups: Tensor | None = None) -> Tensor:
    """Which boxes stay where of two that overlap by more than `threshold` the surer does: (B, N) bool.

    boxes (B, N, 4) at 0 or above, scores (B, N); groups (B, N) from 0: only boxes of equal group compete.
    Greedy non-maximum suppression in one call whatever the batch, so that it can be exported with a free
    batch: each picture and group is moved to a place of its own, on a grid.
    """
    batch, count = scores.shape
    if not count:
        return torch.zeros_like(scores, dtype=torch.bool)
    place = torch.arange(batch, device=boxes.device)[:, None]
    if groups is not None:
        place = place * (groups.max() + 1) + groups
    # In one long row the last boxes would lie where float32 no longer tells small parts of a pixel apart.
    apart = boxes.max() + 1
    x, y = (place % _COLUMNS) * apart, place.div(_COLUMNS, rounding_mode="floor") * apart
    moved = boxes + torch.stack((x, y, x, y), -1)
    kept = kernels.nms(moved.flatten(0, 1), scores.flatten(), threshold)
    stays = torch.zeros(batch * count, dtype=torch.int64, device=boxes.device)
    stays = stays.scatter(0, kept, torch.ones_like(kept))
    return (stays > 0).view(batch, count)
