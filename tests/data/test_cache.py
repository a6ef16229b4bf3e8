"""Prepared pictures in memory and on disk."""

import os
import threading
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from striate.data import cache
from striate.data.cache import Budget, CacheConfig, Pictures, available_memory
from striate.data.dataset import Dataset, Item
from striate.data.disk_space import DiskSpace
from striate.data.preprocess import apply
from striate.data.tree import open_tree
from striate.errors import DataError, UsageError
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
def test_pictures_for_cutting_keep_what_the_least_cut_needs_and_are_never_enlarged(
    color: str, channels: int
) -> None:
    spec = Preprocess(
        size=(50, 50),
        fit="letterbox",
        color=color,  # type: ignore[arg-type]
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )
    pictures = for_cutting(dataset_of([(200, 400), (400, 200), (30, 40)])[0], spec, Budget(1 << 20))
    shapes = [pictures.one(index)[0].shape for index in range(3)]
    assert shapes == [(100, 200, channels), (200, 100, channels), (30, 40, channels)]
    assert pictures.one(0)[1].scale_x == 0.5


@pytest.mark.parametrize(("least", "side"), [(1.0, 50), (0.64, 63), (0.25, 100), (0.01, 100)])
def test_the_side_kept_follows_from_the_least_cut_up_to_twice_the_input(least: float, side: int) -> None:
    spec = Preprocess(size=(50, 50), fit="letterbox")
    pictures = Pictures.for_cutting(dataset_of([(200, 300)])[0], spec, least, Budget(1 << 20))
    assert min(pictures.one(0)[0].shape[:2]) == side


def test_a_larger_resize_to_decides_what_is_kept_for_cutting() -> None:
    spec = Preprocess(size=(50, 50), fit="crop", resize_to=120)
    pictures = for_cutting(dataset_of([(240, 300)])[0], spec, Budget(1 << 20))
    assert pictures.one(0)[0].shape == (120, 150, 3)


def test_hue_is_made_once_by_the_cut_and_not_in_what_is_kept() -> None:
    spec = Preprocess(size=(50, 50), fit="crop", color="hsv")
    dataset, _ = dataset_of([(40, 40)])
    kept = for_cutting(dataset, spec, Budget(1 << 20)).one(0)[0]
    np.testing.assert_array_equal(kept, dataset.sample(0).image)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pictures_for_cutting_are_within_one_level_of_apply(interpolation: str) -> None:
    spec = Preprocess(size=(50, 50), interpolation=interpolation)  # type: ignore[arg-type]
    dataset, _ = dataset_of([(260, 400), (180, 122), (40, 300)])
    pictures = for_cutting(dataset, spec, Budget(1 << 20))
    shrunk = replace(spec, fit="shorter", size=(100, 100))
    whole = replace(spec, fit="none")
    for index, exact_spec in enumerate((shrunk, shrunk, whole)):
        exact, geometry = apply(exact_spec, dataset.sample(index).image)
        kept, where = pictures.one(index)
        assert where == geometry
        assert np.abs(kept.astype(int) - exact).max() <= (interpolation == "bilinear" and index < 2)


def test_a_gray_picture_is_kept_in_colour_for_cutting_where_the_network_takes_colour(photos: Path) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (90, 120), np.uint8)
    PIL.Image.fromarray(gray).save(photos / "gray.png")
    dataset = dataset_at(photos)
    (index,) = (number for number, item in enumerate(dataset.items) if item.key == "gray.png")
    kept, _ = for_cutting(dataset, SPEC, Budget(1 << 20)).one(index)
    exact, _ = apply(Preprocess(size=(16, 16), fit="shorter"), gray[:, :, None])
    np.testing.assert_array_equal(kept, exact)
    assert kept.shape == (16, 21, 3)


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


FITTED = [
    # of 20x30 in 8x8, letterboxed 5x8 and covering it 10x15
    (Preprocess(size=(8, 8), fit="letterbox"), (5, 8)),
    (SPEC, (10, 15)),
    (Preprocess(size=(8, 8), fit="stretch", border=1), (6, 6)),
    (Preprocess(size=(8, 8), fit="shorter", pad_to=4), (8, 12)),
    (Preprocess(size=(8, 8), fit="none", pad_to=16), (20, 30)),
    (Preprocess(size=(40, 60), fit="letterbox"), (40, 60)),
]


