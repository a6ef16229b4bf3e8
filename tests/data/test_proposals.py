"""Region proposals: where they lie, that they are the same each time, and what a disk keeps of them."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from striate.data import proposals as searching
from striate.data.builtin.shapes import draw
from striate.data.disk_space import DiskSpace
from striate.data.open import DataConfig, open_dataset
from striate.data.overlaps import pairwise_iou
from striate.data.proposals import Proposals, in_input, proposals
from striate.errors import EnvironmentProblem
from striate.structures import Geometry, Image

pytest.importorskip("cv2.ximgproc", reason="OpenCV's extra modules are not installed")


FULL = searching.WIDTH, searching._MOST_HEIGHT, searching.LEAST_SIDE


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are searched at a fifth of the usual size."""
    at_size(monkeypatch, 5)


def at_size(monkeypatch: pytest.MonkeyPatch, divisor: int) -> None:
    for name, value in zip(("WIDTH", "_MOST_HEIGHT", "LEAST_SIDE"), FULL, strict=True):
        monkeypatch.setattr(searching, name, value // divisor)


@pytest.fixture
def space(tmp_path: Path) -> DiskSpace:
    return DiskSpace(tmp_path / "caches", 10**9)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the pictures that are searched."""
    seen: list[tuple[int, ...]] = []
    search = searching._searched

    def watched(image: Image) -> np.ndarray:
        seen.append(image.shape)
        return search(image)

    monkeypatch.setattr(searching, "_searched", watched)
    return seen


def scene(height: int = 30, width: int = 50) -> Image:
    """A white block at x 10..30, y 5..20 on black."""
    image = np.zeros((height, width, 3), np.uint8)
    image[5:20, 10:30] = 255
    return image


def test_a_bright_block_is_found_to_the_pixel() -> None:
    found = proposals(scene(), 20)
    assert found.dtype == np.float32
    assert pairwise_iou(np.array([[10, 5, 30, 20]], np.float32), found).max() > 0.95


def test_boxes_lie_in_the_picture_have_an_area_and_are_filled_up_with_zeros() -> None:
    found = proposals(scene(), 1000)
    used = (found != 0).any(1)
    assert 2 <= used.sum() < 1000
    assert not used[used.sum() :].any()
    assert (found >= 0).all()
    assert (found[:, 2] <= 50).all()
    assert (found[:, 3] <= 30).all()
    # 4 of 100 pixels are 2 of 50.
    assert (found[used, 2:] - found[used, :2] >= 2 - 1e-4).all()
    assert len(np.unique(found[used], axis=0)) == used.sum()


def test_equal_pictures_have_equal_boxes_and_fewer_are_the_first_of_more() -> None:
    image = draw(3, 128).image
    found = proposals(image, 200)
    assert np.array_equal(proposals(image.copy(), 200), found)
    assert np.array_equal(proposals(image, 30), found[:30])
    with ThreadPoolExecutor(3) as pool:
        assert all(
            np.array_equal(other, found) for other in pool.map(lambda _: proposals(image, 200), range(3))
        )


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (400, 2, 1), (33, 65, 1)])
def test_pictures_of_any_shape_and_of_one_colour_can_be_searched(shape: tuple[int, int, int]) -> None:
    found = proposals(np.full(shape, 9, np.uint8), 5)
    assert found.shape == (5, 4)
    assert (found <= [shape[1], shape[0]] * 2).all()


def test_a_picture_is_searched_at_a_width_of_500_and_a_high_one_at_a_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_size(monkeypatch, 1)
    assert searching._resized(np.zeros((9000, 90, 1), np.uint8)).shape == (1000, 10, 3)
    assert searching._resized(np.zeros((75, 100, 3), np.uint8)).shape == (375, 500, 3)


def test_without_opencvs_extra_modules_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    searching._opencv.cache_clear()
    with pytest.raises(EnvironmentProblem, match=r"striate\[rcnn\]"):
        proposals(scene(), 5)


# --- kept on a disk ---------------------------------------------------------------------------------


def test_what_was_found_is_not_searched_for_again(space: DiskSpace, searches: list[tuple[int, ...]]) -> None:
    first = Proposals(space)(scene(), 30)
    assert np.array_equal(first, proposals(scene(), 30))
    del searches[:]
    again = Proposals(space)
    assert np.array_equal(again(scene(), 30), first)
    assert np.array_equal(again(scene(), 3), first[:3])
    assert not searches
    again(scene(31), 30)
    assert searches == [(31, 50, 3)]


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"x" * 500])
def test_a_damaged_file_is_searched_for_again_and_mended(
    space: DiskSpace, searches: list[tuple[int, ...]], damage: bytes
) -> None:
    find = Proposals(space)
    first = find(scene(), 30)
    (file,) = space.root.rglob("*.npy")
    whole = file.read_bytes()
    for content in (damage, whole[:-1], bytes([*whole[:-9], whole[-9] ^ 1, *whole[-8:]])):
        file.write_bytes(content)
        assert np.array_equal(find(scene(), 30), first)
    assert file.read_bytes() == whole
    assert len(searches) == 4


def test_a_full_disk_or_one_that_cannot_be_written_is_said_and_harms_nothing(tmp_path: Path) -> None:
    full = Proposals(DiskSpace(tmp_path, 10))
    assert np.array_equal(full(scene(), 30), proposals(scene(), 30))
    (note,) = full.notes
    assert "are used up; regions that are not kept are searched for every epoch" in note
    assert not list(tmp_path.rglob("*.npy"))
    (tmp_path / "file").touch()
    barred = Proposals(DiskSpace(tmp_path / "file", 10**9))
    assert np.array_equal(barred(scene(), 30), proposals(scene(), 30))
    assert "cannot be opened" in barred.notes[0]


def test_nothing_is_kept_without_a_disk(searches: list[tuple[int, ...]]) -> None:
    find = Proposals(None)
    assert np.array_equal(find(scene(), 30), find(scene(), 30))
    assert len(searches) == 2
    assert not find.notes


def test_the_folder_is_not_removed_while_it_is_in_use(space: DiskSpace) -> None:
    find = Proposals(space)
    find(scene(), 30)
    small = DiskSpace(space.root, 1000)
    small.grant(900)
    assert list(space.root.rglob("*.npy"))
    del find
    small.grant(900)
    assert not list(space.root.rglob("*.npy"))


# --- in the input -----------------------------------------------------------------------------------


def test_proposals_move_with_the_picture_and_are_clipped_to_the_input() -> None:
    found = np.array([[10, 20, 30, 40], [0, 0, 100, 50], [0, 0, 5, 5], [0, 0, 0, 0]], np.float32)
    geometry = Geometry(source=(50, 100), input=(80, 120), scale_x=2, scale_y=2, left=-20, top=4)
    assert in_input(found, geometry).tolist() == [
        [0, 44, 40, 84 - 4],
        [0, 4, 120, 80],
        [0, 0, 0, 0],  # cut away at the left
        [0, 0, 0, 0],
    ]
    assert in_input(found, geometry).dtype == np.float32


# --- real data --------------------------------------------------------------------------------------


def test_most_blood_cells_are_covered(
    shared_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_size(monkeypatch, 1)
    dataset = open_dataset(DataConfig(source=str(shared_data("bccd")), task="detection"))
    covered: list[bool] = []
    for index in (0, 200):
        objects = dataset.items[index].objects
        assert objects is not None
        found = proposals(dataset.image(index), 2000)
        covered += (pairwise_iou(objects.boxes, found).max(1) >= 0.5).tolist()
    assert len(covered) > 20
    assert np.mean(covered) >= 0.9
