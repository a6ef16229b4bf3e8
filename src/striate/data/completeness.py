"""Whether the bytes of a picture file are all there, for each format by its own marks.

Pillow accepts some cut files: a PNG whose data stop after 10 of 64 rows, a GIF or TIFF that lacks
its later frames. It accepts every cut file once a program sets `LOAD_TRUNCATED_IMAGES`. These walks
follow the container's structure instead and cost little beside decoding. Bytes after the end are allowed.
"""

import re
import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["missing"]


def missing(file_format: str, content: bytes) -> str | None:
    """What says that `content` is cut or damaged, as a phrase for a message; None if it is whole.

    `file_format` is Pillow's name: JPEG, PNG, GIF, WEBP, BMP or TIFF. A JPEG that holds several
    pictures (MPO) is whole when the first is; a GIF, TIFF or animated PNG needs every frame.
    """
    walks: dict[str, Callable[[bytes], str | None]] = {
        "JPEG": _jpeg,
        "PNG": _png,
        "GIF": _gif,
        "WEBP": _webp,
        "BMP": _bmp,
        "TIFF": _tiff,
    }
    try:
        return walks[file_format](content)
    except (IndexError, OverflowError, ValueError, struct.error):
        return "it ends inside one of its headers or blocks"


# Any marker but a stuffed zero, a restart or a fill byte: ITU-T T.81, B.1.1.2.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_JPEG_ALONE = (0x01, 0xD8)  # TEM and SOI carry no length
_JPEG_END = 0xD9


def _jpeg(content: bytes) -> str | None:
    position = 2
    while found := _JPEG_MARKER.search(content, position):
        marker, position = found[1][0], found.end()
        if marker == _JPEG_END:
            return None
        if marker not in _JPEG_ALONE:
            position += int(struct.unpack_from(">H", content, position)[0])
    return "its end mark (EOI) is missing"


def _png(content: bytes) -> str | None:
    pixel_data: list[memoryview] = []
    position = 8
    while True:
        if position + 8 > len(content):
            return "its end mark (IEND) is missing"
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            return f"it ends inside its {kind.decode('latin-1')} chunk"
        if kind == b"IEND":
            break
        if kind == b"IDAT":
            chunk = memoryview(content)[position + 4 : end]
            if zlib.crc32(chunk[:-4]) != int.from_bytes(chunk[-4:], "big"):
                return "a checksum of its pixel data is wrong"
            pixel_data.append(chunk[4:-4])
        position = end
    wanted = _png_data_size(content)
    if wanted > _PNG_MOST_DATA:
        return f"its header asks for {wanted} bytes of pixels"
    present = _inflated_size(pixel_data, wanted)
    return f"its pixel data end early, at {present} of {wanted} bytes" if present < wanted else None


