"""Weights of classes from what there is of each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from striate.tasks._balance import balanced_weights

# Published with SegNet's CamVid training file, in the order of the class ids.
SEGNET = (0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614)
SIGN = 6


def test_a_class_that_is_not_there_has_weight_1_and_stays_out_of_the_median() -> None:
    own, among = np.array([6, 0, 2]), np.array([8, 0, 8])
    assert balanced_weights(own, "median", among) == pytest.approx((0.5 / 0.75, 1.0, 0.5 / 0.25))


def test_median_frequency_is_over_the_pictures_that_show_the_class() -> None:
    # Frequencies 1/2, 1/4 and 1/20; the second class fills a quarter of the one picture that shows it.
    own, among = np.array([500, 25, 50, 0]), np.array([1000, 100, 1000, 0])
    assert balanced_weights(own, "median", among) == pytest.approx((0.5, 1.0, 5.0, 1.0))


def test_median_frequencies_of_camvid_are_those_of_segnet(shared_data: Callable[[str], Path]) -> None:
    own, among = np.zeros(11, np.int64), np.zeros(11, np.int64)
    for file in sorted((shared_data("camvid") / "trainannot").glob("*.png")):
        mask: NDArray[np.uint8] = np.asarray(Image.open(file))
        here = np.bincount(mask.reshape(-1), minlength=12)[:11]
        own += here
        among += mask.size * (here > 0)
    share = np.array(balanced_weights(own, "median", among)) / SEGNET
    # Theirs are of a median with void as a twelfth class: a common factor, which no loss feels.
    share /= np.median(share)
    # Their weight of signs does not follow from these masks, whichever parts of the set are counted.
    assert share[SIGN] == pytest.approx(0.37, abs=0.01)
    np.testing.assert_allclose(np.delete(share, SIGN), 1, atol=0.12)
