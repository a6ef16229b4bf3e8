import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.decode import decode_image
from striate.data.picture_file import picture_file, suffix_of
from striate.data.storage import ArrayStorage
from striate.data.tree import open_tree
from striate.errors import DataError


def test_a_file_is_given_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"whatever it holds")
    assert picture_file(open_tree(tmp_path), "a.jpg") == b"whatever it holds"


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_become_a_png_that_decodes_to_them(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 5, 7, channels), np.uint8)
    content = picture_file(ArrayStorage(pixels, "a"), "a[0]")
    assert suffix_of(content, "a[0]") == "png"
    np.testing.assert_array_equal(decode_image(content), pixels[0])


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    tree = open_tree(tmp_path)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(DataError, match="cannot be read") as caught:
        picture_file(tree, "a.jpg")
    assert caught.value.where == "a.jpg"


@pytest.mark.parametrize(
    ("file_format", "suffix"),
    [("JPEG", "jpg"), ("PNG", "png"), ("GIF", "gif"), ("BMP", "bmp"), ("TIFF", "tif"), ("WEBP", "webp")],
)
def test_the_suffix_is_that_of_the_content(file_format: str, suffix: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, file_format)
    assert suffix_of(buffer.getvalue(), "a.txt") == suffix


def test_what_is_no_picture_has_no_suffix() -> None:
    with pytest.raises(DataError, match="no picture") as caught:
        suffix_of(b"text", "a.txt")
    assert caught.value.where == "a.txt"
