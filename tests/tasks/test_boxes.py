"""Boxes, tags and a legend drawn for people."""

from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageFont

from striate.errors import DataError
from striate.structures import Detections
from striate.tasks import _boxes
from striate.tasks._boxes import _MOST_HIDDEN, _height, _on, _spots, _tags
from striate.tasks._palette import palette
from striate.tasks.detection import draw

ORANGE, SKY = (230, 159, 0), (86, 180, 233)  # of Okabe and Ito, after black


def found(rows: list[tuple[tuple[float, ...], float, int]], size: tuple[int, int], names: str) -> Detections:
    return Detections(
        "a.jpg",
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([label for _, _, label in rows], np.int64),
        tuple(names.split()),
        size,
        np.arange(len(rows)),
    )


def gray(height: int, width: int, channels: int = 3) -> Any:
    return np.full((height, width, channels), 128, np.uint8)


def where(drawn: Any, color: tuple[int, int, int]) -> Any:
    return (drawn == color).all(axis=2)


def test_a_box_is_a_line_in_its_classs_colour_where_the_object_ends() -> None:
    drawn = draw(gray(300, 400), found([((100, 150, 200, 250), 0.9, 0)], (300, 400), "cat dog"))
    lines = where(drawn, ORANGE)[:300]
    assert lines[150:250, 100].all()
    assert lines[150:250, 199].all()
    assert not lines[160:240, 200].any()
    assert lines[150, 100:200].all()
    assert lines[249, 100:200].all()
    assert not lines[155:245, 105:195].any()
    assert (drawn[200, 150] == 128).all()


def test_a_class_has_its_colour_in_every_picture_and_none_is_black() -> None:
    drawn = draw(gray(300, 400), found([((100, 150, 200, 250), 0.9, 1)], (300, 400), "cat dog"))
    assert where(drawn, SKY)[150:250, 100].all()
    assert not where(drawn, ORANGE).any()


def test_more_classes_than_colours_are_drawn_too() -> None:
    names = " ".join(f"class{number}" for number in range(300))
    drawn = draw(gray(300, 400), found([((10, 150, 90, 250), 0.9, 254)], (300, 400), names))
    assert where(drawn, ORANGE)[150:250, 10].all()


def test_a_small_thing_in_a_large_picture_is_seen_within_its_box() -> None:
    drawn = draw(gray(1200, 1200), found([((600, 600, 612, 612), 0.9, 0)], (1200, 1200), "cat"))
    assert where(drawn, ORANGE)[604:608, 600].all()
    assert (drawn[605:607, 605:607] == 128).all()


def test_the_picture_itself_stays_as_it_is() -> None:
    for height, width in ((300, 400), (64, 64)):
        image = gray(height, width)
        draw(image, found([((10, 20, 30, 40), 0.9, 0)], (height, width), "cat"))
        assert (image == 128).all()


def test_a_gray_picture_and_one_without_objects_are_drawn() -> None:
    assert draw(gray(300, 400, 1), found([((9, 9, 99, 99), 0.9, 0)], (300, 400), "cat")).shape[2] == 3
    np.testing.assert_array_equal(draw(gray(300, 400), found([], (300, 400), "cat")), gray(300, 400))


def test_a_tiny_picture_is_enlarged_and_a_huge_one_shrunk() -> None:
    tiny = draw(gray(64, 64), found([((16, 32, 48, 48), 0.9, 0)], (64, 64), "cat"))
    assert tiny.shape[1] == 256
    assert where(tiny, ORANGE)[128:192, 64].all()
    huge = draw(gray(3000, 4000), found([((1000, 1000, 3000, 2000), 0.9, 0)], (3000, 4000), "cat"))
    assert huge.shape[1] == 1280
    assert where(huge, ORANGE)[325:635, 320].all()


def test_boxes_on_a_strip_lie_where_the_strip_is_on_its_wider_ground() -> None:
    drawn = draw(gray(1200, 20), found([((0, 600, 20, 700), 0.9, 0)], (1200, 20), "cat"))
    assert drawn.shape[1] == 256
    assert where(drawn, ORANGE)[610:690, 118].all()


