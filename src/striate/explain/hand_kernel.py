"""A kernel written by hand on a picture: its map, and the windows that answer most, sums written out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, UnknownName, UsageError
from striate.explain._figure import figure
from striate.explain._sheet import Tile, enlarged, outlined, resized, sheet, shrunk, visible
from striate.explain.colours import Scale
from striate.structures import Image

__all__ = ["KERNELS", "Answer", "HandKernel", "hand_kernel", "parse_kernel"]

KERNELS: dict[str, tuple[tuple[float, ...], ...]] = {
    "sobel-x": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "sobel-y": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
    "blur": ((1 / 16, 2 / 16, 1 / 16), (2 / 16, 4 / 16, 2 / 16), (1 / 16, 2 / 16, 1 / 16)),
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
}
"""Those that go by name: brighter to the right, brighter downwards, the mean around, edges made stronger."""

_LARGEST = 31  # values a side
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as networks for gray pictures get it
_SIDE = 512  # pixels of a picture in the sheet


@dataclass(frozen=True, slots=True)
class Answer:
    """One window and what the kernel makes of it."""

    row: int  # of the window's first pixel, and of the map's
    column: int
    window: NDArray[np.float64]  # (k, l) luma 0..255
    total: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "row": self.row,
            "column": self.column,
            "window": self.window.tolist(),
            "sum": self.total,
        }


@dataclass(frozen=True, slots=True, repr=False)
class HandKernel:
    """What `hand_kernel` gives."""

    name: str
    kernel: NDArray[np.float64]  # (k, l)
    map: NDArray[np.float64]  # (H - k + 1, W - l + 1): windows that lie in the picture, no padding
    answers: tuple[Answer, ...]  # the largest by size that do not overlap, largest first
    sheet: Image  # the picture, and the map

    def lines(self) -> Iterator[str]:
        """The kernel, the map's range, then each window with its products."""
        (rows, columns), (height, width) = self.kernel.shape, self.map.shape
        yield f"kernel {self.name}, {rows}x{columns}, laid on the gray picture as it is (not flipped)"
        yield from (f"  {' '.join(f'{value:>8.4g}' for value in row)}" for row in self.kernel.tolist())
        yield (
            f"map {height}x{width}, one number for each window inside the picture: "
            f"{self.map.min():.4g} to {self.map.max():.4g}"
        )
        for answer in self.answers:
            yield ""
            yield from self._written(answer)

    def _written(self, answer: Answer) -> Iterator[str]:
        rows, columns = self.kernel.shape
        yield (
            f"rows {answer.row}-{answer.row + rows - 1}, columns {answer.column}-"
            f"{answer.column + columns - 1}: sum of kernel x picture"
        )
        for weights, pixels in zip(self.kernel.tolist(), answer.window.tolist(), strict=True):
            terms = (f"{weight:.4g}*{pixel:.4g}" for weight, pixel in zip(weights, pixels, strict=True))
            products = sum(weight * pixel for weight, pixel in zip(weights, pixels, strict=True))
            yield f"  {' + '.join(terms)} = {products:.6g}"
        yield f"  total = {answer.total:.6g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `explain --json`; the map itself is left to the picture."""
        return {
            "kernel": {"name": self.name, "values": self.kernel.tolist()},
            "map": {
                "size": list(self.map.shape),
                "min": float(self.map.min()),
                "max": float(self.map.max()),
            },
            "answers": [answer.to_dict() for answer in self.answers],
        }

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return figure(self.sheet, self.lines())


def hand_kernel(
    image: Image, kernel: str | Sequence[Sequence[float]] | NDArray[Any], *, name: str = "", most: int = 3
) -> HandKernel:
    """The answers of `kernel`, one of `KERNELS` or a matrix of numbers, to `image` (H, W, 1 or 3) uint8.

    Colours become luma first. As in a network's convolution the kernel is not flipped; stride 1, no padding.
    most: how many windows are written out. Raises UnknownName, UsageError where the kernel is none, DataError
    where the picture is smaller than it.
    """
    values = _matrix(kernel, name)
    called = kernel if isinstance(kernel, str) else name or "by hand"
    gray = _luma(image)
    if any(side < own for side, own in zip(gray.shape, values.shape, strict=True)):
        raise DataError(
            "picture",
            f"it has {gray.shape[1]}x{gray.shape[0]} pixels, the kernel {values.shape[1]}x{values.shape[0]}",
            "give a larger picture or a smaller kernel",
        )
    found = _convolved(gray, values)
    answers = tuple(_strongest(gray, values, found, most))
    return HandKernel(called, values, found, answers, _drawn(image, called, values, found, answers))


