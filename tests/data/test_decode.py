"""The decoder: right pixels for every kind of file, and a named refusal for every bad one."""

import io
import os
import socket
import stat
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from striate.data import decode
from striate.data.decode import decode_image, size_of
from striate.errors import DataError, UsageError

RED = (255, 0, 0)


def encoded(image: Image.Image | np.ndarray, file_format: str, **options: Any) -> bytes:
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    size: tuple[int, int], depth: int, color_type: int, rows: bytes, extra: bytes = b"", interlace: int = 0
) -> bytes:
    """A PNG of (width, height) whose unpacked data are `rows`, filter bytes included."""
    header = struct.pack(">IIBBBBB", *size, depth, color_type, 0, 0, interlace)
    data = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + data + png_chunk(b"IEND", b"")


def tiff(tags: dict[int, tuple[int, int, int]], pixels: bytes) -> bytes:
    """A little-endian TIFF of one strip; tags are tag -> (type, count, value)."""
    tags = tags | {273: (4, 1, 8), 279: (4, 1, len(pixels))}
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory


def refused(source: Any, name: str | None = "bad.jpg") -> str:
    with pytest.raises(DataError) as caught:
        decode_image(source, name)
    if name:
        assert caught.value.where == name
    assert caught.value.fix
    return caught.value.what


# Formats ------------------------------------------------------------------------------------------------

LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {"format": "PNG"},
    "BMP": {"format": "BMP"},
    "WebP": {"format": "WEBP", "lossless": True},
    "TIFF": {"format": "TIFF"},
    "TIFF lzw": {"format": "TIFF", "compression": "tiff_lzw"},
    "TIFF deflate": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    "BigTIFF": {"format": "TIFF", "big_tiff": True},
}
LOSSY: dict[str, dict[str, Any]] = {
    "JPEG": {"format": "JPEG"},
    "progressive JPEG": {"format": "JPEG", "progressive": True},
    "restarting JPEG": {"format": "JPEG", "restart_marker_blocks": 1},
    "lossy WebP": {"format": "WEBP"},
    "GIF": {"format": "GIF"},
}
EVERY = LOSSLESS | LOSSY


@pytest.mark.parametrize(
    "shape",
    [(301, 403, 3), (403, 301), (2, 30_000, 3), (1, 70_000)],
    ids=["RGB", "L", "a wide RGB", "a wide L"],
)
def test_a_picture_taken_over_in_several_pieces_is_whole(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    decoded = decode_image(encoded(pixels, "PNG"))
    np.testing.assert_array_equal(decoded, pixels.reshape(*shape[:2], -1))
    assert decoded.flags.writeable
    assert decoded.flags.c_contiguous


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_format_gives_back_every_rgb_pixel(kind: str) -> None:
    pixels = noise(7, 5)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **LOSSLESS[kind])
    decoded = decode_image(buffer.getvalue())
    np.testing.assert_array_equal(decoded, pixels)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert decoded.flags.writeable


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
def test_gray_picture_has_one_channel(file_format: str) -> None:
    pixels = noise(6, 9, 1)
    np.testing.assert_array_equal(decode_image(encoded(pixels, file_format)), pixels[:, :, None])


def test_gray_jpeg_has_one_channel_and_color_jpeg_three() -> None:
    assert decode_image(encoded(noise(8, 8, 1), "JPEG")).shape == (8, 8, 1)
    assert decode_image(encoded(noise(8, 8), "JPEG")).shape == (8, 8, 3)


def test_path_string_and_bytes_give_equal_pixels_whatever_the_suffix(tmp_path: Path) -> None:
    content = encoded(noise(8, 8), "JPEG")
    path = tmp_path / "really a jpeg.png"
    path.write_bytes(content)
    for source in (path, str(path)):
        np.testing.assert_array_equal(decode_image(source), decode_image(content))


def test_first_frame_of_an_animation_counts() -> None:
    first, second = np.full((4, 4, 3), 0, np.uint8), np.full((4, 4, 3), 255, np.uint8)
    for file_format, options in (
        ("GIF", {}),
        ("PNG", {}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
        ("MPO", {}),
    ):
        frames = {"save_all": True, "append_images": [Image.fromarray(second)]}
        decoded = decode_image(encoded(first, file_format, **frames, **options))
        assert (decoded == 0).all(), file_format


# Whole and cut files ------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(sorted(EVERY)),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 9),
    is_flat=st.booleans(),
    garbage=st.binary(max_size=40),
    fraction=st.floats(0, 1, exclude_max=True),
)
def test_whole_file_is_accepted_with_trailing_bytes_and_refused_when_cut(
    kind: str, height: int, width: int, seed: int, is_flat: bool, garbage: bytes, fraction: float
) -> None:
    pixels = np.zeros((height, width, 3), np.uint8) if is_flat else noise(height, width, seed=seed)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **EVERY[kind])
    content = buffer.getvalue()
    assert decode_image(content).shape[:2] == (height, width)
    np.testing.assert_array_equal(decode_image(content + garbage), decode_image(content))
    refused(content[: int(fraction * len(content))])


