"""VOC's segmentation: lists, parts, palettes and classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.dataset import Dataset, Finding
from striate.data.formats import voc_masks
from striate.data.open import recognise_format
from striate.data.tree import open_tree
from striate.errors import DataError
from striate.structures import IGNORE


def voc(root: Path, masks: dict[str, list[int]], pictures: tuple[str, ...] = (), **lists: str) -> Path:
    """A VOC folder: masks of one row, their pictures and more pictures, and lists of names."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for stem, row in masks.items():
        indexed = Image.fromarray(np.array([row], np.uint8)).convert("L")
        palette = Image.new("P", indexed.size)
        palette.frombytes(indexed.tobytes())
        palette.putpalette([200 - number % 200 for number in range(768)])
        palette.save(root / "SegmentationClass" / f"{stem}.png")
        Image.new("RGB", indexed.size).save(root / "JPEGImages" / f"{stem}.jpg")
    for stem in pictures:
        Image.new("RGB", (2, 1)).save(root / "JPEGImages" / f"{stem}.jpg")
    for name, stems in lists.items():
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(stems.split()) + "\n")
    return root


def read(root: Path) -> Dataset:
    return voc_masks.read(open_tree(root))


def rows(dataset: Dataset) -> list[tuple[str, str, bool]]:
    return [(item.key[-15:-4], item.part, item.mask is not None) for item in dataset.items]


def finding(dataset: Dataset, code: str) -> Finding:
    (found,) = [finding for finding in dataset.findings if finding.code == code]
    return found


def test_lists_give_the_parts_and_vocs_own_pictures_its_classes(tmp_path: Path) -> None:
    masks = {"2007_000001": [0, 15, 255], "2007_000002": [20, 0, 0]}
    voc(
        tmp_path,
        masks,
        ("2007_000003", "2007_000004"),
        train="2007_000001",
        val="2007_000002",
        test="2007_000003",
    )
    tree = open_tree(tmp_path)
    assert recognise_format(tree) == "voc_masks"
    dataset = voc_masks.read(tree)
    assert rows(dataset) == [
        ("2007_000001", "train", True),
        ("2007_000002", "val", True),
        ("2007_000003", "test", False),
    ]
    assert dataset.classes == voc_masks.CLASSES
    assert (len(dataset.classes), dataset.classes[15]) == (21, "person")
    found = dataset.mask(0)
    assert found is not None
    assert found.tolist() == [[0, 15, IGNORE]]
    assert finding(dataset, "unlisted").message.startswith("1 pictures in no list")


def test_trainval_is_read_where_there_is_neither_train_nor_val(tmp_path: Path) -> None:
    masks = {"2007_000001": [0, 1], "2007_000002": [1, 0]}
    alone = voc(tmp_path / "alone", masks, trainval="2007_000001 2007_000002")
    assert rows(read(alone)) == [("2007_000001", "", True), ("2007_000002", "", True)]
    both = voc(tmp_path / "both", masks, trainval="2007_000001 2007_000002", train="2007_000001")
    assert rows(read(both)) == [("2007_000001", "train", True)]


def test_other_sets_take_their_classes_from_a_list_or_the_masks(tmp_path: Path) -> None:
    voc(tmp_path, {"scan1": [0, 2]}, train="scan1")
    assert read(tmp_path).classes == ("0", "1", "2")
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbone:1,2,3::\nskin:4,5,6::\nair:7,8,9::\n"
    )
    assert read(tmp_path).classes == ("bone", "skin", "air")


def test_names_of_voc_with_other_numbers_are_not_given_its_classes(tmp_path: Path) -> None:
    voc(tmp_path, {"2007_000001": [0, 30]}, train="2007_000001")
    assert len(read(tmp_path).classes) == 31


def test_a_listed_picture_that_is_not_there_is_an_error_with_its_line(tmp_path: Path) -> None:
    voc(tmp_path, {"2007_000001": [0, 1]}, train="2007_000001 2007_000009")
    found = finding(read(tmp_path), "missing")
    assert (found.level, found.file, found.id) == ("error", "ImageSets/Segmentation/train.txt", "line 2")


def test_a_picture_in_two_parts_stays_in_the_first_and_is_said(tmp_path: Path) -> None:
    voc(tmp_path, {"2007_000001": [0, 1]}, val="2007_000001", train="2007_000001")
    dataset = read(tmp_path)
    assert rows(dataset) == [("2007_000001", "train", True)]
    assert "is in train too" in finding(dataset, "leak").message


def test_a_set_for_detection_is_not_recognised(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    assert not voc_masks.recognise(open_tree(tmp_path))


def test_lists_without_any_mask_are_refused(tmp_path: Path) -> None:
    voc(tmp_path, {}, ("a",), train="a")
    with pytest.raises(DataError, match="no picture in its lists has a mask"):
        read(tmp_path)
