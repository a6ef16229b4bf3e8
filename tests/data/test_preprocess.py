"""Preprocessing: torchvision's pixels where it has them, exact geometry, and no argument ignored."""

from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from striate.data.preprocess import apply
from striate.errors import DataError, UsageError
from striate.structures import IGNORE, Preprocess

FITS = ("crop", "stretch", "letterbox", "shorter", "none")
SIDES = st.integers(1, 90)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, channels), np.uint8)


def gray(**options: Any) -> Preprocess:
    return Preprocess(color="gray", mean=(0.0,), std=(1.0,), **options)


# Size and pixels of each fit ----------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("height", "width"), [(37, 53), (53, 37), (64, 64), (90, 41), (1, 9), (9, 1), (1, 1)]
)
@pytest.mark.parametrize(("side", "resize_to"), [(32, None), (32, 37), (31, 36), (224, 256)])
def test_crop_equals_torchvision_to_the_pixel(
    interpolation: Any, height: int, width: int, side: int, resize_to: int | None
) -> None:
    image = noise(height, width)
    spec = Preprocess(size=(side, side), resize_to=resize_to, interpolation=interpolation)
    mode = InterpolationMode(interpolation)
    oracle = transforms.Compose([transforms.Resize(resize_to or side, mode), transforms.CenterCrop(side)])
    np.testing.assert_array_equal(apply(spec, image)[0], np.asarray(oracle(PIL.Image.fromarray(image))))


def test_crop_to_an_oblong_equals_torchvision_to_the_pixel() -> None:
    image = noise(61, 83)
    oracle = transforms.Compose([transforms.Resize(50), transforms.CenterCrop((31, 44))])
    spec = Preprocess(size=(31, 44), resize_to=50)
    np.testing.assert_array_equal(apply(spec, image)[0], np.asarray(oracle(PIL.Image.fromarray(image))))


@pytest.mark.parametrize(("height", "width"), [(20, 40), (40, 20), (7, 100), (33, 33), (1, 1)])
def test_crop_without_resize_to_covers_an_oblong_and_wastes_nothing(height: int, width: int) -> None:
    output, geometry = apply(
        Preprocess(size=(16, 48), pad_value=0), np.full((height, width, 3), 255, np.uint8)
    )
    assert output.min() == 255
    resized = round(height * geometry.scale_y), round(width * geometry.scale_x)
    assert resized[0] == 16 or resized[1] == 48


def test_crop_without_resize_to_uses_the_size_inside_the_border() -> None:
    output, _ = apply(Preprocess(size=(32, 32), border=2, pad_value=7), np.full((28, 28, 3), 200, np.uint8))
    assert (output[2:30, 2:30] == 200).all()
    assert output.astype(int).sum() == 28 * 28 * 3 * 200 + (32 * 32 - 28 * 28) * 3 * 7


def test_crop_never_reaches_into_the_border() -> None:
    spec = Preprocess(size=(12, 12), border=2, resize_to=20, pad_value=0)
    output, geometry = apply(spec, np.full((20, 20, 3), 255, np.uint8))
    assert (output[2:10, 2:10] == 255).all()
    assert output.astype(int).sum() == 8 * 8 * 3 * 255
    assert (geometry.left, geometry.top) == (-4, -4)  # 2 of border less the 6 cut away


