"""Drawn shapes: labels, boxes and masks agree with the pixels, and never change."""

import hashlib
import math

import numpy as np
import pytest

from striate.data.builtin import shapes
from striate.errors import DataError, UsageError

SCENES = [shapes.arrange(index, 48, 5) for index in range(60)]


def test_a_dataset_of_shapes_is_balanced_and_drawn_when_asked() -> None:
    dataset = shapes.read(18, 32, 1)
    assert dataset.classes == ("circle", "cross", "ring", "square", "star", "triangle")
    assert np.bincount(dataset.labels()).tolist() == [3] * 6
    sample = dataset.sample(7)
    assert (sample.key, sample.image.shape) == ("shapes[7]", (32, 32, 3))
    assert sample.objects is not None
    assert (sample.image == shapes.draw(7, 32, 1).image).all()
    assert sample.label == shapes.draw(7, 32, 1).label


def test_pictures_are_bit_identical_for_ever() -> None:
    drawn = [shapes.draw(index, 40, 3) for index in (11, 2)]
    pixels = b"".join(sample.image.tobytes() + sample.mask.tobytes() for sample in drawn)
    assert hashlib.sha256(pixels).hexdigest() == (
        "294c774bf30c54d9ad65ad581b2cb94223cbd5693d730d175a85fa7fa2829ba8"
    )


def test_a_picture_does_not_depend_on_the_ones_drawn_before() -> None:
    first = shapes.draw(3, 32).image
    shapes.draw(0, 32)
    assert (shapes.draw(3, 32).image == first).all()
    assert (shapes.draw(4, 32).image != first).any()
    assert (shapes.draw(3, 32, seed=1).image != first).any()


def test_boxes_are_the_extent_of_each_shapes_visible_pixels() -> None:
    for scene in SCENES:
        for number, (x0, y0, x1, y1) in enumerate(scene.objects.boxes.astype(int), start=1):
            shown = scene.instances == number
            outside = shown.copy()
            outside[y0:y1, x0:x1] = False
            assert not outside.any()
            edges = (shown[y0], shown[y1 - 1], shown[:, x0], shown[:, x1 - 1])
            assert all(edge.any() for edge in edges)


def test_a_pixel_shows_the_topmost_shape_that_covers_half_of_it() -> None:
    for scene in SCENES[:20]:
        for y, x in np.ndindex(48, 48):
            covering = [i for i, coverage in enumerate(scene.coverages, start=1) if coverage[y, x] >= 8]
            assert scene.instances[y, x] == (covering[-1] if covering else 0)


def test_masks_hold_class_id_plus_one() -> None:
    for scene in SCENES:
        for number, label in enumerate(scene.labels, start=1):
            assert set(scene.mask[scene.instances == number]) == {label + 1}
        assert set(scene.mask[scene.instances == 0]) == {0}


def test_the_label_is_the_shape_with_half_as_much_again_as_any_other() -> None:
    for scene in SCENES:
        areas = [int((scene.instances == number + 1).sum()) for number in range(len(scene.labels))]
        largest = int(np.argmax(areas))
        assert scene.label == scene.labels[largest]
        assert all(2 * areas[largest] >= 3 * area for number, area in enumerate(areas) if number != largest)


def test_each_shape_shows_at_least_half_of_itself() -> None:
    for scene in SCENES:
        for number, coverage in enumerate(scene.coverages, start=1):
            assert 2 * (scene.instances == number).sum() >= (coverage >= 8).sum() > 0


def test_one_to_four_shapes_and_every_class_among_the_small_ones() -> None:
    assert {len(scene.labels) for scene in SCENES} == {1, 2, 3, 4}
    small = {int(label) for scene in SCENES for label in scene.labels if label != scene.label}
    assert small == set(range(6))


# Areas of the ideal figures in units of radius^2: what the half planes describe.
AREAS = {
    "circle": math.pi,
    "ring": math.pi * (1 - 0.55**2),
    "square": (2 * 0.71) ** 2,
    "triangle": 3 * math.sqrt(3) / 4,
    "cross": 2 * (2 * 0.94) * (2 * 0.32) - (2 * 0.32) ** 2,
    # Ten right-angled pairs: inradius 0.31, tips at 0.31 / cos 72 degrees, notches at 0.31 / cos 36 degrees.
    "star": 5
    * 0.31**2
    * math.sin(math.radians(36))
    / (math.cos(math.radians(72)) * math.cos(math.radians(36))),
}


@pytest.mark.parametrize("name", shapes.CLASSES)
@pytest.mark.parametrize("angle", [0, 17, 205])
def test_shapes_have_the_area_of_their_figure(name: str, angle: int) -> None:
    axis = np.arange(-450, 451, dtype=np.int64)
    inside = shapes._inside(name, axis, axis[:, None], 400, angle)
    assert inside.sum() / 400**2 == pytest.approx(AREAS[name], rel=0.01)
    assert not any(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_cosines_are_far_from_where_math_libraries_could_round_differently() -> None:
    exact = [math.cos(math.radians(degrees)) * 16384 for degrees in range(360)]
    assert min(abs(abs(value % 1) - 0.5) for value in exact) > 1e-4


def test_every_pair_of_grounds_leaves_paints_for_four_shapes() -> None:
    for first in shapes._GROUNDS:
        for second in shapes._GROUNDS:
            far = [p for p in shapes._PAINTS if min(abs(p - first).sum(), abs(p - second).sum()) >= 150]
            assert len(far) >= 4


def test_smallest_and_larger_sizes_can_be_drawn() -> None:
    for size in (24, 200):
        assert shapes.draw(1, size).image.shape == (size, size, 3)


@pytest.mark.parametrize("wrong", [{"count": 0}, {"size": 23}, {"size": 1025}, {"seed": -1}])
def test_what_cannot_be_drawn_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="use a count of 1 or more, a size of 24 to 1024"):
        shapes.read(**wrong)


def test_a_key_beyond_the_count_is_refused() -> None:
    with pytest.raises(DataError, match=r"keys run from shapes\[0\] to shapes\[5\]"):
        shapes.read(6, 24).storage.content("shapes[6]")
