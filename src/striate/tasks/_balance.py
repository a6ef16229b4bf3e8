"""Weights that make rare classes count as much as frequent ones."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Balance", "balanced_weights"]

Balance: TypeAlias = Literal["inverse", "median"]
"""How class weights follow from what the train part holds."""


def balanced_weights(own: NDArray[np.int64], kind: Balance, among: NDArray[np.int64]) -> tuple[float, ...]:
    """A weight per class for `own` (K,) of `among` (K,) pictures or pixels; a class that has none gets 1.

    `inverse`: every class that is there has the same share of the loss, and the mean over all that is
    counted is 1. `median`: the median frequency over the class's, where a frequency is `own / among`, the
    class's pixels over those of all pictures that show it (Eigen & Fergus 2015, arXiv:1411.4734, section
    6.3.2; SegNet, arXiv:1511.00561, section 4).
    """
    present = own > 0
    if kind == "inverse":
        share = int(own.sum()) / max(int(np.count_nonzero(present)), 1)
        return tuple(share / int(count) if count else 1.0 for count in own)
    frequencies = own / np.maximum(among, 1)
    median = float(np.median(frequencies[present])) if present.any() else 1.0
    return tuple(median / float(frequency) if frequency else 1.0 for frequency in frequencies)