@pytest.mark.parametrize("kind", EVERY)
def test_file_that_lacks_its_last_bytes_is_refused(kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(13, 11)).save(buffer, **EVERY[kind])
    content = buffer.getvalue()
    for lacking in (1, 2, 3, 5, 12, 13, 20):
        assert "cut or damaged" in refused(content[:-lacking])


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "PNG", "WEBP"])
def test_animation_cut_in_its_second_frame_is_refused(file_format: str) -> None:
    frames = {"save_all": True, "append_images": [Image.fromarray(noise(20, 20, seed=1))]}
    content = encoded(noise(20, 20), file_format, **frames)
    assert "cut or damaged" in refused(content[: len(content) * 3 // 4])


@pytest.mark.parametrize("kind", EVERY)
def test_cut_file_is_refused_though_the_program_asked_pillow_to_load_truncated_images(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    buffer = io.BytesIO()
    Image.fromarray(noise(40, 40)).save(buffer, **EVERY[kind])
    content = buffer.getvalue()
    assert "cut or damaged" in refused(content[: len(content) * 6 // 10])


def test_truncated_jpeg_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(encoded(noise(64, 64), "JPEG")[:-100])
    with pytest.raises(DataError, match=r"cat\.jpg: this JPEG file is cut or damaged: .*EOI.*fix: replace"):
        decode_image(path)


def test_png_that_holds_10_of_its_64_rows_is_refused() -> None:
    rows = b"".join(b"\0" + bytes([row + 1] * 64) for row in range(64))
    assert decode_image(png((64, 64), 8, 0, rows))[9, 0, 0] == 10
    short = png((64, 64), 8, 0, rows[: 10 * 65])
    Image.open(io.BytesIO(short)).load()  # the reason for a check of our own: Pillow takes it
    assert "650 of 4160 bytes" in refused(short)


def test_interlaced_png_is_decoded_and_refused_when_a_byte_is_missing() -> None:
    # Pixel (x, y) is 10 y + x; the passes of a 3 x 3 picture by hand, each row after its filter byte.
    rows = bytes([0, 0, 0, 2, 0, 20, 22, 0, 1, 0, 21, 0, 10, 11, 12])
    expected = [[0, 1, 2], [10, 11, 12], [20, 21, 22]]
    assert decode_image(png((3, 3), 8, 0, rows, interlace=1))[:, :, 0].tolist() == expected
    assert "14 of 15 bytes" in refused(png((3, 3), 8, 0, rows[:-1], interlace=1))


def test_png_with_a_flipped_bit_in_its_pixels_is_refused() -> None:
    content = bytearray(encoded(noise(30, 30), "PNG"))
    content[content.index(b"IDAT") + 60] ^= 1
    assert "checksum" in refused(bytes(content))


def test_tiff_whose_directories_form_a_ring_ends() -> None:
    content = bytearray(encoded(noise(5, 5), "TIFF"))
    (directory,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, directory)
    struct.pack_into("<I", content, directory + 2 + 12 * count, directory)
    assert decode_image(bytes(content)).shape == (5, 5, 3)


# Orientation --------------------------------------------------------------------------------------------

UPRIGHT = {
    1: [[0, 1, 2], [3, 4, 5]],
    2: [[2, 1, 0], [5, 4, 3]],
    3: [[5, 4, 3], [2, 1, 0]],
    4: [[3, 4, 5], [0, 1, 2]],
    5: [[0, 3], [1, 4], [2, 5]],
    6: [[3, 0], [4, 1], [5, 2]],
    7: [[5, 2], [4, 1], [3, 0]],
    8: [[2, 5], [1, 4], [0, 3]],
}


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied_once(orientation: int, file_format: str) -> None:
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    content = encoded(stored, file_format, exif=with_orientation(orientation))
    assert decode_image(content)[:, :, 0].tolist() == UPRIGHT[orientation]


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_exif_rotated_photo_stands_upright(file_format: str) -> None:
    stored = np.zeros((32, 64, 3), np.uint8)
    stored[:, :32] = 255  # the left half is white; turned a quarter clockwise it is the upper half
    decoded = decode_image(encoded(stored, file_format, exif=with_orientation(6), quality=95))
    assert decoded.shape == (64, 32, 3)
    assert decoded[:28].min() > 250
    assert decoded[36:].max() < 5


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientation_leaves_the_picture_alone(orientation: int) -> None:
    content = encoded(np.arange(6, dtype=np.uint8).reshape(2, 3), "PNG", exif=with_orientation(orientation))
    assert decode_image(content)[:, :, 0].tolist() == UPRIGHT[1]


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x05\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
    ],
)
def test_broken_exif_neither_warns_nor_refuses(exif: bytes) -> None:
    assert decode_image(encoded(noise(8, 8), "JPEG", exif=exif)).shape == (8, 8, 3)


# More than 8 bits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled_by_257_and_rounded(file_format: str) -> None:
    values = np.array([[0, 128, 129, 257, 32767, 65407, 65535]], np.uint16)
    expected = [0, 0, 1, 1, 127, 255, 255]  # 32767 / 257 = 127.498, 65407 / 257 = 254.502
    assert decode_image(encoded(values, file_format)).ravel().tolist() == expected


def test_big_endian_and_little_endian_16_bit_tiff_agree() -> None:
    values = np.array([[0, 1000, 65535]], np.uint16)
    big = values.astype(">u2").tobytes()
    image = Image.frombytes("I;16B", (3, 1), big)
    assert decode_image(encoded(image, "TIFF")).ravel().tolist() == [0, 4, 255]


def test_12_bit_tiff_uses_its_own_white() -> None:
    tags = {256: (3, 1, 2), 257: (3, 1, 1), 258: (3, 1, 12), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    packed = bytes([0xFF, 0xF8, 0x00])  # 4095, then 2048
    assert decode_image(tiff(tags, packed)).ravel().tolist() == [255, 128]


def test_16_bit_tiff_where_zero_is_white_is_inverted() -> None:
    tags = {256: (3, 1, 2), 257: (3, 1, 1), 258: (3, 1, 16), 259: (3, 1, 1), 262: (3, 1, 0), 277: (3, 1, 1)}
    assert decode_image(tiff(tags, struct.pack("<HH", 0, 65535))).ravel().tolist() == [255, 0]


def test_16_bit_color_png_keeps_its_upper_8_bits() -> None:
    row = b"\0" + struct.pack(">HHH", 65535, 0x80FF, 0x0100)
    assert decode_image(png((1, 1), 16, 2, row)).tolist() == [[[255, 0x80, 1]]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.25, 0.5, 1.0], [0, 64, 128, 255]),  # 63.75 and 127.5, rounded half to even
        ([0.0, 2.0, 127.4, 255.0], [0, 2, 127, 255]),
        ([0.0, 257.0, 514.0, 65535.0], [0, 1, 2, 255]),
        ([-0.001, 0.5, 0.6, 1.001], [0, 128, 153, 255]),  # a filter's overshoot rounds away
    ],
)
def test_float_tiff_is_scaled_from_the_smallest_usual_range(values: list[float], expected: list[int]) -> None:
    content = encoded(Image.fromarray(np.array([values], np.float32)), "TIFF")
    assert decode_image(content).ravel().tolist() == expected


@pytest.mark.parametrize(("top", "expected"), [(255, [0, 200, 255]), (65535, [0, 1, 255])])
def test_32_bit_whole_numbers_are_scaled_from_the_smallest_usual_range(top: int, expected: list[int]) -> None:
    content = encoded(Image.fromarray(np.array([[0, 200, top]], np.int32)), "TIFF")
    assert decode_image(content).ravel().tolist() == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_float_tiff_that_is_not_finite_is_refused(value: float) -> None:
    content = encoded(Image.fromarray(np.array([[0.5, value]], np.float32)), "TIFF")
    assert "not finite" in refused(content)


@pytest.mark.parametrize("value", [-3.0, 70000.0])
def test_values_in_no_usual_range_are_refused_with_their_range(value: float) -> None:
    whole = Image.fromarray(np.array([[0, int(value)]], np.int32))
    fractions = Image.fromarray(np.array([[0, value]], np.float32))
    for image in (whole, fractions):
        assert f"{value:g}" in refused(encoded(image, "TIFF"))


# Colour and transparency --------------------------------------------------------------------------------


def test_palette_picture_becomes_rgb() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    for file_format in ("PNG", "GIF", "BMP", "TIFF"):
        assert decode_image(encoded(image, file_format)).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_transparent_palette_entry_shows_the_background() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    for file_format in ("PNG", "GIF"):
        content = encoded(image, file_format, transparency=1)
        assert decode_image(content, background=(1, 2, 3)).tolist() == [[[10, 20, 30], [1, 2, 3]]]
    half = encoded(image, "PNG", transparency=bytes([255, 51]))  # alpha 0.2
    assert decode_image(half).tolist() == [[[10, 20, 30], [244, 224, 214]]]


def test_alpha_is_mixed_exactly_with_the_background() -> None:
    pixels = np.zeros((256, 256, 4), np.uint8)
    pixels[..., :3] = np.arange(256)[:, None, None]
    pixels[..., 3] = np.arange(256)
    for background in (0, 77, 255):
        color = np.arange(256)[:, None].astype(float)
        alpha = np.arange(256)[None].astype(float) / 255
        expected = np.floor(color * alpha + background * (1 - alpha) + 0.5)
        decoded = decode_image(encoded(pixels, "PNG"), background=(background,) * 3)
        assert np.abs(decoded[..., 0] - expected).max() == 0


def test_gray_with_alpha_stays_gray_unless_the_background_has_a_hue() -> None:
    image = Image.new("LA", (1, 1), (100, 51))
    for content in (encoded(image, "PNG"), encoded(image, "TIFF")):
        assert decode_image(content).tolist() == [[[224]]]  # 0.2 * 100 + 0.8 * 255
        assert decode_image(content, background=RED).tolist() == [[[224, 20, 20]]]


def test_16_bit_gray_with_alpha_is_gray() -> None:
    content = png((1, 1), 16, 4, b"\0" + struct.pack(">HH", 0x6400, 0x3300))
    assert decode_image(content).tolist() == [[[224]]]


@pytest.mark.parametrize(
    ("depth", "row", "key"),
    [(1, b"\x80", 1), (2, b"\xc0", 3), (4, b"\xf0", 15), (8, b"\xff\0", 255), (16, b"\xff\xff\0\0", 65535)],
)
def test_transparent_gray_level_shows_the_background_at_every_depth(depth: int, row: bytes, key: int) -> None:
    content = png((2, 1), depth, 0, b"\0" + row, png_chunk(b"tRNS", struct.pack(">H", key)))
    assert decode_image(content, background=(9, 9, 9)).ravel().tolist() == [9, 0]


@pytest.mark.parametrize(("depth", "code"), [(8, "B"), (16, "H")])
def test_transparent_color_shows_the_background(depth: int, code: str) -> None:
    unit = 1 if depth == 8 else 256
    color = [200 * unit, 100 * unit, 50 * unit]
    row = b"\0" + struct.pack(f">6{code}", *color, 0, 0, 0)
    content = png((2, 1), depth, 2, row, png_chunk(b"tRNS", struct.pack(">HHH", *color)))
    assert decode_image(content).tolist() == [[[255, 255, 255], [0, 0, 0]]]


def test_one_bit_picture_is_black_and_white() -> None:
    image = Image.fromarray(np.array([[True, False, True]]))
    for file_format in ("PNG", "BMP", "TIFF"):
        assert decode_image(encoded(image, file_format)).ravel().tolist() == [255, 0, 255]


def test_cmyk_tiff_and_jpeg_show_the_color_meant() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert decode_image(encoded(image, "TIFF"))[0, 0].tolist() == list(RED)
    assert np.abs(decode_image(encoded(image, "JPEG", quality=95))[4, 4].astype(int) - RED).max() <= 3


def test_ycck_jpeg_shows_the_color_meant() -> None:
    # Adobe stores CMYK inverted, so red is (255, 0, 0, 255); as YCCK its first three are the luma and
    # chroma of the complement (0, 255, 255), which is (179, 171, 1). Pillow inverts what it is given.
    image = Image.new("CMYK", (16, 16), (255 - 179, 255 - 171, 255 - 1, 0))
    content = bytearray(encoded(image, "JPEG", quality=95))
    content[content.index(b"Adobe") + 11] = 2  # transform: YCCK
    assert np.abs(decode_image(bytes(content))[4, 4].astype(int) - RED).max() <= 4


def test_lab_and_ycbcr_tiff_become_rgb() -> None:
    lab = Image.new("LAB", (1, 1), (136, 208, 195))  # L 53.3, a 80, b 67: red in sRGB
    assert np.abs(decode_image(encoded(lab, "TIFF"))[0, 0].astype(int) - (252, 2, 8)).max() <= 4
    ycbcr = Image.new("YCbCr", (1, 1), (76, 85, 255))
    assert np.abs(decode_image(encoded(ycbcr, "TIFF"))[0, 0].astype(int) - RED).max() <= 2


@pytest.mark.parametrize("background", [(0, 0), (0, 0, 256), (-1, 0, 0)])
def test_background_that_is_no_color_is_a_usage_error(background: Any) -> None:
    with pytest.raises(UsageError, match="background"):
        decode_image(encoded(noise(2, 2), "PNG"), background=background)


# Arrays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "expected"), [((4, 5), 1), ((4, 5, 1), 1), ((4, 5, 3), 3)])
def test_pixels_pass_as_a_fresh_copy(shape: tuple[int, ...], expected: int) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    decoded = decode_image(pixels)
    assert decoded.shape == (4, 5, expected)
    assert not np.shares_memory(decoded, pixels)
    np.testing.assert_array_equal(decoded.reshape(shape), pixels)


def test_rgba_pixels_are_laid_over_the_background() -> None:
    pixels = np.array([[[200, 100, 50, 0], [200, 100, 50, 255]]], np.uint8)
    assert decode_image(pixels).tolist() == [[[255, 255, 255], [200, 100, 50]]]


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2)), np.zeros((0, 2), np.uint8), np.zeros(4, np.uint8)],
)
def test_array_that_is_no_picture_is_refused(pixels: Any) -> None:
    assert "got" in refused(pixels, "frame 7")


