"""Losses as functions of tensors."""

import torch.nn.functional as F
from torch import Tensor

__all__ = ["soft_cross_entropy"]


def soft_cross_entropy(logits: Tensor, probabilities: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over the batch of `-sum_k p_k log softmax(z)_k`: a scalar in nats, at least 0.

    logits (B, K) any real; probabilities (B, K), rows sum to 1; weight (B,), not all zero. Equals
    torch's cross_entropy where a row of `probabilities` is one-hot and the weights are equal.
    """
    # Half precision has too few digits for a log-sum-exp over many classes.
    each = -(probabilities * F.log_softmax(logits.float(), dim=1)).sum(1)
    return (each * weight).sum() / weight.sum()
