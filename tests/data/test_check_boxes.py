"""What `check` finds in boxes whose faults are known, and what it counts in them."""

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from striate.data.box_findings import usable_objects
from striate.data.check import CheckReport, check
from striate.data.dataset import Dataset, Finding, Item, Part
from striate.data.open import DataConfig, open_dataset
from striate.structures import Image, Objects

Box = tuple[float, ...]  # x0 y0 x1 y1, then the class id where it is not 0
Entry = tuple[Image | bytes, Part, Sequence[Box] | None]


class Pictures:
    """Pictures in memory."""

    def __init__(self, contents: dict[str, Image | bytes]) -> None:
        self.contents = contents

    def content(self, key: str) -> Image | bytes:
        return self.contents[key]


def noise(seed: int, height: int = 40, width: int = 60) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def objects_of(boxes: Sequence[Box]) -> Objects:
    labels = np.array([int(box[4]) if len(box) > 4 else 0 for box in boxes], np.int64)
    corners = np.array([box[:4] for box in boxes], np.float32).reshape(-1, 4)
    return Objects(corners, labels, np.zeros(len(boxes), np.bool_))


def dataset_of(*entries: Entry, classes: tuple[str, ...] = ("cat", "dog")) -> Dataset:
    """Pictures a, b, c, ... of 60x40 pixels, whose boxes are called object 1, object 2, ..."""
    named = [(chr(ord("a") + index), *entry) for index, entry in enumerate(entries)]
    items = tuple(
        Item(key, part)
        if boxes is None
        else Item(
            key,
            part,
            objects=objects_of(boxes),
            ids=tuple(f"object {number}" for number in range(1, len(boxes) + 1)),
        )
        for key, _, part, boxes in named
    )
    storage = Pictures({key: image for key, image, _, _ in named})
    return Dataset("pets", "VOC boxes", "detection", classes, items, storage)


def one_picture(*boxes: Box) -> CheckReport:
    return check(dataset_of((noise(1), "train", boxes)))


def coded(report: CheckReport, *codes: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.code in codes]


def test_counts_are_pictures_and_boxes_of_each_class_and_part() -> None:
    facts = check(
        dataset_of(
            (noise(1), "train", [(0, 0, 30, 20), (30, 20, 60, 40), (0, 0, 60, 40, 1)]),
            (noise(2), "train", [(0, 0, 15, 10)]),
            (noise(3), "test", []),
        )
    ).facts
    assert facts.counts == {"cat": {"train": 2, "test": 0}, "dog": {"train": 1, "test": 0}}
    assert facts.boxes == {"cat": {"train": 3, "test": 0}, "dog": {"train": 1, "test": 0}}
    assert facts.boxes_each == (0, 1, 3)
    assert facts.box_sides == (0.25, 0.5, 1.0)


def test_boxes_that_cannot_be_used_are_errors_with_their_id_and_the_picture_stays() -> None:
    report = one_picture((5, 5, 9, 9), (7, 3, 7, 9), (8, 8, 6, 12), (60, 0, 70, 10), (-9, 3, 0, 9))
    assert [(found.code, found.file, found.id) for found in report.errors] == [
        ("box-empty", "a", "object 2"),
        ("box-empty", "a", "object 3"),
        ("box-outside", "a", "object 4"),
        ("box-outside", "a", "object 5"),
    ]
    assert report.errors[0].message == "its box (x 7 to 7, y 3 to 9) has no area: left out"
    outside = "its box (x 60 to 70, y 0 to 10) lies outside the picture of 60x40 pixels: left out"
    assert report.errors[2].message == outside
    assert report.usable.tolist() == [0]
    assert report.facts.boxes["cat"] == {"train": 1}


def test_a_picture_none_of_whose_boxes_is_usable_is_said_to_become_background() -> None:
    (found,) = coded(one_picture((7, 3, 7, 9)), "no-usable-box")
    assert (found.file, found.level) == ("a", "warning")
    assert not coded(one_picture((7, 3, 7, 9), (1, 1, 5, 5)), "no-usable-box")


