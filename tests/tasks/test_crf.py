"""The dense CRF against its equations written as loops, and the fast form against the exact one."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from striate.errors import DataError, NotFiniteError, UsageError
from striate.tasks._lattice import Lattice
from striate.tasks.crf import EXACT_PIXELS, CrfConfig, exact_mean_field, refine

Maps = NDArray[np.float32]
Picture = NDArray[np.uint8]


def softmax(scores: NDArray[np.floating]) -> Maps:
    raised = np.exp(scores - scores.max(axis=0))
    return (raised / raised.sum(axis=0)).astype(np.float32)


def blobs(mask: NDArray[np.uint8], classes: int, seed: int) -> Maps:
    """What a network of stride 8 says of `mask`: the right classes, with vague outlines and wrong spots."""
    height, width = mask.shape
    chance = np.random.default_rng(seed)
    scores = []
    for label in range(classes):
        where = Image.fromarray((mask == label).astype(np.float32))
        coarse = np.asarray(where.resize((width // 8, height // 8), Image.Resampling.BOX))
        noisy = Image.fromarray((4 * coarse + chance.normal(0, 1, coarse.shape)).astype(np.float32))
        scores.append(np.asarray(noisy.resize((width, height), Image.Resampling.BICUBIC)))
    return softmax(np.stack(scores))


def drawn(seed: int, side: int = 64) -> tuple[Picture, NDArray[np.uint8]]:
    """Discs of five colours on one another with grain of 4 levels, and their mask."""
    chance = np.random.default_rng(seed)
    rows, columns = np.indices((side, side))
    mask = np.zeros((side, side), np.uint8)
    for label in range(1, 5):
        row, column, radius = chance.integers((0, 0, side // 8), (side, side, side // 3))
        mask[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = label
    colors = chance.integers(0, 256, (5, 3))
    image = colors[mask] + chance.normal(0, 4, (side, side, 3))
    return np.clip(image, 0, 255).astype(np.uint8), mask


def looped_mean_field(probabilities: Maps, image: Picture, config: CrfConfig) -> NDArray[np.float64]:
    """The equations as they stand in the module, one pair of pixels at a time."""
    classes, height, width = probabilities.shape
    pixels = [(row, column) for row in range(height) for column in range(width)]
    levels = [image[pixel].astype(float) * math.sqrt(3 / image.shape[2]) for pixel in pixels]

    def smoothness(i: int, j: int) -> float:
        (a, b), (c, d) = pixels[i], pixels[j]
        return math.exp(-((a - c) ** 2 + (b - d) ** 2) / (2 * config.smoothness_pixels**2))

    def appearance(i: int, j: int) -> float:
        (a, b), (c, d) = pixels[i], pixels[j]
        near = ((a - c) ** 2 + (b - d) ** 2) / (2 * config.appearance_pixels**2)
        alike = sum((levels[i] - levels[j]) ** 2) / (2 * config.appearance_levels**2)
        return math.exp(-near - alike)

    count = range(len(pixels))
    votes = np.zeros((len(pixels), len(pixels)))
    for weight, kernel in (
        (config.smoothness_weight, smoothness),
        (config.appearance_weight, appearance),
    ):
        every = [[kernel(i, j) for j in count] for i in count]
        sums = [sum(row) for row in every]
        votes += [[weight * every[i][j] / math.sqrt(sums[i] * sums[j]) for j in count] for i in count]
    unary = -np.log(np.maximum(probabilities.reshape(classes, -1), 1e-5)).astype(float)
    marginals = np.exp(-unary) / np.exp(-unary).sum(axis=0)
    for _ in range(config.iterations):
        # Potts: label l is charged what all other labels have among the neighbours.
        energy = unary + np.stack(
            [votes @ (marginals.sum(axis=0) - marginals[label]) for label in range(classes)]
        )
        marginals = np.exp(-energy) / np.exp(-energy).sum(axis=0)
    return marginals.reshape(classes, height, width)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_exact_crf_equals_loops_over_all_pairs(channels: int) -> None:
    chance = np.random.default_rng(3)
    image = chance.integers(100, 112, (12, 12, channels)).astype(np.uint8)
    probabilities = softmax(chance.normal(0, 2, (4, 12, 12)))
    config = CrfConfig(appearance_pixels=5, smoothness_pixels=1.5)
    expected = looped_mean_field(probabilities, image, config)
    assert np.abs(expected - probabilities).max() > 0.4
    np.testing.assert_allclose(exact_mean_field(probabilities, image, config), expected, atol=1e-5)


def test_two_pixels_by_hand() -> None:
    # Colours are equal: k = [[1, .60653], [.60653, 1]], D = 1.60653, K = [[.62246, .37754], [.37754, .62246]]
    # One iteration: log p + 2 K p of pixel 0: class 0: log .9 + 2 (.62246 * .9 + .37754 * .2) = 1.16608,
    # class 1: log .1 + 2 (.62246 * .1 + .37754 * .8) = -1.57403; the softmax of that is .93935, .06065.
    probabilities = np.array([[[0.9, 0.2]], [[0.1, 0.8]]], np.float32)
    image = np.full((1, 2, 3), 7, np.uint8)
    config = CrfConfig(iterations=1, smoothness_weight=1, appearance_weight=1, appearance_pixels=1)
    marginals = exact_mean_field(probabilities, image, config)
    np.testing.assert_allclose(marginals[:, 0, 0], [0.93935, 0.06065], atol=1e-5)


def agreement(probabilities: Maps, image: Picture) -> float:
    exact = exact_mean_field(probabilities, image).argmax(axis=0)
    # The CRF must have something to do, or agreeing with it is no feat.
    assert np.mean(exact != probabilities.argmax(axis=0)) > 0.03
    return float(np.mean(refine(probabilities, image).argmax(axis=0) == exact))


@pytest.mark.parametrize("seed", range(3))
def test_on_drawn_pictures_99_percent_of_pixels_are_as_in_the_exact_crf(seed: int) -> None:
    image, mask = drawn(seed)
    assert agreement(blobs(mask, 5, seed), image) >= 0.99


def camvid(folder: Path, number: int) -> tuple[Image.Image, Image.Image]:
    photo, mask = (sorted((folder / part).iterdir())[number] for part in ("test", "testannot"))
    assert photo.stem == mask.stem
    with Image.open(photo) as image, Image.open(mask) as labels:
        return image.convert("RGB"), labels.copy()


@pytest.mark.parametrize("number", [0, 100, 200])
def test_on_photos_99_percent_of_pixels_are_as_in_the_exact_crf(
    shared_data: Callable[[str], Path], number: int
) -> None:
    photo, mask = camvid(shared_data("camvid"), number)
    whole = np.asarray(photo.resize((64, 64), Image.Resampling.LANCZOS))
    labels = np.asarray(mask.resize((64, 64), Image.Resampling.NEAREST))
    assert agreement(blobs(labels, 12, number), whole) >= 0.99
    cut = (slice(150, 214), slice(200, 264))
    assert agreement(blobs(np.asarray(mask)[cut], 12, number), np.asarray(photo)[cut]) >= 0.99


def test_vague_outlines_are_drawn_to_the_edges_of_the_picture() -> None:
    image, mask = drawn(0)
    probabilities = blobs(mask, 5, 0)
    refined = refine(probabilities, image)
    assert np.mean(probabilities.argmax(axis=0) == mask) < 0.95
    assert np.mean(refined.argmax(axis=0) == mask) > 0.99


def test_smoothness_alone_is_exact_in_the_fast_form_too() -> None:
    chance = np.random.default_rng(1)
    image = np.zeros((40, 70, 3), np.uint8)
    probabilities = softmax(chance.normal(0, 2, (3, 40, 70)))
    config = CrfConfig(appearance_weight=0, smoothness_pixels=4)
    exact = exact_mean_field(probabilities, image, config)
    np.testing.assert_allclose(refine(probabilities, image, config), exact, atol=1e-5)


def test_weights_of_0_leave_the_probabilities() -> None:
    image, mask = drawn(2)
    probabilities = blobs(mask, 5, 2)
    config = CrfConfig(appearance_weight=0, smoothness_weight=0)
    for crf in (refine, exact_mean_field):
        np.testing.assert_allclose(crf(probabilities, image, config), probabilities, atol=1e-4)


def test_a_gray_picture_gives_what_the_same_picture_in_rgb_gives() -> None:
    image, mask = drawn(4, side=32)
    gray = image[:, :, :1]
    probabilities = blobs(mask, 5, 4)
    exact = exact_mean_field(probabilities, gray)
    np.testing.assert_allclose(exact, exact_mean_field(probabilities, gray.repeat(3, axis=2)), atol=1e-5)
    fast = refine(probabilities, gray)
    assert np.mean(fast.argmax(axis=0) == exact.argmax(axis=0)) >= 0.99


def test_marginals_are_float32_probabilities_and_the_arguments_stay() -> None:
    image, mask = drawn(5, side=33)
    probabilities = blobs(mask, 5, 5).astype(np.float64)
    before = probabilities.copy(), image.copy()
    marginals = refine(probabilities, image)
    assert (marginals.shape, marginals.dtype) == ((5, 33, 33), np.float32)
    np.testing.assert_allclose(marginals.sum(axis=0), 1, atol=1e-5)
    assert (probabilities == before[0]).all()
    assert (image == before[1]).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1)])
def test_pictures_of_one_row_or_pixel_are_refined(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    probabilities = softmax(np.random.default_rng(1).normal(0, 1, (3, *size)))
    exact = exact_mean_field(probabilities, image)
    np.testing.assert_allclose(refine(probabilities, image), exact, atol=0.02)


def test_a_class_of_probability_0_can_come_back() -> None:
    # A single pixel is sure of class 0 in a flat picture where all others are sure of class 1.
    probabilities = np.zeros((2, 9, 9), np.float32)
    probabilities[1] = 1
    probabilities[:, 4, 4] = 1, 0
    config = CrfConfig(smoothness_weight=10, appearance_weight=10)
    for crf in (refine, exact_mean_field):
        assert crf(probabilities, np.zeros((9, 9, 3), np.uint8), config)[1, 4, 4] > 0.9


@pytest.mark.parametrize("dimensions", [2, 3, 5])
def test_the_lattice_blurs_by_a_gaussian_of_standard_deviation_1(dimensions: int) -> None:
    chance = np.random.default_rng(dimensions)
    points = chance.uniform(0, 1.5, (600, dimensions))
    values = chance.uniform(0, 1, 600).astype(np.float32)
    distances = ((points[:, None] - points) ** 2).sum(axis=2)
    blurred = Lattice.around(points).blur(values)
    expected = np.exp(-distances / 2) @ values
    ratios = blurred / expected
    assert ratios.std() / ratios.mean() < 0.1
    wrong = np.exp(-distances / 2 / 0.7**2) @ values
    assert (blurred / wrong).std() / (blurred / wrong).mean() > 2 * ratios.std() / ratios.mean()


def test_a_point_lies_where_its_shares_of_the_corners_put_it() -> None:
    # In one dimension the lattice is a grid of spacing sqrt(3)/2: the point 0.5 lies between 0 and 0.866.
    lattice = Lattice.around(np.array([[0.0], [0.5]]))
    np.testing.assert_allclose(lattice.shares, [[1, 1 - 0.5 / 0.8660254], [0, 0.5 / 0.8660254]], atol=1e-6)
    assert lattice.corners[0, 0] == lattice.corners[0, 1]


def test_points_see_each_other_across_an_empty_vertex() -> None:
    # Multiples of sqrt(3)/2: the first lies between the vertices 0 and 1, the second between 3 and 4.
    lattice = Lattice.around(np.array([[0.1], [3.2]]))
    values = np.array([1, 0], np.float32)
    first, second = lattice.blur(values)
    assert 0 < second / first < 0.05


def test_points_far_apart_do_not_see_each_other() -> None:
    points = np.array([[0.0, 0, 0, 0, 0], [40, 0, 0, 0, 0], [0, 0, 0, 0, 40]])
    lattice = Lattice.around(points)
    for index in range(3):
        values = np.eye(3, dtype=np.float32)[index]
        assert np.flatnonzero(lattice.blur(values)).tolist() == [index]


def test_a_lattice_too_fine_to_number_is_refused() -> None:
    points = np.array([[0.0] * 5, [1e5] * 5])
    with pytest.raises(
        UsageError, match=r"too many vertices to number\. fix: give larger standard deviations"
    ):
        Lattice.around(points)


def test_the_exact_crf_refuses_a_photo() -> None:
    image = np.zeros((97, 96, 3), np.uint8)
    assert image[..., 0].size > EXACT_PIXELS
    with pytest.raises(DataError, match=r"photo.jpg: 96x97 pixels .* fix: use refine"):
        exact_mean_field(np.ones((1, 97, 96), np.float32), image, key="photo.jpg")


def wrong_arguments() -> Iterable[tuple[NDArray[np.floating], NDArray[np.generic], str]]:
    image = np.zeros((4, 5, 3), np.uint8)
    half = np.full((2, 4, 5), 0.5, np.float32)
    yield half[:, :3], image, r"shape \(2, 3, 5\) for a picture of shape \(4, 5, 3\)"
    yield half[0], image, r"shape \(4, 5\) for"
    yield half[:0], image, r"shape \(0, 4, 5\) for"
    yield np.full((256, 4, 5), 1 / 256), image, r"shape \(256, 4, 5\) for"
    yield half, image.astype(np.float32), "got float32"
    yield half, np.zeros((4, 5, 2), np.uint8), r"got uint8 \(4, 5, 2\)"
    yield 4 * half, image, "do not sum to 1. fix: give the softmax"
    yield np.stack((3 * half[0], -half[0])), image, "do not sum to 1"


@pytest.mark.parametrize(("probabilities", "image", "message"), list(wrong_arguments()))
def test_wrong_arguments_are_named(
    probabilities: NDArray[np.floating], image: NDArray[np.generic], message: str
) -> None:
    for crf in (refine, exact_mean_field):
        with pytest.raises(DataError, match=f"^cat.jpg: .*{message}"):
            crf(probabilities, image, key="cat.jpg")  # type: ignore[arg-type]


def test_a_probability_that_is_not_finite_is_named() -> None:
    probabilities = np.full((2, 4, 5), 0.5, np.float32)
    probabilities[1, 2, 3] = np.nan
    with pytest.raises(NotFiniteError, match=r"^cat.jpg: a probability is NaN or infinite"):
        refine(probabilities, np.zeros((4, 5, 3), np.uint8), key="cat.jpg")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 0),
        ("smoothness_weight", -1.0),
        ("appearance_weight", math.nan),
        ("smoothness_pixels", 0.0),
        ("appearance_pixels", math.inf),
        ("appearance_levels", 0.01),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"^crf.{name}: {value!r} makes no sense here"):
        CrfConfig(**{name: value})  # type: ignore[arg-type]
