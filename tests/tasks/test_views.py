"""Tiles, scales and mirror images of one picture, and the one answer that comes of them."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from striate.data.preprocess import apply
from striate.errors import ModelError, NotFiniteError, UsageError
from striate.structures import IGNORE, Preprocess, Segmentation
from striate.tasks._views import spans
from striate.tasks.segmentation import Merger, Refine, ResultOptions, View, ViewOptions, results, views

Maps = NDArray[np.float32]
Engine = Callable[[NDArray[np.uint8]], Maps]
"""What stands for a network: from images (B, C, H, W) uint8 to logits (B, K, H, W)."""

OWN_SIZE = Preprocess(size=(64, 64), fit="none")
CLASSES = ("a", "b", "c")


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth_picture(height: int, width: int) -> NDArray[np.uint8]:
    down, across = np.mgrid[:height, :width]
    waves = [np.sin(down / 17 + across / a) for a in (11, 19, 29)]
    return np.round(127 + 120 * np.stack(waves, 2)).astype(np.uint8)


def convolution(reach: int) -> Engine:
    """Three maps that look exactly `reach` pixels far, over zeros beyond the edge; not symmetric."""
    side = 2 * reach + 1
    kernel = torch.from_numpy(np.random.default_rng(reach).normal(0, 3 / side, (3, 3, side, side)))
    return lambda images: F.conv2d(torch.from_numpy(images) / 255.0, kernel.float(), padding=reach).numpy()


def blocks(images: NDArray[np.uint8]) -> Maps:
    """The mean of each colour over squares of 32 pixels from the input's corner on: a strided network."""
    pooled = F.avg_pool2d(torch.from_numpy(images.astype(np.float32)), 32, ceil_mode=True)
    return F.interpolate(pooled, scale_factor=32.0)[:, :, : images.shape[2], : images.shape[3]].numpy()


def colors(images: NDArray[np.uint8]) -> Maps:
    """Each pixel by itself: the logits are its colours."""
    return images.astype(np.float32)


def predicted(
    image: NDArray[np.uint8],
    engine: Engine,
    options: ViewOptions,
    preprocess: Preprocess = OWN_SIZE,
    refine: Refine | None = None,
    order: Callable[[list[View]], list[View]] = list,
) -> Segmentation:
    merger = Merger("a.png", image.shape[:2], CLASSES, options, refine)
    for view in order(list(views(image, preprocess, options))):
        images = np.ascontiguousarray(view.image.transpose(2, 0, 1)[None])
        merger.add(view, engine(images)[0])
    return merger.result()


def at_once(image: NDArray[np.uint8], engine: Engine, preprocess: Preprocess = OWN_SIZE) -> Segmentation:
    shown, geometry = apply(preprocess, image)
    logits = engine(np.ascontiguousarray(shown.transpose(2, 0, 1)[None]))
    return results({"logits": logits}, ["a.png"], [geometry], ResultOptions(CLASSES))[0]


# tiles


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 190), st.integers(1, 190), st.integers(0, 7), st.integers(0, 40))
def test_tiles_say_what_the_whole_picture_says(height: int, width: int, reach: int, more: int) -> None:
    image, engine = picture(height, width), convolution(reach)
    found = predicted(image, engine, ViewOptions(tile=2 * reach + 48 + more, context=reach))
    assert (found.mask == at_once(image, engine).mask).all()


def test_a_network_that_looks_further_than_its_context_is_seen_to_differ() -> None:
    image, engine = picture(150, 150), convolution(6)
    found = predicted(image, engine, ViewOptions(tile=48, context=3))
    assert (found.mask != at_once(image, engine).mask).any()


def test_strides_of_32_fall_on_the_same_pixels_in_every_tile() -> None:
    image = picture(201, 173)
    found = predicted(image, blocks, ViewOptions(tile=104, context=32))
    assert (found.mask == at_once(image, blocks).mask).all()


def test_the_order_of_the_views_is_no_matter() -> None:
    image, options = picture(100, 130), ViewOptions(tile=48, context=4, flip=True)
    straight = predicted(image, convolution(4), options)
    backwards = predicted(image, convolution(4), options, order=lambda all_views: all_views[::-1])
    assert (straight.mask == backwards.mask).all()


