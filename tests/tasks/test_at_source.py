"""Maps of an input at the size of its picture: where each pixel's answer comes from."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from striate.data.preprocess import apply
from striate.errors import ModelError, NotFiniteError
from striate.structures import IGNORE, Geometry, Preprocess
from striate.tasks import _at_source
from striate.tasks._at_source import classes_at_source, finite, held_by_input, largest, maps_at_source

FITS: tuple[dict[str, Any], ...] = (
    {"fit": "stretch"},
    {"fit": "letterbox"},
    {"fit": "crop"},
    {"fit": "crop", "resize_to": 23},
    {"fit": "shorter", "max_size": 40, "pad_to": 8},
    {"fit": "none", "pad_to": 8},
    {"fit": "letterbox", "border": 2},
)


def random_maps(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32)


def whole(maps: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
    return np.concatenate([part for _, part in maps_at_source(maps, geometry)], axis=1)


def enlarged(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return F.interpolate(torch.from_numpy(maps)[None], size, mode="bilinear", align_corners=False)[0].numpy()


def fitted(fit: dict[str, Any], size: tuple[int, int]) -> tuple[tuple[int, int], Geometry]:
    """The input's size, padding included, and the geometry of a picture of `size`."""
    image, geometry = apply(Preprocess(size=(18, 22), **fit), np.zeros((*size, 3), np.uint8))
    return (image.shape[0], image.shape[1]), geometry


def test_at_its_own_size_nothing_is_computed_or_copied() -> None:
    maps = random_maps(3, 5, 7)
    [(band, part)] = maps_at_source(maps, Geometry((5, 7), (5, 7)))
    assert band == slice(0, 5)
    assert part.base is maps
    assert (part == maps).all()


@pytest.mark.parametrize("size", [(40, 60), (7, 9), (18, 22), (25, 13), (1, 1)])
def test_a_stretched_picture_gets_what_torch_interpolates(size: tuple[int, int]) -> None:
    shape, geometry = fitted({"fit": "stretch"}, size)
    maps = random_maps(4, *shape)
    np.testing.assert_allclose(whole(maps, geometry), enlarged(maps, size), atol=2e-5)


@pytest.mark.parametrize("size", [(40, 60), (7, 9), (60, 10), (9, 31)])
def test_a_letterboxed_picture_gets_its_own_part_interpolated(size: tuple[int, int]) -> None:
    shape, geometry = fitted({"fit": "letterbox"}, size)
    maps = random_maps(4, *shape)
    top, left = int(geometry.top), int(geometry.left)
    height, width = round(size[0] * geometry.scale_y), round(size[1] * geometry.scale_x)
    own = np.ascontiguousarray(maps[:, top : top + height, left : left + width])
    np.testing.assert_allclose(whole(maps, geometry), enlarged(own, size), atol=2e-5)


@given(st.sampled_from(FITS), st.integers(1, 50), st.integers(1, 50))
def test_what_was_cropped_away_is_ignored_as_geometry_says(
    fit: dict[str, Any], height: int, width: int
) -> None:
    shape, geometry = fitted(fit, (height, width))
    mask = classes_at_source(random_maps(3, *shape), geometry)
    nearest = geometry.mask_to_source(np.zeros(geometry.input, np.uint8))
    assert mask.shape == (height, width)
    assert ((mask == IGNORE) == (nearest == IGNORE)).all()
    rows, columns = held_by_input(geometry)
    assert ((rows[:, None] & columns) == (mask != IGNORE)).all()


@given(st.sampled_from(FITS), st.integers(1, 50), st.integers(1, 50))
def test_padding_is_never_listened_to(fit: dict[str, Any], height: int, width: int) -> None:
    shape, geometry = fitted(fit, (height, width))
    maps = np.zeros((2, *shape), np.float32)
    maps[1] = 1000  # says the padding; the picture says class 0
    top, left = int(geometry.top), int(geometry.left)
    rows = slice(max(top, 0), top + round(height * geometry.scale_y))
    columns = slice(max(left, 0), left + round(width * geometry.scale_x))
    maps[1, rows, columns] = -1
    assert set(classes_at_source(maps, geometry).ravel().tolist()) <= {0, IGNORE}


def test_a_crop_at_its_own_size_is_put_back_where_it_was() -> None:
    image = np.zeros((8, 10, 3), np.uint8)
    _, geometry = apply(Preprocess(size=(4, 6), fit="crop", resize_to=8), image)
    mask = classes_at_source(random_maps(5, 4, 6), geometry)
    assert (mask[2:6, 2:8] == random_maps(5, 4, 6).argmax(0)).all()
    assert (mask != IGNORE).sum() == 24


@pytest.mark.parametrize("fit", FITS)
def test_bands_and_windows_change_nothing(monkeypatch: pytest.MonkeyPatch, fit: dict[str, Any]) -> None:
    shape, geometry = fitted(fit, (37, 29))
    maps = random_maps(3, *shape)
    expected = whole(maps, geometry)
    rows, columns = slice(5, 30), slice(11, 20)
    windowed = [part for _, part in maps_at_source(maps, geometry, (rows, columns))]
    assert (np.concatenate(windowed, axis=1) == expected[:, rows, columns]).all()
    monkeypatch.setattr(_at_source, "_BAND_BYTES", 3 * 29 * 4 * 2)
    parts = list(maps_at_source(maps, geometry))
    assert [band.stop - band.start for band, _ in parts] == [2] * 18 + [1]
    assert (np.concatenate([part for _, part in parts], axis=1) == expected).all()


@given(st.integers(1, 255), st.integers(0, 2**31))
def test_the_largest_is_numpy_s_and_the_lowest_among_equals(classes: int, seed: int) -> None:
    maps = np.random.default_rng(seed).integers(-2, 3, (classes, 3, 5)).astype(np.float32)
    assert (largest(maps) == maps.argmax(0)).all()
    assert largest(maps).dtype == np.uint8


def test_huge_logits_stay_finite_on_the_way() -> None:
    maps = np.stack((np.full((2, 2), 3e38), np.tile([-3e38, 3e38], (2, 1)))).astype(np.float32)
    assert np.isfinite(whole(maps, Geometry((5, 5), (2, 2), 0.4, 0.4))).all()


def test_maps_smaller_than_the_input_are_refused() -> None:
    with pytest.raises(ModelError, match=r"\(4, 5\) for an input of \(8, 10\)"):
        classes_at_source(random_maps(2, 4, 5), Geometry((8, 10), (8, 10)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_is_refused_with_its_picture(bad: float) -> None:
    maps = random_maps(2, 3, 3)
    maps[1, 2, 0] = bad
    with pytest.raises(NotFiniteError, match=r"^a\.png: "):
        finite(maps, "a.png")
