"""Prepared pictures in memory."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.data import cache
from striate.data.cache import Budget, Pictures, available_memory
from striate.data.dataset import Dataset, Item
from striate.data.preprocess import apply
from striate.errors import DataError
from striate.structures import Geometry, Image, Preprocess

SPEC = Preprocess(size=(8, 8), fit="crop", resize_to=10)


@dataclass
class CountingStorage:
    """Random pictures of the given sizes; counts how often each is asked for."""

    sizes: list[tuple[int, int]]
    asked: Counter[str] = field(default_factory=Counter)
    error: Exception | None = None

    def content(self, key: str) -> Image:
        if self.error:
            raise self.error
        self.asked[key] += 1
        number = int(key.removeprefix("picture"))
        return np.random.default_rng(number).integers(0, 256, (*self.sizes[number], 3), np.uint8)


def dataset_of(sizes: list[tuple[int, int]]) -> tuple[Dataset, CountingStorage]:
    """Pictures of `sizes`, all of class 0."""
    storage = CountingStorage(sizes)
    items = tuple(Item(f"picture{number}", "train", 0) for number in range(len(sizes)))
    return Dataset("test", "drawn", "classification", ("only",), items, storage), storage


def every(count: int) -> NDArray[np.int64]:
    """0, 1, ... count - 1."""
    return np.arange(count, dtype=np.int64)


MIXED = [(20, 30), (11, 9), (64, 16)]


def test_pictures_for_the_input_are_bit_by_bit_what_apply_gives_the_first_and_every_time() -> None:
    dataset, storage = dataset_of(MIXED)
    pictures = Pictures.for_input(dataset, SPEC, Budget(1 << 20))
    expected = [apply(SPEC, dataset.sample(index).image) for index in range(3)]
    storage.asked.clear()
    for _ in range(3):
        images, geometry = pictures.batch(every(3))
        np.testing.assert_array_equal(images, np.stack([image for image, _ in expected]))
        assert list(geometry) == [where for _, where in expected]
    assert set(storage.asked.values()) == {1}


def test_a_batch_is_a_copy_in_the_order_asked_for() -> None:
    pictures = Pictures.for_input(dataset_of(MIXED)[0], SPEC, Budget(1 << 20))
    first = pictures.batch(every(3))[0]
    first_again = pictures.batch(every(3))[0]
    first_again[:] = 0
    np.testing.assert_array_equal(pictures.batch(np.array([2, 0], np.int64))[0], first[[2, 0]])


@pytest.mark.parametrize("spec", [SPEC, Preprocess(size=(8, 8), fit="none")])
def test_what_does_not_fit_the_budget_is_decoded_again_with_the_same_pixels(spec: Preprocess) -> None:
    dataset, storage = dataset_of([(8, 8)] * 4)
    bytes_each = 8 * 8 * 3
    budget = Budget(2 * bytes_each + 1)
    pictures = Pictures.for_input(dataset, spec, budget)
    first, second = (pictures.batch(every(4))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(pictures) == 2
    assert budget.used == 2 * bytes_each
    assert sorted(storage.asked.values()) == [1, 1, 2, 2]


def test_caches_share_one_budget() -> None:
    budget = Budget(8 * 8 * 3 * 4)
    dataset, _ = dataset_of([(8, 8)] * 3)
    one, two = (Pictures.for_input(dataset, SPEC, budget) for _ in range(2))
    one.batch(every(3))
    two.batch(every(3))
    assert (len(one), len(two)) == (3, 1)


def test_equal_geometries_are_one_object() -> None:
    pictures = Pictures.for_input(dataset_of([(20, 30)] * 3)[0], SPEC, Budget(1 << 20))
    geometry = [pictures.batch(every(3))[1] for _ in range(2)][1]
    assert geometry[0] is geometry[2]


@pytest.mark.parametrize(
    ("color", "channels"), [("rgb", 3), ("gray", 1), ("hsv", 3)], ids=["rgb", "gray", "hsv"]
)
def test_pictures_for_cutting_keep_1_14_times_the_input_and_are_never_enlarged(
    color: str, channels: int
) -> None:
    spec = Preprocess(
        size=(50, 50),
        fit="letterbox",
        color=color,  # type: ignore[arg-type]
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )
    pictures = Pictures.for_cutting(dataset_of([(114, 228), (228, 114), (30, 40)])[0], spec, Budget(1 << 20))
    shapes = [pictures.one(index)[0].shape for index in range(3)]
    assert shapes == [(57, 114, channels), (114, 57, channels), (30, 40, channels)]
    assert pictures.one(0)[1].scale_x == 0.5


def test_a_larger_resize_to_decides_what_is_kept_for_cutting() -> None:
    spec = Preprocess(size=(50, 50), fit="crop", resize_to=80)
    pictures = Pictures.for_cutting(dataset_of([(160, 200)])[0], spec, Budget(1 << 20))
    assert pictures.one(0)[0].shape == (80, 100, 3)


def test_hue_is_made_once_by_the_cut_and_not_in_what_is_kept() -> None:
    spec = Preprocess(size=(50, 50), fit="crop", color="hsv")
    dataset, _ = dataset_of([(40, 40)])
    kept = Pictures.for_cutting(dataset, spec, Budget(1 << 20)).one(0)[0]
    np.testing.assert_array_equal(kept, dataset.sample(0).image)


def test_many_threads_fill_it_with_each_picture_whole() -> None:
    dataset, _ = dataset_of([(16, 16)] * 60)
    budget = Budget(60 * 8 * 8 * 3)
    pictures = Pictures.for_input(dataset, SPEC, budget)
    expected = [apply(SPEC, dataset.sample(index).image)[0] for index in range(60)]
    barrier = threading.Barrier(6)

    def read(offset: int) -> bool:
        barrier.wait()
        images, _ = pictures.batch(np.roll(every(60), offset))
        return all((image == expected[(i - offset) % 60]).all() for i, image in enumerate(images))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, range(0, 60, 10)))
    assert len(pictures) == 60
    assert budget.used == budget.limit


def test_two_threads_that_prepare_the_same_picture_keep_it_once() -> None:
    both_are_preparing = threading.Barrier(2)

    def prepare(image: Image) -> tuple[Image, Geometry]:
        both_are_preparing.wait()
        return image, Geometry((4, 4), (4, 4))

    budget = Budget(1 << 20)
    pictures = Pictures(dataset_of([(4, 4)])[0], prepare, budget)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda index: pictures.one(index)[0], (0, 0))
    np.testing.assert_array_equal(first, second)
    assert budget.used == 4 * 4 * 3


def test_pictures_of_several_sizes_in_one_batch_are_refused_with_both_names() -> None:
    pictures = Pictures.for_input(dataset_of(MIXED)[0], Preprocess(fit="none"), Budget(1 << 20))
    with pytest.raises(DataError, match=r"picture1: it is 9x11, picture0 is 30x20"):
        pictures.batch(every(3))


def test_an_error_of_preprocessing_names_the_picture() -> None:
    # Made 4,000 wide, the second picture would be 32,000 high.
    dataset, _ = dataset_of([(20, 30), (8, 1)])
    pictures = Pictures.for_input(dataset, Preprocess(size=(4000, 4000), fit="crop"), Budget(0))
    with pytest.raises(DataError) as caught:
        pictures.one(1)
    inner = caught.value.__cause__
    assert isinstance(inner, DataError)
    assert (caught.value.where, inner.where) == ("picture1", "preprocess")
    assert (caught.value.what, caught.value.fix) == (inner.what, inner.fix)


def test_an_error_of_the_storage_keeps_the_name_that_it_gives() -> None:
    dataset, storage = dataset_of(MIXED)
    storage.error = DataError("pets.zip/picture1", "is cut off", "copy it again")
    with pytest.raises(DataError) as caught:
        Pictures.for_input(dataset, SPEC, Budget(0)).one(1)
    assert caught.value is storage.error


def test_an_error_of_the_system_names_the_picture() -> None:
    dataset, storage = dataset_of(MIXED)
    storage.error = OSError("the disk is gone")
    with pytest.raises(DataError, match=r"picture2: .*the disk is gone"):
        Pictures.for_input(dataset, SPEC, Budget(0)).one(2)


def test_an_error_of_our_own_is_noted_with_the_picture() -> None:
    dataset, storage = dataset_of(MIXED)
    storage.error = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError) as caught:
        Pictures.for_input(dataset, SPEC, Budget(0)).one(1)
    assert caught.value.__notes__ == ["while preparing picture1"]


def test_the_default_budget_is_two_fifths_of_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_from_meminfo", lambda: 1000)
    monkeypatch.setattr(cache, "_from_cgroup", lambda: 500)
    assert available_memory() == 500
    assert Budget().limit == 200


def test_the_available_memory_of_this_machine_is_believable() -> None:
    assert 1 << 20 < available_memory() < 1 << 50
