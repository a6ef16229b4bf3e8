"""Random changes of a picture and its mask together."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.config import Layer, resolve
from striate.data.cache import Budget, Pictures
from striate.data.dataset import Dataset, Item
from striate.data.draws import Draws
from striate.data.mask_augment import MaskAugmentation, MaskAugmentConfig, Source, Varied
from striate.data.preprocess import apply
from striate.data.storage import ArrayStorage
from striate.errors import UsageError
from striate.structures import Image, Preprocess

SPEC = Preprocess(size=(32, 48), fit="letterbox")
DRAWS = Draws(3, 1)
EVERYTHING = MaskAugmentConfig(flip=0.5, zoom=(0.5, 2.0), jitter=0.3, rotate=20, elastic=2)
LEVELS = np.array([30, 220], np.uint8)  # of a picture into which its mask of two classes is painted


def indices(count: int) -> NDArray[np.int64]:
    """0, 1, ... count - 1."""
    return np.arange(count, dtype=np.int64)


def shapes(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """A mask of two classes: large rectangles, off centre, like none of its mirror images."""
    height, width = size
    mask = np.zeros(size, np.uint8)
    mask[height // 8 : height // 2, width // 5 : width // 2] = 1
    mask[2 * height // 3 : height, width // 2 : width - width // (6 + seed)] = 1
    return mask


def painted(mask: NDArray[np.uint8]) -> Image:
    """A picture whose levels say the class of each pixel."""
    return np.repeat(LEVELS[mask][:, :, None], 3, 2)


def varied(
    config: MaskAugmentConfig,
    image: Image,
    mask: NDArray[np.uint8],
    spec: Preprocess = SPEC,
    count: int = 20,
    drawn: Draws = DRAWS,
) -> list[Varied]:
    """`count` variations of one picture with its mask."""
    item = Item("p[0]", "train", mask="m")
    storage = ArrayStorage(image[None], "p")
    dataset = Dataset("test", "drawn", "segmentation", ("a", "b"), (item,), storage)
    largest = None if config.zoom is None else config.zoom[1]
    kept, geometry = Pictures.for_zooming(dataset, spec, largest, Budget(1 << 24)).one(0)
    sources = [Source(kept, geometry, mask)] * count
    return MaskAugmentation(config, spec).vary(drawn, indices(count), sources)


def random_picture(size: tuple[int, int] = (40, 40), seed: int = 0) -> tuple[Image, NDArray[np.uint8]]:
    """A picture of noise and a mask of rectangles with some void."""
    mask = shapes(size)
    mask[:3] = 255
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8), mask


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flip", 1.5),
        ("jitter", -0.1),
        ("rotate", 181.0),
        ("elastic", float("nan")),
        ("border_weight", -1.0),
        ("border_sigma", 0.0),
        ("zoom", (0.0, 1.0)),
        ("zoom", (2.0, 1.0)),
        ("zoom", (1.0, 11.0)),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"augment\.{field}"):
        MaskAugmentConfig(**{field: value})


def test_settings_come_from_plain_data() -> None:
    layer = Layer("recipe", {"zoom": [0.5, 2], "border_weight": 10})
    config = resolve(MaskAugmentConfig, [layer]).value
    assert (config.zoom, config.border_weight) == ((0.5, 2.0), 10.0)


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (MaskAugmentConfig(jitter=0.1), Preprocess(color="hsv")),
        (MaskAugmentConfig(elastic=8.5), SPEC),
    ],
)
def test_a_change_that_does_not_fit_the_preprocessing_is_refused(
    config: MaskAugmentConfig, spec: Preprocess
) -> None:
    with pytest.raises(UsageError, match=r"augment\."):
        MaskAugmentation(config, spec)


SPECS = [
    SPEC,
    Preprocess(size=(32, 48), fit="letterbox", border=3, pad_value=9),
    Preprocess(size=(32, 48), fit="crop", resize_to=56),
    Preprocess(size=(32, 48), fit="crop", border=2),
    Preprocess(size=(32, 48), fit="stretch", interpolation="bicubic"),
    Preprocess(size=(32, 32), fit="shorter", max_size=36, pad_to=16),
    Preprocess(size=(32, 32), fit="none", pad_to=32, border=1),
    Preprocess(size=(32, 48), fit="letterbox", color="gray", mean=(0.5,), std=(0.5,)),
    Preprocess(size=(32, 48), fit="letterbox", color="hsv"),
]


@pytest.mark.parametrize("spec", SPECS, ids=[f"{s.fit} {s.color} {s.border}" for s in SPECS])
@pytest.mark.parametrize("size", [(32, 48), (40, 37), (21, 50)])
def test_with_everything_off_the_picture_and_mask_are_those_of_measuring(
    size: tuple[int, int], spec: Preprocess
) -> None:
    image, mask = random_picture(size)
    expected, geometry = apply(spec, image)
    for found in varied(MaskAugmentConfig(), image, mask, spec, count=3):
        np.testing.assert_array_equal(found.image, expected)
        assert found.geometry == geometry
        labels, (height, width), border = geometry.mask_to_input(mask), geometry.input, spec.border
        inside = np.zeros(found.labels.shape, np.bool_)
        inside[border : height - border, border : width - border] = True
        np.testing.assert_array_equal(found.labels[inside], labels[inside[:height, :width]])
        assert (found.labels[~inside] == 255).all()


EACH = {
    "flip": MaskAugmentConfig(flip=0.5),
    "zoom": MaskAugmentConfig(zoom=(0.5, 2.0)),
    "jitter": MaskAugmentConfig(jitter=0.5),
    "rotate": MaskAugmentConfig(rotate=30),
    "elastic": MaskAugmentConfig(elastic=3),
    "everything": EVERYTHING,
}


@pytest.mark.parametrize("config", EACH.values(), ids=EACH.keys())
def test_a_sample_varies_alike_in_any_batch_and_otherwise_with_seed_and_epoch(
    config: MaskAugmentConfig,
) -> None:
    image, mask = random_picture()
    before = image.copy(), mask.copy()
    augmentation = MaskAugmentation(config, SPEC)
    kept, geometry = apply(Preprocess(fit="none"), image)
    source = Source(kept, geometry, mask)
    if config.zoom is None:
        kept, geometry = apply(Preprocess(size=(32, 32), fit="stretch"), image)
        source = Source(kept, geometry, mask)

    def made(drawn: Draws, *rows: int) -> list[Varied]:
        return augmentation.vary(drawn, np.array(rows, np.int64), [source] * len(rows))

    whole = made(DRAWS, *range(12))
    for found, row in zip(made(DRAWS, 7, 2, 9), (7, 2, 9), strict=True):
        np.testing.assert_array_equal(found.image, whole[row].image)
        np.testing.assert_array_equal(found.labels, whole[row].labels)
    for other in (Draws(4, 1), Draws(3, 2)):
        assert any((a.image != b.image).any() for a, b in zip(made(other, *range(12)), whole, strict=True))
    assert any((found.image != whole[0].image).any() for found in whole)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


# The shares of pixels where a painted class and the label may differ, all along outlines: resizing and
# warping interpolate between the two levels, and preprocessing rounds a border to whole pixels.
TOGETHER = {
    "flip": (MaskAugmentConfig(flip=0.5), 0.0),
    "zoom": (MaskAugmentConfig(zoom=(0.5, 2.0)), 0.005),
    "rotate": (MaskAugmentConfig(rotate=45), 0.01),
    "elastic": (MaskAugmentConfig(elastic=6), 0.01),
    "everything": (MaskAugmentConfig(flip=0.5, zoom=(0.5, 2.0), rotate=30, elastic=5), 0.01),
}


@pytest.mark.parametrize(("config", "share"), TOGETHER.values(), ids=TOGETHER.keys())
@pytest.mark.parametrize("size", [(64, 96), (101, 77)])
def test_a_mask_painted_into_the_picture_stays_where_its_labels_are(
    size: tuple[int, int], config: MaskAugmentConfig, share: float
) -> None:
    mask = shapes(size)
    spec = Preprocess(size=size, fit="letterbox", pad_value=30)
    wrong, shifted, seen = 0, 0, 0
    for image, labels, _ in varied(config, painted(mask), mask, spec, count=12):
        shown = (image[:, :, 0] > LEVELS.mean()).astype(np.uint8)
        known = labels != 255
        wrong += int((shown != labels)[known].sum())
        shifted += int((shown[:, 1:] != labels[:, :-1])[known[:, :-1]].sum())
        seen += int(known.sum())
        assert (shown[~known] == 0).all()  # the padding is of level 30
    assert wrong <= share * seen
    assert shifted > 2 * wrong  # one pixel beside it would be seen


def test_void_stays_void_and_no_class_is_made_of_two_others() -> None:
    mask = np.full((60, 60), 255, np.uint8)
    mask[:, 20:40] = 1
    mask[:, 40:] = 7
    found = varied(EVERYTHING, painted(np.zeros_like(mask)), mask)
    for _, labels, _ in found:
        assert set(np.unique(labels)) <= {1, 7, 255}
    nothing = varied(EVERYTHING, painted(np.zeros_like(mask)), np.full((60, 60), 255, np.uint8))
    assert all((labels == 255).all() for _, labels, _ in nothing)


def test_zoom_enlarges_and_shrinks_as_far_as_it_says_and_pads_what_is_outside() -> None:
    image = np.full((32, 48, 3), 200, np.uint8)
    mask = np.ones((32, 48), np.uint8)
    spec = Preprocess(size=(32, 48), fit="letterbox", pad_value=7)
    scales = []
    for picture, labels, geometry in varied(MaskAugmentConfig(zoom=(0.5, 2.0)), image, mask, spec, count=200):
        scales.append(geometry.scale_x)
        shown = picture[:, :, 0] == 200
        np.testing.assert_array_equal(labels == 1, shown)
        assert (picture[~shown] == 7).all()
        assert (labels[~shown] == 255).all()
        sides = [round(min(1, geometry.scale_x) * side) for side in (32, 48)]
        assert abs(shown.any(1).sum() - sides[0]) <= 1
        assert abs(shown.any(0).sum() - sides[1]) <= 1
    assert 0.48 < min(scales) < 0.55
    assert 1.9 < max(scales) < 2.1
    assert 0.5 < np.mean(np.array(scales) > 1) < 0.8  # evenly in 0.5..2: two thirds


def test_a_zoomed_cut_reaches_every_edge_of_the_picture() -> None:
    image, mask = random_picture((64, 96))
    found = varied(MaskAugmentConfig(zoom=(2.0, 2.0)), image, mask, count=300)
    tops = [geometry.top for _, _, geometry in found]
    lefts = [geometry.left for _, _, geometry in found]
    assert (min(tops), max(tops)) == (-32, 0)
    assert (min(lefts), max(lefts)) == (-48, 0)


@pytest.mark.parametrize("fit", ["none", "shorter"])
def test_with_zoom_pictures_of_any_size_become_the_size_of_the_input(fit: Any) -> None:
    spec = Preprocess(size=(32, 32), fit=fit, pad_to=16)
    for size in ((20, 50), (90, 33)):
        for image, labels, _ in varied(MaskAugmentConfig(zoom=(0.5, 1.5)), *random_picture(size), spec):
            assert (image.shape, labels.shape) == ((32, 32, 3), (32, 32))


def test_flip_mirrors_as_many_as_its_probability_says() -> None:
    image, mask = random_picture((32, 48))
    found = varied(MaskAugmentConfig(flip=0.25), image, mask, count=400)
    mirrored = [bool((made.image != image).any()) for made in found]
    for made, mirror in zip(found, mirrored, strict=True):
        np.testing.assert_array_equal(made.image, image[:, ::-1] if mirror else image)
        np.testing.assert_array_equal(made.labels, mask[:, ::-1] if mirror else mask)
    assert 0.2 < np.mean(mirrored) < 0.3


def test_jitter_leaves_the_mask_and_the_padding_alone() -> None:
    image, mask = random_picture((20, 48))
    spec = Preprocess(size=(32, 48), fit="letterbox", pad_value=77)
    for made in varied(MaskAugmentConfig(jitter=0.5), image, mask, spec):
        assert (made.image[6:26] != image).any()
        assert (made.image[:6] == 77).all()
        assert (made.image[26:] == 77).all()
        np.testing.assert_array_equal(made.labels[6:26], mask)


def test_rotation_reaches_the_angle_either_way_and_shows_what_lies_beyond_the_cut() -> None:
    image = np.full((64, 64, 3), 200, np.uint8)
    spec = Preprocess(size=(32, 32), fit="crop", resize_to=64)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 1  # an upright edge through the centre
    slopes = []
    for made in varied(MaskAugmentConfig(rotate=20), image, mask, spec, count=60):
        # Cut from the middle of 64 pixels, no corner of the 32 turns out of the picture.
        assert (made.image == 200).all()
        assert (made.labels != 255).all()
        edges = (made.labels == 0).sum(1)
        slopes.append(np.degrees(np.arctan2(float(edges[-1] - edges[0]), 31)))
    assert -23 < min(slopes) < -15
    assert 15 < max(slopes) < 23


def test_a_picture_of_one_pixel_is_zoomed_too() -> None:
    image, mask = np.full((1, 1, 3), 50, np.uint8), np.ones((1, 1), np.uint8)
    for made in varied(MaskAugmentConfig(zoom=(0.5, 8), rotate=20, elastic=2), image, mask, count=60):
        assert made.image.shape == (32, 48, 3)
        assert set(np.unique(made.labels)) <= {1, 255}