def test_stretch_equals_pillow() -> None:
    image = noise(37, 53)
    expected = PIL.Image.fromarray(image).resize((40, 30), PIL.Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(
        apply(Preprocess(size=(30, 40), fit="stretch"), image)[0], np.asarray(expected)
    )


def test_letterbox_puts_the_odd_pixel_at_the_bottom_and_right() -> None:
    wide, geometry = apply(
        Preprocess(size=(5, 8), fit="letterbox", pad_value=9), np.full((2, 4, 3), 100, np.uint8)
    )
    assert wide[:, 0, 0].tolist() == [100, 100, 100, 100, 9]
    assert (geometry.scale_x, geometry.scale_y, geometry.left, geometry.top) == (2, 2, 0, 0)
    tall, geometry = apply(
        Preprocess(size=(8, 7), fit="letterbox", pad_value=9), np.full((4, 2, 3), 100, np.uint8)
    )
    assert tall[0, :, 0].tolist() == [9, 100, 100, 100, 100, 9, 9]
    assert geometry.left == 1


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(480, 640, (800, 1066)), (640, 480, (1066, 800)), (300, 1000, (399, 1333)), (1000, 300, (1333, 399))],
)
def test_shorter_gives_the_sizes_of_torchvisions_detectors(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    spec = Preprocess(size=(800, 800), fit="shorter", max_size=1333)
    assert apply(spec, noise(height, width, 1))[1].input == expected


def test_shorter_counts_its_border_in_every_size() -> None:
    spec = Preprocess(size=(20, 20), fit="shorter", max_size=30, border=3)
    assert apply(spec, noise(14, 14, 3))[1].input == (20, 20)
    assert max(apply(spec, noise(14, 140, 3))[1].input) == 30


def test_pad_to_fills_the_right_and_bottom_up_to_a_multiple() -> None:
    spec = Preprocess(fit="none", pad_to=8, pad_value=7)
    image = noise(9, 16, 3)
    padded, geometry = apply(spec, image)
    assert padded.shape == (16, 16, 3)
    np.testing.assert_array_equal(padded[:9], image)
    assert (padded[9:] == 7).all()
    assert geometry.input == (9, 16)


def test_none_keeps_the_pixels_and_adds_the_border() -> None:
    image = noise(5, 7)
    np.testing.assert_array_equal(apply(Preprocess(fit="none"), image)[0], image)
    output, geometry = apply(Preprocess(fit="none", border=2, pad_value=1), image)
    np.testing.assert_array_equal(output[2:7, 2:9], image)
    assert output.shape == (9, 11, 3)
    assert output[0].tolist() == [[1, 1, 1]] * 11
    assert (geometry.left, geometry.top, geometry.input) == (2, 2, (9, 11))


# Colour -------------------------------------------------------------------------------------------------


def test_gray_is_the_luma_of_itu_r_601() -> None:
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    assert apply(gray(fit="none"), image)[0].ravel().tolist() == [76, 150, 29, 255]


def test_gray_picture_repeats_its_channel_for_rgb() -> None:
    image = noise(4, 5, 1)
    np.testing.assert_array_equal(apply(Preprocess(fit="none"), image)[0], image.repeat(3, axis=2))


def test_channel_order_is_left_to_the_network() -> None:
    image = noise(4, 5)
    np.testing.assert_array_equal(apply(Preprocess(fit="none", channel_order="bgr"), image)[0], image)


def test_hsv_equals_pillow() -> None:
    image = noise(6, 7)
    expected = np.asarray(PIL.Image.fromarray(image).convert("HSV"))
    np.testing.assert_array_equal(apply(Preprocess(fit="none", color="hsv"), image)[0], expected)


def test_mean_of_two_reds_on_either_side_of_hue_0_is_red() -> None:
    reds = np.array([[[255, 0, 6], [255, 6, 0]]], np.uint8)  # hues 254 and 1 of 256
    hue = int(apply(Preprocess(size=(1, 1), fit="stretch", color="hsv"), reds)[0][0, 0, 0])
    assert min(hue, 256 - hue) <= 2  # the mean of the numbers would be 127, cyan


# Antialiasing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interpolation", "expected"), [("bilinear", 150), ("bicubic", 166), ("lanczos", 187)]
)
def test_without_antialias_only_the_pixels_near_a_sample_count(interpolation: Any, expected: int) -> None:
    # The sample falls between pixels 1 and 2. Bilinear: (100 + 200) / 2. Bicubic: 0.5625 * 300 - 0.0625 * 40.
    # Lanczos: weights 0.6079 and -0.1351, raised to sum to 1: (182.4 - 5.4) / 0.9456.
    image = np.array([0, 100, 200, 40], np.uint8).reshape(1, 4, 1)
    spec = gray(size=(1, 1), fit="stretch", interpolation=interpolation, antialias=False)
    assert apply(spec, image)[0].item() == expected


