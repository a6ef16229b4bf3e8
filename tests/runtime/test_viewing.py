"""Looking at a picture several times: in tiles, larger and smaller, mirrored, with a CRF behind."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.errors import UsageError
from striate.modelfile import ModelCard
from striate.runtime.predictor import Predictor
from striate.structures import Preprocess, Segmentation

CLASSES = ("dark", "bright")
SPEC = Preprocess(size=(64, 64), fit="letterbox", color="gray", mean=(0.0,), std=(1.0,))


class Threshold:
    """An engine whose answer at a pixel is the mean of the 3x3 around it; it keeps what it was given."""

    lanes = 1

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        images = inputs["images"]
        self.seen.append(images.shape)
        values = np.pad(images[:, 0].astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
        height, width = images.shape[2:]
        total = sum(values[:, y : y + height, x : x + width] for y in range(3) for x in range(3))
        bright = (total / 9 - 128) / 16
        return {"logits": np.stack((-bright, bright), 1)}


def predictor(task: str = "segmentation", context: int = 1) -> tuple[Predictor, Threshold]:
    engine = Threshold()
    card = ModelCard(task, "unet", "unet", {}, CLASSES, SPEC, context=context)
    return Predictor(card, engine), engine


def picture(height: int, width: int) -> NDArray[np.uint8]:
    blocks = np.random.default_rng(3).integers(0, 256, (height // 8 + 1, width // 8 + 1), np.uint8)
    whole: NDArray[np.uint8] = np.kron(blocks, np.ones((8, 8), np.uint8))[:height, :width, None]
    return whole


def test_tiles_say_what_the_whole_picture_says() -> None:
    found, engine = predictor()
    image = picture(150, 203)
    tiled = found.viewing(tile=64).predict(image)
    assert max(max(shape[2:]) for shape in engine.seen) == 64
    assert len(engine.seen) > 4
    engine.seen.clear()
    whole = found.viewing(tile=1024).predict(image)
    assert engine.seen == [(1, 1, 150, 203)]
    assert isinstance(tiled, Segmentation)
    assert isinstance(whole, Segmentation)
    np.testing.assert_array_equal(tiled.mask, whole.mask)


def test_mirrored_and_scaled_views_are_all_asked_for() -> None:
    found, engine = predictor()
    result = found.viewing(scales=(0.5, 1.0), flip=True).predict(picture(64, 64))
    assert engine.seen == [(1, 1, 32, 32)] * 2 + [(1, 1, 64, 64)] * 2
    assert isinstance(result, Segmentation)
    assert result.mask.shape == (64, 64)


def test_a_symmetric_answer_is_the_same_with_the_mirror_image() -> None:
    found, _ = predictor()
    image = picture(64, 64)
    plain, mirrored = found.predict(image), found.viewing(flip=True).predict(image)
    assert isinstance(plain, Segmentation)
    assert isinstance(mirrored, Segmentation)
    np.testing.assert_array_equal(plain.mask, mirrored.mask)


def test_a_crf_removes_a_speck_and_keeps_a_border() -> None:
    found, _ = predictor(context=0)
    image = np.full((48, 48, 1), 90, np.uint8)
    image[:, 24:] = 220
    image[10:13, 10:13] = 200
    plain, refined = found.predict(image), found.viewing(crf=True).predict(image)
    assert isinstance(plain, Segmentation)
    assert isinstance(refined, Segmentation)
    assert plain.mask[11, 11] == 1
    assert refined.mask.shape == (48, 48)
    assert (refined.mask[:, 26:] == 1).all()


def test_a_model_without_masks_has_no_views() -> None:
    found, _ = predictor("classification")
    with pytest.raises(UsageError, match="use a model for masks"):
        found.viewing(flip=True)


def test_several_pictures_keep_their_order() -> None:
    found, _ = predictor()
    images = [picture(64, 80), picture(90, 64)]
    results = list(found.viewing(tile=64).stream(images))
    assert [result.mask.shape for result in results if isinstance(result, Segmentation)] == [
        (64, 80),
        (90, 64),
    ]
