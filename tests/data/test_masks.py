"""Masks: the values a file stores come out exactly, and what they mean is checked pixel by pixel."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from striate.data.masks import ColorCoding, IndexCoding, InstanceCoding, MaskFiles, stored_values
from striate.data.tree import open_tree
from striate.errors import DataError, LabelError
from striate.structures import IGNORE


def saved(image: Pillow.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gray_png(rows: list[bytes], width: int, depth: int) -> bytes:
    """A gray PNG of `depth` bits whose packed rows are given."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def palette(values: list[list[int]]) -> Pillow.Image:
    image = Pillow.fromarray(np.array(values, np.uint8), "L")
    indexed = Pillow.new("P", image.size)
    indexed.frombytes(image.tobytes())
    # Index 1 is drawn black and index 0 white: colours that would be other classes.
    indexed.putpalette([255, 255, 255, 0, 0, 0, 9, 9, 9] + [3] * 759)
    return indexed


def test_of_a_palette_the_indices_count_and_not_its_colours() -> None:
    assert stored_values(saved(palette([[0, 1], [2, 255]])), "m").tolist() == [[0, 1], [2, 255]]


@pytest.mark.parametrize(
    ("depth", "row", "expected"),
    [(1, 0b10110000, [1, 0, 1, 1]), (2, 0b00011011, [0, 1, 2, 3]), (4, 0x3F, [3, 15])],
)
def test_gray_of_few_bits_keeps_its_small_numbers(depth: int, row: int, expected: list[int]) -> None:
    content = gray_png([bytes([row])], len(expected), depth)
    assert stored_values(content, "m").tolist() == [expected]


def test_sixteen_bits_are_kept_whole() -> None:
    values = np.array([[0, 300], [65535, 7]], np.uint16)
    assert np.array_equal(stored_values(saved(Pillow.fromarray(values)), "m"), values)


def test_transparency_is_dropped_and_not_mixed_in() -> None:
    seen_through = np.array([[[10, 20, 30, 0], [1, 2, 3, 255]]], np.uint8)
    assert stored_values(saved(Pillow.fromarray(seen_through)), "m").tolist() == [[[10, 20, 30], [1, 2, 3]]]
    gray = Pillow.merge("LA", (Pillow.new("L", (1, 1), 5), Pillow.new("L", (1, 1), 0)))
    assert stored_values(saved(gray), "m").tolist() == [[5]]


def test_exif_turns_no_mask() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    content = saved(Pillow.fromarray(np.array([[1, 2, 3]], np.uint8)), exif=exif)
    assert stored_values(content, "m").tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (saved(Pillow.new("L", (8, 8), 3), "JPEG"), "a JPEG, whose compression changes labels"),
        (saved(Pillow.new("L", (64, 64), 3))[:-20], "cut or damaged"),
        (saved(Pillow.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "neither numbers nor colours"),
        (b"", "it is empty"),
    ],
)
def test_files_that_are_no_masks_are_refused_with_their_name(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        stored_values(content, "masks/a.png")
    assert caught.value.where == "masks/a.png"


def test_colours_of_sixteen_bits_are_refused() -> None:
    content = bytearray(saved(Pillow.new("RGB", (1, 1))))
    rows = zlib.compress(b"\0" + bytes(6))
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    wide = bytes(content[:8]) + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    with pytest.raises(DataError, match="colours of 16 bits"):
        stored_values(wide, "m")


# --- codings ----------------------------------------------------------------------------------------


def ids(values: object, dtype: type = np.uint8) -> NDArray[np.integer]:
    return np.array(values, dtype)


def test_numbers_become_class_ids_and_void() -> None:
    coding = IndexCoding({0: 0, 7: 1, 11: IGNORE, 255: IGNORE})
    found = coding.class_ids(ids([[0, 7], [11, 255]]), "m")
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 1], [IGNORE, IGNORE]]


@pytest.mark.parametrize("wrong", [3, 256, 300, 40000, -1, -2])
def test_a_number_that_is_no_class_is_named_with_its_place(wrong: int) -> None:
    values = ids([[0, 1, 2], [0, wrong, wrong]], np.int32)
    with pytest.raises(LabelError, match=f"column 1, row 1 has {wrong}, .* classes are 0..2, 255") as caught:
        IndexCoding({0: 0, 1: 1, 2: 2, 255: IGNORE}).class_ids(values, "masks/a.png")
    assert caught.value.where == "masks/a.png"


def test_gray_saved_as_colour_is_read_as_numbers_and_real_colours_are_not() -> None:
    coding = IndexCoding({0: 0, 1: 1})
    gray = np.repeat(ids([[0, 1]])[:, :, None], 3, axis=2)
    assert coding.class_ids(gray, "m").tolist() == [[0, 1]]
    gray[0, 0, 2] = 9
    with pytest.raises(LabelError, match="its labels are colours"):
        coding.class_ids(gray, "m")


def test_every_object_is_class_one() -> None:
    assert InstanceCoding().class_ids(ids([[0, 1, 300]], np.uint16), "m").tolist() == [[0, 1, 1]]
    assert InstanceCoding(255).class_ids(ids([[0, 9, 255]]), "m").tolist() == [[0, 1, IGNORE]]


def test_colours_become_class_ids() -> None:
    coding = ColorCoding({(255, 0, 0): 1, (0, 0, 255): 0, (0, 0, 0): IGNORE})
    colors = ids([[[255, 0, 0], [0, 0, 255]], [[0, 0, 0], [255, 0, 0]]])
    assert coding.class_ids(colors, "m").tolist() == [[1, 0], [IGNORE, 1]]
    assert coding.class_ids(ids([[0]]), "m").tolist() == [[IGNORE]]


@pytest.mark.parametrize("color", [(254, 0, 0), (0, 1, 0), (255, 255, 255), (0, 0, 1)])
def test_a_colour_that_is_in_no_table_is_named_with_its_place(color: tuple[int, int, int]) -> None:
    coding = ColorCoding({(255, 0, 0): 1, (0, 0, 0): 0})
    colors = ids([[[255, 0, 0], color]])
    expected = f"column 1, row 0 has the colour {color[0]}, {color[1]}, {color[2]}"
    with pytest.raises(LabelError, match=expected):
        coding.class_ids(colors, "m")


def test_mask_files_are_read_from_their_storage(tmp_path: Path) -> None:
    Pillow.fromarray(ids([[0, 2]])).save(tmp_path / "a.png")
    masks = MaskFiles(open_tree(tmp_path), IndexCoding({0: 0, 2: 1}))
    assert masks.mask("a.png").tolist() == [[0, 1]]
