"""Near duplicates: what is found, what is not, and that the search misses no close pair."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from striate.data import similarity
from striate.data.similarity import clusters, near_pairs, thumbnail


def photo(seed: int, side: int = 128) -> np.ndarray:
    tiles = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8)
    return np.asarray(Pillow.fromarray(tiles).resize((side, side), Pillow.Resampling.BICUBIC))


def pairs_of(*images: np.ndarray) -> list[list[int]]:
    return near_pairs(np.array([thumbnail(image) for image in images]))[0].tolist()


def test_thumbnail_cells_are_the_means_of_their_pixels() -> None:
    image = np.zeros((32, 48, 1), np.uint8)
    image[:2, :3] = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)[..., None]
    image[16:] = 200
    cells = thumbnail(image)
    assert cells is not None
    assert (cells[0, 0], cells[0, 1], cells[15, 15]) == (35, 0, 200)


def test_no_thumbnail_of_what_is_too_small_or_too_flat() -> None:
    assert thumbnail(photo(1, 31)) is None
    assert thumbnail(photo(1, 32)) is not None
    assert thumbnail(np.full((64, 64, 3), 90, np.uint8)) is None
    gentle = np.repeat(np.linspace(100, 115, 64).astype(np.uint8)[None], 64, axis=0)[..., None]
    assert thumbnail(gentle) is None


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "brighter": lambda image: np.clip(image * 1.1, 0, 255).astype(np.uint8),
    "less contrast": lambda image: (128 + (image.astype(float) - 128) * 0.7).astype(np.uint8),
    "half the size": lambda image: np.asarray(Pillow.fromarray(image).resize((64, 64))),
    "stretched": lambda image: np.asarray(Pillow.fromarray(image).resize((160, 100))),
    "gray": lambda image: np.asarray(Pillow.fromarray(image).convert("L"))[..., None],
    "noisy": lambda image: np.clip(
        image + np.random.default_rng(0).normal(0, 20, image.shape), 0, 255
    ).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change: str) -> None:
    assert pairs_of(photo(1), photo(2), CHANGES[change](photo(1)), photo(3)) == [[0, 2]]


def test_a_mirrored_copy_is_another_picture() -> None:
    assert pairs_of(photo(1), photo(1)[:, ::-1]) == []


def test_equal_outline_with_other_brightness_inside_is_refused_by_correlation() -> None:
    # Steps up to the right everywhere: the same hash, but one is a ramp and one a cliff.
    ramp = np.repeat(np.arange(16, dtype=np.uint8)[None] * 16, 16, axis=0)
    cliff = np.repeat(np.where(np.arange(16) < 14, np.arange(16), 240).astype(np.uint8)[None], 16, axis=0)
    pairs, complete = near_pairs(np.stack([ramp, cliff]))
    assert len(pairs) == 0
    assert complete


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=5))
@settings(max_examples=200, deadline=None)
def test_hashes_that_differ_in_five_bits_always_share_a_mask(value: int, flipped: set[int]) -> None:
    hashes = np.array([value, value ^ sum(1 << bit for bit in flipped)], np.uint64)
    assert any(list(similarity._sharing(hashes, mask)) for mask in similarity._MASKS)


def test_search_finds_what_comparing_all_pairs_finds() -> None:
    generator = np.random.default_rng(0)
    bases = [thumbnail(photo(seed)) for seed in range(12)]
    noisy = [
        np.clip(bases[number % 12] + generator.normal(0, 1 + number / 4, (16, 16)), 0, 255)
        for number in range(60)
    ]
    thumbnails = np.array([*bases, *noisy]).astype(np.uint8)
    cells = thumbnails.reshape(-1, 8, 2, 8, 2).astype(int).sum(axis=(2, 4))
    bits = (np.roll(cells, -1, axis=2) > cells).reshape(-1, 64)
    expected = [
        [i, j]
        for i, j in combinations(range(72), 2)
        if (bits[i] != bits[j]).sum() <= 5
        and np.corrcoef(thumbnails[i].ravel(), thumbnails[j].ravel())[0, 1] >= 0.985
    ]
    pairs, complete = near_pairs(thumbnails)
    assert len(expected) > 20
    assert pairs.tolist() == expected
    assert complete


def test_a_crowd_of_like_pictures_is_one_cluster_and_said_to_be_searched_in_part() -> None:
    crowd = np.repeat(thumbnail(photo(1))[None], 100, axis=0)
    pairs, complete = near_pairs(crowd)
    assert clusters(pairs) == [list(range(100))]
    assert not complete


def test_no_pictures_have_no_pairs() -> None:
    for count in (0, 1):
        pairs, complete = near_pairs(np.zeros((count, 16, 16), np.uint8))
        assert pairs.shape == (0, 2)
        assert complete


def test_clusters_follow_chains() -> None:
    pairs = np.array([[5, 9], [1, 2], [2, 7], [7, 9], [3, 4]])
    assert clusters(pairs) == [[1, 2, 5, 7, 9], [3, 4]]
    assert clusters(np.empty((0, 2), np.int64)) == []
