"""Masks of many pictures as files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.api.inputs import find_pictures
from striate.api.mask_files import MaskFolder
from striate.errors import UsageError
from striate.structures import IGNORE, Segmentation


def pictures(root: Path, *names: str) -> list[str]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 6, 3), 90, np.uint8)).save(root / name)
    return [str(root / name) for name in names]


def mask(key: str) -> Segmentation:
    ids = np.array([[0, 1, 1, 2, 2, IGNORE]] * 4, np.uint8)
    return Segmentation(key, ids, ("sky", "road", "car"))


def test_a_mask_file_holds_the_class_ids_and_colours_to_look_at(tmp_path: Path) -> None:
    (key,) = pictures(tmp_path / "in", "a.png")
    MaskFolder(tmp_path / "out", find_pictures([key])).write(mask(key))
    with Image.open(tmp_path / "out" / "masks" / "a.png") as file:
        assert file.mode == "P"
        np.testing.assert_array_equal(np.array(file), mask(key).mask)
        assert len({tuple(color) for color in np.array(file.convert("RGB")).reshape(-1, 3).tolist()}) == 4
    with Image.open(tmp_path / "out" / "overlays" / "a.jpg") as file:
        assert file.mode == "RGB"


def test_names_are_those_below_the_shared_folder_and_never_the_same(tmp_path: Path) -> None:
    keys = pictures(tmp_path / "in", "x/a.png", "x/a.bmp", "y/a.png")
    folder = MaskFolder(tmp_path / "out", find_pictures(keys))
    for key in keys:
        folder.write(mask(key))
    written = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.glob("out/masks/**/*.png")
    )
    assert written == ["masks/x/a.bmp.png", "masks/x/a.png.png", "masks/y/a.png"]


def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (key,) = pictures(tmp_path, "in.png")
    with pytest.raises(UsageError, match="choose a new folder"):
        MaskFolder(tmp_path, find_pictures([key]))
    with pytest.raises(UsageError, match="choose a new folder"):
        MaskFolder(tmp_path / "in.png", find_pictures([key]))
