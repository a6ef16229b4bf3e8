"""Mixtures of two training pictures, mixup and cutmix, with partners that no batch decides."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from striate.data.draws import Draws
from striate.structures import ClassTargets

__all__ = ["Mixture", "beta_quantile", "mixture", "partners"]

_TABLE = 4097  # knots of half a Beta distribution; the error is below 1e-5


@dataclass(frozen=True, slots=True)
class Mixture:
    """What each picture of a batch keeps of itself and takes from its partner."""

    share: NDArray[np.float32]  # (B,) in 0..1: what it keeps, by opacity or by area
    boxes: NDArray[np.int64]  # (B, 4) x0 y0 x1 y1: pasted from the partner; empty: blended instead

    def images(self, images: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`images` (B, H, W, C) mixed with those of their partners."""
        result = images.copy()
        for row, (x0, y0, x1, y1) in enumerate(self.boxes.tolist()):
            if x1 > x0 and y1 > y0:
                result[row, y0:y1, x0:x1] = others[row, y0:y1, x0:x1]
        (blended,) = np.nonzero((self.boxes[:, 2] <= self.boxes[:, 0]) & (self.share < 1))
        share = self.share[blended, None, None, None]
        result[blended] = np.rint(share * images[blended] + (1 - share) * others[blended]).astype(np.uint8)
        return result

    def targets(
        self, targets: ClassTargets[NDArray[np.float32]], others: ClassTargets[NDArray[np.float32]]
    ) -> ClassTargets[NDArray[np.float32]]:
        """Targets whose cross-entropy is the sum of both pictures' own, by share, weights included."""
        own, taken = self.share * targets.weight, (1 - self.share) * others.weight
        weight = own + taken
        # A weight of 0 drops the sample from the loss; its probabilities only have to sum to 1.
        kept = np.divide(own, weight, out=self.share.copy(), where=weight > 0)[:, None]
        return ClassTargets(kept * targets.probabilities + (1 - kept) * others.probabilities, weight)


def partners(
    drawn: Draws,
    indices: NDArray[np.int64],
    pool: NDArray[np.int64],
    blocks: NDArray[np.int64] | None = None,
    purpose: str = "partner",
) -> NDArray[np.int64]:
    """For each sample of `indices`, all of them in `pool`, the one of `pool` that it is mixed with.

    With `blocks`, where `blocks[i]` is the block of index i, it is one of the same block: that is being read
    anyway, and any other would cost a search on the disk. For several partners, name a `purpose` of each.
    """
    chance = drawn.uniform(indices, purpose, 1)[:, 0]
    if blocks is None:
        return pool[(chance * len(pool)).astype(np.int64)]
    by_block = pool[np.argsort(blocks[pool], kind="stable")]
    first, end = (np.searchsorted(blocks[by_block], blocks[indices], side) for side in ("left", "right"))
    return by_block[first + (chance * (end - first)).astype(np.int64)]


def mixture(
    drawn: Draws, indices: NDArray[np.int64], size: tuple[int, int], alphas: tuple[float, float]
) -> Mixture:
    """How each sample is mixed in pictures of `size` (h, w), with the `alphas` of mixup and of cutmix.

    An alpha of 0 turns its kind off; at least one is above 0. With both, a fair coin chooses per sample.
    Sources: Zhang et al. 2018 (arXiv:1710.09412), Yun et al. 2019 (arXiv:1905.04899).
    """
    mixup, cutmix = alphas
    uniform = drawn.uniform(indices, "mix", 4)
    pasted = uniform[:, 0] < (0.5 if mixup and cutmix else float(cutmix > 0))
    share = np.empty(len(indices), np.float64)
    share[~pasted] = beta_quantile(mixup, uniform[~pasted, 1]) if mixup else 1.0
    share[pasted] = beta_quantile(cutmix, uniform[pasted, 1]) if cutmix else 1.0
    boxes = _pasted_boxes(share, uniform[:, 2:], size) * pasted[:, None]
    # A rectangle over the edge loses what is outside, so its real area counts.
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (size[0] * size[1])
    return Mixture(np.where(pasted, 1 - area, share).astype(np.float32), boxes)


def _pasted_boxes(
    share: NDArray[np.float64], centre: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.int64]:
    """Rectangles (B, 4) of the picture's aspect and area `1 - share`, centred anywhere, clipped."""
    sides = np.array([size[1], size[0]])
    halves = sides * np.sqrt(1 - share)[:, None] / 2
    low = np.clip(np.rint(centre * sides - halves), 0, sides)
    high = np.clip(np.rint(centre * sides + halves), 0, sides)
    return np.concatenate((low, high), 1).astype(np.int64)


def beta_quantile(alpha: float, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers distributed as Beta(alpha, alpha), 0 < alpha <= 4, one from each uniform number in [0, 1).

    The inverse of the distribution function: one draw is enough, where a rejection method would need an
    unknown number of them.
    """
    positions, cumulative = _half_table(alpha)
    lower = np.minimum(uniform, 1 - uniform)  # the distribution is symmetric about 1/2
    half = 0.5 * np.interp(2 * lower, cumulative, positions) ** (1 / alpha)
    quantile: NDArray[np.float64] = np.where(uniform < 0.5, half, 1 - half)
    return quantile


@lru_cache(maxsize=8)
def _half_table(alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # With x = s^(1/alpha) / 2 the density x^(alpha-1) (1-x)^(alpha-1) dx of the lower half becomes
    # (1-x)^(alpha-1) ds: the pole at 0 is gone, and the trapezoid rule is exact to a few digits.
    positions = np.linspace(0, 1, _TABLE) ** max(1.0, alpha)  # evenly spaced in x where that is coarser
    density = (1 - 0.5 * positions ** (1 / alpha)) ** (alpha - 1)
    pieces = (density[1:] + density[:-1]) / 2 * np.diff(positions)
    cumulative = np.concatenate(([0.0], np.cumsum(pieces)))
    return positions, cumulative / cumulative[-1]