def test_antialias_takes_every_pixel_into_account() -> None:
    stripes = np.tile(np.array([255, 0, 0, 0], np.uint8), 16).reshape(1, 64, 1).repeat(8, axis=0)
    smooth, _ = apply(gray(size=(8, 8), fit="stretch"), stripes)
    bare, _ = apply(gray(size=(8, 8), fit="stretch", antialias=False), stripes)
    assert np.abs(smooth.astype(int) - 64).max() <= 8
    assert np.abs(bare.astype(int) - 64).min() > 50


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_antialias_makes_no_difference_when_a_picture_grows(interpolation: Any) -> None:
    image = noise(11, 13)
    options: dict[str, Any] = {"size": (30, 29), "fit": "stretch", "interpolation": interpolation}
    with_filter, without = (apply(Preprocess(antialias=on, **options), image)[0] for on in (True, False))
    np.testing.assert_array_equal(with_filter, without)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_unfiltered_sampling_along_a_growing_side_equals_pillow(interpolation: Any) -> None:
    # Rows are equal, so the shrinking side changes nothing and the growing one can be compared.
    image = noise(1, 13).repeat(40, axis=0)
    options: dict[str, Any] = {"fit": "stretch", "interpolation": interpolation}
    mixed, _ = apply(Preprocess(size=(5, 29), antialias=False, **options), image)
    expected, _ = apply(Preprocess(size=(40, 29), **options), image)
    np.testing.assert_array_equal(mixed, expected[:5])


# Geometry -----------------------------------------------------------------------------------------------


@st.composite
def specs(draw: st.DrawFn, **options: Any) -> Preprocess:
    border = draw(st.integers(0, 4))
    size = draw(st.tuples(*[st.integers(8 + 2 * border, 70)] * 2))
    fit = draw(st.sampled_from(FITS))
    extra = draw(st.integers(0, 20))
    return Preprocess(
        size=size,
        fit=fit,
        border=border,
        resize_to=draw(st.sampled_from([None, max(size) - 2 * border + extra])) if fit == "crop" else None,
        max_size=draw(st.sampled_from([None, size[0] + extra])) if fit == "shorter" else None,
        pad_to=draw(st.sampled_from([1, 8])) if fit in ("shorter", "none") else 1,
        **options,
    )


@settings(max_examples=150, deadline=None)
@given(spec=specs(), height=SIDES, width=SIDES, data=st.data())
def test_box_goes_to_the_input_and_back(
    spec: Preprocess, height: int, width: int, data: st.DataObject
) -> None:
    _, geometry = apply(spec, np.zeros((height, width, 3), np.uint8))
    corners = [data.draw(st.floats(0, limit, width=32)) for limit in (width, height, width, height)]
    box = np.array([corners], np.float32)
    np.testing.assert_allclose(geometry.boxes_to_source(geometry.boxes_to_input(box)), box, atol=1e-3)


@settings(max_examples=150, deadline=None)
@given(
    spec=specs(interpolation="bilinear", pad_value=0),
    height=st.integers(20, 90),
    width=st.integers(20, 90),
    place=st.tuples(*[st.floats(0, 0.5)] * 2),
)
def test_drawn_rectangle_lies_where_its_box_says(
    spec: Preprocess, height: int, width: int, place: tuple[float, float]
) -> None:
    y0, x0 = int(place[0] * height), int(place[1] * width)
    y1, x1 = y0 + height // 2, x0 + width // 2
    image = np.zeros((height, width, 3), np.uint8)
    image[y0:y1, x0:x1] = 255
    output, geometry = apply(spec, image)
    left, top, right, bottom = geometry.boxes_to_input(np.array([[x0, y0, x1, y1]], np.float32))[0]
    inner = spec.border, spec.border, output.shape[1] - spec.border, output.shape[0] - spec.border
    left, top = max(left, inner[0]), max(top, inner[1])
    right, bottom = min(right, inner[2]), min(bottom, inner[3])
    assume(right - left > 2 and bottom - top > 2)
    rows, columns = np.nonzero((output[..., 0] > 127).any(1))[0], np.nonzero((output[..., 0] > 127).any(0))[0]
    found = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    np.testing.assert_allclose(found, (left, top, right, bottom), atol=1)