def test_a_box_that_reaches_beyond_the_picture_warns_with_its_numbers() -> None:
    report = one_picture((-2, 5, 9, 9), (5, 5, 60, 40), (5, 5, 9.5, 43))
    assert [(found.id, found.message) for found in coded(report, "box-beyond")] == [
        ("object 1", "its box (x -2 to 9, y 5 to 9) reaches beyond the picture of 60x40 pixels: clipped"),
        ("object 3", "its box (x 5 to 9.5, y 5 to 43) reaches beyond the picture of 60x40 pixels: clipped"),
    ]
    assert {found.level for found in coded(report, "box-beyond")} == {"warning"}


def test_rounding_beyond_an_edge_is_one_note() -> None:
    report = one_picture((-0.25, 5, 9, 9), (5, 5, 60.0001, 9), (7, 7, 60, 40))
    (found,) = coded(report, "box-rounding")
    assert found.level == "note"
    assert found.message == "2 boxes clipped that had at most 1 pixel outside the picture"
    assert not coded(report, "off-by-one", "box-beyond")


@pytest.mark.parametrize(
    ("boxes", "message", "fix"),
    [
        (
            [(-1, 5, 9, 9), (3, -1, 9, 9), (-1, -1, 5, 5)],
            "3 boxes begin 1 pixel left of or above the picture and are clipped: "
            "all coordinates seem to be 1 too small, as if counted from 0 and not from 1",
            "add 1 to all coordinates of the files",
        ),
        (
            [(3, 5, 61, 9), (3, 1, 9, 41), (4, 4, 61, 41)],
            "3 boxes end 1 pixel right of or below the picture and are clipped: "
            "all coordinates seem to be 1 too large, as if counted from 1 and not from 0",
            "take 1 from all coordinates of the files",
        ),
    ],
)
def test_boxes_beyond_an_edge_by_exactly_one_pixel_are_one_slip(
    boxes: list[Box], message: str, fix: str
) -> None:
    report = one_picture(*boxes)
    (found,) = coded(report, "off-by-one", "box-beyond", "box-rounding")
    assert (found.file, found.level, found.message, found.fix) == ("pets", "warning", message, fix)
    # Two of them, or three among many that are beyond by something else, are no pattern.
    assert not coded(one_picture(*boxes[:2]), "off-by-one")
    others = [(-5, 3 + shift, 65, 9) for shift in range(4)]
    assert not coded(one_picture(*boxes, *others), "off-by-one")


def test_what_is_reported_is_what_is_done() -> None:
    chance = np.random.default_rng(5)
    corners = chance.integers(-20, 80, (200, 4)).tolist()
    dataset = dataset_of((noise(1), "train", [tuple(box) for box in corners]))
    report = check(dataset)
    objects = dataset.items[0].objects
    assert objects is not None
    used = usable_objects(objects, (40, 60))
    assert len(used) == 200 - len(report.errors) == sum(row["train"] for row in report.facts.boxes.values())
    changed = 200 - len(report.errors) - sum(box in corners for box in used.boxes.tolist())
    assert changed == len(coded(report, "box-beyond"))
    assert not coded(report, "box-rounding", "off-by-one")


def test_a_box_drawn_twice_in_one_class_names_its_twin() -> None:
    report = one_picture(
        (10, 10, 30, 30),
        (10, 10, 30, 30, 1),  # another class
        (10, 10, 30, 29),  # 95 %
        (10, 10, 30, 29.9),
        (10, 10, 30, 30),
    )
    found = coded(report, "box-duplicate")
    assert [(one.id, one.level) for one in found] == [("object 4", "warning"), ("object 5", "warning")]
    assert found[1].message == "it is the same cat as object 1; both count"
    # The same box in another picture is no twin.
    other = dataset_of((noise(1), "train", [(1, 1, 9, 9)]), (noise(2), "train", [(1, 1, 9, 9)]))
    assert not coded(check(other), "box-duplicate")