@pytest.mark.parametrize(("spec", "fitted"), FITTED, ids=[f"{spec.fit} {spec.size}" for spec, _ in FITTED])
def test_pictures_for_zooming_are_unpadded_and_grow_with_the_zoom_but_not_beyond_their_own_pixels(
    spec: Preprocess, fitted: tuple[int, int]
) -> None:
    dataset, _ = dataset_of([(20, 30)])
    kept = [Pictures.for_zooming(dataset, spec, times, Budget(1 << 20)).one(0) for times in (None, 1.5, 2, 9)]
    times_two = min(20, 2 * fitted[0]), min(30, 2 * fitted[1])
    times_one_and_a_half = min(20, -(-3 * fitted[0] // 2)), min(30, -(-3 * fitted[1] // 2))
    sizes = [image.shape[:2] for image, _ in kept]
    assert sizes == [fitted, times_one_and_a_half, times_two, times_two]
    for image, geometry in kept:
        assert geometry == Geometry((20, 30), image.shape[:2], image.shape[1] / 30, image.shape[0] / 20)


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_without_zoom_they_are_the_pixels_of_preprocessing(color: Literal["gray", "rgb"]) -> None:
    one = (0.5,) if color == "gray" else (0.5,) * 3
    spec = Preprocess(size=(8, 8), fit="letterbox", color=color, mean=one, std=one)
    dataset, _ = dataset_of([(20, 30)])
    (padded,), _ = Pictures.for_input(dataset, spec, Budget(1 << 20)).batch(every(1))
    kept, _ = Pictures.for_zooming(dataset, spec, None, Budget(1 << 20)).one(0)
    np.testing.assert_array_equal(kept, padded[1:6])


def test_a_mask_is_not_decoded_for_the_picture() -> None:
    class Refusing:
        def mask(self, key: str) -> NDArray[np.uint8]:
            raise AssertionError(key)

    dataset, _ = dataset_of([(20, 30)])
    item = replace(dataset.items[0], mask="mask0")
    masked = replace(dataset, task="segmentation", items=(item,), masks=Refusing())
    assert Pictures.for_input(masked, SPEC, Budget(0)).one(0)[0].shape == (8, 8, 3)


PHOTO_SIZES = [(20, 30), (24, 16), (90, 120), (14, 14)]


def save_photo(path: Path, seed: int, size: tuple[int, int]) -> None:
    """A JPEG of noise, last changed long ago."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(path, "JPEG")
    os.utime(path, ns=(10**18, 10**18))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a JPEG of each of PHOTO_SIZES."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate(PHOTO_SIZES):
        save_photo(folder / f"{number}.jpg", number, size)
    return folder


def dataset_at(path: Path) -> Dataset:
    """The pictures in a folder or zip, all of class 0."""
    tree = open_tree(path)
    items = tuple(Item(name, "train", 0) for name in tree.files)
    return Dataset(str(path), "files", "classification", ("only",), items, tree)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the pictures that were decoded, in order."""
    keys: list[str] = []
    image = Dataset.image

    def counting(dataset: Dataset, index: int) -> object:
        keys.append(dataset.items[index].key)
        return image(dataset, index)

    monkeypatch.setattr(Dataset, "image", counting)
    return keys


def for_cutting(
    dataset: Dataset, spec: Preprocess, budget: Budget, space: DiskSpace | None = None
) -> Pictures:
    """`Pictures.for_cutting` of a quarter of the area at least."""
    return Pictures.for_cutting(dataset, spec, 0.25, budget, space)


def for_zooming(
    dataset: Dataset, spec: Preprocess, budget: Budget, space: DiskSpace | None = None
) -> Pictures:
    """`Pictures.for_zooming` up to 1.5."""
    return Pictures.for_zooming(dataset, spec, 1.5, budget, space)


Make = Callable[..., Pictures]
EVERY = pytest.mark.parametrize(
    "make", [Pictures.for_input, for_cutting, for_zooming], ids=["input", "cutting", "zooming"]
)


@EVERY
@pytest.mark.parametrize("room", [0, 1000, 1 << 20], ids=["disk", "both", "memory"])
def test_pixels_are_the_same_from_memory_from_disk_and_in_a_later_run(
    photos: Path, tmp_path: Path, decoded: list[str], make: Make, room: int
) -> None:
    dataset, space = dataset_at(photos), DiskSpace(tmp_path / "cache", 1 << 30)
    uncached = make(dataset, SPEC, Budget(0))
    expected = [uncached.one(index) for index in range(4)]
    decoded.clear()
    for run in range(2):
        pictures = make(dataset, SPEC, Budget(room), space)
        for _ in range(2):
            for index, (image, geometry) in enumerate(expected):
                kept, where = pictures.one(index)
                np.testing.assert_array_equal(kept, image)
                assert (kept.shape, where) == (image.shape, geometry)
        assert pictures.disk is not None
        assert (run, pictures.disk.notes) == (run, ())
        if run == 0:
            assert sorted(decoded) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
            on_disk = len(pictures.disk)
            assert on_disk == 4 - len(pictures)
    # What was in memory is gone with its run; what was on disk is not decoded again.
    assert len(decoded) == 4 + (4 - on_disk)


def test_nothing_is_written_for_pictures_that_fit_in_memory(photos: Path, tmp_path: Path) -> None:
    space = DiskSpace(tmp_path / "cache", 1 << 30)
    Pictures.for_input(dataset_at(photos), SPEC, Budget(1 << 20), space).batch(every(4))
    assert not space.root.exists()


def test_a_batch_comes_from_the_disk_as_from_memory(photos: Path, tmp_path: Path) -> None:
    dataset, space = dataset_at(photos), DiskSpace(tmp_path / "cache", 1 << 30)
    images, geometry = Pictures.for_input(dataset, SPEC, Budget(1 << 20)).batch(every(4))
    for _ in range(2):
        from_disk = Pictures.for_input(dataset, SPEC, Budget(0), space).batch(every(4))
        np.testing.assert_array_equal(from_disk[0], images)
        assert from_disk[1] == geometry


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        (Preprocess(size=(8, 8), fit="crop", resize_to=10, mean=(0.1, 0.2, 0.3)), True),
        (Preprocess(size=(8, 8), fit="crop", resize_to=11), False),
        (Preprocess(size=(8, 8), fit="stretch"), False),
    ],
    ids=["other mean", "other size", "other fit"],
)
def test_a_preparation_with_other_pixels_has_a_cache_of_its_own(
    photos: Path, tmp_path: Path, decoded: list[str], other: Preprocess, shared: bool
) -> None:
    dataset, space = dataset_at(photos), DiskSpace(tmp_path / "cache", 1 << 30)
    Pictures.for_input(dataset, SPEC, Budget(0), space).one(0)
    found = Pictures.for_input(dataset, other, Budget(0), space).one(0)[0]
    np.testing.assert_array_equal(found, apply(other, dataset.sample(0).image)[0])
    assert len(decoded) == (2 if shared else 3)  # the line above decodes too


