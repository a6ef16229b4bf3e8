"""What `check` finds in masks whose faults are known, and what it counts in them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.data.check import CheckReport, check
from striate.data.dataset import Dataset, Finding, Item, Part
from striate.data.open import DataConfig, open_dataset
from striate.data.split import SplitConfig, complete
from striate.errors import DataError, LabelError
from striate.structures import IGNORE, Image

Entry = tuple[Image | bytes, Part, object]


class Pictures:
    """Pictures in memory."""

    def __init__(self, contents: dict[str, Image | bytes]) -> None:
        self.contents = contents

    def content(self, key: str) -> Image | bytes:
        return self.contents[key]


class InMemory:
    """Masks in memory; an error among them is raised. Counts how often each is read."""

    def __init__(self, masks: dict[str, object]) -> None:
        self.masks = masks
        self.reads: list[str] = []

    def mask(self, key: str) -> NDArray[np.uint8]:
        self.reads.append(key)
        found = self.masks[key]
        if isinstance(found, DataError):
            raise found
        return np.array(found, np.uint8)


def noise(seed: int, height: int = 2, width: int = 2) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def dataset_of(*entries: Entry, classes: tuple[str, ...] = ("background", "cat", "dog")) -> Dataset:
    """Pictures a, b, c, ... with masks a.png, ... or None without one."""
    keys = [chr(ord("a") + index) for index in range(len(entries))]
    named = list(zip(keys, entries, strict=True))
    items = tuple(
        Item(key, part, mask=None if mask is None else f"{key}.png") for key, (_, part, mask) in named
    )
    masks = InMemory({f"{key}.png": mask for key, (_, _, mask) in named})
    storage = Pictures({key: image for key, (image, _, _) in named})
    return Dataset("pets", "test", "segmentation", classes, items, storage, masks=masks)


def coded(report: CheckReport, *codes: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.code in codes]


def test_counts_are_pictures_that_show_a_class_and_pixels_are_theirs() -> None:
    report = check(
        dataset_of(
            (noise(1), "train", [[0, 1], [1, 1]]),
            (noise(2), "train", [[0, 0], [0, 2]]),
            (noise(3), "val", [[1, 1], [IGNORE, IGNORE]]),
        )
    )
    facts = report.facts
    assert facts.counts == {
        "background": {"train": 2, "val": 0},
        "cat": {"train": 1, "val": 1},
        "dog": {"train": 1, "val": 0},
    }
    assert facts.pixels == {
        "background": {"train": 4, "val": 0},
        "cat": {"train": 3, "val": 2},
        "dog": {"train": 1, "val": 0},
    }
    assert report.usable.tolist() == [0, 1, 2]


def test_each_mask_is_read_once() -> None:
    data = dataset_of(*((noise(seed), "train", [[0, 1], [1, 2]]) for seed in range(9)))
    check(data)
    assert isinstance(data.masks, InMemory)
    assert sorted(data.masks.reads) == [f"{letter}.png" for letter in "abcdefghi"]


@pytest.mark.parametrize(
    ("mask", "code", "message"),
    [
        ([[0, 1, 1], [0, 1, 1]], "mask-size", "the mask has 3x2 pixels, its picture 2x2"),
        ([[0, 3], [0, 1]], "mask-label", "the mask has class id 3, and there are 3 classes"),
        (LabelError("b.png", "a pixel has 9", "correct it"), "mask-label", "a pixel has 9"),
        (DataError("b.png", "it is cut", "copy it again"), "mask-unreadable", "it is cut"),
    ],
)
def test_a_mask_that_does_not_fit_is_named_and_its_picture_left_out(
    mask: object, code: str, message: str
) -> None:
    report = check(dataset_of((noise(1), "train", [[0, 1], [2, 0]]), (noise(2), "train", mask)))
    (found,) = report.errors
    assert (found.file, found.code, found.message) == ("b.png", code, message)
    assert report.usable.tolist() == [0]
    assert sum(row["train"] for row in report.facts.pixels.values()) == 4


def test_void_is_no_label_out_of_range() -> None:
    report = check(dataset_of((noise(1), "train", [[0, 1], [IGNORE, 2]])))
    assert not report.errors


def test_a_picture_without_a_mask_is_an_error() -> None:
    report = check(dataset_of((noise(1), "train", [[0, 1], [2, 0]]), (noise(2), "train", None)))
    (found,) = report.errors
    assert (found.file, found.code) == ("b", "mask-missing")
    assert report.usable.tolist() == [0]


def test_test_pictures_without_any_mask_are_one_note() -> None:
    hidden: list[Entry] = [(noise(2), "test", None), (noise(3), "test", None)]
    report = check(dataset_of((noise(1), "train", [[0, 1], [2, 0]]), *hidden))
    assert not report.errors
    (found,) = coded(report, "no-test-masks")
    assert found.level == "note"
    assert report.usable.tolist() == [0]
    # One mask among them shows that the others are missing.
    report = check(
        dataset_of((noise(1), "train", [[0, 1], [2, 0]]), *hidden, (noise(4), "test", [[0] * 2] * 2))
    )
    assert [found.file for found in report.errors] == ["b", "c"]


def test_masks_without_a_class_warn_and_those_of_background_alone_are_counted() -> None:
    report = check(
        dataset_of(
            (noise(1), "train", [[0, 1], [2, 0]]),
            (noise(2), "train", [[IGNORE, IGNORE], [IGNORE, IGNORE]]),
            (noise(3), "train", [[0, 0], [0, IGNORE]]),
        )
    )
    warning, note = coded(report, "mask-empty")
    assert (warning.file, warning.level) == ("b.png", "warning")
    assert (note.level, note.message) == ("note", "1 of 3 masks show only the background: c")
    named_otherwise = dataset_of((noise(3), "train", [[0, 0], [0, 0]]), classes=("sky", "road"))
    assert not coded(check(named_otherwise), "mask-empty")


def test_equal_pictures_with_different_masks_are_a_conflict_and_left_out_of_training() -> None:
    one, other = [[0, 1], [2, 0]], [[0, 1], [2, 2]]
    entries: list[Entry] = [(noise(1), "train", one), (noise(1), "train", other), (noise(2), "train", one)]
    report = check(dataset_of(*entries))
    (found,) = coded(report, "conflicting-labels")
    assert found.message == "its pixels have 2 different masks: see b; none of them is trained on"
    assert report.usable.tolist() == [2]
    equal = check(dataset_of((noise(1), "train", one), (noise(1), "train", one)))
    assert [found.code for found in coded(equal, "conflicting-labels", "duplicate")] == ["duplicate"]


def test_imbalance_is_of_pixels_and_few_and_empty_of_pictures() -> None:
    mask = np.zeros((10, 10), int)
    mask[0, 0] = 1
    report = check(dataset_of(*((noise(seed, 10, 10), "train", mask.tolist()) for seed in range(10))))
    (imbalance,) = coded(report, "imbalance")
    assert imbalance.message == "990 pixels of background, 10 of cat"
    (empty,) = coded(report, "empty-class")
    assert empty.message == "no usable picture of dog"
    assert not coded(report, "few")
    (few,) = coded(check(dataset_of((noise(1), "train", [[0, 1], [1, 1]]))), "few")
    assert few.message == "fewer than 10 pictures to train on: background (1), cat (1)"


def test_the_fingerprint_covers_masks_and_class_names() -> None:
    data = dataset_of((noise(1), "train", [[0, 1], [2, 0]]))
    other = dataset_of((noise(1), "train", [[0, 1], [2, 1]]))
    prints = {check(one).facts.fingerprint for one in (data, other, replace(data, classes=("a", "b", "c")))}
    assert len(prints) == 3
    assert check(data).facts.fingerprint == check(data).facts.fingerprint


def test_a_split_of_pictures_with_masks_is_random_and_says_so() -> None:
    data = dataset_of(*((noise(seed), "", [[0, 1], [2, 0]]) for seed in range(10)))
    split = complete(data, SplitConfig())
    assert [len(split.indices(part)) for part in ("train", "val", "test")] == [8, 1, 1]
    assert split.notes[-1].endswith("at random, seed 0")


# --- real data --------------------------------------------------------------------------------------


def test_isbis_thirty_slices_are_usable_and_membranes_a_fifth(shared_data: Callable[[str], Path]) -> None:
    report = check(open_dataset(DataConfig(source=str(shared_data("isbi-em")))), near_duplicates=False)
    assert not report.errors
    assert report.facts.pixels["0"]["train"] + report.facts.pixels["255"]["train"] == 30 * 512 * 512
    assert report.facts.pixels["0"]["train"] / (30 * 512 * 512) == pytest.approx(0.22, abs=0.01)


def test_camvids_validation_pictures_have_no_fault(shared_data: Callable[[str], Path]) -> None:
    dataset = open_dataset(DataConfig(source=str(shared_data("camvid"))))
    report = check(dataset.only(dataset.indices("val")[::4]), near_duplicates=False)
    assert not report.errors
    pixels = {name: row["val"] for name, row in report.facts.pixels.items()}
    assert max(pixels, key=pixels.__getitem__) == "road"
    assert sum(pixels.values()) < 26 * 360 * 480  # some are void
