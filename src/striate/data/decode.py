"""The one decoder: a picture file becomes uint8 pixels, or an error that names the file.

Everything that reads pictures (check, train, eval, predict, explain, serve) goes through `decode_picture`,
most of it by `decode_image`, so a picture has the same pixels everywhere. The format is told by content,
never by the file's name.
"""

import io
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar, cast

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from striate.data.completeness import missing
from striate.errors import DataError, UsageError
from striate.structures import Image

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "SUFFIXES",
    "as_pixels",
    "decode_image",
    "decode_picture",
    "decode_with",
    "size_of",
]

PixelsT = TypeVar("PixelsT")

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"}
)
"""Lower-case suffixes of the files that a walk through a folder takes for pictures."""

FORMATS = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF")
"""What can be decoded, in the words of messages."""

MAX_BYTES = 100_000_000
MAX_PIXELS = 64_000_000

_START = 1024  # bytes that show what a file is

_ACCEPTED = f"convert it to {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
_INTACT = "replace it by an intact copy or remove it"
_SMALLER = "save it smaller or cut it into tiles"


def decode_image(
    source: Path | str | bytes | Image,
    name: str | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Image:
    """The picture in `source` upright: fresh uint8 (H, W, 1) if it is gray, else (H, W, 3) RGB.

    `source` is a path (a symbolic link is followed), a file's bytes, or pixels: uint8 (H, W), (H, W, 1),
    (H, W, 3) or (H, W, 4) RGBA. Transparency is laid over `background` (a gray picture becomes RGB if the
    background has a hue). EXIF orientation is applied; of several frames the first counts. `name` is what
    errors call it.

    Gray of more than 8 bits is scaled to 0..255 and rounded: 16-bit by 1/257, 12-bit by 255/4095. 32-bit
    whole numbers and floats have no stated range: the smallest of 0..1 (floats only), 0..255 and 0..65535
    that holds every pixel is taken as full scale, and other values are refused. Of 16-bit colour Pillow
    keeps the upper 8 bits. CMYK, YCbCr and Lab become RGB by formula; ICC profiles are not applied.

    Raises DataError for a file that is missing, unreadable, empty, cut, damaged, of another format, over
    MAX_BYTES or MAX_PIXELS (by its header, before decoding), or no regular file.
    """
    if isinstance(source, np.ndarray):
        _check_background(background)
        return _from_pixels(source, name or "<array>", background)
    return as_pixels(decode_picture(source, name, background))


def decode_picture(
    source: Path | str | bytes,
    name: str | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
) -> PIL.Image.Image:
    """What `decode_image` gives, as a picture of Pillow's in mode L or RGB.

    Where Pillow goes on with it, that saves two copies of the pixels: of a photo that is made ready for a
    network, a fifth of the time.
    """
    _check_background(background)

    def upright(image: PIL.Image.Image, content: bytes, called: str) -> PIL.Image.Image:
        turn = _TURNS.get(_orientation(image))
        shown = _to_uint8(image, content, called, background)
        return shown if turn is None else shown.transpose(turn)

    return decode_with(source, name, upright)


def _check_background(background: tuple[int, int, int]) -> None:
    if len(background) != 3 or not all(0 <= level <= 255 for level in background):
        raise UsageError("background", f"{background!r} is no colour", "give red, green, blue, each 0..255")


def decode_with(
    source: Path | str | bytes,
    name: str | None,
    pixels: Callable[[PIL.Image.Image, bytes, str], PixelsT],
) -> PixelsT:
    """What `pixels` makes of the picture in `source` as it is stored, its bytes and its name.

    The limits and the errors are those of `decode_image`; whatever `pixels` raises means a damaged file,
    except DataError.
    """
    if isinstance(source, bytes):
        return _from_bytes(source, name or "<bytes>", pixels)
    return _from_bytes(_read(Path(source), name or str(source)), name or str(source), pixels)


def size_of(source: Path | str | bytes | Image, name: str | None = None) -> tuple[int, int]:
    """Height and width of the picture in `source` upright, told by its header: no pixel is decoded.

    Raises DataError as `decode_image` does, but for damage behind the header.
    """
    if isinstance(source, np.ndarray):
        return source.shape[0], source.shape[1]
    if isinstance(source, bytes):
        return _stated_size(io.BytesIO(source), name or "<bytes>")
    with _opened(Path(source), name or str(source)) as file:
        return _stated_size(file, name or str(source))


def _stated_size(file: IO[bytes], name: str) -> tuple[int, int]:
    file_format = _recognise(file.read(_START), name)
    file.seek(0)
    try:
        with _pillow_warnings_off(), PIL.Image.open(file, formats=(file_format,)) as image:
            width, height = image.size
            _check_pixel_count(width, height, name)
            is_turned = _may_be_turned(image, file) and _TURNS.get(_orientation(image)) in _ON_THEIR_SIDE
            return (width, height) if is_turned else (height, width)
    except (DataError, MemoryError):
        raise
    except Exception as error:
        # As for pixels: whatever Pillow makes of hostile bytes, this file is at fault.
        reason = str(error) or type(error).__name__
        raise DataError(name, f"the header of this {file_format} file is wrong: {reason}", _INTACT) from None


def _may_be_turned(image: PIL.Image.Image, file: IO[bytes]) -> bool:
    """Whether EXIF may turn the sides of `image`. Pillow has the sides of a TIFF upright from the start."""
    if image.format != "PNG" or "exif" in image.info:
        return image.format != "TIFF"
    # Asked for the EXIF, Pillow would decode the pixels first: it may lie behind them.
    position = file.tell()
    file.seek(0)
    content = file.read(MAX_BYTES)
    file.seek(position)
    return b"eXIf" in content or b"Raw profile type" in content


def _from_pixels(pixels: Image, name: str, background: tuple[int, int, int]) -> Image:
    shaped = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or shaped.ndim != 3 or shaped.shape[2] not in (1, 3, 4) or pixels.size == 0:
        raise DataError(
            name,
            f"pixels are uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {pixels.dtype} {pixels.shape}",
            "convert the array to one of those",
        )
    _check_pixel_count(shaped.shape[1], shaped.shape[0], name)
    if shaped.shape[2] == 4:
        return as_pixels(_laid_over(PIL.Image.fromarray(np.ascontiguousarray(shaped)), background))
    return np.array(shaped, order="C")


def _read(path: Path, name: str) -> bytes:
    """The content of a regular file, of MAX_BYTES at most."""
    with _opened(path, name) as file:
        content = file.read(MAX_BYTES + 1)
    _check_size(len(content), name)
    return content


@contextmanager
def _opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    """The regular file `path`, open. The system's errors are told as DataError, those of the block too."""
    try:
        # A device may act on being opened, so look first. The file can still be swapped for a pipe before
        # it is open: then opening must not wait for a writer, and what was opened is looked at again.
        _check_regular(path.stat(), name)
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:
            _check_regular(os.fstat(handle), name)
            yield file
    except FileNotFoundError:
        raise DataError(name, "there is no such file", "check the path") from None
    except PermissionError:
        raise DataError(name, "you may not read it", "give yourself permission to read it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(name, f"it cannot be read ({reason})", "check the path and the disk") from None


def _check_regular(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        raise DataError(name, f"this is {kind}, not a picture file", "give a regular file")
    _check_size(status.st_size, name)


def _check_size(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise DataError(name, f"it has more than {MAX_BYTES // 1_000_000} MB", _SMALLER)


def _check_pixel_count(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(
            name,
            f"it has {width} x {height} pixels, more than {MAX_PIXELS // 1_000_000} million",
            _SMALLER,
        )


def _from_bytes(
    content: bytes, name: str, pixels: Callable[[PIL.Image.Image, bytes, str], PixelsT]
) -> PixelsT:
    file_format = _recognise(content, name)
    try:
        with _pillow_warnings_off(), PIL.Image.open(io.BytesIO(content), formats=(file_format,)) as image:
            _check_pixel_count(*image.size, name)
            if problem := missing(file_format, content):
                raise _cut(file_format, name, problem)
            image.load()
            return pixels(image, content, name)
    except (DataError, MemoryError):
        raise
    except PIL.Image.DecompressionBombError as error:
        raise DataError(name, f"its header asks for too much ({error})", _SMALLER) from None
    except Exception as error:
        # Pillow's decoders raise many types on hostile bytes; whichever it is, this file is at fault.
        if problem := missing(file_format, content):
            raise _cut(file_format, name, problem) from None
        reason = str(error) or type(error).__name__
        if isinstance(error, PIL.UnidentifiedImageError):
            reason = "its header is wrong or its layout is not supported"
        raise DataError(name, f"this {file_format} file cannot be decoded: {reason}", _INTACT) from None


def _cut(file_format: str, name: str, problem: str) -> DataError:
    return DataError(name, f"this {file_format} file is cut or damaged: {problem}", _INTACT)


_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_FOREIGN_MAGIC = {
    b"%PDF-": "a PDF",
    b"%!PS": "a PostScript file",
    b"\xc5\xd0\xd3\xc6": "an EPS file",
    b"8BPS": "a Photoshop file",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 file",
    b"\xff\x4f\xff\x51": "a JPEG 2000 file",
    b"\0\0\0\x0cJXL ": "a JPEG XL file",
    b"\xff\x0a": "a JPEG XL file",
    b"\0\0\1\0": "an icon file",
    b"\x76\x2f\x31\x01": "an OpenEXR file",
    b"#?RADIANCE": "a Radiance HDR file",
    b"DDS ": "a DDS file",
    b"qoif": "a QOI file",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"PK\3\4": "a zip archive",
    b"\x1f\x8b": "a gzip file",
}
_ISO_BRANDS = {b"avif": "an AVIF file", b"avis": "an AVIF file"}
_ISO_BRANDS |= dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), "a HEIC file")


def _recognise(content: bytes, name: str) -> str:
    """Pillow's name of the format that the first bytes show; raises DataError for any other."""
    for magic, file_format in _MAGIC.items():
        if content.startswith(magic):
            return file_format
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if not content:
        raise DataError(name, "it is empty (0 bytes)", _INTACT)
    raise DataError(name, f"this is {_describe_foreign(content)}, which cannot be decoded", _ACCEPTED)


def _describe_foreign(content: bytes) -> str:
    for magic, description in _FOREIGN_MAGIC.items():
        if content.startswith(magic):
            return description
    if content[4:8] == b"ftyp":
        return _ISO_BRANDS.get(content[8:12], "a film (MP4)")
    start = content[:1024]
    if not any(start):
        return "a file of zero bytes only"
    lowered = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in lowered:
        return "an SVG drawing"
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    is_text = not set(start) & set(b"\0\1\2\3\4\5\6\x0e\x0f\x10\x11\x12\x13\x14\x15\x16")
    return "a text file" if is_text else "no picture format known here"


_PILLOW_IS_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@contextmanager
def _pillow_warnings_off() -> Iterator[None]:
    """Pillow's warnings are dropped: about broken EXIF, odd tags and sizes that our own limits judge.

    `warnings.catch_warnings` would let one thread restore what another has just changed. Inserting and
    removing an entry are single steps, so threads (and forks) need no lock; only Pillow is silenced.
    """
    filters = cast("list[object]", warnings.filters)
    filters.insert(0, _PILLOW_IS_QUIET)
    try:
        yield
    finally:
        with suppress(ValueError):  # somebody restored their own list meanwhile
            filters.remove(_PILLOW_IS_QUIET)


def _to_uint8(
    image: PIL.Image.Image, content: bytes, name: str, background: tuple[int, int, int]
) -> PIL.Image.Image:
    """A decoded `image` in mode L or RGB as it is stored, not yet upright."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _wide_gray_to_8_bits(image, name)
    elif image.format == "PNG":
        _correct_png(image, content)
    is_gray = image.mode in ("1", "L", "LA", "La")
    if not image.has_transparency_data:
        mode = "L" if is_gray else "RGB"
        # To convert to the same mode is one more copy.
        return image if image.mode == mode else image.convert(mode)
    if image.format == "PNG" and content[_PNG_COLOR_TYPE] == _PNG_GRAY_ALPHA and image.mode == "RGBA":
        gray_and_alpha = image.getchannel("R"), image.getchannel("A")
        return _laid_over(PIL.Image.merge("LA", gray_and_alpha), background)
    return _laid_over(image.convert("LA" if is_gray else "RGBA"), background)


_STRIP = 1 << 16  # bytes; small enough to stay in the processor's cache


def as_pixels(image: Image | PIL.Image.Image) -> Image:
    """The pixels of a picture in mode L or RGB, fresh (H, W, C); an array itself."""
    if isinstance(image, np.ndarray):
        return image
    # Asked for a whole photo, Pillow joins pieces to bytes that are then copied once more: two large blocks
    # of new memory, which may take half as long as to decode it.
    height, width, channels = image.height, image.width, len(image.getbands())
    pixels = np.empty((height, width, channels), np.uint8)
    step = max(1, _STRIP // (width * channels))
    for top in range(0, height, step):
        bottom = min(top + step, height)
        strip = np.asarray(image.crop((0, top, width, bottom)))
        pixels[top:bottom] = strip.reshape(-1, width, channels)
    return pixels


def _laid_over(image: PIL.Image.Image, background: tuple[int, int, int]) -> PIL.Image.Image:
    """An LA or RGBA picture over an even background, mixed exactly and rounded once."""
    if image.mode == "LA" and len(set(background)) == 1:
        canvas = PIL.Image.new("L", image.size, background[0])
        canvas.paste(image.getchannel("L"), mask=image.getchannel("A"))
    else:
        canvas = PIL.Image.new("RGB", image.size, background)
        canvas.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return canvas


_PNG_BIT_DEPTH, _PNG_COLOR_TYPE = 24, 25  # where these bytes lie in a PNG
_PNG_GRAY_ALPHA = 4


def _correct_png(image: PIL.Image.Image, content: bytes) -> None:
    """Bring a transparent colour (tRNS) to 8 bits, as Pillow does with the pixels but not with the key."""
    key, depth = image.info.get("transparency"), content[_PNG_BIT_DEPTH]
    if image.mode == "RGB" and depth == 16 and isinstance(key, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in key)
    elif image.mode == "L" and depth < 8 and isinstance(key, int):
        image.info["transparency"] = key * 255 // ((1 << depth) - 1)


_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
_TIFF_WHITE_IS_ZERO = 0


def _wide_gray_to_8_bits(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    """A gray picture of more than 8 bits as L, or as LA where one value is transparent."""
    values = np.asarray(image)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if image.mode.startswith("I;16"):
        full = (1 << tags.get(_TIFF_BITS, (16,))[0]) - 1
        gray = ((values.astype(np.uint32) * 510 + full) // (2 * full)).astype(np.uint8)
    else:
        full = _full_scale(values, name)
        gray = np.clip(np.rint(values.astype(np.float64) * (255 / full)), 0, 255).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO:
        gray = 255 - gray
    if (key := image.info.get("transparency")) is None:
        return PIL.Image.fromarray(gray)
    alpha = np.where(values == key, np.uint8(0), np.uint8(255))
    return PIL.Image.merge("LA", (PIL.Image.fromarray(gray), PIL.Image.fromarray(alpha)))


def _full_scale(values: NDArray[np.int32] | NDArray[np.float32], name: str) -> int:
    """The value that means white: the top of the smallest usual range that holds all of `values`."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        raise DataError(name, "it has pixels that are not finite", "replace NaN and infinity by numbers")
    is_float = values.dtype.kind == "f"
    for full in (1, 255, 65535) if is_float else (255, 65535):
        # Filters overshoot a little; less than half a level of the result rounds away.
        slack = full / 510 if is_float else 0
        if high <= full + slack:
            if low >= -slack:
                return full
            break
    raise DataError(
        name,
        f"its pixels run from {low:g} to {high:g}, which is no usual range",
        "scale them to 0..255 or 0..65535 (floats also to 0..1)",
    )


def _orientation(image: PIL.Image.Image) -> int:
    """The EXIF orientation 1..8; 1 where there is none or the EXIF is broken: the pixels are good anyway."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:
        return 1


# EXIF 2.32, tag 0x0112: what puts such a picture upright.
_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_ON_THEIR_SIDE = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))
