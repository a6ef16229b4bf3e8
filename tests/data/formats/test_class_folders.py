"""Class folders: which folder is a class, which a part, and what is said of the rest."""

from collections.abc import Callable
from pathlib import Path

import pytest

from striate.data.dataset import Dataset, Finding
from striate.data.formats import class_folders
from striate.data.tree import open_tree
from striate.errors import DataError


def folder(root: Path, *paths: str) -> Path:
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    return root


def read(root: Path, *paths: str) -> Dataset:
    return class_folders.read(open_tree(folder(root, *paths)))


def recognise(root: Path, *paths: str) -> bool:
    return class_folders.recognise(open_tree(folder(root, *paths)))


def rows(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [(item.key, item.part, dataset.classes[item.label or 0]) for item in dataset.items]


def finding(dataset: Dataset, code: str) -> Finding:
    (found,) = [finding for finding in dataset.findings if finding.code == code]
    return found


def test_each_folder_is_a_class_in_plain_order(tmp_path: Path) -> None:
    dataset = read(tmp_path, "dog/1.JPG", "cat/2.png", "cat/deep/er/3.webp", "Zebra/4.gif")
    assert dataset.classes == ("Zebra", "cat", "dog")
    assert rows(dataset) == [
        ("Zebra/4.gif", "", "Zebra"),
        ("cat/2.png", "", "cat"),
        ("cat/deep/er/3.webp", "", "cat"),
        ("dog/1.JPG", "", "dog"),
    ]
    assert (dataset.format, dataset.task, dataset.findings) == ("class folders", "classification", ())


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "VAL"])
def test_parts_by_any_of_their_names(tmp_path: Path, name: str) -> None:
    dataset = read(tmp_path, "Train/a/1.jpg", "Train/b/2.jpg", f"{name}/a/3.jpg", f"{name}/b/4.jpg")
    assert dataset.classes == ("a", "b")
    assert {item.part for item in dataset.items} == {"train", "val"}


def test_class_ids_are_the_same_in_all_parts(tmp_path: Path) -> None:
    dataset = read(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/b/3.jpg", "testing/c/4.jpg")
    assert rows(dataset) == [
        ("test/b/3.jpg", "test", "b"),
        ("testing/c/4.jpg", "test", "c"),
        ("train/a/1.jpg", "train", "a"),
        ("train/b/2.jpg", "train", "b"),
    ]
    messages = {f.message for f in dataset.findings if f.code == "class-missing"}
    assert messages == {"class 'a' has no picture in test", "class 'c' has no picture in train"}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    dataset = read(tmp_path, "train/1.jpg", "plane/2.jpg", "car/side/3.jpg")
    assert dataset.classes == ("car", "plane", "train")


def test_parts_beside_another_folder_of_pictures(tmp_path: Path) -> None:
    dataset = read(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "samples/3.jpg", "4.jpg")
    assert dataset.classes == ("a", "b")
    stray = finding(dataset, "stray")
    assert stray.level == "warning"
    assert stray.message == "2 pictures in no class folder left out: 4.jpg, samples/3.jpg"


def test_unlabelled_test_pictures_are_left_out_with_a_warning(tmp_path: Path) -> None:
    dataset = read(tmp_path, "train/a/1.jpg", "test/2.jpg")
    assert rows(dataset) == [("train/a/1.jpg", "train", "a")]
    assert finding(dataset, "stray").file == "test/2.jpg"


def test_empty_class_folders_are_no_classes(tmp_path: Path) -> None:
    (tmp_path / "bird").mkdir()
    dataset = read(tmp_path, "cat/1.jpg", "dog/2.jpg", "notes/readme.txt")
    assert dataset.classes == ("cat", "dog")
    empty = [f for f in dataset.findings if f.code == "empty-class"]
    assert [(f.file, f.level) for f in empty] == [("bird", "warning"), ("notes", "warning")]


def test_class_that_is_empty_in_one_part_is_missing_there_and_not_empty(tmp_path: Path) -> None:
    (tmp_path / "val/b").mkdir(parents=True)
    dataset = read(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg")
    assert [f.code for f in dataset.findings] == ["class-missing"]


def test_other_files_are_one_finding_a_kind(tmp_path: Path) -> None:
    texts = [f"a/{i}.txt" for i in range(20)]
    dataset = read(tmp_path, "a/1.jpg", "b/2.jpg", "b/3.HEIC", *texts)
    note = finding(dataset, "not-a-picture")
    assert note.level == "note"
    assert note.message == "20 .txt files left out: a/0.txt, a/1.txt, a/10.txt and 17 more"
    warning = finding(dataset, "unread-format")
    assert (warning.level, warning.file, warning.fix) == (
        "warning",
        "b/3.HEIC",
        "convert them to PNG or JPEG",
    )


def test_findings_of_the_tree_are_kept(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/out.jpg").symlink_to("/etc/hostname")
    assert finding(read(tmp_path), "symlink").file == "a/out.jpg"


def test_what_is_recognised(tmp_path: Path) -> None:
    assert recognise(tmp_path / "classes", "a/1.jpg", "b/1.jpg")
    assert recognise(tmp_path / "parts", "train/a/1.jpg")
    assert not recognise(tmp_path / "one", "a/1.jpg")
    assert not recognise(tmp_path / "flat", "1.jpg", "2.jpg")
    assert not recognise(tmp_path / "texts", "a/1.txt", "b/1.txt")
    assert not recognise(tmp_path / "loose", "train/1.jpg", "test/1.jpg", "masks/1.png")


def test_nothing_in_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no class folder holds a picture"):
        read(tmp_path, "1.jpg")


def test_clothing_photos_come_with_their_own_parts(shared_data: Callable[[str], Path]) -> None:
    dataset = class_folders.read(open_tree(shared_data("clothing-1k")))
    assert len(dataset) == 965
    assert len(dataset.classes) == 10
    assert [len(dataset.indices(part)) for part in ("train", "val", "test")] == [600, 186, 179]


def test_same_pictures_inside_a_zip(shared_data: Callable[[str], Path]) -> None:
    tree = open_tree(shared_data("cifar10-12k") / "cifar10_12k_png.zip")
    dataset = class_folders.read(tree)
    assert [len(dataset.indices(part)) for part in ("train", "test")] == [10_000, 2_000]
    assert dataset.sample(5).image.shape == (32, 32, 3)
