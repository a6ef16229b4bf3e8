"""How many pictures share a pass: a given number, or the fastest one, found on the pictures at hand."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

__all__ = ["BatchSize", "Bounded", "Fixed", "Searched"]

MOST_PIXELS = 64 * 224 * 224
"""Of the pictures that are looked at together while nobody says how many; a float32 feature of 64 channels
at half the size is then 200 MB."""

_MOST_PICTURES = 256
_TIMES = 3  # passes of a size until it counts as measured; the first may still be setting itself up
# Share of the best time that a larger size has to stay below: it costs memory, and how busy the machine is
# moves a time by some per cent.
_GAIN = 0.9
_FACTOR = 3  # from a size to the next


class BatchSize(Protocol):
    """Says how many pictures go together. Asked in one thread, told in several."""

    def next(self) -> int:
        """How many to put into the next batch."""
        ...

    def most(self, shape: Sequence[int]) -> int:
        """How many pictures of `shape` (H, W, C) may share a pass."""
        ...

    def tell(self, pictures: int, seconds: float) -> None:
        """A pass over so many pictures took so long."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always `size`."""

    size: int

    def next(self) -> int:
        """`size`."""
        return self.size

    def most(self, shape: Sequence[int]) -> int:  # noqa: ARG002 - the number is the caller's wish
        """`size`."""
        return self.size

    def tell(self, pictures: int, seconds: float) -> None:
        """Nothing is learned."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """`size`, or as many as have MOST_PIXELS together: the same in every run, whatever takes how long.

    `lanes` passes run side by side and share both.
    """

    size: int
    lanes: int = 1

    def next(self) -> int:
        """Each lane's share of `size`, at least 1."""
        return max(1, self.size // self.lanes)

    def most(self, shape: Sequence[int]) -> int:
        """As many of `shape` (H, W, C) as are within both bounds, at least 1."""
        return max(1, min(self.next(), _within(self.lanes, shape)))

    def tell(self, pictures: int, seconds: float) -> None:
        """Nothing is learned."""


def _within(lanes: int, shape: Sequence[int]) -> int:
    """How many pictures of `shape` (H, W, ...) have MOST_PIXELS together in all lanes."""
    return MOST_PIXELS // (lanes * shape[0] * shape[1])


@dataclass(slots=True)
class Searched:
    """1, 3, 9, 27, ... pictures until more are no faster, then what was fastest.

    `lanes` passes run side by side and share MOST_PIXELS. `shape` (H, W) is that of all pictures, where it is
    known; `left` is how many are to come, or 0. The last batches are smaller, so that all lanes end together.
    """

    lanes: int = 1
    shape: tuple[int, int] | None = None
    left: int = 0
    _size: int = field(default=1, init=False)  # to use now
    _best: int = field(default=1, init=False)
    _seconds: dict[int, list[float]] = field(default_factory=dict, init=False)  # a picture, by size
    _is_settled: bool = field(default=False, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def next(self) -> int:
        """The size that is being tried, or the fastest; at most half of each lane's share of what is left."""
        size = self._size
        if self.left > 0:
            size = min(size, -(-self.left // (2 * self.lanes)))
            self.left -= size
        return size

    def most(self, shape: Sequence[int]) -> int:
        """As many as have MOST_PIXELS together in all lanes, at least one."""
        return max(1, _within(self.lanes, shape))

    def tell(self, pictures: int, seconds: float) -> None:
        """Learn from a pass; those of another size than the one being tried tell nothing new."""
        with self._lock:
            if self._is_settled or pictures != self._size:
                return
            times = self._seconds.setdefault(pictures, [])
            times.append(seconds / pictures)
            if len(times) == _TIMES:
                self._step()

    def _step(self) -> None:
        """Go on to the next size, or end the search with the best."""
        fastest = {size: min(times) for size, times in self._seconds.items()}
        gains = self._size == 1 or fastest[self._size] < _GAIN * fastest[self._best]
        if gains:
            self._best = self._size
        most = _MOST_PICTURES if self.shape is None else min(_MOST_PICTURES, self.most(self.shape))
        self._is_settled = not gains or self._best >= most
        self._size = self._best if self._is_settled else min(_FACTOR * self._best, most)
