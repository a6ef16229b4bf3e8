"""Of boxes that lie on one another, the surest."""

import numpy as np
from numpy.typing import NDArray

from striate.metrics.boxes import pairwise_iou

__all__ = ["unsuppressed"]


def unsuppressed(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    threshold: float,
    count: int,
) -> NDArray[np.int64]:
    """The first `count` rows of boxes (N, 4) that stay, the surest first, the earliest of equal scores.

    A box goes where a surer one of its class (N,) stays that it overlaps by an IoU above `threshold`: greedy
    non-maximum suppression, in the arithmetic of `torchvision.ops.batched_nms`. The work ends with the last
    row asked for, so hundreds of boxes in each of many classes cost no more than those that stay.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, classes = boxes[order], labels[order]
    members = {label: np.flatnonzero(classes == label) for label in np.unique(classes).tolist()}
    stays = np.ones(len(order), np.bool_)
    limit = np.float64(threshold)  # numpy would round a plain float to the boxes' precision
    kept: list[int] = []
    for row, label in enumerate(classes.tolist()):
        if len(kept) == count:
            break
        if stays[row]:
            kept.append(row)
            rivals = members[label]
            iou = pairwise_iou(ranked[row : row + 1], ranked[rivals])[0]
            stays[rivals[(iou > limit) & (rivals > row)]] = False
    return order[np.array(kept, np.int64)]
