"""What one position of a map sees of the picture: the box that sizes and strides allow, and what counts.

The theoretical box is that of `summary`. The measured mask is where the gradient of the position, all its
channels added up, is not 0 for this picture; it is densest in the middle (Luo et al. 2016, arXiv:1701.04128).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.errors import UsageError
from striate.explain._figure import figure
from striate.explain._live import LiveCall, live_pass
from striate.explain._picture import one_picture, seen_by
from striate.explain._sheet import Tile, enlarged, outlined, sheet
from striate.explain.colours import Scale
from striate.explain.receptive_field import Field, Status, Track
from striate.explain.trace import Call, trace
from striate.structures import Image

__all__ = ["FieldOnPicture", "field_on_picture"]

_SIDE = 384  # pixels of the picture in the sheet


@dataclass(frozen=True, slots=True, repr=False)
class FieldOnPicture:
    """What `field_on_picture` gives."""

    call: str
    position: tuple[int, int]  # row, column of the map
    map_size: tuple[int, int]
    box: tuple[int, int, int, int]  # y0 x0 y1 x1 in pixels of the input, ends exclusive, inside the picture
    status: Status
    size: tuple[float, float]  # of the field in rows and columns, padding included
    weight: NDArray[np.float64]  # (H, W) size of the gradient in each pixel, largest 1; all 0 where none is
    sheet: Image  # the picture with the box, and the gradient

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels (H, W) that move the position's numbers in this picture."""
        found: NDArray[np.bool_] = self.weight > 0
        return found

    @property
    def share(self) -> float:
        """How much of the box that is, 0..1."""
        y0, x0, y1, x1 = self.box
        area = max(0, y1 - y0) * max(0, x1 - x0)
        return int(self.mask.sum()) / area if area else 0.0

    def lines(self) -> Iterator[str]:
        """Where it looks, in words and numbers."""
        (y, x), (y0, x0, y1, x1) = self.position, self.box
        height, width = self.map_size
        yield f"{self.call}, row {y} and column {x} of {height}x{width}"
        yield (
            f"may see rows {y0}-{y1 - 1} and columns {x0}-{x1 - 1} of the input "
            f"({self.size[0]:g}x{self.size[1]:g} pixels with padding): {self.status.label}"
        )
        yield f"sees {int(self.mask.sum()):,} pixels in this picture, {self.share:.1%} of that box"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `explain --json`."""
        return {
            "call": self.call,
            "position": list(self.position),
            "map_size": list(self.map_size),
            "box": list(self.box),
            "field_size": list(self.size),
            "field_status": self.status.label,
            "pixels_seen": int(self.mask.sum()),
            "share_of_box": self.share,
        }

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return figure(self.sheet, self.lines())


def field_on_picture(
    module: nn.Module, images: Tensor, call: str, y: int, x: int, **extras: Tensor
) -> FieldOnPicture:
    """What row `y` and column `x` of the map that `call` gives see of `images` (1, C, H, W).

    A call of a module, with others inside or not. The box's status says how far it is to be trusted; the mask
    lies in it. Raises UnknownName for no such call, UsageError where it gives no map or has no such place.
    """
    inputs = one_picture(images)
    found = live_pass(module, inputs, extras)
    layer = found.find(call)
    maps = _map_of(layer, y, x)
    (gradient,) = torch.autograd.grad(maps[0, :, y, x].sum(), found.images, allow_unused=True)
    weight = (
        np.zeros(images.shape[2:]) if gradient is None else gradient[0].abs().double().sum(0).cpu().numpy()
    )
    # Divided before it is summed up: the smallest gradients that there are would vanish.
    largest = weight.max()
    weight = np.where(weight > 0, np.maximum(weight / (largest or 1.0), np.finfo(np.float64).tiny), 0.0)
    box, size, status = _box(module, images, layer, (y, x))
    drawn = _drawn(seen_by(module, images), weight, box, f"{layer.name}, row {y}, column {x}", status)
    return FieldOnPicture(
        layer.name, (y, x), (maps.shape[2], maps.shape[3]), box, status, size, weight, drawn
    )


def _map_of(layer: LiveCall, y: int, x: int) -> Tensor:
    maps = layer.output
    if maps.ndim != 4 or maps.shape[0] != 1:
        raise UsageError(layer.name, f"its output is {tuple(maps.shape)}, no map", "choose a layer with maps")
    height, width = maps.shape[2:]
    if not (0 <= y < height and 0 <= x < width):
        raise UsageError(
            layer.name,
            f"row {y}, column {x} is outside its map",
            f"rows are 0..{height - 1}, columns 0..{width - 1}",
        )
    return maps


def _box(
    module: nn.Module, images: Tensor, layer: LiveCall, position: tuple[int, int]
) -> tuple[tuple[int, int, int, int], tuple[float, float], Status]:
    """The theoretical box clipped to the picture, its size with padding, and what it is worth."""
    limits = (images.shape[2], images.shape[3])
    root = trace(module, images.shape[1:]).root
    field = _field(root, layer.name)
    status = Status.DATA_DEPENDENT if field is None else max(track.status for track in field)
    if field is None or status is Status.DATA_DEPENDENT:
        return (0, 0, *limits), (float(limits[0]), float(limits[1])), status
    if any(digit.jump for track in field for axis in track.axes[:2] for digit in axis):
        raise UsageError(
            layer.name,
            "its rows and columns do not lie along the last two axes of its output",
            "choose a layer whose output is (1, channels, rows, columns)",
        )
    repeats = _repeats_pixels(module, root)
    sides = []
    for track, limit in zip(field, limits, strict=True):
        start = _start_at(track, (0, 0, *position))
        end = start + track.size
        if repeats and (start < 0 or end > limit):
            # What is beyond the border shows pixels from within, by mirror or from the other side.
            start, end, status = 0.0, float(limit), max(status, Status.UPPER_BOUND)
        sides.append((max(0, math.floor(start)), min(limit, math.ceil(end))))
    (top, bottom), (left, right) = sides
    return (top, left, bottom, right), (field[0].size, field[1].size), status


def _repeats_pixels(module: nn.Module, root: Call) -> bool:
    """Whether some padding of `module` mirrors what is within, or goes round."""
    modes = {getattr(part, "padding_mode", "") for part in module.modules()}
    return bool(modes & {"reflect", "circular"}) or _calls_of(root, "reflection_pad")


def _calls_of(call: Call, word: str) -> bool:
    """Whether an operation within `call` has `word` in its name."""
    return any(
        _calls_of(member, word) if isinstance(member, Call) else word in member.name
        for member in call.members
    )


def _field(root: Call, name: str) -> Field | None:
    """The field of the call `name` below `root`."""
    for member in root.members:
        if not isinstance(member, Call):
            continue
        own = member.path + (f" #{member.number}" if member.number > 1 else "")
        if own == name:
            return member.field
        inside = _field(member, name)
        if inside is not None:
            return inside
    return None


def _start_at(track: Track, position: Sequence[int]) -> float:
    """The first input pixel that the value at `position` of its tensor sees along the track's axis."""
    start = track.start
    for axis, place in zip(track.axes, position, strict=True):
        rest = place
        for digit in reversed(axis):  # innermost first
            rest, own = divmod(rest, digit.length)
            start += own * digit.jump
    return start


def _drawn(
    picture: Image, weight: NDArray[np.float64], box: tuple[int, int, int, int], title: str, status: Status
) -> Image:
    scale = Scale(0.0, 1.0)
    large = enlarged(picture, _SIDE)
    factor = large.shape[0] / picture.shape[0]
    on_screen = [side * factor for side in box]
    # A root, for the gradient falls off so fast that the edge of what counts would be black.
    heat = enlarged(scale(np.sqrt(weight)), _SIDE)
    tiles = (
        Tile(outlined(large, on_screen), "the picture at the input; box: may be seen"),
        Tile(outlined(heat, on_screen), "root of the gradient's size, largest 1"),
    )
    heading = (f"What {title} sees", f"box by sizes and strides: {status.label}")
    return sheet(tiles, heading, (("root of the gradient's size", scale),), columns=2)
