"""How a picture becomes a network's input: the one code that executes a `Preprocess`.

Training, validation, prediction, calibration, export and serving all call `apply`, so they see the same
pixels. Everything is integer arithmetic or Pillow's fixed-point filters: equal input, equal output, bit
by bit, on every machine. Normalisation is not here; it is the network's first layer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from striate.errors import DataError, UsageError
from striate.structures import Geometry, Image, Preprocess

__all__ = ["Plan", "Resize", "apply", "planned"]

Resize = Callable[[Image, tuple[int, int]], Image]
"""A picture (H, W, 3) at a size (h, w), fresh."""

MAX_RESIZED_PIXELS = 64_000_000
"""A picture 1 pixel wide and 10,000 high would become 655 million pixels on its way to 224 x 224."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Heights and widths, in pixels: resize to `resized`, put it at `top`, `left` of an `input`."""

    resized: tuple[int, int]
    input: tuple[int, int]
    top: int  # negative: that many rows are cut away
    left: int


def apply(
    spec: Preprocess, image: Image | PIL.Image.Image, resize: Resize | None = None
) -> tuple[Image, Geometry]:
    """The network's input for `image` and where its pixels went: fresh uint8 (H, W, spec.channels).

    `image` is uint8 (H, W, 1 or 3) as `decode_image` gives it, or what `decode_picture` gives. Gray is ITU-R
    601 luma; hue is made after resizing, since the mean of two hues is not a hue. For `crop`, sizes and cuts
    are torchvision's `Resize(resize_to)` and `CenterCrop`; for `shorter`, those of its detectors; in
    `letterbox` an odd pixel of padding goes to the right or bottom. `Geometry.input` leaves out the padding
    of `pad_to`. `resize`, which is for training alone, takes the place of the filter where `image` is an
    array that has the spec's colour. Raises DataError for a picture that is none, or so long and thin that
    it would grow beyond MAX_RESIZED_PIXELS.
    """
    height, width = _size_of(image)
    plan = planned(spec, height, width)
    if resize is not None and spec.color == "rgb" and isinstance(image, np.ndarray) and image.shape[2] == 3:
        resized = resize(image, plan.resized)
    else:
        resized = np.asarray(_resized(spec, image, plan.resized))
    geometry = Geometry(
        source=(height, width),
        input=plan.input,
        scale_x=plan.resized[1] / width,
        scale_y=plan.resized[0] / height,
        left=plan.left,
        top=plan.top,
    )
    return _padded(_place(resized, plan, spec), spec), geometry


def _size_of(image: Image | PIL.Image.Image) -> tuple[int, int]:
    """Height and width. Raises DataError for what is no picture."""
    if isinstance(image, np.ndarray):
        is_picture = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] in (1, 3) and image.size
        size, told = image.shape[:2], f"{image.dtype} {image.shape}"
    else:
        is_picture = image.mode in ("L", "RGB") and image.width and image.height
        size, told = (image.height, image.width), f"mode {image.mode}, {image.width} x {image.height}"
    if not is_picture:
        raise DataError("preprocess", f"a picture is uint8 (H, W, 1 or 3), got {told}", "use decode_image")
    return size[0], size[1]


def _resized(spec: Preprocess, image: Image | PIL.Image.Image, size: tuple[int, int]) -> PIL.Image.Image:
    resized = _resize(_to_color(spec, image), size, spec)
    return resized.convert("HSV") if spec.color == "hsv" else resized


def _padded(image: Image, spec: Preprocess) -> Image:
    """`image` with pad_value at the right and bottom, up to the next multiple of `pad_to`."""
    down, right = (-side % spec.pad_to for side in image.shape[:2])
    if not down and not right:
        return image
    return np.pad(image, ((0, down), (0, right), (0, 0)), constant_values=spec.pad_value)


def planned(spec: Preprocess, height: int, width: int) -> Plan:
    """Where `apply` puts a picture of that size. Raises DataError where it would grow beyond all measure."""
    match spec.fit:
        case "crop":
            plan = _crop(spec, height, width)
        case "letterbox":
            plan = _letterbox(spec, height, width)
        case "shorter":
            plan = _shorter(spec, height, width)
        case "stretch":
            plan = _bordered(spec, *spec.inner_size)
        case "none":
            plan = _bordered(spec, height, width)
    if math.prod(plan.resized) > MAX_RESIZED_PIXELS:
        raise DataError(
            "preprocess",
            f"a picture of {width} x {height} pixels would grow to {plan.resized[1]} x {plan.resized[0]} "
            f"with fit {spec.fit!r}",
            "cut the picture to a less extreme shape, or use fit 'letterbox' or 'stretch'",
        )
    return plan


def _crop(spec: Preprocess, height: int, width: int) -> Plan:
    target_height, target_width = spec.inner_size
    if spec.resize_to is not None:
        resized = _shorter_side(height, width, spec.resize_to)
    elif target_height * width >= target_width * height:
        # The least size that covers the target; for a square that is its side as the shorter side.
        resized = target_height, target_height * width // height
    else:
        resized = target_width * height // width, target_width
    top, left = (round((size - target) / 2) for size, target in zip(resized, spec.inner_size, strict=True))
    return Plan(resized, spec.size, spec.border - top, spec.border - left)


