"""What masks mean: told from their values and a list, and said in a note."""

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.data.class_list import ClassList, parsed
from striate.data.mask_meaning import CAMVID, Meaning, look_at, meaning_of
from striate.data.masks import ColorCoding, InstanceCoding
from striate.errors import DataError
from striate.structures import IGNORE


class Memory:
    """Masks in memory that counts how many are read."""

    def __init__(self, masks: dict[str, NDArray[np.uint8]]) -> None:
        self.masks = masks
        self.read: list[str] = []

    def content(self, key: str) -> NDArray[np.uint8]:
        self.read.append(key)
        return self.masks[key]


def meaning(*masks: object, listed: str | None = None, names: list[str] | None = None) -> Meaning:
    """Of masks that are rows of numbers or colours."""
    keys = names or [f"{number}.png" for number in range(len(masks))]
    storage = Memory({key: np.array([mask], np.uint8) for key, mask in zip(keys, masks, strict=True)})
    classes: ClassList | None = None if listed is None else parsed(listed, "classes.txt")
    return meaning_of(storage, keys, classes)


def ids(found: Meaning, values: object) -> list[int]:
    class_ids: list[int] = found.coding.class_ids(np.array([values], np.uint8), "m")[0].tolist()
    return class_ids


def test_without_a_list_a_number_is_a_class_and_255_is_void() -> None:
    found = meaning([0, 2, 255], [4, 0, 0])
    assert found.classes == ("0", "1", "2", "3", "4")
    assert ids(found, [0, 4, 255]) == [0, 4, IGNORE]
    assert "called by their numbers, 0 to 4" in found.note
    with pytest.raises(DataError, match="has 5, which is no class"):
        ids(found, [5])


def test_black_and_white_are_two_classes() -> None:
    found = meaning([0, 255], [255, 255], [0, 0])
    assert found.classes == ("0", "255")
    assert ids(found, [0, 255]) == [0, 1]


def test_black_and_white_take_the_names_of_a_list_of_two() -> None:
    found = meaning([0, 255], listed="cell\nmembrane")
    assert found.classes == ("cell", "membrane")
    assert ids(found, [0, 255]) == [0, 1]


def test_one_number_is_one_class() -> None:
    assert meaning([0, 0], [0]).classes == ("0",)


def test_with_three_names_255_stays_void() -> None:
    found = meaning([0, 255], listed="a\nb\nc")
    assert ids(found, [0, 2, 255]) == [0, 2, IGNORE]


def test_masks_that_number_their_objects_are_one_class() -> None:
    found = meaning([0, 1], [0, 1, 2], [0, 1, 2, 3, 4], [0, 0])
    assert found.classes == ("background", "object")
    assert found.coding == InstanceCoding(None)
    assert "each mask numbers its objects" in found.note
    assert ids(found, [0, 3, 200]) == [0, 1, 1]


def test_255_among_numbered_objects_is_void() -> None:
    assert meaning([0, 1, 255], [0, 1, 2], [0, 1, 2, 3]).coding == InstanceCoding(IGNORE)


@pytest.mark.parametrize(
    "masks",
    [
        ([0, 1], [0, 1, 2], [0, 1, 2]),  # two counts only: liver and tumour
        ([0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 2]),  # a gap
        ([1, 2, 3], [1, 2, 3], [1, 2, 3]),
    ],
)
def test_masks_with_gaps_or_few_counts_hold_classes(masks: tuple[list[int], ...]) -> None:
    assert meaning(*masks).classes == tuple(map(str, range(max(map(max, masks)) + 1)))


def test_a_list_of_more_than_two_names_makes_numbers_classes() -> None:
    found = meaning([0, 1], [0, 1, 2], [0, 1, 2, 3], listed="a\nb\nc\nd")
    assert found.classes == ("a", "b", "c", "d")
    assert ids(found, [0, 3]) == [0, 3]


def test_numbered_objects_take_the_names_of_a_list_of_two() -> None:
    found = meaning([0, 1], [0, 1, 2], [0, 1, 2, 3], listed="street\nperson")
    assert found.classes == ("street", "person")
    assert found.coding == InstanceCoding(None)


def test_camvid_is_known_by_the_names_of_its_frames() -> None:
    names = ["trainannot/0001TP_006690.png", "valannot/0016E5_07959.png", "testannot/Seq05VD_f00000.png"]
    masks = ([0, 11], [1, 10], [3, 4])
    found = meaning(*masks, names=names)
    assert found.classes == CAMVID
    assert ids(found, [0, 10, 11, 255]) == [0, 10, IGNORE, IGNORE]
    assert meaning(*masks, names=[*names[:2], "testannot/mine.png"]).classes != CAMVID
    assert meaning([0, 31], *masks[1:], names=names).classes == tuple(map(str, range(32)))


def test_colours_need_a_list_that_explains_them() -> None:
    masks = [[[1, 2, 3], [9, 9, 9]]]
    found = meaning(*masks, listed="1 2 3 sky\n9 9 9 void")
    assert found.coding == ColorCoding({(1, 2, 3): 0, (9, 9, 9): IGNORE})
    assert found.note == "classes and their colours from classes.txt"
    for listed in (None, "sky\nroad"):
        with pytest.raises(DataError, match="no file says which class each of them is") as caught:
            meaning(*masks, listed=listed)
        assert caught.value.where == "0.png"


def test_gray_colours_of_a_list_mean_gray_values() -> None:
    found = meaning([0, 255], listed="name,r,g,b\nroad,255,255,255\nland,0,0,0")
    assert found.classes == ("road", "land")
    assert ids(found, [0, 255]) == [1, 0]
    # Numbers that are not among the colours are places in the list, as where only some colours are gray.
    assert ids(meaning([0, 1], listed="road,255,255,255\nland,0,0,0"), [0, 1]) == [0, 1]
    assert ids(meaning([0, 255], listed="ground,0,0,0\ncar,9,0,0\nbus,0,9,0"), [2, 255]) == [2, IGNORE]


def test_large_numbers_without_a_list_are_refused_with_their_file() -> None:
    keys = ["a", "b"]
    storage = Memory({"a": np.zeros((1, 2), np.uint8), "b": np.array([[0, 900]], np.uint16)})
    with pytest.raises(DataError, match="run up to 900") as caught:
        meaning_of(storage, keys, None)
    assert caught.value.where == "b"


def test_a_sample_is_spread_evenly_and_names_need_no_more() -> None:
    storage = Memory({str(number): np.zeros((1, 1), np.uint8) for number in range(300)})
    assert [seen.key for seen in look_at(storage, list(storage.masks), 3)] == ["0", "149", "299"]
    storage.read.clear()
    meaning_of(storage, list(storage.masks), parsed("a\nb", "classes.txt"))
    assert len(storage.read) == 64
    storage.read.clear()
    meaning_of(storage, list(storage.masks), None)
    assert len(storage.read) == 300


def test_masks_that_cannot_be_read_are_left_to_check_unless_all_are() -> None:
    class Broken(Memory):
        def content(self, key: str) -> NDArray[np.uint8]:
            if key != "good":
                raise DataError(key, "is cut", "copy it again")
            return super().content(key)

    storage = Broken({"good": np.array([[0, 3]], np.uint8)})
    assert meaning_of(storage, ["bad", "good"], None).classes == ("0", "1", "2", "3")
    with pytest.raises(DataError, match="bad: is cut"):
        meaning_of(storage, ["bad", "worse"], None)
