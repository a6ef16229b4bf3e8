"""Random changes of colours."""

import colorsys

import numpy as np
import pytest

from striate.data.colours import Step, photometric, recolour, yolo_colours
from striate.data.draws import Draws
from striate.structures import Image

DRAWS = Draws(0, 0)
INDICES = np.arange(4000, dtype=np.int64)


def pixels(*colours: tuple[int, int, int]) -> Image:
    """A picture of one row."""
    return np.array([colours], np.uint8)


def test_each_of_the_four_changes_comes_with_its_probability() -> None:
    steps = photometric(DRAWS, INDICES, 0.5)
    in_rgb = [sum(step.space == "rgb" for step in one) for one in steps]
    in_hsv = [sum(step.space == "hsv" for step in one) for one in steps]
    # Brightness and contrast are a coin each; saturation and hue share a step.
    np.testing.assert_allclose(np.bincount(in_rgb) / 4000, [0.25, 0.5, 0.25], atol=0.03)
    np.testing.assert_allclose(np.bincount(in_hsv) / 4000, [0.25, 0.75], atol=0.03)
    assert all(one == () for one in photometric(DRAWS, INDICES[:50], 0.0))
    assert all(len(one) == 3 for one in photometric(DRAWS, INDICES[:50], 1.0))


def test_brightness_contrast_saturation_and_hue_stay_in_ssds_ranges() -> None:
    added, contrasts, saturations, hues, last = [], [], [], [], 0
    for one in photometric(DRAWS, INDICES[:1000], 1.0):
        assert one[0].space == "rgb"
        assert {step.space for step in one[1:]} == {"rgb", "hsv"}
        last += one[2].space == "rgb"
        contrast, hsv = sorted(one[1:], key=lambda step: step.space, reverse=True)
        added.append(int(one[0].table[128]) - 128)
        contrasts.append(contrast.table[100] / 100)
        saturations.append(hsv.table[1][100] / 100)
        hues.append((int(hsv.table[0][0]) + 128) % 256 - 128)
        assert (hsv.table[2] == np.arange(256)).all()
    assert (min(added), max(added)) == (-32, 32)
    np.testing.assert_allclose([min(contrasts), max(contrasts)], [0.5, 1.5], atol=0.011)
    np.testing.assert_allclose([min(saturations), max(saturations)], [0.5, 1.5], atol=0.011)
    # 18 of the 180 levels that hue has there are 25.6 of 256.
    assert (min(hues), max(hues)) == (-26, 26)
    assert 440 < last < 560


def test_yolos_factors_are_as_often_below_as_above_one_and_hue_moves_both_ways() -> None:
    tables = np.stack([one[0].table for one in yolo_colours(DRAWS, INDICES, 0.1, 1.5, 2.0)])
    moves = (tables[:, 0, 0].astype(int) + 128) % 256 - 128
    assert (moves.min(), moves.max()) == (-26, 26)
    for row, factor in ((1, 1.5), (2, 2.0)):
        found = tables[:, row, 100] / 100
        np.testing.assert_allclose([found.min(), found.max()], [1 / factor, factor], atol=0.011)
        assert 0.45 < (found < 1).mean() < 0.55


def test_a_picture_has_its_own_numbers_in_any_batch() -> None:
    every = photometric(DRAWS, INDICES[:50], 0.5)
    alone = photometric(DRAWS, INDICES[17:18], 0.5)[0]
    assert [step.space for step in alone] == [step.space for step in every[17]]
    for one, other in zip(alone, every[17], strict=True):
        np.testing.assert_array_equal(one.table, other.table)


def test_a_third_of_the_circle_turns_red_into_green_and_gray_stays() -> None:
    move = np.stack([(np.arange(256) + 85) % 256, np.arange(256), np.arange(256)]).astype(np.uint8)
    found = recolour((Step("hsv", move),), pixels((255, 0, 0), (90, 90, 90), (0, 0, 0)))
    np.testing.assert_allclose(found[0].astype(int), [[0, 255, 0], [90, 90, 90], [0, 0, 0]], atol=2)


def test_saturation_and_value_are_scaled_as_colorsys_does_it() -> None:
    picture = pixels((200, 120, 40), (10, 80, 60), (250, 240, 255))
    table = np.stack([np.arange(256), np.arange(256) * 0.5, np.arange(256) * 0.8]).round().astype(np.uint8)
    found = recolour((Step("hsv", table),), picture)[0]
    for colour, result in zip(picture[0], found, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(colour / 255))
        expected = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation / 2, value * 0.8))
        np.testing.assert_allclose(result.astype(int), expected, atol=4)


def test_steps_come_in_their_order_and_each_clips() -> None:
    brighter = Step("rgb", np.clip(np.arange(256) + 100, 0, 255).astype(np.uint8))
    darker = Step("rgb", np.clip(np.arange(256) - 100, 0, 255).astype(np.uint8))
    picture = pixels((200, 50, 120))
    assert recolour((brighter, darker), picture)[0, 0].tolist() == [155, 50, 120]
    assert recolour((darker, brighter), picture)[0, 0].tolist() == [200, 100, 120]


def test_of_a_gray_picture_levels_change_but_there_is_no_hue() -> None:
    table = np.stack([np.full(256, 9), np.full(256, 200), np.arange(256) // 2]).astype(np.uint8)
    plus = Step("rgb", np.minimum(np.arange(256) + 10, 255).astype(np.uint8))
    assert recolour((plus, Step("hsv", table)), np.array([[[100]]], np.uint8)).tolist() == [[[55]]]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_picture_itself_is_not_written_to(channels: int) -> None:
    picture = np.full((2, 2, channels), 100, np.uint8)
    picture.flags.writeable = False
    found = recolour(photometric(DRAWS, INDICES[:1], 1.0)[0], picture)
    assert found.shape == picture.shape
    assert (picture == 100).all()
