"""VOC's XML of boxes, read and written."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.dataset import Dataset, Finding
from striate.data.formats import voc_boxes
from striate.data.open import DataConfig, open_dataset, recognise_format
from striate.data.tree import open_tree
from striate.errors import DataError


def box(*corners: object, name: str = "cat", extra: str = "") -> str:
    names = ("xmin", "ymin", "xmax", "ymax")
    texts = "".join(f"<{key}>{corner}</{key}>" for key, corner in zip(names, corners, strict=False))
    return f"<object><name>{name}</name>{extra}<bndbox>{texts}</bndbox></object>"


def xml(*objects: str, filename: str = "", size: tuple[int, int] | None = (20, 30)) -> str:
    """An annotation of a picture of `size` (height, width)."""
    sides = "" if size is None else f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    name = f"<filename>{filename}</filename>" if filename else ""
    return f"<annotation>{name}{sides}{''.join(objects)}</annotation>"


def voc(root: Path, pictures: Sequence[str], texts: Mapping[str, str]) -> Path:
    """Pictures of 30x20 pixels and text files."""
    for path in pictures:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(root / path)
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def read(root: Path) -> Dataset:
    return voc_boxes.read(open_tree(root))


def one(tmp_path: Path, *objects: str, **settings: object) -> Dataset:
    """A dataset of one picture with these objects."""
    root = voc(tmp_path, ["JPEGImages/1.jpg"], {"Annotations/1.xml": xml(*objects, **settings)})  # type: ignore[arg-type]
    return read(root)


def boxes_of(dataset: Dataset, index: int = 0) -> list[list[float]]:
    objects = dataset.items[index].objects
    assert objects is not None
    found: list[list[float]] = objects.boxes.tolist()
    return found


def finding(dataset: Dataset, code: str) -> Finding:
    (found,) = [finding for finding in dataset.findings if finding.code == code]
    return found


# --- read -------------------------------------------------------------------------------------------


def test_the_first_pixel_is_1_and_the_last_one_is_inside(tmp_path: Path) -> None:
    dataset = one(tmp_path, box(1, 2, 10, 20), box(3, 4, 3, 9, name="dog", extra="<difficult>1</difficult>"))
    assert (dataset.task, dataset.format, dataset.classes) == ("detection", "VOC boxes", ("cat", "dog"))
    assert boxes_of(dataset) == [[0, 1, 10, 20], [2, 3, 3, 9]]
    item = dataset.items[0]
    assert item.objects is not None
    assert item.objects.labels.tolist() == [0, 1]
    assert item.objects.difficult.tolist() == [False, True]
    assert (item.key, item.ids, item.part) == ("JPEGImages/1.jpg", ("object 1", "object 2"), "")
    assert dataset.stated_sizes == {"JPEGImages/1.jpg": (20, 30)}


def test_fractions_of_a_pixel_are_kept(tmp_path: Path) -> None:
    np.testing.assert_allclose(boxes_of(one(tmp_path, box(1.5, "2.25", 10.5, 3))), [[0.5, 1.25, 10.5, 3]])


def test_a_click_without_a_drag_is_left_out_and_named(tmp_path: Path) -> None:
    dataset = one(tmp_path, box(1, 1, 5, 5), box(7, 8, 7, 8), box(9, 9, 8, 12))
    assert boxes_of(dataset) == [[0, 0, 5, 5]]
    assert dataset.items[0].ids == ("object 1",)
    found = [(f.file, f.id, f.level, f.code) for f in dataset.findings]
    assert found == [
        ("Annotations/1.xml", "object 2", "error", "box-empty"),
        ("Annotations/1.xml", "object 3", "error", "box-empty"),
    ]
    assert "xmin 7 ymin 8 xmax 7 ymax 8" in dataset.findings[0].message


@pytest.mark.parametrize("corner", ["nan", "inf", "-inf", "1e999", "abc", "", "1_0"])
def test_what_is_no_finite_number_is_left_out(tmp_path: Path, corner: str) -> None:
    dataset = one(tmp_path, box(1, 1, 5, 5), box(corner, 1, 9, 9))
    assert len(boxes_of(dataset)) == 1
    assert finding(dataset, "box-number").id == "object 2"


def test_an_object_without_a_box_is_an_error(tmp_path: Path) -> None:
    dataset = one(tmp_path, box(1, 1, 5, 5), "<object><name>cat</name></object>")
    assert finding(dataset, "box-number").id == "object 2"


def test_a_box_outside_the_stated_size_is_left_out(tmp_path: Path) -> None:
    far = box(31, 1, 40, 9)
    dataset = one(tmp_path / "a", box(1, 1, 31, 21), far)
    assert boxes_of(dataset) == [[0, 0, 31, 21]], "partly outside stays as it is"
    assert "outside the picture of 30x20 pixels" in finding(dataset, "box-outside").message
    assert len(boxes_of(one(tmp_path / "b", far, size=None))) == 1, "nobody knows before it is decoded"
    assert len(boxes_of(one(tmp_path / "c", far, size=(0, 0)))) == 1


def test_what_has_no_place_is_said(tmp_path: Path) -> None:
    extra = "<pose>Frontal</pose><truncated>1</truncated>"
    dataset = one(tmp_path, box(1, 1, 5, 5, extra=extra), box(1, 1, 6, 6, extra="<pose>Unspecified</pose>"))
    assert "not kept: pose of 1 objects, truncated of 1 objects" in dataset.notes


def test_lists_say_which_pictures_count(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d")
    texts = {f"Annotations/{name}.xml": xml(box(1, 1, 5, 5)) for name in names}
    texts |= {
        "ImageSets/Main/train.txt": "a\nb\n",
        "ImageSets/Main/val.txt": "c\na\ngone\n",
        "ImageSets/Main/trainval.txt": "a\nb\nc\nd\n",
        "ImageSets/Main/cat_train.txt": "a 1\nb -1\n",
    }
    dataset = read(voc(tmp_path, [f"JPEGImages/{name}.jpg" for name in names], texts))
    assert [(item.key[-5], item.part) for item in dataset.items] == [
        ("a", "train"),
        ("b", "train"),
        ("c", "val"),
    ]
    assert finding(dataset, "missing").id == "line 3"
    assert (finding(dataset, "leak").id, finding(dataset, "leak").file) == (
        "line 2",
        "ImageSets/Main/val.txt",
    )
    assert finding(dataset, "class-list").message.endswith("cat_train.txt")
    assert finding(dataset, "unlisted").file == "JPEGImages/d.jpg"


def test_trainval_alone_states_no_part(tmp_path: Path) -> None:
    texts = {"Annotations/a.xml": xml(box(1, 1, 5, 5)), "ImageSets/Main/trainval.txt": "a\n"}
    assert read(voc(tmp_path, ["JPEGImages/a.jpg"], texts)).items[0].part == ""


def test_files_beside_each_other_are_read_with_their_parts(tmp_path: Path) -> None:
    texts = {"train/1.xml": xml(box(1, 1, 5, 5)), "valid/1.xml": xml(box(1, 1, 7, 7))}
    dataset = read(voc(tmp_path, ["train/1.jpg", "valid/1.jpg", "valid/bare.jpg"], texts))
    assert [(item.key, item.part) for item in dataset.items] == [
        ("train/1.jpg", "train"),
        ("valid/1.jpg", "val"),
        ("valid/bare.jpg", "val"),
    ]
    assert boxes_of(dataset, 1) == [[0, 0, 7, 7]]
    assert dataset.items[2].objects is None


def test_the_picture_in_the_likest_folder_is_taken(tmp_path: Path) -> None:
    pictures = ["images/train/1.png", "images/val/1.png", "masks/train/1.png"]
    dataset = read(voc(tmp_path, pictures, {"annotations/train/1.xml": xml(box(1, 1, 5, 5))}))
    assert [item.key for item in dataset.items] == ["images/train/1.png"]


def test_xml_of_no_picture_is_an_error(tmp_path: Path) -> None:
    texts = {"a.xml": xml(box(1, 1, 5, 5)), "b.xml": xml(box(1, 1, 5, 5))}
    found = finding(read(voc(tmp_path, ["a.jpg"], texts)), "picture-missing")
    assert (found.file, found.level) == ("b.xml", "error")


def test_a_filename_elsewhere_is_said_and_not_followed(tmp_path: Path) -> None:
    dataset = one(tmp_path, box(1, 1, 5, 5), filename="../../../etc/passwd")
    assert [item.key for item in dataset.items] == ["JPEGImages/1.jpg"]
    assert "'passwd'" in finding(dataset, "file-name").message


def test_xml_without_objects_is_a_picture_that_shows_nothing(tmp_path: Path) -> None:
    texts = {"1.xml": xml(box(1, 1, 5, 5)), "2.xml": xml()}
    objects = read(voc(tmp_path, ["1.jpg", "2.jpg"], texts)).items[1].objects
    assert objects is not None
    assert len(objects) == 0


def test_a_list_of_classes_gives_their_order_and_knows_no_other(tmp_path: Path) -> None:
    texts = {"1.xml": xml(box(1, 1, 5, 5), box(1, 1, 6, 6, name="cow")), "classes.txt": "dog\ncat\n"}
    dataset = read(voc(tmp_path, ["1.jpg"], texts))
    assert dataset.classes == ("dog", "cat")
    objects = dataset.items[0].objects
    assert objects is not None
    assert objects.labels.tolist() == [1]
    assert (finding(dataset, "box-class").id, finding(dataset, "box-class").level) == ("object 2", "error")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "latin-1"])
def test_a_document_type_is_refused_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    bomb = head + '<!DOCTYPE annotation [<!ENTITY a "cat">]>' + xml(box(1, 1, 5, 5, name="&a;"))
    root = voc(tmp_path, ["1.jpg", "2.jpg"], {"2.xml": xml(box(1, 1, 5, 5))})
    (root / "1.xml").write_bytes(bomb.encode(encoding))
    dataset = read(root)
    assert dataset.items[0].objects is None
    found = finding(dataset, "label-unreadable")
    assert (found.file, found.level) == ("1.xml", "error")
    assert "<!DOCTYPE" in found.message


def test_xml_in_a_zip_is_read(tmp_path: Path) -> None:
    voc(tmp_path / "set", ["JPEGImages/1.jpg"], {"Annotations/1.xml": xml(box(1, 1, 5, 5))})
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted((tmp_path / "set").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path / "set"))
    tree = open_tree(tmp_path / "set.zip")
    assert recognise_format(tree) == "voc_boxes"
    assert boxes_of(voc_boxes.read(tree)) == [[0, 0, 5, 5]]


def test_class_folders_and_other_xml_are_not_taken_for_boxes(tmp_path: Path) -> None:
    texts = {"cat/1.xml": "<annotations/>", "notes.xml": "<annotation/>"}
    root = voc(tmp_path, ["cat/1.jpg", "dog/2.jpg"], texts)
    assert recognise_format(open_tree(root)) == "class_folders"


def test_bccd_is_read_with_its_parts(shared_data: Callable[[str], Path]) -> None:
    dataset = open_dataset(DataConfig(source=str(shared_data("bccd"))))
    assert (dataset.format, len(dataset), dataset.classes) == ("VOC boxes", 364, ("Platelets", "RBC", "WBC"))
    assert [len(dataset.indices(part)) for part in ("train", "val", "test")] == [205, 87, 72]
    assert sum(len(item.objects) for item in dataset.items if item.objects is not None) == 4886
    assert [(f.file[-20:], f.id) for f in dataset.findings if f.code == "box-empty"] == [
        ("BloodImage_00338.xml", "object 13"),
        ("BloodImage_00343.xml", "object 4"),
    ]


# --- written ----------------------------------------------------------------------------------------


def test_boxes_are_written_as_they_were_read(tmp_path: Path) -> None:
    source = one(
        tmp_path / "a",
        box(1, 2, 10, 20),
        box("3.5", 4, 9.25, 9, name="dog", extra="<difficult>1</difficult>"),
    )
    assert voc_boxes.write(source, tmp_path / "b") == ()
    text = (tmp_path / "b/Annotations/1.xml").read_text()
    assert "<xmin>1</xmin>" in text
    assert "<xmax>9.25</xmax>" in text
    again = read(tmp_path / "b")
    assert boxes_of(again) == boxes_of(source)
    assert again.stated_sizes == {"JPEGImages/1.jpg": (20, 30)}
    first, second = (dataset.items[0].objects for dataset in (source, again))
    assert first is not None
    assert second is not None
    assert second.difficult.tolist() == first.difficult.tolist() == [False, True]
    original = (tmp_path / "a/JPEGImages/1.jpg").read_bytes()
    assert (tmp_path / "b/JPEGImages/1.jpg").read_bytes() == original


def test_pictures_of_one_name_get_different_ones(tmp_path: Path) -> None:
    texts = {f"{part}/1.xml": xml(box(1, 1, 5, 5)) for part in ("train", "val")}
    source = read(voc(tmp_path / "a", ["train/1.jpg", "val/1.jpg"], texts))
    (sentence,) = voc_boxes.write(source, tmp_path / "b")
    assert sentence == "2 pictures got another name: train/1.jpg as train_1, val/1.jpg as val_1"
    again = read(tmp_path / "b")
    assert [(item.key, item.part) for item in again.items] == [
        ("JPEGImages/train_1.jpg", "train"),
        ("JPEGImages/val_1.jpg", "val"),
    ]
    assert (tmp_path / "b/ImageSets/Main/trainval.txt").read_text() == "train_1\nval_1\n"


def test_a_class_that_xml_cannot_hold_is_refused_and_nothing_stays(tmp_path: Path) -> None:
    source = one(tmp_path / "a", box(1, 2, 10, 20))
    odd = Dataset(**{name: getattr(source, name) for name in source.__slots__} | {"classes": ("a\x01b",)})
    with pytest.raises(DataError, match="cannot be written"):
        voc_boxes.write(odd, tmp_path / "b")
    assert not (tmp_path / "b").exists()