def test_each_size_kept_for_zooming_has_a_cache_of_its_own(photos: Path, tmp_path: Path) -> None:
    dataset, space = dataset_at(photos), DiskSpace(tmp_path / "cache", 1 << 30)
    sizes = [
        Pictures.for_zooming(dataset, SPEC, largest, Budget(0), space).one(2)[0].shape[:2]
        for largest in (None, 1.0, 1.5, 2.0, 3.0)
    ]
    # Of 90x120, 10 pixels high where it fits the input; more than twice that is not kept.
    assert sizes == [(10, 13), (10, 13), (15, 20), (20, 26), (20, 26)]
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_pictures_for_the_input_and_for_cutting_have_different_caches(photos: Path, tmp_path: Path) -> None:
    dataset, space = dataset_at(photos), DiskSpace(tmp_path / "cache", 1 << 30)
    spec = Preprocess(size=(8, 8), fit="stretch")
    shapes = [
        make(dataset, spec, Budget(0), space).one(2)[0].shape for make in (Pictures.for_input, for_cutting)
    ]
    assert shapes == [(8, 8, 3), (16, 21, 3)]


def test_a_processor_with_another_filter_has_a_cache_of_its_own(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, space = dataset_at(photos), DiskSpace(tmp_path / "cache", 1 << 30)
    folders = set()
    for resize in (lambda _, size: np.zeros((*size, 3), np.uint8), None):
        monkeypatch.setattr("striate.data.resample.resampler", lambda _, resize=resize: resize)
        pictures = for_cutting(dataset, SPEC, Budget(0), space)
        assert pictures.one(2)[0].any() == (resize is None)
        assert pictures.disk is not None
        folders.add(pictures.disk.folder)
    assert len(folders) == 2


@pytest.mark.parametrize("later_run", [False, True])
def test_a_changed_picture_is_decoded_anew(photos: Path, tmp_path: Path, later_run: bool) -> None:
    dataset, space = dataset_at(photos), DiskSpace(tmp_path / "cache", 1 << 30)
    pictures = Pictures.for_input(dataset, SPEC, Budget(0), space)
    before = pictures.one(0)[0]
    save_photo(photos / "0.jpg", 77, (20, 30))
    os.utime(photos / "0.jpg", ns=(10**18, 10**18 + 1))
    if later_run:
        pictures = Pictures.for_input(dataset, SPEC, Budget(0), space)
    for _ in range(2):
        after = pictures.one(0)[0]
        np.testing.assert_array_equal(after, apply(SPEC, dataset.sample(0).image)[0])
    assert (after != before).any()


def test_a_picture_that_changes_while_it_is_read_is_not_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, space = dataset_at(photos), DiskSpace(tmp_path / "cache", 1 << 30)
    image = Dataset.image

    def changing(dataset: Dataset, index: int) -> object:
        result = image(dataset, index)
        save_photo(photos / "0.jpg", 77, (20, 30))
        os.utime(photos / "0.jpg", ns=(10**18, 10**18 + 1))
        return result

    pictures = Pictures.for_input(dataset, SPEC, Budget(0), space)
    monkeypatch.setattr(Dataset, "image", changing)
    pictures.one(0)
    monkeypatch.undo()
    assert pictures.disk is not None
    assert len(pictures.disk) == 0
    np.testing.assert_array_equal(pictures.one(0)[0], apply(SPEC, dataset.sample(0).image)[0])


def test_the_pictures_in_a_zip_are_kept_on_disk_too(photos: Path, tmp_path: Path, decoded: list[str]) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for photo in sorted(photos.iterdir()):
            archive.write(photo, photo.name)
    space = DiskSpace(tmp_path / "cache", 1 << 30)
    expected = Pictures.for_input(dataset_at(path), SPEC, Budget(0)).batch(every(4))[0]
    for _ in range(2):
        pictures = Pictures.for_input(dataset_at(path), SPEC, Budget(0), space)
        np.testing.assert_array_equal(pictures.batch(every(4))[0], expected)
    assert len(decoded) == 8


def test_pictures_that_lie_in_memory_are_never_written(tmp_path: Path) -> None:
    space = DiskSpace(tmp_path / "cache", 1 << 30)
    Pictures.for_input(dataset_of(MIXED)[0], SPEC, Budget(0), space).batch(every(3))
    assert not space.root.exists()


def test_a_damaged_picture_is_decoded_again_and_said(photos: Path, tmp_path: Path) -> None:
    dataset, space = dataset_at(photos), DiskSpace(tmp_path / "cache", 1 << 30)
    expected = Pictures.for_input(dataset, SPEC, Budget(0), space).batch(every(4))[0]
    (rows,) = space.root.glob("*/*.rows")
    content = rows.read_bytes()
    rows.write_bytes(content[:100] + bytes([content[100] ^ 255]) + content[101:])
    pictures = Pictures.for_input(dataset, SPEC, Budget(0), space)
    np.testing.assert_array_equal(pictures.batch(every(4))[0], expected)
    assert pictures.disk is not None
    assert [note.rpartition(": ")[2] for note in pictures.disk.notes] == [
        "1 damaged pictures were decoded again"
    ]


def test_the_mode_says_where_pictures_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "available_memory", lambda: 1000)
    configs = {mode: CacheConfig(mode=mode, gigabytes=2) for mode in ("auto", "memory", "disk", "off")}  # type: ignore[arg-type]
    assert {mode: config.budget().limit for mode, config in configs.items()} == {
        "auto": 400,
        "memory": 400,
        "disk": 0,
        "off": 0,
    }
    disk = DiskSpace(tmp_path, 2 * 10**9)
    assert {mode: config.disk_space() for mode, config in configs.items()} == {
        "auto": disk,
        "memory": None,
        "disk": disk,
        "off": None,
    }


def test_without_a_place_of_its_own_the_cache_lies_below_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STRIATE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert CacheConfig().disk_space() == DiskSpace(tmp_path / ".cache/striate/pictures", 20 * 10**9)


def test_no_home_folder_is_no_hindrance_unless_the_disk_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert CacheConfig().disk_space() is None
    with pytest.raises(UsageError, match=r"cache\.mode.*STRIATE_CACHE"):
        CacheConfig(mode="disk").disk_space()


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_a_size_that_makes_no_sense_is_refused(size: float) -> None:
    with pytest.raises(UsageError, match=r"cache\.gigabytes"):
        CacheConfig(gigabytes=size)
