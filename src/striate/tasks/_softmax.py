"""Probabilities from logits, for every task and engine alike."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["softmax"]


def softmax(logits: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The softmax of finite `logits` along `axis`: the same shape, at least 0, sums of 1 along it."""
    # The largest logit becomes 0, so that exp cannot overflow; a difference too far below is 0 in the end.
    with np.errstate(over="ignore"):
        powers: NDArray[np.float32] = np.exp(logits - logits.max(axis=axis, keepdims=True))
    powers /= powers.sum(axis=axis, keepdims=True)
    return powers
