"""Pictures of any kind made ready for a network: named, decoded and prepared."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps

from striate.data.decode import as_pixels, decode_image, decode_picture
from striate.data.preprocess import apply
from striate.errors import DataError, UsageError
from striate.structures import Geometry, Image, Preprocess, Sample

__all__ = ["Job", "Picture", "Prepared", "Source", "is_picture", "jobs", "prepare"]

Picture: TypeAlias = str | Path | bytes | Image | PillowImage.Image
"""One picture: a file, its bytes, its pixels (uint8), or a PIL image."""

Source: TypeAlias = Picture | Sample | tuple[str, Picture]
"""What a stream takes: a picture, a decoded sample, or (key, picture) to say what its result is called."""

Job: TypeAlias = tuple[str, Callable[[], "Prepared"]]
"""What a picture is called, and what makes it ready; that raises DataError where it cannot be read."""

# A PIL image reads its file when its pixels are asked for, and the same one may come twice in a list.
_pil_reading = Lock()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture at the network's input."""

    key: str
    image: Image
    geometry: Geometry
    extras: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  # further inputs by name


def is_picture(source: object) -> bool:
    """Whether `source` is one picture, and not several; an array of four axes is several."""
    if isinstance(source, np.ndarray):
        return source.ndim != 4
    return isinstance(source, str | Path | bytes | PillowImage.Image)


def prepare(preprocess: Preprocess | None, source: Source, index: int | None = None) -> Prepared:
    """`source` ready for the network, or as it is where `preprocess` is None. Raises DataError with its key.

    `index` is its place among others.
    """
    key = _key(source, index)
    decoded: Image | PillowImage.Image
    if isinstance(source, Sample):
        decoded = source.image
    else:
        decoded = _decoded(source[1] if isinstance(source, tuple) else source, key)
    if preprocess is None:
        image = as_pixels(decoded)
        size = (image.shape[0], image.shape[1])
        return Prepared(key, image, Geometry(size, size))
    try:
        prepared, geometry = apply(preprocess, decoded)
    except DataError as error:  # preprocessing knows no file names
        raise DataError(key, error.what, error.fix) from None
    if not preprocess.proposals:
        return Prepared(key, prepared, geometry)
    from striate.data.proposals import in_input, proposals

    found = in_input(proposals(as_pixels(decoded), preprocess.proposals), geometry)
    return Prepared(key, prepared, geometry, {"proposals": found})


def jobs(preprocess: Preprocess | None, sources: Iterable[Source]) -> Iterator[Job]:
    """The name of each picture, with what makes it ready when it is called."""
    for index, source in enumerate(sources):
        yield _key(source, index), partial(prepare, preprocess, source, index)


def _key(source: Source, index: int | None) -> str:
    """What the result is called: the path, the given key, or the kind and place of a nameless picture."""
    if isinstance(source, Sample):
        return source.key
    if isinstance(source, tuple):
        return source[0]
    if isinstance(source, str | Path):
        return str(source)
    if not is_picture(source):
        raise UsageError(
            f"picture {index}",
            f"a {type(source).__name__} is no picture",
            "give paths, bytes, arrays or PIL images",
        )
    name = getattr(source, "filename", "")  # of a PIL image that was opened from a file
    kind = {bytes: "bytes", np.ndarray: "array"}.get(type(source), "image")
    return str(name) or (f"<{kind}>" if index is None else f"<{kind} {index}>")


def _decoded(picture: Picture, key: str) -> Image | PillowImage.Image:
    if isinstance(picture, PillowImage.Image):
        try:
            with _pil_reading:
                picture = _pixels(picture)
        except (OSError, ValueError) as error:
            raise DataError(
                key, f"its pixels cannot be read ({error})", "give an intact one, as RGB"
            ) from None
    if isinstance(picture, np.ndarray):
        return decode_image(picture, name=key)
    return decode_picture(picture, name=key)


def _pixels(picture: PillowImage.Image) -> Image | bytes:
    """The pixels of a PIL image turned upright, or a lossless file of it where the decoder knows better."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in ("L", "RGB", "RGBA") and "transparency" not in upright.info:
        pixels: Image = np.array(upright)
        return pixels
    # 16 bits, palettes, transparency, CMYK: one decoder decides what they look like.
    file = io.BytesIO()
    upright.save(file, "PNG" if upright.mode in ("1", "L", "LA", "P", "RGB", "I;16") else "TIFF")
    return file.getvalue()
