"""The curve of a learning-rate range test: when it is over, and which rate it speaks for.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3 (arXiv:1506.01186).
"""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["RULE", "has_risen", "propose", "smooth"]

RULE = "a third of the rate at which the smoothed loss is lowest (Smith 2017, section 3.3)"
"""How `propose` chooses."""

_SHARE = 1 / 3  # Smith's largest rate is where the loss stops falling, his smallest a third or quarter of it
_WIDTH = 0.2  # powers of ten: standard deviation of the bell that losses are weighed with
_RISE = 4.0  # times the minimum
_FALL = 1.5  # times the spread of single losses about the curve


def smooth(rates: Sequence[float], losses: Sequence[float]) -> list[float]:
    """The mean loss around each of `rates`, weighed by a bell over their logarithms; unbiased at both ends.

    A moving average would lag, and show the lowest loss at too high a rate.
    """
    where = np.log10(rates)
    weights = np.exp(-0.5 * ((where[:, None] - where[None, :]) / _WIDTH) ** 2)
    found: list[float] = (weights @ np.asarray(losses, np.float64) / weights.sum(1)).tolist()
    return found


def has_risen(rates: Sequence[float], losses: Sequence[float]) -> bool:
    """Whether the test is over: the last loss is not finite, or the curve is above four times its minimum."""
    if not math.isfinite(losses[-1]):
        return True
    smoothed = smooth(rates, losses)
    return smoothed[-1] > _RISE * min(smoothed)


def propose(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The highest rate for a run, by `RULE`, to two digits; None where the curve does not tell.

    That is where the loss never falls by more than single losses scatter, or still falls at the last rate.
    """
    if not losses:
        return None
    smoothed = smooth(rates, losses)
    lowest = int(np.argmin(smoothed))
    scatter = float(np.std(np.subtract(losses, smoothed)[: lowest + 1]))
    falls = smoothed[0] - smoothed[lowest] > _FALL * scatter
    if not falls or lowest == len(rates) - 1:
        return None
    return float(f"{_SHARE * rates[lowest]:.1e}")
