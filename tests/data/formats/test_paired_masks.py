"""Paired masks: which file is whose mask, what is left out, and what only looks like masks."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.dataset import Dataset, Finding
from striate.data.formats import instance_masks, paired_masks
from striate.data.open import DataConfig, open_dataset, recognise_format
from striate.data.tree import FolderTree, open_tree
from striate.errors import DataError

MASK = np.array([[0, 1], [0, 2]], np.uint8)


def folder(root: Path, *paths: str) -> Path:
    """Files below `root`: pictures and masks hold MASK, others a line of text."""
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix in (".png", ".jpg"):
            Image.fromarray(MASK).save(target)
        else:
            target.write_text("text")
    return root


def read(root: Path, *paths: str) -> Dataset:
    return paired_masks.read(open_tree(folder(root, *paths)))


def rows(dataset: Dataset) -> list[tuple[str, str, str | None]]:
    return [(item.key, item.part, item.mask) for item in dataset.items]


def finding(dataset: Dataset, code: str) -> Finding:
    (found,) = [finding for finding in dataset.findings if finding.code == code]
    return found


@pytest.mark.parametrize(
    ("picture", "mask", "part"),
    [
        ("images/a.jpg", "masks/a.png", ""),
        ("images/a.jpg", "masks/a_mask.png", ""),
        ("images/a.jpg", "labels/a_P.png", ""),
        ("images/a.jpg", "semantic_masks/a.png", ""),
        ("JPEGImages/a.jpg", "SegmentationClass/a.png", ""),
        ("train/images/a.jpg", "train/masks/a.png", "train"),
        ("images/train/a.jpg", "annotations/train/a.png", "train"),
        ("images/a.jpg", "masks/train/a.png", "train"),
        ("images/training/deep/a.jpg", "annotations/training/deep/a.png", "train"),
        ("val/a.png", "valannot/a.png", "val"),
        ("val/a.png", "val_labels/a.png", "val"),
        ("val_image/a.png", "val_label/a.png", "val"),
        ("all/a.jpg", "all/a_mask.png", ""),
        ("a.jpg", "a_mask.png", ""),
        ("a_sat.jpg", "a_mask.png", ""),
        ("701_StillsRaw_full/a.png", "LabeledApproved_full/a_L.png", ""),
        ("set/train/a.png", "set/trainannot/a.png", "train"),
    ],
)
def test_a_picture_and_its_mask_find_each_other(tmp_path: Path, picture: str, mask: str, part: str) -> None:
    other = tuple(path.replace("a_", "b_").replace("a.", "b.") for path in (picture, mask))
    tree = open_tree(folder(tmp_path, picture, mask, *other))
    assert paired_masks.recognise(tree)
    assert recognise_format(tree) == "paired_masks"
    dataset = paired_masks.read(tree)
    assert rows(dataset) == sorted([(picture, part, mask), (other[0], part, other[1])])
    assert dataset.task == "segmentation"
    assert not dataset.findings
    found = dataset.mask(0)
    assert found is not None
    assert found.tolist() == MASK.tolist()


def test_equal_names_in_different_parts_are_different_pictures(tmp_path: Path) -> None:
    dataset = read(tmp_path, "train/1.png", "trainannot/1.png", "val/1.png", "valannot/1.png")
    assert rows(dataset) == [
        ("train/1.png", "train", "trainannot/1.png"),
        ("val/1.png", "val", "valannot/1.png"),
    ]


def test_folders_may_lie_thousands_deep() -> None:
    deep = "a/" * 3000
    tree = FolderTree("deep", Path(), (f"{deep}images/1.jpg", f"{deep}masks/1.png"), (), ())
    assert paired_masks.pair(tree).masks == {f"{deep}images/1.jpg": f"{deep}masks/1.png"}


def test_test_pictures_without_masks_stay_in_as_test(tmp_path: Path) -> None:
    dataset = read(tmp_path, "train_image/1.png", "train_label/1.png", "test_image/1.png", "test_image/2.png")
    assert rows(dataset) == [
        ("test_image/1.png", "test", None),
        ("test_image/2.png", "test", None),
        ("train_image/1.png", "train", "train_label/1.png"),
    ]


def test_a_picture_without_a_mask_stays_in_without_one(tmp_path: Path) -> None:
    dataset = read(tmp_path, "images/1.jpg", "masks/1.png", "images/2.jpg")
    assert rows(dataset) == [("images/1.jpg", "", "masks/1.png"), ("images/2.jpg", "", None)]


def test_masks_without_a_picture_are_named(tmp_path: Path) -> None:
    dataset = read(tmp_path, "images/1.jpg", "masks/1.png", "masks/2.png")
    assert len(dataset) == 1
    found = finding(dataset, "picture-missing")
    assert (found.level, found.file) == ("warning", "masks/2.png")
    assert found.message == "1 mask without a picture left out: masks/2.png"


def test_a_picture_with_two_masks_is_an_error_and_left_out(tmp_path: Path) -> None:
    paths = ("images/1.jpg", "masks/1.png", "masks/1_mask.png", "images/2.jpg", "masks/2.png")
    dataset = read(tmp_path, *paths)
    assert [item.key for item in dataset.items] == ["images/2.jpg"]
    found = finding(dataset, "two-masks")
    assert (found.level, found.file) == ("error", "images/1.jpg")
    assert "masks/1.png, masks/1_mask.png" in found.message


def test_a_name_that_ends_like_a_mask_is_a_picture_among_pictures(tmp_path: Path) -> None:
    dataset = read(tmp_path, "images/face_mask.jpg", "masks/face_mask.png")
    assert rows(dataset) == [("images/face_mask.jpg", "", "masks/face_mask.png")]


def test_pictures_elsewhere_and_other_files_are_said(tmp_path: Path) -> None:
    paths = ("images/1.jpg", "masks/1.png", "extra/9.jpg", "boxes/1.txt")
    dataset = read(tmp_path, *paths)
    assert finding(dataset, "stray").file == "extra/9.jpg"
    assert finding(dataset, "not-a-picture").file == "boxes/1.txt"


def test_names_come_from_a_list_beside_or_around_the_folders(tmp_path: Path) -> None:
    folder(tmp_path, "set/train/1.png", "set/trainannot/1.png")
    (tmp_path / "classes.txt").write_text("sky\nroad\ntree\n")
    dataset = paired_masks.read(open_tree(tmp_path))
    assert dataset.classes == ("sky", "road", "tree")
    assert dataset.notes == ("class names from classes.txt",)
    assert not dataset.findings


# --- what is and is not recognised ------------------------------------------------------------------


@pytest.mark.parametrize(
    "paths",
    [
        ("cat/1.jpg", "dog/1.jpg"),
        ("with_mask/1.jpg", "with_mask/2.jpg", "without_mask/1.jpg"),
        ("train/mask/1.jpg", "train/no_mask/1.jpg"),
        ("train/1.jpg", "val/1.jpg"),
        ("images/1.jpg", "labels/1.txt"),
        ("masks/1.png", "masks/2.png"),
        ("cat/1.png", "cat/1_L.png", "dog/1.png", "dog/1_L.png"),
        ("her/1.jpg", "her/1_mask.jpg", "him/1.jpg", "him/1_mask.jpg"),
        # A class that happens to be called masks, among others.
        *[("cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "images/1.jpg", "masks/1.png")],
    ],
)
def test_class_folders_are_not_swallowed(tmp_path: Path, paths: tuple[str, ...]) -> None:
    assert not paired_masks.recognise(open_tree(folder(tmp_path, *paths)))


def test_a_table_of_labels_comes_before_folders_called_images_and_masks(tmp_path: Path) -> None:
    folder(tmp_path, "images/1.jpg", "masks/1.png")
    assert recognise_format(open_tree(tmp_path)) == "paired_masks"
    (tmp_path / "labels.csv").write_text("file,label\nimages/1.jpg,face\nmasks/1.png,mask\n")
    assert recognise_format(open_tree(tmp_path)) == "labels_csv"
    by_name = open_dataset(DataConfig(source=str(tmp_path), format="class folders"))
    assert by_name.classes == ("images", "masks")


def test_class_folders_do_not_swallow_pairs_in_parts(tmp_path: Path) -> None:
    folder(tmp_path, "data/train/images/1.jpg", "data/train/masks/1.png", "data/val/images/2.jpg")
    dataset = open_dataset(DataConfig(source=str(tmp_path)))
    assert rows(dataset) == [
        ("data/train/images/1.jpg", "train", "data/train/masks/1.png"),
        ("data/val/images/2.jpg", "val", None),
    ]


def test_masks_that_are_all_jpeg_are_refused_with_a_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="JPEG") as caught:
        read(tmp_path, "images/1.jpg", "masks/1.jpg")
    assert caught.value.where == "masks/1.jpg"


def test_a_tree_without_pairs_cannot_be_forced(tmp_path: Path) -> None:
    for form in (paired_masks, instance_masks):
        with pytest.raises(DataError, match="no mask in it has the name of a picture"):
            form.read(open_tree(folder(tmp_path, "images/1.jpg", "masks/2.png")))


# --- objects ----------------------------------------------------------------------------------------


def test_pairs_in_a_zip_are_read(tmp_path: Path) -> None:
    folder(tmp_path / "all", "images/1.jpg", "masks/1.png")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("images/1.jpg", "masks/1.png"):
            archive.write(tmp_path / "all" / name, f"camera/{name}")
    sample = open_dataset(DataConfig(source=str(tmp_path / "all.zip"))).sample(0)
    assert sample.mask is not None
    assert sample.mask.tolist() == MASK.tolist()


def test_instance_masks_are_never_recognised_but_read_by_name(tmp_path: Path) -> None:
    folder(tmp_path, "images/1.jpg", "masks/1.png")
    assert open_dataset(DataConfig(source=str(tmp_path))).classes == ("0", "1", "2")
    dataset = open_dataset(DataConfig(source=str(tmp_path), format="instance_masks"))
    assert (dataset.format, dataset.classes) == ("instance masks", ("background", "object"))
    found = dataset.mask(0)
    assert found is not None
    assert found.tolist() == [[0, 1], [0, 1]]
    (tmp_path / "classes.txt").write_text("street\nperson")
    named = open_dataset(DataConfig(source=str(tmp_path), format="instance_masks"))
    assert named.classes == ("street", "person")
    (tmp_path / "classes.txt").write_text("a\nb\nc")
    with pytest.raises(DataError, match="lists 3 classes for masks of objects"):
        open_dataset(DataConfig(source=str(tmp_path), format="instance_masks"))


# --- real data --------------------------------------------------------------------------------------


def test_camvid_is_read_with_its_classes_and_parts(shared_data: Callable[[str], Path]) -> None:
    dataset = open_dataset(DataConfig(source=str(shared_data("camvid"))))
    assert [len(dataset.indices(part)) for part in ("train", "val", "test")] == [367, 101, 233]
    assert dataset.classes[:4] == ("sky", "building", "pole", "road")
    assert len(dataset.classes) == 11
    sample = dataset.sample(0)
    assert sample.mask is not None
    assert sample.mask.shape == (360, 480)
    assert set(np.unique(sample.mask).tolist()) <= {*range(11), 255}
    assert not dataset.findings


def test_penn_fudans_people_are_one_class(shared_data: Callable[[str], Path]) -> None:
    dataset = open_dataset(DataConfig(source=str(shared_data("pennfudan"))))
    assert (len(dataset), dataset.classes) == (170, ("background", "object"))
    assert all(item.mask == f"masks/{item.key[7:-4]}_mask.png" for item in dataset.items)


def test_isbis_hidden_labels_leave_test_pictures_without_masks(shared_data: Callable[[str], Path]) -> None:
    dataset = open_dataset(DataConfig(source=str(shared_data("isbi-em"))))
    masked = {(item.part, item.mask is not None) for item in dataset.items}
    assert masked == {("train", True), ("test", False)}
    assert dataset.classes == ("0", "255")


def test_coco128s_class_masks_are_read_by_name(shared_data: Callable[[str], Path]) -> None:
    dataset = open_dataset(DataConfig(source=str(shared_data("coco128")), format="paired_masks"))
    assert sum(item.mask is not None for item in dataset.items) == 100
    assert dataset.classes[:2] == ("person", "bicycle")