# Refusals -----------------------------------------------------------------------------------------------


def test_zero_byte_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(DataError, match=r"empty\.jpg: it is empty \(0 bytes\)"):
        decode_image(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"just some words", "a text file"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"<?xml version='1.0'?><svg xmlns='...'/>", "an SVG drawing"),
        (b"%PDF-1.7", "a PDF"),
        (b"%!PS-Adobe-3.0 EPSF", "a PostScript file"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC file"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF file"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a film"),
        (b"PK\3\4" + bytes(30), "a zip archive"),
        (bytes(100), "zero bytes only"),
        (b"\0\1\2\3\4", "no picture format known"),
    ],
)
def test_foreign_content_is_named_and_the_accepted_formats_are_listed(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=r"fix: convert it to JPEG, PNG, WebP, BMP, TIFF or GIF") as caught:
        decode_image(content, "photo.jpg")
    assert said in caught.value.what
    assert caught.value.where == "photo.jpg"


@pytest.mark.parametrize("magic", [b"BM", b"GIF89a", b"II*\0", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_magic_without_a_picture_is_refused(magic: bytes) -> None:
    refused(magic)
    refused(magic + bytes(200))
    refused(magic + b"\xff" * 200)
    refused(b"RIFF\0\0\0\0WEBPVP8 " + bytes(30))


@settings(max_examples=60, deadline=None)
@example(kind="BigTIFF", place=0.048828125, value=7)  # a count of entries beyond any address
@given(
    kind=st.sampled_from(sorted(EVERY)), place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255)
)
def test_damaged_byte_gives_a_picture_or_a_named_error(kind: str, place: float, value: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(9, 9)).save(buffer, **EVERY[kind])
    content = bytearray(buffer.getvalue())
    content[int(place * len(content))] = value
    try:
        outcome = str(decode_image(bytes(content), "x").dtype)
    except DataError as error:
        outcome = error.where
    assert outcome in ("uint8", "x")


def test_bomb_is_refused_by_its_header() -> None:
    for content in (
        png((10_000, 10_000), 8, 2, b""),
        png((60_000, 60_000), 1, 0, b""),
        b"GIF89a" + struct.pack("<HHBBB", 20_000, 20_000, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
        b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8L" + struct.pack("<IBI", 18, 0x2F, 0x0FFFFFFF) + bytes(13),
    ):
        assert any(word in refused(content) for word in ("million", "header asks for too much"))


def test_png_bomb_that_pillow_does_not_know_is_not_unpacked() -> None:
    broken = png((60_000, 60_000), 16, 5, b"")  # there is no colour type 5
    assert "its header asks for" in refused(broken)


def test_picture_at_the_pixel_limit_is_decoded_and_one_more_row_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 100)
    assert decode_image(encoded(noise(10, 10), "PNG")).shape == (10, 10, 3)
    refused(encoded(noise(11, 10), "PNG"))
    refused(noise(11, 10))


def test_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(decode.MAX_BYTES + 1)
    assert "more than 100 MB" in refused(path)


def test_file_that_grows_after_it_was_looked_at_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "grows.png"
    path.write_bytes(encoded(noise(9, 9), "PNG"))
    monkeypatch.setattr(decode, "MAX_BYTES", 100)
    monkeypatch.setattr(decode, "_check_regular", lambda *_: None)
    assert "MB" in refused(path)


needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="special files of POSIX")