_PNG_MOST_DATA = 1 << 30  # bytes; twice what the largest picture that is decoded can have
# Samples per pixel by colour type, and the seven passes of an interlaced picture as
# (first column, first row, column step, row step): PNG specification, 11.2.1 and 8.2.
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def _png_data_size(content: bytes) -> int:
    """Bytes that the pixel data must unpack to: each row has a filter byte before its pixels."""
    width, height, depth, color_type, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    bits = depth * _PNG_SAMPLES.get(color_type, 1)
    size = 0
    for first_column, first_row, column_step, row_step in _PNG_PASSES if interlaced else ((0, 0, 1, 1),):
        columns = -((first_column - width) // column_step)
        rows = -((first_row - height) // row_step)
        if columns > 0 and rows > 0:
            size += rows * (1 + (columns * bits + 7) // 8)
    return size


_INPUT_STEP, _OUTPUT_STEP = 1 << 16, 1 << 20  # bytes held at a time while counting


def _inflated_size(pieces: list[memoryview], enough: int) -> int:
    """Bytes that the zlib stream in `pieces` unpacks to, counted up to `enough` or the first damage."""
    inflater, size = zlib.decompressobj(), 0
    steps = (piece[at : at + _INPUT_STEP] for piece in pieces for at in range(0, len(piece), _INPUT_STEP))
    for step in steps:
        pending: memoryview | bytes = step
        while size < enough:
            try:
                unpacked = len(inflater.decompress(pending, _OUTPUT_STEP))
            except zlib.error:
                return size
            size += unpacked
            pending = inflater.unconsumed_tail
            if not pending and unpacked < _OUTPUT_STEP:
                break
    return size


def _gif(content: bytes) -> str | None:
    position = 13 + _gif_palette_size(content[10])
    while position < len(content):
        introducer = content[position]
        if introducer == 0x3B:
            return None
        if introducer == 0x21:
            position = _gif_after_blocks(content, position + 2)
        elif introducer == 0x2C:
            palette = _gif_palette_size(content[position + 9])
            position = _gif_after_blocks(content, position + 11 + palette)
        else:
            position += 1  # decoders skip what lies between blocks
    return "its end mark is missing"


def _gif_palette_size(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_after_blocks(content: bytes, position: int) -> int:
    """Position after the chain of sub-blocks at `position`: each says its length, 0 ends the chain."""
    while length := content[position]:
        position += 1 + length
    return position + 1


def _webp(content: bytes) -> str | None:
    stated = 8 + struct.unpack_from("<I", content, 4)[0]
    return f"it has {len(content)} of {stated} bytes" if len(content) < stated else None


def _bmp(content: bytes) -> str | None:
    offset, header_size = struct.unpack_from("<II", content, 10)
    if header_size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
    if compression not in (0, 3):
        return None  # run lengths: the decoder counts the pixels itself
    rows_end = offset + (width * bits + 31) // 32 * 4 * abs(height)
    return f"it has {len(content)} of {rows_end} bytes" if len(content) < rows_end else None


# TIFF 6.0, section 2: bytes of a value by its type, and the tags that place the pixels.
_TIFF_VALUE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TIFF_VALUE_SIZES |= {16: 8, 17: 8, 18: 8}  # BigTIFF
_TIFF_PLACES = ((273, 279), (324, 325))  # offsets and byte counts of strips, and of tiles
_TIFF_PRIVATE = 32768  # tags from here on belong to the writer; decoding does not need them


def _tiff(content: bytes) -> str | None:
    order = "<" if content[:2] == b"II" else ">"
    is_big = struct.unpack_from(order + "H", content, 2)[0] == 43
    pointer, at = ("Q", 8) if is_big else ("I", 4)
    page = struct.unpack_from(order + pointer, content, at)[0]
    seen: set[int] = set()
    examined = 0
    while page and page not in seen:
        seen.add(page)
        tags, following, size = _tiff_directory(content, page, order, is_big)
        # Honest directories do not overlap, so together they are no larger than the file.
        examined += size
        if examined > 2 * len(content):
            return "its directories overlap"
        if problem := _tiff_page(content, tags, order):
            return problem
        page = following
    return None


_TiffTags = dict[int, tuple[int, int, int]]  # tag -> (value type, number of values, where they lie)


def _tiff_directory(content: bytes, page: int, order: str, is_big: bool) -> tuple[_TiffTags, int, int]:
    """The public tags of the directory at `page`, the next directory and the bytes these tags refer to."""
    counter, entry, pointer, inline = ("Q", "HHQQ", "Q", 8) if is_big else ("H", "HHII", "I", 4)
    (count,) = struct.unpack_from(order + counter, content, page)
    first, entry_size = page + struct.calcsize("=" + counter), struct.calcsize("=" + entry)
    (following,) = struct.unpack_from(order + pointer, content, first + count * entry_size)
    tags: _TiffTags = {}
    size = count * entry_size
    for at in range(first, first + count * entry_size, entry_size):
        tag, kind, values, value = struct.unpack_from(order + entry, content, at)
        if tag < _TIFF_PRIVATE:
            value_bytes = _TIFF_VALUE_SIZES.get(kind, 0) * values
            tags[tag] = kind, values, value if value_bytes > inline else at + entry_size - inline
            size += value_bytes
    return tags, following, size


def _tiff_page(content: bytes, tags: _TiffTags, order: str) -> str | None:
    for kind, values, at in tags.values():
        if at + _TIFF_VALUE_SIZES.get(kind, 0) * values > len(content):
            return "it ends inside a directory"
    for offsets_tag, counts_tag in _TIFF_PLACES:
        if offsets_tag in tags and counts_tag in tags:
            offsets, counts = (_tiff_numbers(content, tags[t], order) for t in (offsets_tag, counts_tag))
            for offset, count in zip(offsets.tolist(), counts.tolist(), strict=False):
                if offset + count > len(content):
                    return f"its pixel data should reach byte {offset + count}, it has {len(content)}"
    return None


def _tiff_numbers(content: bytes, tag: tuple[int, int, int], order: str) -> NDArray[np.unsignedinteger]:
    kind, values, at = tag
    return np.frombuffer(content, f"{order}u{_TIFF_VALUE_SIZES.get(kind, 1)}", values, at)
