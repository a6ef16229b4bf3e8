"""Random numbers that depend on what they are for, not on when they are drawn.

A number is a pure function of (seed, epoch, sample index, purpose, position): no generator has a state
that a thread, a batch size or a resumed run could shift. It is a counter pushed through the finaliser of
SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195).
"""

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCKS_MIXED", "Draws"]

BLOCKS_MIXED = 4  # blocks that pictures are drawn from at a time

_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: SplitMix64's step
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Draws:
    """The random numbers of one epoch."""

    seed: int
    epoch: int

    def uniform(self, indices: NDArray[np.int64], purpose: str, count: int) -> NDArray[np.float64]:
        """`count` numbers in [0, 1) for each sample: (len(indices), count).

        A row depends on its own index only, so any batch that holds the sample gives it the same row.
        """
        key = _mixed(np.array([_key_of(purpose)], np.uint64))
        for part in (self.seed, self.epoch):
            key = _mixed(key ^ _mixed(np.array([part & _MASK], np.uint64)))
        keys = _mixed(key ^ _mixed(indices.astype(np.uint64)))
        counters = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
        bits = _mixed(keys[:, None] + counters[None, :])
        # The upper 53 bits, as many as a float64 holds.
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def order(self, indices: NDArray[np.int64], blocks: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """`indices` shuffled; equal draws, should they ever come, stand in the order of the indices.

        With `blocks`, where `blocks[i]` is the block of index i, the blocks come one after the other, a few
        mixed at any time. They get places 0, 1, ... by chance, and an index comes at a random time between
        the place of its block and BLOCKS_MIXED places later: a new block begins while the oldest ends, and
        each is read once and soon done with. So few blocks that all would be mixed are shuffled as one.
        """
        ascending = np.sort(indices)
        times = self.uniform(ascending, "order", 1)[:, 0]
        if blocks is not None and len(found := np.unique(blocks[ascending])) > BLOCKS_MIXED:
            places = np.argsort(np.argsort(self.uniform(found, "block", 1)[:, 0], kind="stable"))
            times = places[np.searchsorted(found, blocks[ascending])] + BLOCKS_MIXED * times
        return ascending[np.argsort(times, kind="stable")]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's next output for each state; every input bit changes every output bit."""
    values = values + np.uint64(_GOLDEN)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@cache
def _key_of(purpose: str) -> int:
    # Python's own hash() of a string differs from process to process.
    return int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")