def test_a_twin_may_be_a_little_smaller_and_no_neighbour_in_the_list() -> None:
    report = one_picture((10, 10, 30, 29.9), (40, 0, 50, 9), (0, 0, 60, 40), (10, 10, 30, 30))
    assert [one.id for one in coded(report, "box-duplicate")] == ["object 4"]


def test_doubles_are_found_among_more_boxes_than_are_compared_at_a_time() -> None:
    boxes: list[Box] = [(x, y, x + 1.5, y + 1.5) for x in range(25) for y in range(20)]
    report = one_picture(*boxes, boxes[3], boxes[400])
    assert [(one.id, one.message.split(";")[0]) for one in coded(report, "box-duplicate")] == [
        ("object 501", "it is the same cat as object 4"),
        ("object 502", "it is the same cat as object 401"),
    ]


def test_tiny_boxes_and_pictures_without_any_are_counted_once() -> None:
    report = check(
        dataset_of(
            (noise(1), "train", [(1, 1, 2, 9), (1, 1, 3, 3)]),
            (noise(2), "train", []),
            (noise(3), "val", []),
            (b"no picture", "train", []),
        )
    )
    (tiny,), (bare,) = coded(report, "box-tiny"), coded(report, "no-boxes")
    assert (tiny.level, tiny.message) == ("note", "1 box with a side below 2 pixels: a")
    assert (bare.level, bare.message) == ("note", "2 of 4 pictures have no box and count as background: b, c")
    assert report.usable.tolist() == [0, 1, 2]


def test_an_unlabelled_picture_is_an_error_and_left_out() -> None:
    report = check(dataset_of((noise(1), "train", [(1, 1, 9, 9)]), (noise(2), "train", None)))
    (found,) = report.errors
    assert (found.file, found.code, found.message) == ("b", "no-label", "nothing says which objects it shows")
    assert report.usable.tolist() == [0]


def test_test_pictures_without_any_boxes_are_one_note() -> None:
    hidden: list[Entry] = [(noise(2), "test", None), (noise(3), "test", None)]
    report = check(dataset_of((noise(1), "train", [(1, 1, 9, 9)]), *hidden))
    assert not report.errors
    (found,) = coded(report, "no-test-boxes")
    assert found.message == "no test picture has boxes: nothing is measured on them"


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ((80, 120), "its labels are for 120x80 pixels, and it has 60x40"),
        (
            (60, 40),
            "its labels are for 40x60 pixels, and it has 60x40: "
            "they may have been drawn before its EXIF rotation was applied",
        ),
    ],
)
def test_a_stated_size_that_lies_is_an_error_and_nothing_else_is_said_of_those_boxes(
    stated: tuple[int, int], message: str
) -> None:
    entries: list[Entry] = [(noise(1), "train", [(1, 1, 9, 9)]), (noise(2), "train", [(1, 1, 90, 90)])]
    report = check(replace(dataset_of(*entries), stated_sizes={"a": (40, 60), "b": stated}))
    (found,) = report.errors
    assert (found.file, found.code, found.message) == ("b", "size-stated", message)
    assert report.usable.tolist() == [0]
    assert not coded(report, "box-beyond")
    assert report.facts.boxes["cat"] == {"train": 1}


def test_a_size_that_is_right_once_exif_has_turned_the_picture_is_right() -> None:
    exif, buffer = Pillow.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Pillow.fromarray(noise(1, 40, 60)).save(buffer, "JPEG", exif=exif)
    dataset = dataset_of((buffer.getvalue(), "train", [(1, 1, 9, 9)]))
    assert not check(replace(dataset, stated_sizes={"a": (60, 40)})).errors
    (found,) = check(replace(dataset, stated_sizes={"a": (40, 60)})).errors
    assert "EXIF" in found.message


def test_equal_pictures_with_different_boxes_are_a_conflict_and_left_out_of_training() -> None:
    one, other = [(1.0, 1.0, 9.0, 9.0), (2.0, 2.0, 8.0, 8.0, 1.0)], [(1.0, 1.0, 9.0, 9.0)]
    report = check(dataset_of((noise(1), "train", one), (noise(1), "train", other), (noise(2), "train", one)))
    (found,) = coded(report, "conflicting-labels")
    assert found.message == "its pixels have 2 different sets of boxes: see b; none of them is trained on"
    assert report.usable.tolist() == [2]
    equal = check(dataset_of((noise(1), "train", one), (noise(1), "train", one[::-1])))
    assert [found.code for found in coded(equal, "conflicting-labels", "duplicate")] == ["duplicate"]


