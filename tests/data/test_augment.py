"""Random changes of training pictures."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.config import Layer, resolve
from striate.data import augment
from striate.data.augment import Augmentation, AugmentConfig
from striate.data.draws import Draws
from striate.data.preprocess import apply
from striate.errors import UsageError
from striate.structures import Geometry, Preprocess

SPEC = Preprocess(size=(8, 8), fit="stretch")
DRAWS = Draws(0, 0)


def pictures(count: int, size: int = 8, channels: int = 3) -> NDArray[np.uint8]:
    """Random pictures (count, size, size, channels)."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), np.uint8)


def indices(count: int) -> NDArray[np.int64]:
    """0, 1, ... count - 1."""
    return np.arange(count, dtype=np.int64)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flip", 1.5),
        ("jitter", -0.1),
        ("erase", float("nan")),
        ("pad", -1),
        ("mixup", -1.0),
        ("cutmix", 9.0),
        ("scale", (0.0, 1.0)),
        ("scale", (0.9, 0.5)),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=rf"augment\.{field}"):
        AugmentConfig(**{field: value})


def test_settings_come_from_plain_data() -> None:
    config = resolve(AugmentConfig, [Layer("recipe", {"scale": [0.25, 1], "flip": 0.5})]).value
    assert config.scale == (0.25, 1.0)


def test_pad_beside_scale_is_refused() -> None:
    with pytest.raises(UsageError, match="set pad or scale"):
        AugmentConfig(pad=4, scale=(0.5, 1.0))


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (AugmentConfig(scale=(0.5, 1.0)), Preprocess(fit="none")),
        (AugmentConfig(pad=8), SPEC),
        (AugmentConfig(jitter=0.1), Preprocess(color="hsv")),
    ],
)
def test_a_change_that_does_not_fit_the_preprocessing_is_refused(
    config: AugmentConfig, spec: Preprocess
) -> None:
    with pytest.raises(UsageError, match=r"augment\."):
        Augmentation(config, spec)


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(flip=0.5),
        AugmentConfig(flip="alternating"),
        AugmentConfig(pad=2),
        AugmentConfig(jitter=0.5),
        AugmentConfig(erase=0.5),
    ],
    ids=["flip", "alternating", "pad", "jitter", "erase"],
)
def test_a_picture_varies_alike_in_any_batch(config: AugmentConfig) -> None:
    augmentation, images = Augmentation(config, SPEC), pictures(40)
    before = images.copy()
    whole = augmentation.vary(DRAWS, indices(40), images)
    some = np.array([17, 2, 33], np.int64)
    np.testing.assert_array_equal(augmentation.vary(DRAWS, some, images[some]), whole[some])
    np.testing.assert_array_equal(images, before)
    assert whole.dtype == np.uint8
    assert (whole != images).any()


def test_flip_mirrors_as_many_as_its_probability_says_and_changes_nothing_else() -> None:
    images = pictures(2_000, size=4)
    changed = Augmentation(AugmentConfig(flip=0.25), SPEC).vary(DRAWS, indices(2_000), images)
    mirrored = (changed != images).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed[mirrored], images[mirrored][:, :, ::-1])
    assert 0.2 < mirrored.mean() < 0.3


def test_alternating_shows_each_picture_and_its_mirror_image_in_turn() -> None:
    images = pictures(2_000, size=4)
    augmentation = Augmentation(AugmentConfig(flip="alternating"), SPEC)
    epochs = [augmentation.vary(Draws(5, epoch), indices(2_000), images) for epoch in range(4)]
    first = (epochs[0] != images).any(axis=(1, 2, 3))
    assert 0.45 < first.mean() < 0.55
    np.testing.assert_array_equal(epochs[0][first], images[first][:, :, ::-1])
    np.testing.assert_array_equal(epochs[1], epochs[0][:, :, ::-1])
    np.testing.assert_array_equal(epochs[2], epochs[0])
    np.testing.assert_array_equal(epochs[3], epochs[1])
    other = augmentation.vary(Draws(6, 0), indices(2_000), images)
    assert 0.4 < (other != epochs[0]).any(axis=(1, 2, 3)).mean() < 0.6


def test_alternating_is_the_only_word_for_flip() -> None:
    assert resolve(AugmentConfig, [Layer("recipe", {"flip": "alternating"})]).value.flip == "alternating"
    with pytest.raises(UsageError, match=r"recipe: flip: .*received 'often'"):
        resolve(AugmentConfig, [Layer("recipe", {"flip": "often"})])


def test_pad_shifts_by_at_most_so_many_pixels_and_fills_with_the_pad_value() -> None:
    spec = Preprocess(size=(5, 5), fit="stretch", pad_value=9)
    images = np.full((300, 5, 5, 3), 200, np.uint8)
    changed = Augmentation(AugmentConfig(pad=2), spec).vary(DRAWS, indices(300), images)
    assert set(np.unique(changed)) == {9, 200}
    kept_rows = (changed == 200).any(axis=(2, 3)).sum(1)
    kept_columns = (changed == 200).any(axis=(1, 3)).sum(1)
    assert set(kept_rows.tolist()) == {3, 4, 5}
    assert set(kept_columns.tolist()) == {3, 4, 5}
    # A shift of 0 is one of five, of 1 or 2 either way two of five each.
    assert 0.1 < (kept_rows == 5).mean() < 0.3