def test_no_view_is_larger_than_a_tile_and_a_small_picture_is_one_view() -> None:
    options = ViewOptions(tile=48, context=4)
    assert {view.image.shape for view in views(picture(100, 40), OWN_SIZE, options)} == {
        (48, 40, 3),
        (36, 40, 3),
    }
    assert len(list(views(picture(48, 48), OWN_SIZE, options))) == 1


@given(st.integers(1, 700), st.integers(0, 60), st.integers(0, 100))
def test_the_shares_of_all_tiles_sum_to_1_and_are_0_near_inner_edges(
    length: int, context: int, more: int
) -> None:
    options = ViewOptions(tile=2 * context + 48 + more, context=context)
    total, margin = np.zeros(length), options.margin
    for start, stop, weight in spans(length, options):
        assert start % 32 == 0
        assert stop - start <= 2 * context + 48 + more
        total[start:stop] += weight
        assert start == 0 or not weight[:margin].any()
        assert stop == length or not weight[len(weight) - margin :].any()
        used = weight[margin if start else 0 : len(weight) - (margin if stop < length else 0)]
        assert (used > 0).all()
    np.testing.assert_allclose(total, 1, rtol=1e-6)


def test_where_tiles_meet_one_fades_into_the_other() -> None:
    first, second = spans(150, ViewOptions(tile=96, context=8))
    assert (first.stop, second.start) == (96, 64)
    meeting = first.weight[72:88]
    assert (np.diff(meeting) < 0).all()
    assert 0 < meeting[-1] < 0.2
    assert meeting[0] > 0.8


