"""YOLO's text files of boxes, read and written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.dataset import Dataset, Finding, Item
from striate.data.formats import yolo_boxes
from striate.data.open import DataConfig, open_dataset, recognise_format
from striate.data.storage import ArrayStorage
from striate.data.tree import open_tree
from striate.errors import DataError, EnvironmentProblem, UsageError
from striate.structures import Objects

LINE = "0 0.5 0.5 0.2 0.4\n"  # of a picture of 100x50: 40 15 60 35


def yolo(root: Path, pictures: Sequence[str], texts: Mapping[str, str]) -> Path:
    """Pictures of 100x50 pixels and text files."""
    for path in pictures:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 50)).save(root / path)
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def read(root: Path) -> Dataset:
    return yolo_boxes.read(open_tree(root))


def one(tmp_path: Path, text: str, **more: str) -> Dataset:
    """A dataset of one picture with these lines."""
    texts = {"labels/1.txt": text} | {f"{name}.txt": content for name, content in more.items()}
    return read(yolo(tmp_path, ["images/1.jpg"], texts))


def objects_of(dataset: Dataset, index: int = 0) -> Objects:
    objects = dataset.items[index].objects
    assert objects is not None
    return objects


def finding(dataset: Dataset, code: str) -> Finding:
    (found,) = [finding for finding in dataset.findings if finding.code == code]
    return found


def parts_of(dataset: Dataset) -> dict[str, str]:
    return {item.key: item.part for item in dataset.items}


# --- read -------------------------------------------------------------------------------------------


def test_centre_and_sides_are_shares_of_the_picture(tmp_path: Path) -> None:
    dataset = one(tmp_path, "1 0.5 0.5 0.2 0.4\n\n0 0.05 0.1 0.1 0.2\n", classes="cat\ndog\n")
    assert (dataset.task, dataset.classes) == ("detection", ("cat", "dog"))
    objects = objects_of(dataset)
    np.testing.assert_allclose(objects.boxes, [[40, 15, 60, 35], [0, 0, 10, 10]], atol=1e-5)
    assert objects.labels.tolist() == [1, 0]
    assert dataset.items[0].ids == ("line 1", "line 3")
    assert dataset.stated_sizes is None, "the sizes are the pictures' own"
    assert dataset.notes == ("class names from classes.txt",)


def test_sides_are_those_of_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    root = yolo(tmp_path, [], {"images/1.txt": LINE})
    Image.new("RGB", (50, 100)).save(root / "images/1.jpg", exif=exif)
    np.testing.assert_allclose(objects_of(read(root)).boxes, [[40, 15, 60, 35]], atol=1e-5)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("0 0.5 0.5 0 0.4", "box-empty"),
        ("0 0.5 0.5 nan 0.4", "box-number"),
        ("0 0.5 0.5 inf 0.4", "box-number"),
        ("0 0.5 0.5 x 0.4", "box-number"),
        ("0 0.5 0.5", "box-number"),
        ("0 0.5 0.5 0.2 0.4 0.9", "box-number"),
        ("0 1.5 0.5 0.2 0.4", "box-outside"),
        ("7 0.5 0.5 0.2 0.4", "box-class"),
        ("-1 0.5 0.5 0.2 0.4", "box-class"),
        ("cat 0.5 0.5 0.2 0.4", "box-class"),
    ],
)
def test_a_line_that_cannot_be_used_is_left_out_by_its_number(tmp_path: Path, line: str, code: str) -> None:
    dataset = one(tmp_path, f"{LINE}{line}\n", classes="cat\ndog\n")
    assert dataset.items[0].ids == ("line 1",)
    found = finding(dataset, code)
    assert (found.file, found.id, found.level) == ("labels/1.txt", "line 2", "error")


def test_an_outline_is_read_as_the_box_around_it(tmp_path: Path) -> None:
    dataset = one(tmp_path, "0 0.1 0.2 0.3 0.2 0.2 0.8\n")
    np.testing.assert_allclose(objects_of(dataset).boxes, [[10, 10, 30, 40]], atol=1e-5)
    assert "1 outlines are read as the boxes around them" in dataset.notes


def test_classes_without_names_are_called_by_their_numbers(tmp_path: Path) -> None:
    dataset = one(tmp_path, "2 0.5 0.5 0.2 0.4\n1.0 0.5 0.5 0.2 0.4\n")
    assert dataset.classes == ("0", "1", "2")
    assert objects_of(dataset).labels.tolist() == [2, 1]


def test_empty_and_absent_label_files_mean_that_nothing_is_shown(tmp_path: Path) -> None:
    texts = {"labels/1.txt": LINE, "labels/2.txt": "", "labels/9.txt": LINE}
    dataset = read(yolo(tmp_path, ["images/1.jpg", "images/2.jpg", "images/3.jpg"], texts))
    assert [len(objects_of(dataset, index)) for index in range(3)] == [1, 0, 0]
    bare = finding(dataset, "no-label-file")
    assert (bare.file, bare.level) == ("images/3.jpg", "note")
    orphan = finding(dataset, "picture-missing")
    assert (orphan.file, orphan.level) == ("labels/9.txt", "error")


def test_a_part_without_any_label_file_is_unlabelled(tmp_path: Path) -> None:
    pictures = ["images/train/1.jpg", "images/test/2.jpg", "other/3.jpg"]
    dataset = read(yolo(tmp_path, pictures, {"labels/train/1.txt": LINE}))
    assert parts_of(dataset) == {"images/train/1.jpg": "train", "images/test/2.jpg": "test"}
    assert dataset.items[0].objects is None
    assert finding(dataset, "unlisted").file == "other/3.jpg"


def test_a_label_file_that_is_no_text_leaves_its_picture_unlabelled(tmp_path: Path) -> None:
    root = yolo(tmp_path, ["1.jpg", "2.jpg"], {"1.txt": LINE})
    (root / "2.txt").write_bytes(b"0 0.5 0.5 0.2 0.4\n\xff\xfe")
    dataset = read(root)
    assert dataset.items[1].objects is None
    assert finding(dataset, "label-unreadable").file == "2.txt"


def test_data_yaml_names_parts_and_classes(tmp_path: Path) -> None:
    yaml = "train: images/a\nval: [images/b, images/c/3.jpg]\ntest:\nnc: 2\nnames: [no, 1.0]\n"
    texts = {f"labels/{name}.txt": LINE for name in ("a/1", "b/2", "c/3", "c/4")}
    pictures = [path.replace("labels", "images").replace("txt", "jpg") for path in texts]
    dataset = read(yolo(tmp_path, pictures, texts | {"data.yaml": yaml}))
    assert dataset.classes == ("no", "1.0"), "as they are written, not as YAML takes them"
    assert parts_of(dataset) == {"images/a/1.jpg": "train", "images/b/2.jpg": "val", "images/c/3.jpg": "val"}
    assert finding(dataset, "unlisted").file == "images/c/4.jpg"


def test_a_data_yaml_can_be_given_itself(tmp_path: Path) -> None:
    texts = {"labels/x/1.txt": LINE, "a.yaml": "train: images\nnames: [cat]\n"}
    texts["b.yaml"] = "val: images/x\nnames: [dog]\n"
    root = yolo(tmp_path, ["images/x/1.jpg"], texts)
    dataset = open_dataset(DataConfig(source=str(root / "b.yaml")))
    assert (dataset.classes, parts_of(dataset)) == (("dog",), {"images/x/1.jpg": "val"})
    with pytest.raises(UsageError, match="cannot be labels csv"):
        open_dataset(DataConfig(source=str(root / "b.yaml"), format="labels csv"))
    (root / "c.yaml").write_text("train: {masks: masks}\n")
    with pytest.raises(DataError, match="does not say where the pictures are"):
        open_dataset(DataConfig(source=str(root / "c.yaml")))


def test_names_with_numbers_may_have_gaps(tmp_path: Path) -> None:
    yaml = "train: images\nnames:\n  9: dog\n  2: cat\n"
    texts = {"labels/1.txt": "9 0.5 0.5 0.2 0.4\n2 0.5 0.5 0.2 0.4\n", "data.yaml": yaml}
    dataset = read(yolo(tmp_path, ["images/1.jpg"], texts))
    assert dataset.classes == ("cat", "dog")
    assert objects_of(dataset).labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    "head",
    [
        "path: /home/somebody/set\ntrain: images/train\n",
        "path: ../datasets/set\ntrain: images/train\n",
        "train: ../images/train\n",
        "train: C:\\sets\\images\\train\n",
        "path: .\ntrain: ./images/train\n",
        "train: train.txt\n",
    ],
)
def test_paths_are_found_inside_the_data_wherever_they_lead(tmp_path: Path, head: str) -> None:
    texts = {
        "labels/train/1.txt": LINE,
        "data.yaml": f"{head}names: [cat]\n",
        "train.txt": "./images/train/1.jpg\n",
    }
    Image.new("RGB", (9, 9)).save(tmp_path / "outside.jpg")
    root = yolo(tmp_path / "set", ["images/train/1.jpg"], texts)
    dataset = read(root)
    assert parts_of(dataset) == {"images/train/1.jpg": "train"}
    is_elsewhere = ".." in head or "home" in head or "C:" in head
    assert any("which is not there" in note for note in dataset.notes) == is_elsewhere


def test_a_list_outside_of_the_data_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("images/1.jpg\n")
    texts = {"labels/1.txt": LINE, "data.yaml": "train: images\nval: ../secret.txt\nnames: [cat]\n"}
    dataset = read(yolo(tmp_path / "set", ["images/1.jpg"], texts))
    assert parts_of(dataset) == {"images/1.jpg": "train"}
    found = finding(dataset, "missing")
    assert (found.file, found.id, found.level) == ("data.yaml", "val", "error")


def test_one_folder_as_train_and_val_is_a_leak(tmp_path: Path) -> None:
    texts = {"labels/1.txt": LINE, "data.yaml": "train: images\nval: images\nnames: [cat]\nnc: 3\n"}
    dataset = read(yolo(tmp_path, ["images/1.jpg"], texts))
    assert parts_of(dataset) == {"images/1.jpg": "train"}
    assert finding(dataset, "leak").id == "val"
    assert finding(dataset, "class-count").level == "warning"


def test_lists_of_pictures_are_parts_without_a_yaml(tmp_path: Path) -> None:
    texts = {
        "obj_train_data/1.txt": LINE,
        "obj_train_data/2.txt": LINE,
        "obj.names": "cat\n",
        "train.txt": "data/obj_train_data/1.jpg\ndata/obj_train_data/gone.jpg\n",
        "valid.txt": "data/obj_train_data/2.jpg\n",
    }
    dataset = read(yolo(tmp_path, ["obj_train_data/1.jpg", "obj_train_data/2.jpg"], texts))
    assert list(parts_of(dataset).values()) == ["train", "val"]
    assert dataset.classes == ("cat",)
    assert (finding(dataset, "missing").file, finding(dataset, "missing").id) == ("train.txt", "line 2")


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: [cat, cat]\ntrain: images\n", "named twice"),
        ("names: {x: cat}\ntrain: images\n", "no names with a number"),
        ("names: [[cat]]\ntrain: images\n", "no names with a number"),
        ("names: [cat\ntrain: images\n", "is no YAML"),
    ],
)
def test_a_yaml_that_is_wrong_is_refused(tmp_path: Path, yaml: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(yolo(tmp_path, ["images/1.jpg"], {"labels/1.txt": LINE, "data.yaml": yaml}))
    assert "data.yaml" in caught.value.where


def test_a_yaml_makes_no_objects(tmp_path: Path) -> None:
    yaml = f"train: images\nnames: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]\n"
    read(yolo(tmp_path, ["images/1.jpg"], {"labels/1.txt": LINE, "data.yaml": yaml}))
    assert not (tmp_path / "made").exists()


def test_a_yaml_of_masks_is_not_taken_for_it(tmp_path: Path) -> None:
    yaml = "train:\n  images: images\n  masks: masks\nnames: [void, road]\n"
    dataset = read(yolo(tmp_path, ["images/1.jpg"], {"labels/1.txt": LINE, "masks.yaml": yaml}))
    assert dataset.classes == ("0",)


def test_without_pyyaml_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    texts = {"labels/1.txt": LINE, "data.yaml": "train: images\nnames: [cat]\n"}
    with pytest.raises(EnvironmentProblem, match=r"pip install 'striate\[train\]'"):
        read(yolo(tmp_path, ["images/1.jpg"], texts))


def test_it_is_recognised_by_its_lines_and_other_texts_are_not(tmp_path: Path) -> None:
    labels = {"train/labels/1.txt": LINE, "valid/labels/2.txt": LINE}
    found = yolo(tmp_path / "a", ["train/images/1.jpg", "valid/images/2.jpg"], labels)
    assert recognise_format(open_tree(found)) == "yolo_boxes"
    captions = {"cat/1.txt": "a cat on a mat\n", "dog/2.txt": "3 dogs\n"}
    other = yolo(tmp_path / "b", ["cat/1.jpg", "dog/2.jpg"], captions)
    assert recognise_format(open_tree(other)) == "class_folders"


def test_the_labels_of_coco128_are_those_of_its_list(shared_data: Callable[[str], Path]) -> None:
    dataset = read(shared_data("coco128"))
    assert (len(dataset), len(dataset.classes)) == (128, 80)
    assert sum(len(item.objects) for item in dataset.items if item.objects is not None) == 929


# --- written ----------------------------------------------------------------------------------------


def drawn(boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> Dataset:
    """One drawn picture of `size` (height, width) with `boxes`."""
    pixels = np.zeros((1, *size, 1), np.uint8)
    count = len(boxes)
    objects = Objects(np.array(boxes, np.float32), np.zeros(count, np.int64), np.zeros(count, np.bool_))
    storage = ArrayStorage(pixels, "drawn")
    return Dataset("d", "drawn", "detection", ("cat",), (Item("drawn[0]", objects=objects),), storage)


def test_boxes_in_large_pictures_come_back_to_a_thousandth_of_a_pixel(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    corners = np.sort(chance.uniform(0, 5000, (50, 2, 2)), axis=1)
    source = drawn(corners.reshape(50, 4).tolist(), (5000, 5000))
    yolo_boxes.write(source, tmp_path / "b")
    again = read(tmp_path / "b")
    assert [item.key for item in again.items] == ["images/drawn_0.png"]
    np.testing.assert_allclose(objects_of(again).boxes, objects_of(source).boxes, rtol=0, atol=1e-3)


def test_parts_and_names_are_written_as_yaml(tmp_path: Path) -> None:
    texts = {"labels/train/1.txt": LINE, "labels/test/2.txt": ""}
    source = read(yolo(tmp_path / "a", ["images/train/1.jpg", "images/test/2.jpg"], texts))
    names = ('a "b": c # d', "no")
    assert yolo_boxes.write(replace(source, classes=names), tmp_path / "b") == ()
    again = read(tmp_path / "b")
    assert again.classes == names
    assert parts_of(again) == {"images/train/1.jpg": "train", "images/test/2.jpg": "test"}
    assert (tmp_path / "b/labels/train/1.txt").read_text() == LINE
    assert len(objects_of(again, 0)) == 0, "an empty picture stays one, though its part has no other"


def test_pictures_of_no_part_beside_others_are_said(tmp_path: Path) -> None:
    texts = {"labels/train/1.txt": LINE, "labels/2.txt": LINE}
    source = read(yolo(tmp_path / "a", ["images/train/1.jpg", "images/2.jpg"], texts))
    (sentence,) = yolo_boxes.write(source, tmp_path / "b")
    assert sentence.startswith("1 pictures are in no part: they lie in images/unsplit")


def test_crowds_are_left_out_and_difficult_objects_kept(tmp_path: Path) -> None:
    source = drawn([[0, 0, 9, 9], [1, 1, 8, 8], [2, 2, 7, 7]], (20, 30))
    flags = np.array([[True, False, False], [False, True, False]])
    objects = replace(objects_of(source), crowd=flags[0], difficult=flags[1])
    items = (replace(source.items[0], objects=objects, ids=("annotation 1", "annotation 2", "annotation 3")),)
    assert yolo_boxes.write(replace(source, items=items), tmp_path / "b") == (
        "1 crowds left out: each would count as one object",
        "1 difficult objects are as any other",
        "the ids of 3 annotations are lost",
    )
    assert objects_of(read(tmp_path / "b")).boxes.round(3).tolist() == [[1, 1, 8, 8], [2, 2, 7, 7]]


def test_a_picture_that_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    root = yolo(tmp_path / "a", ["1.jpg", "2.jpg"], {"1.txt": LINE, "2.txt": ""})
    source = read(root)
    (root / "2.jpg").write_bytes(b"no picture")
    (sentence,) = yolo_boxes.write(source, tmp_path / "b")
    assert sentence.startswith("1 pictures that cannot be read left out: 2.jpg (")
    assert [item.key for item in read(tmp_path / "b").items] == ["images/1.jpg"]