def test_jitter_is_brightness_contrast_and_saturation() -> None:
    image = np.array([[[100, 50, 20], [60, 60, 60]]], np.uint8)[None]
    factors = 1 + 0.5 * (2 * DRAWS.uniform(indices(1), "jitter", 3)[0] - 1)
    brightness, contrast, saturation = factors
    changed = Augmentation(AugmentConfig(jitter=0.5), SPEC).vary(DRAWS, indices(1), image)[0, 0]
    luma = np.array([0.299 * 100 + 0.587 * 50 + 0.114 * 20, 60.0])
    brighter = image[0, 0] * brightness
    contrasted = (brighter - brightness * luma.mean()) * contrast + brightness * luma.mean()
    gray = contrasted @ np.array([0.299, 0.587, 0.114])
    expected = saturation * contrasted + (1 - saturation) * gray[:, None]
    np.testing.assert_allclose(changed, np.clip(expected, 0, 255), atol=0.51)


def test_jitter_takes_gray_pictures_and_keeps_within_the_range() -> None:
    spec = Preprocess(size=(8, 8), fit="stretch", color="gray", mean=(0.5,), std=(0.5,))
    images = pictures(50, channels=1)
    changed = Augmentation(AugmentConfig(jitter=1.0), spec).vary(DRAWS, indices(50), images)
    assert changed.shape == images.shape
    assert changed.max() == 255


def test_erase_puts_a_rectangle_in_the_mean_colour() -> None:
    spec = Preprocess(size=(32, 32), fit="stretch", mean=(0.0, 0.5, 1.0))
    images = np.full((500, 32, 32, 3), 77, np.uint8)
    changed = Augmentation(AugmentConfig(erase=0.5), spec).vary(DRAWS, indices(500), images)
    erased = (changed != 77).any(axis=3)
    np.testing.assert_array_equal(np.unique(changed[erased], axis=0), [[0, 128, 255]])
    touched = erased.any(axis=(1, 2))
    assert 0.42 < touched.mean() < 0.58
    rows, columns = erased[touched].any(axis=2).sum(1), erased[touched].any(axis=1).sum(1)
    area = erased[touched].sum(axis=(1, 2))
    np.testing.assert_array_equal(area, rows * columns)  # one rectangle, nothing else
    assert area.max() <= 0.34 * 32 * 32
    assert area.mean() == pytest.approx(0.175 * 32 * 32, rel=0.1)


