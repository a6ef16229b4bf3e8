"""Pictures small enough for a report, as data that a page carries itself."""

import base64
import io

import numpy as np
from PIL import Image as PillowImage

from striate.reports.evidence import Shown
from striate.structures import Image

__all__ = ["LARGE", "LOSSLESS", "SMALL", "as_rgb", "fitted", "thumbnail"]

SMALL, LARGE = 112, 216  # pixels of the longest side
LOSSLESS = 48  # pixels; up to here a picture is shown pixel by pixel
_QUALITY = 78


def thumbnail(image: Image, alt: str, side: int = SMALL) -> Shown:
    """`image` (H, W, 1 or 3), shrunk where it is larger than `side`, as WebP."""
    picture = fitted(image, side)
    file = io.BytesIO()
    if max(picture.size) <= LOSSLESS:
        picture.save(file, "WEBP", lossless=True)
    else:
        picture.save(file, "WEBP", quality=_QUALITY)
    content = base64.b64encode(file.getvalue()).decode("ascii")
    return Shown(f"data:image/webp;base64,{content}", picture.width, picture.height, alt)


def fitted(image: Image, side: int) -> PillowImage.Image:
    """`image` as RGB with no side longer than `side` pixels; never enlarged."""
    picture = PillowImage.fromarray(as_rgb(image))
    if max(picture.size) > side:
        picture.thumbnail((side, side), PillowImage.Resampling.LANCZOS)
    return picture


def as_rgb(image: Image) -> Image:
    """`image` (H, W, 1 or 3) with three channels."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