@settings(max_examples=150, deadline=None)
@given(spec=specs(interpolation="nearest", pad_value=IGNORE), height=SIDES, width=SIDES)
def test_mask_goes_where_the_pixels_go(spec: Preprocess, height: int, width: int) -> None:
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)  # each pixel says where it is
    output, geometry = apply(spec, np.dstack([rows, columns, columns]))
    output = output[: geometry.input[0], : geometry.input[1]]  # the padding of pad_to has no mask
    for channel, mask in enumerate((rows, columns)):
        moved = geometry.mask_to_input(mask).astype(int)
        inner = slice(spec.border, -spec.border or None)  # a crop's mask goes on below the border
        # Where a sample falls exactly between two pixels, the two may take different ones.
        assert np.abs(moved - output[..., channel])[inner, inner].max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("color", ["rgb", "gray", "hsv"])
@pytest.mark.parametrize("fit", ["crop", "letterbox", "none"])
def test_a_picture_of_pillows_gives_the_pixels_of_its_array(fit: Any, color: Any, mode: str) -> None:
    one = (0.5,) if color == "gray" else (0.5, 0.5, 0.5)
    spec = Preprocess((9, 9), fit, color=color, mean=one, std=one)
    image = noise(20, 31) if mode == "RGB" else noise(20, 31)[:, :, :1]
    pillow = PIL.Image.fromarray(image if mode == "RGB" else image[:, :, 0])
    found, geometry = apply(spec, pillow)
    expected, same = apply(spec, image)
    np.testing.assert_array_equal(found, expected)
    assert geometry == same
    assert found.flags.writeable
    assert found.flags.c_contiguous


def test_a_picture_of_pillows_in_another_mode_is_refused() -> None:
    with pytest.raises(DataError, match="mode RGBA, 4 x 3"):
        apply(Preprocess(), PIL.Image.new("RGBA", (4, 3)))


@settings(max_examples=60, deadline=None)
@given(spec=specs(), height=SIDES, width=SIDES, channels=st.sampled_from([1, 3]))
def test_output_is_fresh_contiguous_and_of_the_stated_size(
    spec: Preprocess, height: int, width: int, channels: int
) -> None:
    image = noise(height, width, channels)
    before = image.copy()
    output, geometry = apply(spec, image)
    assert output.dtype == np.uint8
    multiple = spec.pad_to
    assert output.shape == (*(-(-side // multiple) * multiple for side in geometry.input), spec.channels)
    assert geometry.source == (height, width)
    assert output.flags.c_contiguous
    assert output.flags.writeable
    assert not np.shares_memory(output, image)
    np.testing.assert_array_equal(image, before)
    if spec.is_fixed:
        assert geometry.input == spec.size


def test_view_of_another_array_gives_the_same_pixels_as_its_copy() -> None:
    view = noise(40, 30)[::-1, ::2]
    spec = Preprocess(size=(16, 16))
    np.testing.assert_array_equal(apply(spec, view)[0], apply(spec, view.copy())[0])


# Refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(1, 10_000), (10_000, 1), (1, 1)])
def test_extreme_shape_keeps_at_least_one_pixel(height: int, width: int) -> None:
    image = np.full((height, width, 3), 255, np.uint8)
    for spec in (
        Preprocess(size=(20, 20), fit="letterbox"),
        Preprocess(size=(20, 20), fit="shorter", max_size=30),
        Preprocess(size=(20, 20), fit="stretch"),
        Preprocess(size=(20, 20), fit="none"),
        Preprocess(size=(20, 20)),
    ):
        output, _ = apply(spec, image)
        assert output.max() == 255


@pytest.mark.parametrize("fit", ["crop", "shorter"])
def test_picture_that_would_grow_beyond_all_measure_is_refused(fit: Any) -> None:
    with pytest.raises(DataError, match=r"1 x 10000 pixels would grow to 224 x 2240000 .*fix: .*letterbox"):
        apply(Preprocess(fit=fit), np.zeros((10_000, 1, 3), np.uint8))


def test_max_size_without_room_inside_the_border_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"preprocess\.max_size"):
        Preprocess(size=(20, 20), fit="shorter", border=4, max_size=8)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3)),
    ],
)
def test_what_is_no_picture_is_refused(image: Any) -> None:
    with pytest.raises(DataError, match="use decode_image"):
        apply(Preprocess(), image)
