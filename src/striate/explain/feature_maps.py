"""All maps of one layer on one picture, as a sheet with numbers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from striate.errors import UsageError
from striate.explain._figure import figure
from striate.explain._sheet import Tile, enlarged, sheet, shrunk
from striate.explain.colours import Scale
from striate.explain.recording import Recording
from striate.structures import Image

__all__ = ["Channel", "FeatureMaps", "feature_maps"]

Sort = Literal["index", "energy", "sparsity"]
Spread = Literal["map", "layer"]

# Pixels of one map in the sheet, by the most maps that there are for it.
_SIDES = ((4, 384), (12, 256), (40, 160), (256, 96))
_SMALLEST = 64
_MOST_TOLD = 8  # channels in words; the sheet has more


@dataclass(frozen=True, slots=True)
class Channel:
    """One map in numbers."""

    index: int
    least: float
    mean: float
    largest: float
    energy: float  # root of the mean square
    zeros: float  # share of its values that are 0

    @property
    def is_dead(self) -> bool:
        """Whether it is 0 everywhere in this picture."""
        return self.zeros == 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "channel": self.index,
            "min": _known(self.least),
            "mean": _known(self.mean),
            "max": _known(self.largest),
            "energy": _known(self.energy),
            "zeros": self.zeros,
            "dead": self.is_dead,
        }


@dataclass(frozen=True, slots=True, repr=False)
class FeatureMaps:
    """What `feature_maps` gives."""

    call: str
    kind: str
    shape: tuple[int, int, int]  # (C, h, w)
    channels: tuple[Channel, ...]  # all, in the order asked for
    sort: Sort
    scale: Spread
    not_finite: int  # values that are NaN or infinite
    sheet: Image  # the first `shown` of them
    shown: int

    @property
    def dead(self) -> tuple[int, ...]:
        """The channels that are 0 everywhere in this picture."""
        return tuple(sorted(channel.index for channel in self.channels if channel.is_dead))

    def lines(self) -> Iterator[str]:
        """The layer, then its first channels in the order asked for, a row each."""
        channels, height, width = self.shape
        zeros = sum(channel.zeros for channel in self.channels) / channels
        yield f"{self.call} ({self.kind}): {channels} maps of {height}x{width}, {zeros:.1%} zeros"
        if self.dead:
            yield f"0 everywhere in this picture: {len(self.dead)} ({_listed(self.dead)})"
        if self.not_finite:
            yield f"{self.not_finite} values are NaN or infinite"
        yield f"{'channel':>7} {'least':>10} {'mean':>10} {'largest':>10} {'energy':>10} {'zeros':>6}"
        for channel in self.channels[:_MOST_TOLD]:
            numbers = (channel.least, channel.mean, channel.largest, channel.energy)
            cells = " ".join(f"{number:>10.4g}" for number in numbers)
            yield f"{channel.index:>7} {cells} {channel.zeros:>6.1%}"
        if channels > _MOST_TOLD:
            yield f"... and {channels - _MOST_TOLD} more, {_ORDERS[self.sort]}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `explain --json`."""
        return {
            "call": self.call,
            "kind": self.kind,
            "shape": list(self.shape),
            "sort": self.sort,
            "scale": self.scale,
            "not_finite": self.not_finite,
            "channels": [channel.to_dict() for channel in self.channels],
        }

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return figure(self.sheet, self.lines())


_ORDERS = {"index": "in order", "energy": "most energy first", "sparsity": "most zeros first"}
_KEYS: dict[str, Callable[[Channel], float]] = {
    "index": lambda channel: channel.index,
    "energy": lambda channel: -channel.energy,
    "sparsity": lambda channel: -channel.zeros,
}