def cut_of(
    augmentation: Augmentation, index: int, image: NDArray[np.uint8], where: Geometry | None = None
) -> tuple[NDArray[np.uint8], Geometry]:
    """A cut of `image` as sample `index`."""
    whole = where or Geometry(source=image.shape[:2], input=image.shape[:2])
    cuts, geometry = augmentation.cuts(DRAWS, np.array([index], np.int64), lambda _: (image, whole))
    return cuts[0], geometry[0]


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    """A picture whose red is the column and whose green is the row."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(width), np.arange(height)[:, None]
    return image


def test_a_cut_has_the_input_size_and_its_geometry_says_where_it_is_from() -> None:
    spec = Preprocess(size=(20, 24), fit="crop")
    augmentation, image = Augmentation(AugmentConfig(scale=(0.2, 0.5)), spec), ramp(90, 120)
    for index in range(30):
        cut, where = cut_of(augmentation, index, image)
        assert cut.shape == (20, 24, 3)
        assert where.source == (90, 120)
        assert 0.19 < (20 / where.scale_y) * (24 / where.scale_x) / (90 * 120) < 0.51
        # The centre of the cut, taken back to the picture, is the column and the row that it shows.
        x, y = (12 - where.left) / where.scale_x, (10 - where.top) / where.scale_y
        np.testing.assert_allclose(cut[9:11, 11:13, :2].mean((0, 1)), [x - 0.5, y - 0.5], atol=1)


def test_the_geometry_of_a_cut_includes_the_shrinking_before_it_and_the_border() -> None:
    spec = Preprocess(size=(20, 20), fit="stretch", border=2)
    augmentation, image = Augmentation(AugmentConfig(scale=(0.3, 0.6)), spec), ramp(60, 80)
    halved = Geometry(source=(120, 160), input=(60, 80), scale_x=0.5, scale_y=0.5)
    cut, where = cut_of(augmentation, 4, image, halved)
    assert where.source == (120, 160)
    x, y = (10 - where.left) / where.scale_x, (10 - where.top) / where.scale_y
    np.testing.assert_allclose(2 * cut[9:11, 9:11, :2].mean((0, 1)) + 1, [x, y], atol=2)
    assert not cut[:2].any()


def test_the_aspect_of_cuts_stays_in_three_quarters_to_four_thirds() -> None:
    spec = Preprocess(size=(16, 16), fit="stretch")
    augmentation, image = Augmentation(AugmentConfig(scale=(0.05, 0.3)), spec), ramp(100, 200)
    aspects = []
    for index in range(100):
        where = cut_of(augmentation, index, image)[1]
        aspects.append(where.scale_y / where.scale_x)
    assert min(aspects) > 0.7
    assert max(aspects) < 1.42
    assert min(aspects) < 0.85
    assert max(aspects) > 1.2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (250, 1), (3, 2)])
def test_the_smallest_and_the_longest_pictures_can_be_cut(height: int, width: int) -> None:
    spec = Preprocess(size=(4, 4), fit="stretch")
    augmentation = Augmentation(AugmentConfig(scale=(0.08, 1.0)), spec)
    for index in range(5):
        cut, _ = cut_of(augmentation, index, np.zeros((height, width, 3), np.uint8))
        assert cut.shape == (4, 4, 3)


@pytest.mark.parametrize(("color", "off"), [("gray", 0), ("hsv", 0), ("rgb", 1)])
def test_a_cut_of_everything_is_the_plain_stretched_picture_within_a_level(color: str, off: int) -> None:
    channels = (0.5,) * (1 if color == "gray" else 3)
    stretched = Preprocess(size=(12, 12), fit="stretch", color=color, mean=channels, std=channels)  # type: ignore[arg-type]
    spec = replace(stretched, fit="crop", resize_to=14)
    image = pictures(1, size=30)[0]
    # Area 1 of a square fits with aspect 1 only, so nearly always the largest allowed part is taken.
    cut, where = cut_of(Augmentation(AugmentConfig(scale=(1.0, 1.0)), spec), 0, image)
    assert (where.left, where.top) == (0, 0)
    plain, _ = apply(stretched, image)
    np.testing.assert_allclose(cut.astype(int), plain, rtol=0, atol=off)


def test_a_border_is_around_the_cut_with_the_pad_value() -> None:
    spec = Preprocess(size=(12, 12), fit="stretch", border=3, pad_value=7)
    cut, _ = cut_of(
        Augmentation(AugmentConfig(scale=(0.5, 1.0)), spec), 0, np.full((30, 30, 3), 90, np.uint8)
    )
    assert (cut == 90).all(axis=2).sum() == 36
    assert (cut == 7).all(axis=2).sum() == 144 - 36


def test_a_cut_is_alike_in_any_batch() -> None:
    augmentation = Augmentation(AugmentConfig(scale=(0.2, 1.0), flip=0.5), SPEC)
    photos = pictures(30, size=20)
    whole = Geometry(source=(20, 20), input=(20, 20))
    asked: list[int] = []

    def picture(index: int) -> tuple[NDArray[np.uint8], Geometry]:
        asked.append(index)
        return photos[index], whole

    every, where = augmentation.cuts(DRAWS, indices(30), picture)
    some = np.array([17, 2, 29], np.int64)
    again, there = augmentation.cuts(DRAWS, some, picture)
    np.testing.assert_array_equal(again, every[some])
    assert list(there) == [where[index] for index in some.tolist()]
    assert asked == [*range(30), 17, 2, 29]
    assert len({(place.left, place.top) for place in where}) > 20


@pytest.mark.parametrize("flip", [0.25, "alternating"])
def test_cuts_are_mirrored_as_flip_says_and_not_again_afterwards(flip: float) -> None:
    photos = pictures(400, size=20)

    def cuts(config: AugmentConfig, drawn: Draws) -> NDArray[np.uint8]:
        augmentation = Augmentation(config, SPEC)
        whole = Geometry(source=(20, 20), input=(20, 20))
        made, _ = augmentation.cuts(drawn, indices(400), lambda index: (photos[index], whole))
        return augmentation.vary(drawn, indices(400), made)

    plain = cuts(AugmentConfig(scale=(0.2, 1.0)), DRAWS)
    changed = cuts(AugmentConfig(scale=(0.2, 1.0), flip=flip), DRAWS)
    mirrored = (changed != plain).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed[mirrored], plain[mirrored][:, :, ::-1])
    assert 0.15 < mirrored.mean() < 0.6
    # Those that pictures without a cut are mirrored by.
    same = Augmentation(AugmentConfig(flip=flip), SPEC).vary(DRAWS, indices(400), photos[:, :8, :8])
    np.testing.assert_array_equal(mirrored, (same != photos[:, :8, :8]).any(axis=(1, 2, 3)))


def test_the_first_rectangle_that_fits_is_cut_and_none_fits_a_ribbon() -> None:
    tries = [(1.0, 2.0), (0.25, 1.0), (0.01, 1.0)]
    # 2 : 1 in all of 40 x 40 would be 57 wide; a quarter is 20 x 20, and there are 21 places for it.
    assert augment._random_rectangle(40, 40, tries, (0.5, 0.99)) == (10, 30, 20, 40)
    assert augment._random_rectangle(10, 100, [(1.0, 1.0)], (0.0, 0.5)) == (0, 10, 44, 57)
    assert augment._random_rectangle(100, 10, [(1.0, 1.0)], (0.5, 0.0)) == (44, 57, 0, 10)
