"""Losses as functions of tensors, in float32: half precision has too few digits for a log-sum-exp."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["pixel_cross_entropy", "pixel_focal", "soft_cross_entropy", "soft_dice"]

_IGNORE = 255  # the label of pixels of no known class
_LEAST = 1e-12  # keeps the mean over no pixel at 0


def soft_cross_entropy(logits: Tensor, probabilities: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over the batch of `-sum_k p_k log softmax(z)_k`: a scalar in nats, at least 0.

    logits (B, K) any real; probabilities (B, K), rows sum to 1; weight (B,), not all zero. Equals
    torch's cross_entropy where a row of `probabilities` is one-hot and the weights are equal.
    """
    each = -(probabilities * F.log_softmax(logits.float(), dim=1)).sum(1)
    return (each * weight).sum() / weight.sum()


def pixel_cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over the pixels of `-log softmax(z)_label`: a scalar in nats, 0 where no pixel counts.

    logits (B, K, H, W) any real; labels (B, H, W) uint8, those of 255 are left out; weight (B, H, W), at
    least 0 and 0 where the label is 255.
    """
    return (_negative_log(logits, labels) * weight).sum() / weight.sum().clamp(min=_LEAST)


def pixel_focal(logits: Tensor, labels: Tensor, weight: Tensor, gamma: float = 2.0) -> Tensor:
    """Cross-entropy that counts a pixel of probability p by `(1 - p)^gamma`: the easy ones hardly.

    Shapes as in `pixel_cross_entropy`. Lin et al. 2017 (arXiv:1708.02002), equation 4.
    """
    each = _negative_log(logits, labels)
    return ((1 - torch.exp(-each)) ** gamma * each * weight).sum() / weight.sum().clamp(min=_LEAST)


def soft_dice(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """1 - the mean over classes of `2 sum(p t) / (sum(p^2) + sum(t))`, sums over all pixels by weight: 0..1.

    Shapes as in `pixel_cross_entropy`. Classes of which no pixel counts are left out of the mean. Milletari
    et al. 2016 (arXiv:1606.04797), section 3, for more than two classes.
    """
    probabilities = F.softmax(logits.float(), dim=1)
    shown = torch.where(labels == _IGNORE, 0, labels).long()
    own = probabilities.gather(1, shown[:, None])[:, 0] * weight  # of the true class of each pixel
    classes = logits.shape[1]
    flat = shown.flatten()
    overlap = own.new_zeros(classes).index_add(0, flat, own.flatten())
    truth = own.new_zeros(classes).index_add(0, flat, weight.flatten().to(own.dtype))
    predicted = (probabilities.square() * weight[:, None]).sum((0, 2, 3))
    present = truth > 0
    dice = 2 * overlap / (predicted + truth).clamp(min=_LEAST)
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def _negative_log(logits: Tensor, labels: Tensor) -> Tensor:
    """`-log softmax(z)_label` of each pixel, (B, H, W); 0 where the label is 255."""
    return F.cross_entropy(logits.float(), labels.long(), ignore_index=_IGNORE, reduction="none")