def test_few_empty_and_imbalance_are_of_boxes() -> None:
    many: list[Box] = [(x, 1, x + 3, 9) for x in range(50)]
    report = check(dataset_of((noise(1), "train", [*many, (1, 1, 9, 9, 1)]), classes=("cat", "dog", "owl")))
    messages = [found.message for found in coded(report, "empty-class", "few", "imbalance")]
    assert messages == [
        "no usable box of owl",
        "fewer than 10 boxes to train on: dog (1)",
        "50 boxes of cat, 1 of dog",
    ]
    assert coded(report, "imbalance")[0].fix == "add pictures of the rare class"


def test_few_counts_usable_boxes_to_train_on_alone() -> None:
    nine: list[Box] = [(x, 1, x + 3, 9) for x in range(9)]
    report = check(dataset_of((noise(1), "train", [*nine, (70, 1, 80, 9)]), (noise(2), "test", nine)))
    assert [found.message for found in coded(report, "few")] == ["fewer than 10 boxes to train on: cat (9)"]


def test_the_fingerprint_covers_boxes_and_class_names_but_not_their_order() -> None:
    boxes: list[Box] = [(1, 1, 9, 9), (2, 2, 8, 8, 1)]
    data = dataset_of((noise(1), "train", boxes))
    moved = dataset_of((noise(1), "train", [(1, 1, 9, 10), boxes[1]]))
    prints = {check(one).facts.fingerprint for one in (data, moved, replace(data, classes=("a", "b")))}
    assert len(prints) == 3
    assert check(dataset_of((noise(1), "train", boxes[::-1]))).facts.fingerprint in prints


def test_a_dataset_without_any_box_is_only_background() -> None:
    report = check(dataset_of((noise(1), "train", [])))
    assert [found.code for found in report.findings] == ["no-boxes"]
    assert report.facts.boxes_each == (0, 0, 0)
    assert report.facts.counts == {"cat": {"train": 0}, "dog": {"train": 0}}


def test_boxes_of_pictures_with_labels_are_not_judged() -> None:
    found = dataset_of((noise(1), "train", [(7, 3, 7, 9)]))
    labelled = replace(found, task="classification", items=(replace(found.items[0], label=0),))
    assert not check(labelled).errors


# --- real data --------------------------------------------------------------------------------------


def test_bccds_two_boxes_without_area_and_a_picture_without_labels_are_found(
    shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    bccd = shared_data("bccd")
    names = ["BloodImage_00338", "BloodImage_00343", "BloodImage_00001", "BloodImage_00002"]
    for folder, suffix in {"Annotations": "xml", "JPEGImages": "jpg"}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.{suffix}").write_bytes(
                (bccd / folder / f"{name}.{suffix}").read_bytes()
            )
    os.remove(tmp_path / "Annotations" / "BloodImage_00002.xml")
    report = check(open_dataset(DataConfig(source=str(tmp_path), task="detection")), near_duplicates=False)
    found = {(Path(one.file).stem, one.id, one.code) for one in report.errors}
    assert found == {
        ("BloodImage_00338", "object 13", "box-empty"),
        ("BloodImage_00343", "object 4", "box-empty"),
        ("BloodImage_00002", "", "no-label"),
    }
    assert len(report.usable) == 3


def test_cocos_sizes_are_those_of_its_pictures(shared_data: Callable[[str], Path]) -> None:
    dataset = open_dataset(DataConfig(source=str(shared_data("coco128")), task="detection"))
    report = check(dataset, near_duplicates=False)
    assert not report.errors
    assert sum(row[""] for row in report.facts.boxes.values()) == 939
    assert not coded(report, "box-beyond", "off-by-one")