def _letterbox(spec: Preprocess, height: int, width: int) -> Plan:
    target_height, target_width = spec.inner_size
    if target_height * width <= target_width * height:
        resized = target_height, max(1, _divide_rounding(target_height * width, height))
    else:
        resized = max(1, _divide_rounding(target_width * height, width)), target_width
    top, left = ((target - size) // 2 for size, target in zip(resized, spec.inner_size, strict=True))
    return Plan(resized, spec.size, spec.border + top, spec.border + left)


def _shorter(spec: Preprocess, height: int, width: int) -> Plan:
    resized = _shorter_side(height, width, spec.inner_size[0])
    if spec.max_size is not None:
        longest = spec.max_size - 2 * spec.border
        if longest < 1:
            raise UsageError(
                "preprocess.max_size", f"{spec.max_size} leaves no room inside the border", "make it larger"
            )
        if max(resized) > longest:
            shortest = max(1, longest * min(height, width) // max(height, width))
            resized = (longest, shortest) if height > width else (shortest, longest)
    return _bordered(spec, *resized)


def _bordered(spec: Preprocess, height: int, width: int) -> Plan:
    input_size = height + 2 * spec.border, width + 2 * spec.border
    return Plan((height, width), input_size, spec.border, spec.border)


def _shorter_side(height: int, width: int, side: int) -> tuple[int, int]:
    """The size with the shorter side at `side` and the aspect kept, the longer rounded down."""
    longer = side * max(height, width) // min(height, width)
    return (longer, side) if height > width else (side, longer)


def _divide_rounding(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def _to_color(spec: Preprocess, image: Image | PIL.Image.Image) -> PIL.Image.Image:
    """`image` as L where the spec asks for gray, else as RGB; a gray picture repeats its channel."""
    source = image if isinstance(image, PIL.Image.Image) else _as_pillow(image)
    mode = "L" if spec.color == "gray" else "RGB"
    # To convert to the same mode is one more copy.
    return source if source.mode == mode else source.convert(mode)


def _as_pillow(image: Image) -> PIL.Image.Image:
    pixels = np.ascontiguousarray(image)
    return PIL.Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


_FILTERS = {
    "nearest": PIL.Image.Resampling.NEAREST,
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
}


def _resize(image: PIL.Image.Image, size: tuple[int, int], spec: Preprocess) -> PIL.Image.Image:
    height, width = size
    shrinks = height < image.height or width < image.width
    if spec.antialias or spec.interpolation == "nearest" or not shrinks:
        return image.resize((width, height), _FILTERS[spec.interpolation])
    # Pillow widens its filters when it shrinks, which is the antialiasing; here they keep their width.
    pixels = np.asarray(image).astype(np.int64)
    kernel, reach = _KERNELS[spec.interpolation]
    for axis, new in ((1, width), (0, height)):
        if pixels.shape[axis] != new:
            pixels = _sample(pixels, axis, new, kernel, reach)
    return PIL.Image.fromarray(pixels.astype(np.uint8))


_WEIGHT_BITS = 22  # Pillow's precision: growing gives its very pixels


def _sample(
    pixels: NDArray[np.int64],
    axis: int,
    new: int,
    kernel: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    reach: int,
) -> NDArray[np.int64]:
    """`pixels` along `axis` at `new` even places, each from the 2 * `reach` pixels around it, 0..255.

    Pixels beyond the edge do not exist: the weights of the others are raised to sum to 1.
    """
    old = pixels.shape[axis]
    centers = (np.arange(new) + 0.5) * (old / new)
    first = np.floor(centers - reach + 0.5).astype(np.int64)
    taps = first + np.arange(2 * reach)[:, None]  # (2 reach, new)
    weights = kernel(taps + 0.5 - centers) * ((taps >= 0) & (taps < old))
    weights = np.rint(weights / weights.sum(axis=0) * (1 << _WEIGHT_BITS)).astype(np.int64)
    shape, along = list(pixels.shape), [1] * pixels.ndim
    shape[axis] = along[axis] = new
    # Half a unit to start with, so that the shift rounds to the nearest.
    total = np.full(shape, 1 << (_WEIGHT_BITS - 1), np.int64)
    for places, weight in zip(np.clip(taps, 0, old - 1), weights, strict=True):
        total += pixels.take(places, axis) * weight.reshape(along)
    rounded: NDArray[np.int64] = np.clip(total >> _WEIGHT_BITS, 0, 255)
    return rounded


def _triangle(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    weight: NDArray[np.float64] = np.maximum(1 - np.abs(distance), 0)
    return weight


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution with a = -1/2 (doi:10.1109/TASSP.1981.1163711, eq. 15)."""
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weight: NDArray[np.float64] = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weight


def _lanczos(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    product = np.sinc(distance) * np.sinc(distance / 3)
    weight: NDArray[np.float64] = np.where(np.abs(distance) < 3, product, 0)
    return weight


_KERNELS: dict[str, tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], int]] = {
    "bilinear": (_triangle, 1),
    "bicubic": (_cubic, 2),
    "lanczos": (_lanczos, 3),
}


def _place(pixels: Image, plan: Plan, spec: Preprocess) -> Image:
    """The resized pixels in an input of the planned size, what lies outside cut, the rest padded."""
    height, width = plan.resized
    # Only a `resize` gives pixels that may be handed on: Pillow's are read-only.
    if plan.resized == plan.input and not spec.border and pixels.flags.writeable:
        return pixels
    output = np.full((*plan.input, spec.channels), spec.pad_value, np.uint8)
    # The border stays free even where a crop would reach into it.
    rows = slice(max(plan.top, spec.border), min(plan.top + height, plan.input[0] - spec.border))
    columns = slice(max(plan.left, spec.border), min(plan.left + width, plan.input[1] - spec.border))
    content = pixels[
        rows.start - plan.top : rows.stop - plan.top, columns.start - plan.left : columns.stop - plan.left
    ]
    output[rows, columns] = content[:, :, None] if content.ndim == 2 else content
    return output