@needs_posix
def test_special_files_are_refused_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, plug = tmp_path / "pipe.jpg", tmp_path / "s.jpg"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # a socket's path is limited to about 100 characters
        listener.bind(plug.name)
    assert "a named pipe" in refused(pipe)
    assert "a socket" in refused(plug)
    assert "a device" in refused(Path("/dev/zero"))
    assert "a folder" in refused(tmp_path)


@needs_posix
def test_file_swapped_for_a_pipe_after_the_first_look_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    regular = os.stat_result((stat.S_IFREG | 0o644, *[0] * 9))
    monkeypatch.setattr(Path, "stat", lambda *_: regular)
    assert "a named pipe" in refused(pipe)


def test_missing_file_and_dangling_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    for name in ("gone.png", "link.png"):
        assert "no such file" in refused(tmp_path / name)
    assert "cannot be read" in refused("nul\0.png")


def test_link_that_the_user_named_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(encoded(noise(3, 3), "PNG"))
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "link.png"), noise(3, 3))


def test_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(noise(3, 3), "PNG"))

    def deny(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", deny)  # root may read every file, so the mode alone proves nothing
    assert "you may not read it" in refused(path)


def test_error_names_the_path_unless_a_name_is_given(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"")
    for name, where in ((None, str(path)), ("train/cat/x.png", "train/cat/x.png")):
        with pytest.raises(DataError) as caught:
            decode_image(path, name)
        assert caught.value.where == where
    with pytest.raises(DataError, match="<bytes>"):
        decode_image(b"")


# Side effects -------------------------------------------------------------------------------------------


def test_threads_decode_alike_and_leave_the_warning_filters_as_they_were() -> None:
    good = encoded(noise(30, 30), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    before = list(warnings.filters)

    def attempt(index: int) -> bool:
        if index % 2:
            return "cut" in refused(good[:-50])
        return np.array_equal(decode_image(good), decode_image(good))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(attempt, range(80)))
    assert list(warnings.filters) == before


def test_only_pillow_is_silenced_while_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object) -> None:
        warnings.warn("not from Pillow", UserWarning, stacklevel=1)

    monkeypatch.setattr(decode, "_check_pixel_count", warn)
    content = encoded(noise(3, 3), "PNG")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode_image(content)
    assert [str(warning.message) for warning in caught] == ["not from Pillow"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files by /proc")
def test_no_file_stays_open(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.tif", tmp_path / "bad.gif"
    good.write_bytes(encoded(noise(5, 5), "TIFF", compression="tiff_lzw"))
    bad.write_bytes(encoded(noise(5, 5), "GIF")[:-3])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        decode_image(good)
        refused(bad)
        refused(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_real_photos_equal_pillows_own_pixels(shared_data: Callable[[str], Path]) -> None:
    photos = sorted(shared_data("hymenoptera").rglob("*.jpg"))[::40]
    assert photos
    for photo in photos:
        with Image.open(photo) as image:
            np.testing.assert_array_equal(decode_image(photo), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_size_is_told_upright_without_decoding(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20)).save(buffer, file_format, exif=exif)
    expected = decode_image(buffer.getvalue()).shape[:2]
    assert size_of(buffer.getvalue()) == expected == ((20, 30) if orientation < 5 else (30, 20))


def test_the_size_is_read_from_the_header_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file_format in ("JPEG", "PNG", "GIF", "BMP"):
        Image.new("RGB", (30, 20)).save(tmp_path / "1.img", file_format)
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("it is decoded"))
        assert size_of(tmp_path / "1.img") == (20, 30)
        monkeypatch.undo()
    assert size_of(np.zeros((4, 5, 3), np.uint8)) == (4, 5)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\0"])
def test_a_header_that_is_none_has_no_size(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "1.png").write_bytes(content)
    for source in (tmp_path / "1.png", content):
        with pytest.raises(DataError) as caught:
            size_of(source, name="called")
        assert caught.value.where == "called"
    with pytest.raises(DataError, match="there is no such file"):
        size_of(tmp_path / "gone.png")
