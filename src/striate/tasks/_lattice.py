"""Gaussian filtering among points of many dimensions: the permutohedral lattice.

Adams, Baek and Davis 2010, Computer Graphics Forum 29 (2). A lattice cuts space into simplices. A value
is splatted onto the corners of the simplex it lies in, the lattice is blurred along its directions, and
values are sliced out again where they lay. Only vertices near a point are ever made, so that time and memory
are linear in the points.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.errors import UsageError

__all__ = ["Lattice"]

Numbers = NDArray[np.intp]

# An empty vertex is filled in where it has so many neighbours: with one alone it would join nothing.
_LEAST_NEIGHBOURS = 2


@dataclass(frozen=True, slots=True)
class Lattice:
    """The lattice around N points: M vertices, d + 1 corners to a simplex, d + 1 directions."""

    corners: Numbers  # (d + 1, N): vertex at each corner of the simplex that a point lies in
    shares: NDArray[np.float32]  # (d + 1, N): barycentric coordinates of the point there, 0..1, sum 1
    neighbours: Numbers  # (d + 1, 2, M): vertex before and after in each direction; M where there is none

    @classmethod
    def around(cls, points: NDArray[np.float64]) -> "Lattice":
        """The lattice around `points` (N, d), in which a Gaussian of standard deviation 1 is the blur.

        Raises UsageError where the points lie too far apart for the vertices to be numbered.
        """
        keys, shares, steps = _located(points)
        occupied, corners = np.unique(keys, return_inverse=True)
        vertices = _filled(occupied, steps)
        numbers = np.searchsorted(vertices, occupied)[corners].reshape(keys.shape)
        return cls(numbers, shares, _neighbours(vertices, steps))

    def blur(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """At each point the sum of the `values` (N,) of all, by a Gaussian of their distance; (N,).

        Up to a factor that is the same for all points.
        """
        count = self.neighbours.shape[2]
        splatted = np.bincount(self.corners.ravel(), (self.shares * values).ravel(), minlength=count + 1)
        heights = splatted.astype(np.float32)  # the last is nobody's: it stays 0
        for before, after in self.neighbours:
            heights[:-1] = 2 * heights[:-1] + heights.take(before) + heights.take(after)
        sliced = np.zeros_like(values)
        for corner, share in zip(self.corners, self.shares, strict=True):
            sliced += share * heights.take(corner)
        return sliced


def _located(points: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Keys of the corners around each point and its shares of them, (d + 1, N) both, and the keys' steps."""
    dimensions = points.shape[1]
    # In these coordinates the vertices are the integers and the simplices Freudenthal's: each cube is cut
    # along its long diagonal. Any matrix with A A' = 2/3 (I + 1) will do: steps in all the directions are
    # then equally long, and splat, blur and slice have a variance of 1 together.
    rest = points @ np.linalg.cholesky((np.eye(dimensions) + 1) * 2 / 3).T
    lowest = np.floor(rest)
    rest -= lowest
    order = np.argsort(-rest, axis=1, kind="stable")
    steps = _steps(np.ptp(lowest, axis=0))
    first = (lowest - lowest.min(axis=0)).astype(np.int64) @ steps[:-1]
    # From the lowest corner of the cube, one step along each axis, the one with the largest rest first.
    path = np.cumsum(steps[order], axis=1) + first[:, None]
    shares = _shares(np.take_along_axis(rest, order, axis=1))
    return np.concatenate((first[None], path.T)), shares, steps


def _steps(extents: NDArray[np.float64]) -> NDArray[np.int64]:
    """How much a vertex's key grows by a step in each direction, (d + 1,): along each axis, and along all.

    No two vertices have one key, nor have their neighbours' neighbours.
    """
    # A simplex ends a step beyond its lowest corner; a neighbour lies a step outside, its neighbour another.
    sides = [int(extent) + 6 for extent in extents]
    if math.prod(sides) >= 2**62:
        raise UsageError(
            "crf",
            "a lattice of this fineness has too many vertices to number",
            "give larger standard deviations",
        )
    axes = [math.prod(sides[:axis]) for axis in range(len(sides))]
    return np.array([*axes, sum(axes)], np.int64)


def _shares(rest: NDArray[np.float64]) -> NDArray[np.float32]:
    """Barycentric coordinates (d + 1, N) of points with the sorted `rest` (N, d), largest first."""
    padded = np.pad(rest, ((0, 0), (1, 1)))
    padded[:, 0] = 1
    return np.ascontiguousarray((padded[:, :-1] - padded[:, 1:]).T, np.float32)


def _filled(occupied: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """The keys of the `occupied` vertices (sorted) and of empty ones that join two or more of them, sorted.

    Without those, what is blurred is lost between points that are scattered, as colours are: on 64x64 photos
    about twice as many pixels differ from the exact CRF.
    """
    reached = (occupied + np.concatenate((steps, -steps))[:, None]).ravel()
    keys, counts = np.unique(reached, return_counts=True)
    return np.union1d(occupied, keys[counts >= _LEAST_NEIGHBOURS])


def _neighbours(vertices: NDArray[np.int64], steps: NDArray[np.int64]) -> Numbers:
    """The numbers of the neighbours of each of `vertices` (sorted keys, M), (d + 1, 2, M); M for none."""
    count = len(vertices)
    found = np.full((len(steps), 2, count), count, np.intp)
    for (before, after), step in zip(found, steps, strict=True):
        position = np.minimum(np.searchsorted(vertices, vertices + step), count - 1)
        joined = np.flatnonzero(vertices[position] == vertices + step)
        after[joined] = position[joined]
        before[position[joined]] = joined
    return found