def parse_kernel(text: str, where: object) -> NDArray[np.float64]:
    """The matrix that `text` spells: a row a line, numbers divided by blanks or commas.

    Empty lines and what follows a # are left out. Raises UsageError naming `where` and the line.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].replace(",", " ").split()
        try:
            row = [float(word) for word in words]
        except ValueError:
            raise _no_kernel(where, f"line {number} is not numbers alone: {line[:40]!r}") from None
        if row:
            rows.append(row)
    if len({len(row) for row in rows}) > 1:
        raise _no_kernel(where, f"its rows have {sorted({len(row) for row in rows})} numbers")
    return _checked(np.array(rows, np.float64), where)


def _matrix(kernel: Any, name: str) -> NDArray[np.float64]:
    if isinstance(kernel, str):
        if kernel not in KERNELS:
            raise UnknownName("kernel", kernel, KERNELS)
        return np.array(KERNELS[kernel], np.float64)
    try:
        values = np.array(kernel, np.float64)
    except (TypeError, ValueError):
        raise _no_kernel(name or "kernel", "it is no matrix of numbers") from None
    return _checked(values, name or "kernel")


def _checked(values: NDArray[np.float64], where: object) -> NDArray[np.float64]:
    if values.ndim != 2 or not values.size:
        raise _no_kernel(where, "it has no rows of numbers")
    if max(values.shape) > _LARGEST:
        raise _no_kernel(
            where, f"it has {values.shape[0]}x{values.shape[1]} values, {_LARGEST} a side is most"
        )
    if not np.isfinite(values).all():
        raise _no_kernel(where, "one of its numbers is not finite")
    return values


def _no_kernel(where: object, what: str) -> UsageError:
    names = ", ".join(KERNELS)
    return UsageError(where, what, f"give rows of numbers, such as '-1 0 1' on each of 3 lines, or {names}")


def _luma(image: Image) -> NDArray[np.float64]:
    """`image` as one number a pixel, 0..255 (H, W)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        raise DataError(
            "picture", f"it is {image.dtype} {image.shape}", "give uint8 (H, W, 1) or (H, W, 3), not empty"
        )
    if image.shape[2] == 1:
        return image[:, :, 0].astype(np.float64)
    luma: NDArray[np.float64] = np.rint(image @ np.array(_LUMA))
    return luma


def _convolved(gray: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = kernel.shape
    height, width = gray.shape[0] - rows + 1, gray.shape[1] - columns + 1
    total = np.zeros((height, width))
    # A pass for each weight: all windows at once would take the picture's memory times the weights.
    for row in range(rows):
        for column in range(columns):
            total += kernel[row, column] * gray[row : row + height, column : column + width]
    return total


def _strongest(
    gray: NDArray[np.float64], kernel: NDArray[np.float64], found: NDArray[np.float64], most: int
) -> Iterator[Answer]:
    """The windows with the largest sums by size, none of which overlap."""
    rows, columns = kernel.shape
    left = np.abs(found)
    for _ in range(most):
        row, column = (int(place) for place in np.unravel_index(left.argmax(), left.shape))
        if left[row, column] <= 0:
            return
        window = gray[row : row + rows, column : column + columns]
        yield Answer(row, column, window.copy(), float(found[row, column]))
        left[max(0, row - rows + 1) : row + rows, max(0, column - columns + 1) : column + columns] = 0


def _drawn(
    image: Image,
    name: str,
    kernel: NDArray[np.float64],
    found: NDArray[np.float64],
    answers: Sequence[Answer],
) -> Image:
    small, block = shrunk(found, _SIDE)
    scale = Scale.of(found)
    picture = enlarged(visible(image), _SIDE)
    factor = picture.shape[1] / image.shape[1]
    for answer in answers:
        box = (answer.row, answer.column, answer.row + kernel.shape[0], answer.column + kernel.shape[1])
        picture = outlined(picture, [side * factor for side in box])
    strongest = f", each square the strongest of {block}x{block}" if block > 1 else ""
    tiles = (
        Tile(picture, f"the picture; boxed: the {len(answers)} windows that answer most"),
        Tile(resized(scale(small), (picture.shape[0], picture.shape[1])), f"its map{strongest}"),
    )
    return sheet(tiles, (f"kernel {name}",), (("sum of kernel x picture", scale),), columns=2)