def feature_maps(
    recording: Recording, call: str, sort: Sort = "index", scale: Spread = "map", most: int = 64
) -> FeatureMaps:
    """The maps that `call` gave in the recorded pass, which kept its values.

    sort: the order of the channels; by energy or by sparsity those with most of it come first. scale: colours
    over the values of each "map" by itself, or over those of the whole "layer". A layer without places, such
    as a linear one, is shown as a map of one place a channel. most: maps in the sheet. Raises UnknownName for
    no such call, UsageError where it gave no maps or its values were not kept.
    """
    if sort not in get_args(Sort) or scale not in get_args(Spread) or most < 1:
        raise UsageError(
            "maps",
            f"sort {sort!r}, scale {scale!r}, at most {most}",
            "sort by index, energy or sparsity; scale by map or layer; show 1 or more",
        )
    found = recording[call]
    if found.output is None:
        raise UsageError(found.name, "its values were not kept in this pass", "record it with wanted=")
    values = _maps(found.name, found.output.detach().double().cpu().numpy())
    channels = sorted((_channel(index, own) for index, own in enumerate(values)), key=_KEYS[sort])
    shown = channels[:most]
    drawn = _drawn(f"{found.name} ({found.kind})", values, shown, sort, scale)
    broken = int((~np.isfinite(values)).sum())
    height, width = values.shape[1:]
    return FeatureMaps(
        found.name,
        found.kind,
        (len(values), height, width),
        tuple(channels),
        sort,
        scale,
        broken,
        drawn,
        len(shown),
    )


def _maps(name: str, output: NDArray[np.float64]) -> NDArray[np.float64]:
    """`output` of one picture as (C, h, w)."""
    if output.ndim == 2 and output.shape[0] == 1:
        return output[0, :, None, None]
    if output.ndim != 4 or output.shape[0] != 1:
        raise UsageError(
            name, f"its output is {output.shape}, no maps of one picture", "choose a layer with (1, C, H, W)"
        )
    maps: NDArray[np.float64] = output[0]
    return maps


def _channel(index: int, values: NDArray[np.float64]) -> Channel:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Channel(index, *(float("nan"),) * 4, 0.0)
    return Channel(
        index,
        float(finite.min()),
        float(finite.mean()),
        float(finite.max()),
        float(np.sqrt(np.square(finite).mean())),
        float((values == 0).mean()),
    )


def _drawn(
    title: str, values: NDArray[np.float64], shown: Sequence[Channel], sort: Sort, spread: Spread
) -> Image:
    count, height, width = values.shape
    side = next((side for most, side in _SIDES if len(shown) <= most), _SMALLEST)
    whole = Scale.of(values)
    signed = whole.is_signed
    tiles = []
    for channel in shown:
        small, block = shrunk(values[channel.index], side)
        own = _scale_of(values[channel.index], signed)
        label = f"{channel.index} dead" if channel.is_dead else f"{channel.index}: {own.high:.3g}"
        pixels = (whole if spread == "layer" else own)(small)
        tiles.append(Tile(enlarged(pixels, side), label, channel.is_dead))
    strongest = f", a square is the strongest of {block}x{block}" if block > 1 else ""
    kept = f"{len(shown)} of {count} maps" if len(shown) < count else f"{count} maps"
    heading = (title, f"{kept} of {height}x{width}, {_ORDERS[sort]}{strongest}", _below(spread, signed))
    legend = ("the value", whole) if spread == "layer" else ("share of the map's largest size", _unit(signed))
    return sheet(tiles, heading, (legend,))


def _below(spread: Spread, signed: bool) -> str:
    if spread == "layer":
        return "one scale for all; below each: channel and largest value"
    return f"each on its own scale; below each: channel and its largest {'size' if signed else 'value'}"


def _unit(signed: bool) -> Scale:
    return Scale(-1.0 if signed else 0.0, 1.0)


def _scale_of(values: NDArray[np.float64], signed: bool) -> Scale:
    """A map's own scale; around 0 where any map of the layer goes below it."""
    finite = np.abs(values[np.isfinite(values)])
    reach = float(finite.max()) if finite.size else 0.0
    return Scale(-reach, reach) if signed and reach else Scale(0.0, reach)


def _known(value: float) -> float | None:
    """`value`; None where all values of a map are NaN or infinite."""
    return None if np.isnan(value) else value


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:12])) + (", ..." if len(numbers) > 12 else "")