def test_a_pixel_and_the_whole_picture_have_a_box() -> None:
    rows = [((0.0, 0.0, 400.0, 300.0), 0.9, 0), ((399.0, 299.0, 400.0, 300.0), 0.8, 1)]
    drawn = draw(gray(300, 400), found(rows, (300, 400), "cat dog"))
    assert where(drawn, ORANGE)[40:290, 0].all()
    assert where(drawn, SKY)[299, 399]


def test_small_boxes_are_drawn_over_large_ones() -> None:
    rows = [((100.0, 100.0, 140.0, 140.0), 0.9, 0), ((100.0, 100.0, 300.0, 280.0), 0.8, 1)]
    drawn = draw(gray(300, 400), found(rows, (300, 400), "cat dog"))
    assert where(drawn, ORANGE)[105:135, 100].all()
    assert where(drawn, SKY)[145:275, 100].all()


def tags_of(rows: list[tuple[tuple[float, ...], float, int]], names: str = "cat dog") -> list[Any]:
    result = found(rows, (300, 400), names)
    colors = [(230, 159, 0)] * 9
    return _tags(result, result.boxes.astype(np.float64), colors, PillowImage.new("RGB", (400, 300)))


def test_tags_say_class_and_score_above_their_box() -> None:
    (tag,) = tags_of([((100, 150, 200, 250), 0.876, 1)])
    assert tag.text == "dog 88%"
    x0, _, _, y1 = tag.place
    assert (x0, y1) == (100, 150)


@pytest.mark.parametrize("box", [(0, 0, 40, 40), (380, 0, 400, 9), (0, 290, 9, 300), (399, 299, 400, 300)])
def test_tags_stay_in_the_picture(box: tuple[float, ...]) -> None:
    (tag,) = tags_of([(box, 0.9, 0)])
    x0, y0, x1, y1 = tag.place
    assert 0 <= x0 < x1 <= 400
    assert 0 <= y0 < y1 <= 300


def test_tags_do_not_hide_one_another() -> None:
    chance = np.random.default_rng(0)
    low, sides = chance.uniform(100, 180, (60, 2)), chance.uniform(5, 60, (60, 2))
    boxes = np.concatenate((low, low + sides), 1)
    rows = [(tuple(box), 0.9 - place / 100, place % 2) for place, box in enumerate(boxes.tolist())]
    tags = tags_of(rows)
    places = np.array([tag.place for tag in tags])
    assert 8 < len(tags) < 60
    assert tags[0].text == "cat 90%"
    for number, place in enumerate(places):
        shared = _boxes.shared_areas(place[None], places[:number]).sum()
        assert shared <= _MOST_HIDDEN * np.prod(place[2:] - place[:2])


def test_two_objects_in_one_place_have_tags_in_two() -> None:
    first, second = tags_of([((100, 150, 200, 250), 0.9, 0), ((100, 150, 200, 250), 0.8, 1)])
    assert first.place != second.place
    assert [first.text, second.text] == ["cat 90%", "dog 80%"]


def test_a_long_name_is_cut_and_its_score_stays() -> None:
    (tag,) = tags_of([((10, 150, 390, 250), 0.5, 0)], "x" * 200)
    assert tag.text.endswith("... 50%")
    assert tag.place[2] - tag.place[0] <= 0.5 * 400 + 12


def test_spots_begin_above_the_box() -> None:
    spots = _spots(np.array((100.0, 50.0, 200.0, 90.0)), (40.0, 10.0), (400, 300))
    assert spots[:4].tolist() == [
        [100, 40, 140, 50],
        [160, 40, 200, 50],
        [100, 90, 140, 100],
        [160, 90, 200, 100],
    ]


def test_text_on_every_colour_has_the_contrast_of_readable_text() -> None:
    def luminance(color: Any) -> float:
        share = np.array(color) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722)) + 0.05

    for color in palette(255)[:255].tolist():
        dark, light = sorted((luminance(color), luminance(_on(tuple(color)))))
        assert light / dark >= 4.5  # WCAG 2.2, level AA


def test_a_tag_is_high_enough_for_letters_below_the_line() -> None:
    font = ImageFont.load_default(14)
    _, top, _, bottom = font.getbbox("gjpqy")
    assert _height(font) > bottom - top


def test_the_picture_has_to_be_the_one_that_was_looked_at() -> None:
    with pytest.raises(DataError, match="draw on the picture that was predicted"):
        draw(gray(300, 401), found([], (300, 400), "cat"))
