"""Random changes of a picture and its boxes together."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from striate.config import Layer, resolve
from striate.data.box_augment import BoxAugmentation, BoxAugmentConfig
from striate.data.box_canvas import BoxCanvas, Source, Varied
from striate.data.cache import Budget, Pictures
from striate.data.dataset import Dataset, Item
from striate.data.draws import Draws
from striate.data.pixels import Rectangle
from striate.data.preprocess import apply
from striate.data.storage import ArrayStorage
from striate.errors import UsageError
from striate.structures import Geometry, Image, Objects, Preprocess

STRETCH = Preprocess(size=(64, 96), fit="stretch")
LETTERBOX = Preprocess(size=(96, 96), fit="letterbox", pad_value=60)
SHORTER = Preprocess(size=(48, 48), fit="shorter", pad_to=16, max_size=80)
SSD = BoxAugmentConfig(flip=0.5, distort=0.5, expand=4.0, crop=True)
YOLO = BoxAugmentConfig(flip=0.5, jitter=0.2, hue=0.1, saturation=1.5, exposure=1.5, sizes=(0.7, 1.5))
MOSAIC = BoxAugmentConfig(flip=0.5, mosaic=1.0)
DRAWS = Draws(0, 0)
NO_PROPOSALS = np.empty((0, 4), np.float32)


def indices(count: int) -> NDArray[np.int64]:
    """0, 1, ... count - 1."""
    return np.arange(count, dtype=np.int64)


def objects(*boxes: list[float], crowd: bool = False) -> Objects:
    """Objects of class 1."""
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    return Objects(rows, np.ones(len(rows), np.int64), np.full(len(rows), crowd))


def drawn_box(size: tuple[int, int], box: tuple[int, int, int, int], level: int = 255) -> Image:
    """A white box on black."""
    image = np.zeros((*size, 3), np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = level
    return image


def sources(
    pictures: list[tuple[Image, Objects]], spec: Preprocess, config: BoxAugmentConfig
) -> list[Source]:
    """Pictures as they come from a cache."""
    found = []
    for image, truth in pictures:
        storage = ArrayStorage(image[None], "p")
        dataset = Dataset("test", "drawn", "detection", ("a", "b"), (Item("p[0]"),), storage)
        kept = Pictures.for_zooming(dataset, spec, config.zoom, Budget(1 << 24)).one(0)
        found.append(Source(*kept, truth, NO_PROPOSALS))
    return found


def varied(
    pictures: list[tuple[Image, Objects]],
    spec: Preprocess,
    config: BoxAugmentConfig,
    drawn: Draws = DRAWS,
) -> list[Varied]:
    """Each picture varied once."""
    given_ones = sources(pictures, spec, config)
    every = indices(len(pictures))
    return BoxAugmentation(config, spec, every).vary(drawn, every, given_ones.__getitem__)


def extent(image: Image) -> list[float]:
    """x0 y0 x1 y1 around what is light."""
    light = image.max(2) >= 128
    rows, columns = np.flatnonzero(light.any(1)), np.flatnonzero(light.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"flip": 1.5}, "flip"),
        ({"distort": -0.1}, "distort"),
        ({"expand": 0.5}, "expand"),
        ({"expand": float("nan")}, "expand"),
        ({"jitter": 0.5}, "jitter"),
        ({"jitter": 0.2, "crop": True}, "jitter"),
        ({"jitter": 0.2, "expand": 2.0}, "jitter"),
        ({"hue": 0.6}, "hue"),
        ({"saturation": 0.5}, "saturation"),
        ({"exposure": float("inf")}, "exposure"),
        ({"mosaic": 2.0}, "mosaic"),
        ({"mixup": -1.0}, "mixup"),
        ({"sizes": (1.5, 1.0)}, "sizes"),
        ({"sizes": (0.5, 5.0)}, "sizes"),
        ({"rois": -1}, "rois"),
        ({"rois_overlap": 0.6}, "rois_overlap"),
        ({"rois": 8, "rois_foreground": 0.0}, "rois_foreground"),
        ({"rois": 8, "rois_background": (0.5, 0.5)}, "rois_background"),
    ],
)
def test_settings_without_meaning_are_refused_by_name(values: dict[str, Any], key: str) -> None:
    with pytest.raises(UsageError, match=f"augment.{key}: .* makes no sense here"):
        BoxAugmentConfig(**values)


def test_settings_are_read_from_a_table() -> None:
    values = {"flip": 0.5, "sizes": [0.75, 1.5], "rois": 64, "rois_background": [0.1, 0.5]}
    found = resolve(BoxAugmentConfig, [Layer("run.toml", values)]).value
    assert found.sizes == (0.75, 1.5)
    assert found.rois_background == (0.1, 0.5)


@pytest.mark.parametrize(
    ("values", "spec", "key"),
    [
        ({"mosaic": 1.0}, SHORTER, "mosaic"),
        ({"mixup": 1.0}, SHORTER, "mixup"),
        ({"mosaic": 1.0}, replace(STRETCH, proposals=10), "mosaic"),
        ({"sizes": (1.0, 2.0)}, SHORTER, "sizes"),
        ({"sizes": (1.1, 1.2)}, Preprocess(size=(64, 64), fit="stretch"), "sizes"),
        ({"hue": 0.1}, replace(STRETCH, color="hsv"), "distort"),
        ({"rois": 10}, STRETCH, "rois"),
    ],
)
def test_settings_that_do_not_fit_the_preprocessing_are_refused(
    values: dict[str, Any], spec: Preprocess, key: str
) -> None:
    with pytest.raises(UsageError, match=f"augment.{key}"):
        BoxAugmentation(BoxAugmentConfig(**values), spec, indices(1))


@given(
    size=st.tuples(st.integers(20, 200), st.integers(20, 200)),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
    seed=st.integers(0, 1 << 20),
    kind=st.sampled_from(["ssd", "yolo", "mosaic", "shorter", "none", "crop", "bordered"]),
)
@settings(max_examples=150, deadline=None)
def test_a_white_box_and_its_box_agree_after_any_change(
    size: tuple[int, int], corners: tuple[float, ...], seed: int, kind: str
) -> None:
    height, width = size
    x0, x1 = (round(place * (width - 8)) for place in sorted(corners[:2]))
    y0, y1 = (round(place * (height - 8)) for place in sorted(corners[2:]))
    box = (x0, y0, x1 + 8, y1 + 8)
    config = {"yolo": YOLO, "mosaic": MOSAIC}.get(kind, SSD)
    spec = {
        "ssd": STRETCH,
        "shorter": SHORTER,
        "none": Preprocess(size=(64, 64), fit="none"),
        "crop": Preprocess(size=(64, 80), fit="crop"),
        "bordered": replace(LETTERBOX, border=5),
    }.get(kind, LETTERBOX)
    # Without colours, and on black, so that what is light is the box.
    values = {name: getattr(config, name) for name in config.__struct_fields__}
    values |= {"distort": 0.0, "hue": 0.0, "saturation": 1.0, "exposure": 1.0}
    black = replace(spec, pad_value=0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    plain = (np.zeros((30, 40, 3), np.uint8), objects())
    pictures = [(drawn_box(size, box), objects(list(map(float, box)))), plain]
    augmentation = BoxAugmentation(BoxAugmentConfig(**values), black, np.array([1]))
    given_ones = sources(pictures, black, augmentation.config)
    (found,) = augmentation.vary(Draws(seed, 0), indices(1), given_ones.__getitem__)
    if len(found.objects):
        # A pixel is light if the box covers more than half of it; one of less than that may light none up.
        sides = found.objects.boxes[0, 2:] - found.objects.boxes[0, :2]
        if sides.min() >= 2:
            np.testing.assert_allclose(found.objects.boxes[0], extent(found.image), atol=1.0)
    else:
        # Only an edge that took its centre, or nearly all of it, can drop it.
        assert kind != "mosaic" or extent_area(found.image) < 0.2 * 1.5**2 * 96 * 96


def extent_area(image: Image) -> float:
    """Pixels that are light."""
    return float((image.max(2) >= 128).sum())


def test_mirroring_twice_is_the_identity() -> None:
    chance = np.random.default_rng(0)
    image = chance.integers(0, 256, (20, 31, 3), np.uint8)
    truth = objects([0, 3, 7.5, 9], [12, 0, 31, 20])
    one = Varied(image, truth, np.array([[1, 2, 3, 4]], np.float32), Geometry((20, 31), (20, 31)))
    mirrored = one.mirrored()
    np.testing.assert_array_equal(mirrored.image, image[:, ::-1])
    assert mirrored.objects.boxes.tolist() == [[23.5, 3, 31, 9], [0, 0, 19, 20]]
    assert mirrored.proposals.tolist() == [[28, 2, 30, 4]]
    twice = mirrored.mirrored()
    np.testing.assert_array_equal(twice.image, image)
    np.testing.assert_array_equal(twice.objects.boxes, truth.boxes)
    np.testing.assert_array_equal(twice.proposals, one.proposals)


@pytest.mark.parametrize("spec", [STRETCH, LETTERBOX, replace(LETTERBOX, border=3), SHORTER])
def test_without_changes_a_picture_is_what_predict_sees(spec: Preprocess) -> None:
    image = np.random.default_rng(1).integers(0, 256, (57, 80, 3), np.uint8)
    truth = objects([10, 20, 50, 40])
    (found,) = varied([(image, truth)], spec, BoxAugmentConfig())
    expected, geometry = apply(spec, image)
    height, width = geometry.input
    np.testing.assert_array_equal(found.image, expected[:height, :width])
    assert found.geometry == geometry
    np.testing.assert_allclose(found.objects.boxes, geometry.boxes_to_input(truth.boxes))


def test_mirroring_is_as_probable_as_it_is_asked_for() -> None:
    image = drawn_box((64, 96), (0, 0, 10, 10))
    found = varied([(image, objects([0, 0, 10, 10]))] * 200, STRETCH, BoxAugmentConfig(flip=0.3))
    is_mirrored = np.array([one.objects.boxes[0, 0] > 50 for one in found])
    assert 0.2 < is_mirrored.mean() < 0.4
    for one in found:
        assert extent(one.image) == one.objects.boxes[0].tolist()


def canvas(by_centre: bool) -> BoxCanvas:
    """Of 40 x 40 pixels."""
    return BoxCanvas(Preprocess(size=(40, 40), fit="stretch"), None, 0, by_centre)


def shown(truth: Objects, window: Rectangle, by_centre: bool) -> list[list[float]]:
    """The boxes that `window` leaves of a picture of 100 x 100."""
    image = np.zeros((100, 100, 3), np.uint8)
    source = Source(image, Geometry((100, 100), (100, 100)), truth, NO_PROPOSALS)
    boxes: list[list[float]] = canvas(by_centre).single(source, window, ()).objects.boxes.tolist()
    return boxes


def test_a_cut_keeps_objects_whose_centre_is_inside_and_cuts_their_boxes() -> None:
    window = Rectangle(0, 80, 0, 80)  # shown at half the size
    truth = objects([70, 0, 88, 20], [70, 0, 92, 20], [4, 4, 8, 8])
    assert shown(truth, window, by_centre=True) == [[35, 0, 40, 10], [2, 2, 4, 4]]


def test_a_moved_border_keeps_objects_of_which_a_tenth_is_left() -> None:
    window = Rectangle(0, 80, 0, 80)
    truth = objects([78, 0, 97, 20], [78, 0, 99, 20])  # 2 of 19, 2 of 21 columns
    assert shown(truth, window, by_centre=False) == [[39, 0, 40, 10]]


def test_less_than_a_pixel_of_a_cut_object_is_too_little_but_a_small_whole_one_stays() -> None:
    window = Rectangle(0, 80, 0, 80)
    truth = objects([79, 0, 81.5, 20], [20, 20, 21, 21])
    assert shown(truth, window, by_centre=False) == [[10, 10, 10.5, 10.5]]


@pytest.mark.parametrize("by_centre", [False, True])
def test_what_is_left_of_a_crowd_always_stays_and_its_flags_travel(by_centre: bool) -> None:
    window = Rectangle(0, 80, 0, 80)
    boxes = np.array([[0, 0, 99, 99], [70, 0, 100, 20], [79, 0, 100, 100], [90, 90, 99, 99]], np.float32)
    truth = Objects(
        boxes,
        np.array([0, 1, 2, 3], np.int64),
        np.array([False, False, True, True]),
        np.array([True, False, False, False]),
    )
    image = np.zeros((100, 100, 3), np.uint8)
    source = Source(image, Geometry((100, 100), (100, 100)), truth, NO_PROPOSALS)
    found = canvas(by_centre).single(source, window, ()).objects
    expected = [0, 2] if by_centre else [0, 1, 2]
    assert found.labels.tolist() == expected
    assert found.crowd.tolist() == [label == 2 for label in expected]
    assert found.difficult.tolist() == [label == 0 for label in expected]


def test_a_window_fills_the_input_both_ways() -> None:
    window = Rectangle(20, 60, 10, 90)  # rows as they are, columns at half the size
    truth = objects([30, 30, 50, 50])
    assert shown(truth, window, by_centre=True) == [[10, 10, 20, 30]]


def test_a_window_that_shows_less_than_half_a_pixel_falls_back_to_the_whole_picture() -> None:
    truth = objects([0, 0, 100, 100])
    assert shown(truth, Rectangle(0, 10_000, -9_999, 1), by_centre=False) == [[0, 0, 40, 40]]


def test_zooming_out_fills_with_the_mean_colour_and_changes_no_colour_of_it() -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    spec = replace(STRETCH, mean=(0.5, 0.25, 0.1))
    config = BoxAugmentConfig(expand=4.0, distort=1.0)
    found = varied([(image, objects([0, 0, 40, 40]))] * 30, spec, config)
    out = [one for one in found if one.objects.boxes[0, 2] - one.objects.boxes[0, 0] < 80]
    assert len(out) > 5
    for one in out:
        x0, y0, x1, y1 = one.objects.boxes[0].round().astype(int)
        inside = np.zeros((64, 96), bool)
        inside[y0:y1, x0:x1] = True
        assert np.unique(one.image[~inside], axis=0).tolist() == [[128, 64, 26]]


def test_all_pictures_of_a_batch_have_one_size_and_batches_have_several() -> None:
    spec, config = Preprocess(size=(96, 64), fit="stretch"), BoxAugmentConfig(sizes=(0.6, 1.4))
    image = drawn_box((50, 50), (10, 10, 40, 30))
    given_ones = sources([(image, objects([10, 10, 40, 30]))], spec, config) * 40
    augmentation = BoxAugmentation(config, spec, indices(40))
    seen = set()
    for batch in indices(40).reshape(20, 2):
        found = augmentation.vary(DRAWS, batch, given_ones.__getitem__)
        shapes = {one.image.shape[:2] for one in found}
        assert len(shapes) == 1
        seen |= shapes
        height, width = found[0].image.shape[:2]
        expected = np.array([10 * width, 10 * height, 40 * width, 30 * height]) / 50
        np.testing.assert_allclose(found[0].objects.boxes[0], expected, rtol=1e-5)
    # 0.6 .. 1.4 times 96 are 57.6 .. 134.4 rows, and two thirds of 64, 96 and 128 are 43, 64 and 85.
    assert seen == {(64, 32), (96, 64), (128, 96)}


def test_the_first_sample_of_a_batch_decides_its_size() -> None:
    spec, config = Preprocess(size=(96, 96), fit="stretch"), BoxAugmentConfig(sizes=(0.3, 3.0))
    (given_one,) = sources([(drawn_box((50, 50), (10, 10, 40, 30)), objects())], spec, config)
    augmentation = BoxAugmentation(config, spec, indices(40))
    sizes = []
    for batch in ([first, later] for first in range(8) for later in range(10, 13)):
        found = augmentation.vary(DRAWS, np.array(batch), lambda _: given_one)
        sizes.append(found[0].image.shape)
    assert all(len(set(sizes[start : start + 3])) == 1 for start in range(0, 24, 3))
    assert len(set(sizes)) > 3


def test_cropping_keeps_just_the_objects_whose_centre_shows() -> None:
    chance = np.random.default_rng(0)
    corners = chance.integers(0, 60, (40, 2))
    boxes = np.concatenate((corners, corners + chance.integers(4, 40, (40, 2))), 1)
    truth = Objects(boxes.astype(np.float32), np.arange(40), np.zeros(40, bool))
    picture = np.zeros((100, 100, 3), np.uint8)
    dropped = 0
    for one in varied([(picture, truth)] * 20, LETTERBOX, BoxAugmentConfig(crop=True)):
        mapped = one.geometry.boxes_to_input(truth.boxes)
        centres = (mapped[:, :2] + mapped[:, 2:]) / 2
        shows = np.flatnonzero(~(one.image == LETTERBOX.pad_value).all(2).ravel())
        rows, columns = np.unravel_index(shows, (96, 96))
        low = np.array([columns.min(), rows.min()])
        high = np.array([columns.max(), rows.max()]) + 1
        inside = ((centres >= low) & (centres < high)).all(1)
        assert one.objects.labels.tolist() == np.flatnonzero(inside).tolist()
        dropped += 40 - len(one.objects)
    assert dropped > 40


def test_a_mixture_is_the_mean_of_two_pictures_with_the_objects_of_both() -> None:
    pictures = [
        (np.full((64, 96, 3), level, np.uint8), objects([level, 0, level + 5, 9])) for level in (10, 21)
    ]
    found = varied(pictures * 20, STRETCH, BoxAugmentConfig(mixup=1.0))
    levels = {int(one.image[0, 0, 0]) for one in found}
    assert levels == {10, 16, 21}  # with another of its own kind, or of the other
    for one in found:
        assert len(one.objects) == 2
        assert one.objects.boxes[:, 0].mean() == pytest.approx(float(one.image[0, 0, 0]), abs=0.6)


def test_a_mosaic_shows_four_pictures_with_the_boxes_of_each_in_its_colour() -> None:
    levels = (80, 120, 160, 200)
    pictures = [
        (
            drawn_box((96, 96), (40, 40, 56, 56), level),
            Objects(np.array([[40, 40, 56, 56]], np.float32), np.array([level]), np.array([False])),
        )
        for level in levels
    ]
    found = varied(pictures * 10, LETTERBOX, BoxAugmentConfig(mosaic=1.0))
    assert {one.image.shape for one in found} == {(96, 96, 3)}
    assert max(len(one.objects) for one in found) == 4
    for one in found:
        for box, level in zip(one.objects.boxes, one.objects.labels, strict=True):
            x0, y0, x1, y1 = box.round().astype(int)
            middle = one.image[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1]
            assert (middle == level).all()
    sizes = [box[2] - box[0] for one in found for box in one.objects.boxes]
    assert min(sizes) < 10
    assert max(sizes) > 19  # 8 .. 24 of 16 pixels
    assert any((one.image == 60).all(2).any() for one in found)  # a free corner has the pad value


def test_a_sample_is_the_same_in_any_batch_and_another_in_the_next_epoch() -> None:
    chance = np.random.default_rng(0)
    pictures = [(chance.integers(0, 256, (70, 60, 3), np.uint8), objects([5, 5, 30, 40])) for _ in range(6)]
    config = BoxAugmentConfig(flip=0.5, distort=0.5, expand=2.0, crop=True, hue=0.1, mosaic=0.5, mixup=0.5)
    given_ones = sources(pictures, LETTERBOX, config)
    augmentation = BoxAugmentation(config, LETTERBOX, indices(6))
    every = augmentation.vary(DRAWS, indices(6), given_ones.__getitem__)
    for batch in (np.array([4, 1]), np.array([0, 4])):
        for index, one in zip(
            batch.tolist(), augmentation.vary(DRAWS, batch, given_ones.__getitem__), strict=True
        ):
            np.testing.assert_array_equal(one.image, every[index].image)
            np.testing.assert_array_equal(one.objects.boxes, every[index].objects.boxes)
    later = augmentation.vary(Draws(0, 1), indices(6), given_ones.__getitem__)
    assert all((one.image != other.image).any() for one, other in zip(later, every, strict=True))


def test_partners_come_from_the_pool_alone() -> None:
    asked: list[int] = []
    config = BoxAugmentConfig(mosaic=1.0, mixup=1.0)
    given_one = sources([(drawn_box((30, 30), (3, 3, 9, 9)), objects())], LETTERBOX, config)[0]

    def source(index: int) -> Source:
        asked.append(index)
        return given_one

    BoxAugmentation(config, LETTERBOX, np.array([3, 5, 8])).vary(DRAWS, np.array([5] * 30), source)
    assert set(asked) <= {3, 5, 8}
    asked.clear()
    BoxAugmentation(config, LETTERBOX, np.array([3, 5, 8])).vary(DRAWS, np.array([3, 5, 8]), source)
    assert len(asked) == 3 * 5


def test_proposals_move_with_the_picture_and_lose_what_is_outside() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    found = np.array([[0, 0, 50, 50], [70, 70, 100, 100], [85, 85, 100, 100], [0, 0, 0, 0]], np.float32)
    source = Source(image, Geometry((100, 100), (100, 100)), objects(), found)
    one = canvas(by_centre=True).single(source, Rectangle(0, 80, 0, 80), ())
    assert one.proposals.tolist() == [[0, 0, 25, 25], [35, 35, 40, 40]]


def test_of_all_proposals_true_boxes_come_first_and_rows_are_as_many_as_the_network_takes() -> None:
    spec = replace(STRETCH, proposals=4)
    boxes = np.array([[1, 1, 5, 5], [2, 2, 9, 9], [3, 3, 9, 9]], np.float32)
    truth = Objects(
        np.array([[0, 0, 8, 8], [0, 0, 60, 60]], np.float32), np.zeros(2, np.int64), np.array([False, True])
    )
    image = np.zeros((64, 96, 3), np.uint8)
    where = Geometry((64, 96), (64, 96))
    few, many = (Varied(image, truth, boxes[:count], where) for count in (1, 3))
    augmentation = BoxAugmentation(BoxAugmentConfig(), spec, indices(2))
    rois = augmentation.rois(DRAWS, indices(2), [few, many])
    assert rois[0].tolist() == [[0, 0, 8, 8], [1, 1, 5, 5], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert rois[1].tolist() == [[0, 0, 8, 8], *boxes.tolist()]


def test_drawn_proposals_are_those_of_the_sample_alone() -> None:
    spec, config = replace(STRETCH, proposals=50), BoxAugmentConfig(rois=16)
    chance = np.random.default_rng(0)
    corners = chance.uniform(0, 40, (2, 50, 2))
    boxes = np.concatenate((corners, corners + chance.uniform(5, 20, (2, 50, 2))), 2).astype(np.float32)
    image, where = np.zeros((64, 96, 3), np.uint8), Geometry((64, 96), (64, 96))
    both = [
        Varied(image, objects([5, 5, 20, 20]), boxes[0], where),
        Varied(image, objects(), boxes[1, :40], where),
    ]
    augmentation = BoxAugmentation(config, spec, indices(2))
    rois = augmentation.rois(DRAWS, np.array([3, 7]), both)
    assert rois.shape == (2, 16, 4)
    np.testing.assert_array_equal(augmentation.rois(DRAWS, np.array([7]), both[1:])[0], rois[1])
    assert (augmentation.rois(Draws(0, 1), np.array([3, 7]), both)[1] != rois[1]).any()
