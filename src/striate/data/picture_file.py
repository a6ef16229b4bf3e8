"""The file of a picture, to be put elsewhere as it is."""

import io

import numpy as np
import PIL.Image

from striate.data.dataset import Storage
from striate.data.decode import MAX_BYTES
from striate.errors import DataError
from striate.structures import Image

__all__ = ["picture_file", "suffix_of"]

_CHANGED = "leave the pictures as they are while they are copied"

_KINDS = (
    (b"\xff\xd8", "jpg"),
    (b"\x89PNG", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
    (b"II+\0", "tif"),
    (b"MM\0+", "tif"),
)


def picture_file(storage: Storage, key: str) -> bytes:
    """The bytes of the picture as its file holds them; of pixels in memory, a PNG.

    Raises DataError naming a picture that cannot be read, or has more than 100 MB.
    """
    content = storage.content(key)
    if isinstance(content, np.ndarray):
        return _png(content)
    if isinstance(content, bytes):
        return content
    try:
        with content.open("rb") as file:
            found = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(key, f"it cannot be read ({error.strerror or error})", _CHANGED) from None
    if len(found) > MAX_BYTES:
        raise DataError(key, "it has more than 100 MB now", _CHANGED)
    return found


def suffix_of(content: bytes, key: str) -> str:
    """The suffix that the content deserves, without a dot, whatever its file was called.

    Raises DataError naming `key` where it is no picture.
    """
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    for start, kind in _KINDS:
        if content.startswith(start):
            return kind
    raise DataError(key, "it is no picture any more", _CHANGED)


def _png(pixels: Image) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
