"""Opening: names before paths, formats recognised, and useful words where nothing fits."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from striate.config import Layer, resolve
from striate.data import public
from striate.data.dataset import Dataset
from striate.data.open import DataConfig, open_dataset, recognise_format
from striate.data.tree import open_tree
from striate.errors import DataError, UnknownName, UsageError
from striate.structures import Task


def folder(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def open_path(path: Path | str, format: str | None = None) -> Dataset:  # noqa: A002
    return open_dataset(DataConfig(source=str(path), format=format))


def message(path: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        open_path(path)
    return str(caught.value)


def test_built_in_names_and_paths_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder(tmp_path, "digits/a/1.jpg", "digits/b/2.jpg"))
    dataset = open_path("digits")
    assert len(dataset) == 1797
    assert dataset.notes[0] == "digits is the dataset of that name; write ./digits for the folder"
    assert len(open_path("./digits")) == 2
    assert open_path("./digits").name == "./digits"


def test_public_names_get_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    calls = []
    digits = open_path("digits")
    monkeypatch.setattr(public, "read", lambda name, root: calls.append((name, root)) or digits)
    assert open_dataset(DataConfig(source="cifar10", root="/data")) == digits
    assert calls == [("cifar10", "/data")]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"source": "digits", "root": "/data"}, "data.root"),
        ({"source": "digits", "format": "idx"}, "data.format"),
        ({"source": "mnist", "format": "idx"}, "data.format"),
        ({"source": "./photos", "root": "/data"}, "data.root"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(values: dict[str, str], key: str) -> None:
    with pytest.raises(UsageError, match=key):
        open_dataset(DataConfig(**values))


def test_absent_path_offers_the_nearest_name_or_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, "photos/a/1.jpg")
    assert f"did you mean {tmp_path}/photos?" in message(tmp_path / "fotos")
    monkeypatch.chdir(tmp_path)
    assert message("digit") == "digit: does not exist. fix: did you mean digits?"
    assert "did you mean fashion-mnist" in message("fashion_mnist")
    assert "or one of: digits, shapes, shapes_boxes, shapes_masks, mnist" in message("zzzzzzz")
    assert message("").startswith("data: does not exist")


def test_class_folders_parts_csv_idx_and_imagenet_are_told_apart(tmp_path: Path) -> None:
    cases = {
        "class_folders": ["a/1.jpg", "b/1.jpg", "notes.csv"],
        "idx": ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"],
        "imagenet": ["train/n01440764/1.JPEG", "train/n02012849/1.JPEG"],
    }
    for name, paths in cases.items():
        assert recognise_format(open_tree(folder(tmp_path / name, *paths))) == name
    (tmp_path / "class_folders/labels.csv").write_text("file,label\n")
    assert recognise_format(open_tree(tmp_path / "class_folders")) == "labels_csv"


def test_format_can_be_forced(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "labels.csv").write_text("file,label\na/1.jpg,x\n")
    assert open_path(tmp_path).classes == ("x",)
    assert open_path(tmp_path, "class-folders").classes == ("a", "b")
    with pytest.raises(DataError, match="has no idx file"):
        open_path(tmp_path, "idx")


def test_unknown_format_offers_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean class_folders"):
        open_path(folder(tmp_path, "a/1.jpg"), "class_folder")


def test_table_itself_as_data(tmp_path: Path) -> None:
    folder(tmp_path, "1.jpg")
    (tmp_path / "my.CSV").write_text("file,label\n1.jpg,a\n")
    assert open_path(tmp_path / "my.CSV").classes == ("a",)
    with pytest.raises(UsageError, match="cannot be idx"):
        open_path(tmp_path / "my.CSV", "idx")


def test_one_folder_around_the_data_is_looked_into_and_noted(tmp_path: Path) -> None:
    folder(tmp_path, "archive/photos/cat/1.jpg", "archive/photos/dog/2.jpg", "README.md")
    dataset = open_path(tmp_path)
    assert [item.key for item in dataset.items] == ["cat/1.jpg", "dog/2.jpg"]
    assert dataset.notes == ("the data lies in the folder archive/photos",)
    assert dataset.storage.content("cat/1.jpg") == tmp_path / "archive/photos/cat/1.jpg"


def test_zip_with_one_folder_around_the_data(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in ("photos/cat/1.jpg", "photos/dog/2.jpg", "__MACOSX/photos/cat/._1.jpg"):
            archive.writestr(name, name)
    dataset = open_path(tmp_path / "photos.zip")
    assert dataset.classes == ("cat", "dog")
    assert dataset.storage.content("dog/2.jpg") == b"photos/dog/2.jpg"
    assert dataset.name == str(tmp_path / "photos.zip")


def test_unknown_layout_says_what_is_there_and_what_is_accepted(tmp_path: Path) -> None:
    folder(tmp_path, *(f"{i}.jpg" for i in range(12)), "labels.json", "empty/x.txt")
    text = message(tmp_path)
    assert f"{tmp_path}: is in no known layout: 12 .jpg, 1 .txt, 1 .json files, folders empty" in text
    assert "first 0.jpg, 1.jpg, 10.jpg and 11 more" in text
    assert "a folder of pictures for each class" in text
    assert "header file,label" in text
    assert "train-images-idx3-ubyte" in text


def test_empty_folder_and_folder_of_special_files_say_so(tmp_path: Path) -> None:
    assert "no files, no folders" in message(tmp_path)
    os.mkfifo(tmp_path / "1.jpg")
    assert "1 left out (it is a named pipe)" in message(tmp_path)


def test_picture_and_pipe_as_data_are_refused(tmp_path: Path) -> None:
    assert "is neither a folder nor a zip" in message(folder(tmp_path, "1.jpg") / "1.jpg")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "is a named pipe" in message(tmp_path / "pipe.csv")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04")
    assert "broken.zip: is not a zip that can be read" in message(tmp_path / "broken.zip")


def test_settings_come_from_a_file() -> None:
    values = {"source": "digits", "split": {"seed": 3, "val_fraction": 0.2}}
    config = resolve(DataConfig, [Layer("run.toml", values)]).value
    assert (config.split.seed, config.split.val_fraction, config.split.test_fraction) == (3, 0.2, 0.1)
    with pytest.raises(UnknownName, match=r"did you mean split\.seed"):
        resolve(DataConfig, [Layer("run.toml", {"source": "digits", "split": {"sed": 3}})])


def test_opening_a_folder_imports_no_torch(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.jpg", "b/2.jpg")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from striate.data.open import DataConfig, open_dataset\n"
        f"assert len(open_dataset(DataConfig(source={str(tmp_path)!r}))) == 2"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# --- tasks and classes ------------------------------------------------------------------------------


def boxes_and_masks(root: Path) -> Path:
    """Pictures that have both, in COCO's list and beside them."""
    for folder, mode in {"images": "RGB", "masks": "L"}.items():
        (root / folder).mkdir(parents=True)
        for number in (1, 2):
            Image.new(mode, (8, 6), number if mode == "L" else (9, 9, 9)).save(
                root / folder / f"{number}.png"
            )
    boxes = [(7, 1, 30, [1, 1, 3, 3], 0), (9, 1, 20, [0, 0, 2, 2], 1), (4, 2, 20, [2, 2, 4, 4], 0)]
    content = {
        "images": [{"id": n, "file_name": f"images/{n}.png", "height": 6, "width": 8} for n in (1, 2)],
        "categories": [{"id": 20, "name": "cat"}, {"id": 30, "name": "dog"}],
        "annotations": [
            {"id": id_, "image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
            for id_, image, category, box, crowd in boxes
        ],
    }
    (root / "instances.json").write_text(json.dumps(content))
    return root


def test_a_folder_with_boxes_and_masks_is_read_for_the_task(tmp_path: Path) -> None:
    source = str(boxes_and_masks(tmp_path))
    assert open_dataset(DataConfig(source=source)).task == "segmentation"
    assert open_dataset(DataConfig(source=source, task="segmentation")).task == "segmentation"
    dataset = open_dataset(DataConfig(source=source, task="detection"))
    assert (dataset.task, dataset.classes, len(dataset)) == ("detection", ("cat", "dog"), 2)
    assert recognise_format(open_tree(tmp_path), "detection") == "coco_boxes"


def test_an_inner_folder_for_the_task_comes_before_another_format_around_it(tmp_path: Path) -> None:
    inner = boxes_and_masks(tmp_path / "data" / "set")
    assert recognise_format(open_tree(tmp_path)) != "class_folders"
    assert recognise_format(open_tree(inner), "classification") == "class_folders"
    dataset = open_dataset(DataConfig(source=str(tmp_path), task="classification"))
    assert (dataset.format, dataset.classes) == ("class folders", ("images", "masks"))
    assert dataset.notes[0] == "the data lies in the folder data/set"
    assert open_dataset(DataConfig(source=str(tmp_path), task="detection")).task == "detection"


@pytest.mark.parametrize(
    ("source", "task", "words"),
    [
        (
            "digits",
            "detection",
            r"digits \(built in\): its pictures have a class each.* give pictures with boxes",
        ),
        ("shapes_boxes", "segmentation", "its pictures have boxes.* give pictures with masks"),
        ("cifar10", "detection", "cifar10: its pictures have a class each"),
    ],
)
def test_data_for_another_task_than_asked_is_refused(
    source: str, task: Task, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(public, "read", lambda *_: pytest.fail("it was read, maybe downloaded"))
    with pytest.raises(UsageError, match=words):
        open_dataset(DataConfig(source=source, task=task))


def test_a_folder_for_another_task_than_asked_says_how_it_was_read(tmp_path: Path) -> None:
    source = str(folder(tmp_path, "cat/1.jpg", "dog/2.jpg"))
    with pytest.raises(UsageError, match=r"\(class folders\): .* which detection does not learn from"):
        open_dataset(DataConfig(source=source, task="detection"))
    with pytest.raises(UsageError, match="class folders"):
        open_dataset(DataConfig(source=source, format="class_folders", task="detection"))


def test_chosen_classes_keep_their_boxes_and_the_other_pictures_are_background(tmp_path: Path) -> None:
    source = str(boxes_and_masks(tmp_path))
    dataset = open_dataset(DataConfig(source=source, task="detection", classes=("dog",)))
    first, second = (item.objects for item in dataset.items)
    assert first is not None
    assert second is not None
    assert (first.labels.tolist(), first.boxes.tolist(), first.crowd.tolist()) == (
        [0],
        [[1, 1, 4, 4]],
        [False],
    )
    assert len(second) == 0
    assert [len(item.ids) for item in dataset.items] == [1, 0]
    assert "7" in dataset.items[0].ids[0]
    note = "1 of 2 classes: 1 of 3 boxes; 1 picture without any of these is background"
    assert dataset.notes[-1] == note
    swapped = open_dataset(DataConfig(source=source, task="detection", classes=("dog", "cat")))
    labels = [item.objects.labels.tolist() for item in swapped.items if item.objects is not None]
    assert labels == [[0, 1], [1]]
    assert swapped.notes[-1] == "2 of 2 classes: 3 of 3 boxes"
