"""What the values of a tensor see of the input, carried through a graph of any shape.

A `Track` follows one axis of the input (height or width). The value at position i of a plain map sees
the input pixels from `start + i * jump` on, `size` of them. Positions are digits, so that reshaping loses
nothing: an axis of 8 that is two rows of 4 has a digit of 2 and one of 4, each with its own jump.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

from striate.ops.convolution import ReceptiveField

__all__ = ["Digit", "Field", "Status", "Track", "concatenated", "joined"]


class Status(IntEnum):
    """How far to trust a receptive field."""

    EXACT = 0  # the channels of a position together see just this, away from the border
    UPPER_BOUND = 1  # no value sees more
    DATA_DEPENDENT = 2  # the values decide what is seen: anything, up to the whole input

    @property
    def label(self) -> str:
        """The words for people: "UPPER BOUND"."""
        return self.name.replace("_", " ")


class Digit(NamedTuple):
    """One factor of a tensor's axis."""

    length: int
    jump: float = 0.0  # input pixels from one position to the next
    loose: bool = False  # only all positions along it together see all of the track's size


Axis = tuple[Digit, ...]
"""The digits of one axis of a tensor, outermost first; none where its length is 1."""


@dataclass(frozen=True, slots=True)
class Track:
    """What the values of one tensor see along one axis of the input."""

    size: float
    start: float  # of the value at position 0 of every axis; negative in the padding
    axes: tuple[Axis, ...]
    status: Status = Status.EXACT

    @classmethod
    def of_input(cls, shape: Sequence[int], axis: int) -> "Track":
        """Of an input of `shape`, along its `axis`: every pixel sees itself."""
        axes = tuple(_plain(length, 1.0 if place == axis else 0.0) for place, length in enumerate(shape))
        return cls(1.0, 0.0, axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the tensor's axes."""
        return tuple(math.prod(digit.length for digit in axis) for axis in self.axes)

    @property
    def moves(self) -> bool:
        """Whether different positions see different pixels."""
        return any(digit.jump for axis in self.axes for digit in axis)

    @property
    def is_loose(self) -> bool:
        """Whether some positions see less than `size`."""
        return any(digit.loose for axis in self.axes for digit in axis)

    @property
    def jump(self) -> float:
        """Input pixels from one position to the next along the axis that moves; 0 if none or many do."""
        moving = [axis for axis in map(_merged, self.axes) if any(digit.jump for digit in axis)]
        return moving[0][0].jump if len(moving) == 1 and len(moving[0]) == 1 else 0.0

    def windowed(
        self, axis: int, kernel: int, stride: int, padding: int, dilation: int, length: int
    ) -> "Track":
        """Behind a window that slides along `axis` of the tensor to `length` positions."""
        track = self._straight(axis)
        digit = _only(track.axes[axis])
        field = ReceptiveField(track.size, digit.jump, track.start).through(kernel, stride, padding, dilation)
        moved = _plain(length, field.jump, digit.loose)
        return replace(track._with(axis, moved), size=field.size, start=field.start)

    def resampled(self, axis: int, scale: float, reach: tuple[float, float], length: int) -> "Track":
        """Where position i sees the positions from `i * scale + reach[0]` to `... + reach[1]` at most."""
        track = self._straight(axis)
        digit = _only(track.axes[axis])
        if not digit.jump:
            return track._with(axis, _plain(length, 0.0, digit.loose))
        moved = track._with(axis, _plain(length, digit.jump * scale, digit.loose))
        return replace(
            moved,
            start=track.start + digit.jump * reach[0],
            size=track.size + digit.jump * (reach[1] - reach[0]),
            status=max(track.status, Status.UPPER_BOUND),
        )

    def repeated(self, axis: int, times: int) -> "Track":
        """Each position of `axis` stands `times` times in a row."""
        return self._with(axis, (*self.axes[axis], *_plain(times)))

    def contracted(self, axes: Iterable[int], lengths: Sequence[int]) -> "Track":
        """Behind a sum over all positions of `axes`, which then have `lengths`."""
        track = self
        for axis, length in zip(axes, lengths, strict=True):
            spans = [(digit.length - 1) * digit.jump for digit in track.axes[axis]]
            track = replace(
                track._with(axis, _plain(length)),
                size=track.size + sum(map(abs, spans)),
                start=track.start + sum(min(0.0, span) for span in spans),
            )
        return track

    def total(self, shape: Sequence[int], status: Status = Status.EXACT, loose: bool = False) -> "Track":
        """For a tensor of `shape` whose every value may see what all of this one see together."""
        whole = self.contracted(range(len(self.axes)), [1] * len(self.axes))
        axes = tuple(_plain(length, 0.0, loose) for length in shape)
        return Track(whole.size, whole.start, axes, max(self.status, status))

    def lost(self, shape: Sequence[int]) -> "Track":
        """Where nothing is known but that no value sees more than all of this tensor's together."""
        return self.total(shape, Status.UPPER_BOUND)

    def permuted(self, order: Sequence[int]) -> "Track":
        """With the tensor's axes in `order`."""
        return replace(self, axes=tuple(self.axes[axis] for axis in order))

    def without(self, axes: Iterable[int]) -> "Track":
        """Without the tensor's `axes`, each of length 1."""
        gone = set(axes)
        return replace(self, axes=tuple(axis for place, axis in enumerate(self.axes) if place not in gone))

    def unsqueezed(self, axis: int) -> "Track":
        """With a further axis of length 1 at `axis`."""
        return replace(self, axes=(*self.axes[:axis], (), *self.axes[axis:]))

    def sliced(self, axis: int, first: int, step: int, length: int) -> "Track":
        """Every `step`-th position of `axis` from `first` on, `length` of them."""
        digits = self.axes[axis]
        if length == math.prod(digit.length for digit in digits) and step == 1:
            return self
        inner = math.prod(digit.length for digit in digits[1:])
        if len(digits) > 1 and step == 1 and not (first % inner or length % inner):
            outer, rest = digits[0], digits[1:]
            return self._cut(axis, outer, first // inner, 1, length // inner, rest)
        track = self._straight(axis)
        return track._cut(axis, _only(track.axes[axis]), first, step, length, ())

    def _cut(self, axis: int, digit: Digit, first: int, step: int, length: int, rest: Axis) -> "Track":
        kept = (*_plain(length, digit.jump * step, digit.loose), *rest)
        # Those that see most may be among the positions that are cut away.
        status = max(self.status, Status.UPPER_BOUND) if digit.loose else self.status
        return replace(self._with(axis, kept), start=self.start + first * digit.jump, status=status)

    def regrouped(self, shape: Sequence[int]) -> "Track":
        """The same values in row-major order under another `shape`."""
        left = [digit for axis in reversed(self.axes) for digit in reversed(axis)]  # outermost last
        axes = []
        for length in shape:
            taken = _take(left, length)
            if taken is None:
                return self.lost(shape)
            axes.append(taken)
        return replace(self, axes=tuple(axes))

    def spread_to(self, shape: Sequence[int]) -> "Track":
        """Broadcast to `shape`."""
        axes = ((),) * (len(shape) - len(self.axes)) + self.axes
        return replace(
            self, axes=tuple(axis or _plain(length) for axis, length in zip(axes, shape, strict=True))
        )

    def _with(self, axis: int, digits: Axis) -> "Track":
        return replace(self, axes=(*self.axes[:axis], digits, *self.axes[axis + 1 :]))

    def _straight(self, axis: int) -> "Track":
        """With one digit at most along `axis`: a staircase becomes the narrowest straight band around it."""
        digits = _merged(self.axes[axis])
        if len(digits) < 2:
            return self._with(axis, digits)
        length = math.prod(digit.length for digit in digits)
        slope = digits[0].jump * digits[0].length / length
        # How far each digit takes a position from the straight line through the origin.
        inner, low, high = length, 0.0, 0.0
        for digit in digits:
            inner //= digit.length
            off = (digit.length - 1) * (digit.jump - slope * inner)
            low, high = low + min(0.0, off), high + max(0.0, off)
        bent = high > low
        track = self._with(axis, _plain(length, slope, any(digit.loose for digit in digits)))
        return replace(
            track,
            start=self.start + low,
            size=self.size + high - low,
            status=max(self.status, Status.UPPER_BOUND) if bent else self.status,
        )


Field = tuple[Track, ...]
"""One track for each axis of the input that has pixels in a row."""


def joined(tracks: Sequence[Track], shape: Sequence[int]) -> Track:
    """What a value sees that is made of the values of all `tracks` at its place, broadcast to `shape`."""
    aligned = [track.spread_to(shape) for track in tracks]
    if len(aligned) == 1:
        return aligned[0]
    if not _same_jumps(aligned):
        straight = [_straightened(track) for track in aligned]
        if not _same_jumps(straight):
            return _joined_all(aligned, shape)
        aligned = straight
    start, end = _hull(aligned)
    reaching = [track for track in aligned if (track.start, track.start + track.size) == (start, end)]
    sure = [track for track in reaching if not track.is_loose]
    if sure:
        return min(sure, key=lambda track: track.status)
    return Track(end - start, start, _loosest(aligned), max(track.status for track in aligned))


def concatenated(tracks: Sequence[Track | None], lengths: Sequence[int], axis: int) -> Track | None:
    """Tensors laid one after another along `axis`, where they have `lengths`; None sees no input."""
    there = [track for track in tracks if track is not None]
    if not there:
        return None
    rest = [track.contracted([axis], [1]) for track in there]
    shape = list(rest[0].shape)
    straight = rest if _same_jumps(rest) else [_straightened(track) for track in rest]
    if not _same_jumps(straight):
        return _joined_all(rest, shape)._with(axis, _plain(sum(lengths), 0.0, True))
    rest = straight
    start, end = _hull(rest)
    whole = Track(end - start, start, _loosest(rest), max(track.status for track in rest))
    # Those parts every position of which sees all that the whole does.
    full = [
        part
        for part in there
        if (part.start, part.size) == (start, end - start) and not _has(part.axes[axis])
    ]
    loose = len(full) < len(tracks)
    if len(set(lengths)) > 1 or any(digit.jump for part in there for digit in part.axes[axis]):
        return whole._with(axis, _plain(sum(lengths), 0.0, loose))
    # Equal parts are a digit of their own: at each place in them, one part sees all if one is full.
    return whole._with(axis, (*_plain(len(lengths), 0.0, loose), *_plain(lengths[0], 0.0, not full)))


def _has(axis: Axis) -> bool:
    """Whether some positions of `axis` see other pixels, or less, than others."""
    return any(digit.jump or digit.loose for digit in axis)


def _joined_all(tracks: Sequence[Track], shape: Sequence[int]) -> Track:
    """Where positions that move meet positions that do not, or at another pace."""
    totals = [track.total(shape) for track in tracks]
    start, end = _hull(totals)
    # Exact where one of them sees all of it from every position.
    reaching = [
        total.status
        for track, total in zip(tracks, totals, strict=True)
        if not track.moves and not track.is_loose and (total.start, total.size) == (start, end - start)
    ]
    bound = max(Status.UPPER_BOUND, *(track.status for track in tracks))
    return Track(end - start, start, totals[0].axes, min(reaching, default=bound))


def _hull(tracks: Sequence[Track]) -> tuple[float, float]:
    return min(track.start for track in tracks), max(track.start + track.size for track in tracks)


def _straightened(track: Track) -> Track:
    for axis in range(len(track.axes)):
        track = track._straight(axis)
    return track


def _same_jumps(tracks: Sequence[Track]) -> bool:
    return len({tuple(_jumps(axis) for axis in track.axes) for track in tracks}) == 1


def _jumps(axis: Axis) -> tuple[tuple[int, float], ...]:
    merged = _merged(axis)
    return tuple((digit.length, digit.jump) for digit in merged) if any(d.jump for d in merged) else ()


def _loosest(tracks: Sequence[Track]) -> tuple[Axis, ...]:
    """The axes of `tracks`, which move alike, loose where one of them is."""
    return tuple(map(_loosest_axis, zip(*(track.axes for track in tracks), strict=True)))


def _loosest_axis(axes: Sequence[Axis]) -> Axis:
    if len({tuple(digit.length for digit in axis) for axis in axes}) > 1:
        axes = [_merged(axis) for axis in axes]
    if len({tuple(digit.length for digit in axis) for axis in axes}) > 1:
        return _plain(
            math.prod(digit.length for digit in axes[0]), 0.0, any(d.loose for a in axes for d in a)
        )
    return tuple(
        digits[0]._replace(loose=any(digit.loose for digit in digits)) for digits in zip(*axes, strict=True)
    )


def _plain(length: int, jump: float = 0.0, loose: bool = False) -> Axis:
    return () if length == 1 else (Digit(length, jump, loose),)


def _only(axis: Axis) -> Digit:
    return axis[0] if axis else Digit(1)


def _merged(axis: Axis) -> Axis:
    """The fewest digits that mean the same."""
    merged: list[Digit] = []
    for digit in axis:
        if merged and merged[-1].jump == digit.length * digit.jump:
            outer = merged.pop()
            merged.append(Digit(outer.length * digit.length, digit.jump, outer.loose or digit.loose))
        else:
            merged.append(digit)
    return tuple(merged)


def _take(left: list[Digit], length: int) -> Axis | None:
    """The outermost digits of `left` whose lengths multiply to `length`, taken away; None if none do."""
    taken: list[Digit] = []
    while length > 1:
        if not left:
            return None
        digit = left.pop()
        if digit.length > length:
            if digit.length % length:
                return None
            inner = digit.length // length
            left.append(digit._replace(length=inner))
            digit = digit._replace(length=length, jump=digit.jump * inner)
        elif length % digit.length:
            return None
        taken.append(digit)
        length //= digit.length
    return tuple(taken)