def test_memory_is_far_below_that_of_all_maps() -> None:
    image, options = picture(800, 200), ViewOptions(tile=128, context=8)
    merger = Merger("a", (800, 200), tuple(map(str, range(30))), options)
    tracemalloc.start()
    for view in views(image, OWN_SIZE, options):
        merger.add(view, np.repeat(view.image.transpose(2, 0, 1).astype(np.float32), 10, axis=0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (merger.result().mask == 10 * image.argmax(2)).all()
    assert peak < 800 * 200 * 30 * 4 / 3


def test_the_preprocessing_s_size_does_not_count_for_tiles() -> None:
    small = Preprocess(size=(16, 16), fit="crop", resize_to=20)
    image = picture(100, 90)
    found = predicted(image, colors, ViewOptions(tile=64), small)
    assert (found.mask == image.argmax(2)).all()


# scales and mirror images


@pytest.mark.parametrize("fit", [{"fit": "letterbox"}, {"fit": "crop"}, {"fit": "shorter", "pad_to": 8}])
def test_with_the_defaults_it_is_the_result_of_one_pass(fit: dict[str, Any]) -> None:
    spec = Preprocess(size=(20, 31), **fit)
    image = picture(33, 40)
    found = predicted(image, convolution(2), ViewOptions(), spec)
    assert (found.mask == at_once(image, convolution(2), spec).mask).all()


@pytest.mark.parametrize("fit", [{"fit": "letterbox"}, {"fit": "none", "pad_to": 8}, {"fit": "stretch"}])
def test_a_mirror_image_is_mirrored_back_padding_and_all(fit: dict[str, Any]) -> None:
    spec = Preprocess(size=(20, 31), **fit)
    image = picture(33, 40)
    found = predicted(image, colors, ViewOptions(flip=True), spec)
    assert (found.mask == at_once(image, colors, spec).mask).all()


def test_probabilities_are_averaged_over_both_sides() -> None:
    image, engine = picture(9, 11), convolution(1)
    straight = torch.from_numpy(engine(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))[0])
    mirrored = torch.from_numpy(engine(np.ascontiguousarray(image[:, ::-1].transpose(2, 0, 1)[None]))[0])
    mean = (straight.softmax(0) + mirrored.flip(2).softmax(0)) / 2
    found = predicted(image, engine, ViewOptions(flip=True))
    assert (found.mask == mean.argmax(0).numpy()).all()
    assert (found.mask != straight.argmax(0).numpy()).any()


def test_probabilities_are_averaged_over_scales_at_the_picture_s_size() -> None:
    spec, image, engine = Preprocess(size=(12, 16), fit="stretch"), picture(24, 20), convolution(1)
    mean = torch.zeros(3, 24, 20)
    for size in ((12, 16), (18, 24)):
        shown, _ = apply(Preprocess(size=size, fit="stretch"), image)
        logits = torch.from_numpy(engine(np.ascontiguousarray(shown.transpose(2, 0, 1)[None])))
        mean += F.interpolate(logits, (24, 20), mode="bilinear", align_corners=False)[0].softmax(0) / 2
    given: list[Maps] = []
    options = ViewOptions(scales=(1.0, 1.5))
    found = predicted(image, engine, options, spec, refine=lambda maps: given.append(maps) or maps)  # type: ignore[func-returns-value]
    np.testing.assert_allclose(given[0], mean.numpy(), atol=1e-5)
    assert (found.mask == mean.argmax(0).numpy()).all()


@pytest.mark.parametrize(
    "spec",
    [
        Preprocess(size=(24, 24), fit="crop", resize_to=30),
        Preprocess(size=(40, 60), fit="letterbox", border=1),
        Preprocess(size=(40, 60), fit="shorter", max_size=70, pad_to=4),
        OWN_SIZE,
    ],
)
@pytest.mark.parametrize("tile", [None, 64])
def test_scales_and_mirrors_keep_a_smooth_picture_what_it_is(spec: Preprocess, tile: int | None) -> None:
    image = smooth_picture(100, 120)
    found = predicted(image, colors, ViewOptions(tile=tile, scales=(0.5, 1.0, 1.75), flip=True), spec)
    seen = found.mask != IGNORE
    assert seen.mean() > (0.5 if spec.fit == "crop" and tile is None else 0.999)
    assert (found.mask == image.argmax(2))[seen].mean() > 0.97


def test_where_the_context_is_not_known_an_eighth_of_the_tile_is_left() -> None:
    assert ViewOptions(tile=512).margin == 64
    assert ViewOptions(tile=512, scales=(0.5,)).margin == 64


def test_tiles_at_other_scales_leave_more_to_their_neighbours() -> None:
    assert ViewOptions(context=10).margin == 10
    assert ViewOptions(context=10, scales=(0.5, 1.0)).margin == 24


# refinement


def test_refinement_gets_probabilities_and_gives_the_answer() -> None:
    def lonely(maps: Maps) -> Maps:
        np.testing.assert_allclose(maps.sum(0), 1, rtol=1e-5)
        return maps[[2, 0, 1]]

    image, spec = picture(30, 40), Preprocess(size=(20, 20), fit="crop")
    plain = predicted(image, colors, ViewOptions(), spec)
    found = predicted(image, colors, ViewOptions(), spec, refine=lonely)
    seen = plain.mask != IGNORE
    assert (found.mask[seen] == (plain.mask[seen] + 1) % 3).all()
    assert (found.mask[~seen] == IGNORE).all()
    assert 0 < seen.mean() < 1


def test_refinement_of_a_tiled_picture_is_refused() -> None:
    with pytest.raises(UsageError, match="do not tile"):
        Merger("a", (100, 100), CLASSES, ViewOptions(tile=64), refine=lambda maps: maps)


# what is refused


def test_a_missing_view_is_refused() -> None:
    options = ViewOptions(flip=True)
    merger = Merger("a.png", (8, 8), CLASSES, options)
    merger.add(next(iter(views(picture(8, 8), OWN_SIZE, options))), np.zeros((3, 8, 8), np.float32))
    with pytest.raises(UsageError, match=r"a\.png are missing"):
        merger.result()


def test_logits_of_other_classes_are_refused() -> None:
    merger = Merger("a.png", (8, 8), CLASSES, ViewOptions())
    view = next(iter(views(picture(8, 8), OWN_SIZE, ViewOptions())))
    with pytest.raises(ModelError, match=r"\(2, 8, 8\), expected \(3, 'H', 'W'\)"):
        merger.add(view, np.zeros((2, 8, 8), np.float32))


def test_a_view_that_gives_nan_is_refused_with_its_picture() -> None:
    with pytest.raises(NotFiniteError, match=r"^a\.png: "):
        predicted(picture(8, 8), lambda images: colors(images) * np.float32(np.nan), ViewOptions())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("scales", {"scales": ()}),
        ("scales", {"scales": (1.0, 1.0)}),
        ("scales", {"scales": (0.0,)}),
        ("scales", {"scales": (float("nan"),)}),
        ("scales", {"scales": (9.0,)}),
        ("context", {"context": -1}),
        ("tile", {"tile": 47}),
        ("tile", {"tile": 95, "context": 32}),
        ("tile", {"tile": 64, "context": 16, "scales": (0.5,)}),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{name}: "):
        ViewOptions(**options)
