"""One picture, five roads: training's validation, eval, predict, Python and bytes.

The pixels that reach the network are the same bit by bit, and so are the probabilities at equal batch
size; at another batch size they are equal within 1e-6.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import striate
from striate import models, plugins, tasks
from striate.api.evaluation import evaluate_indices
from striate.cli import main
from striate.data.augment import AugmentConfig
from striate.data.open import DataConfig, open_dataset
from striate.modelfile import MODEL_FILE
from striate.runtime.predictor import Predictor, load
from striate.training.config import TrainingConfig
from striate.training.evaluate import Place, evaluate
from striate.training.interruption import Stop
from striate.training.loaders import make_loaders
from striate.training.saving import save

Pixels = dict[str, NDArray[np.uint8]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of a val part with odd sizes in every format, and one plain training picture each."""
    root = tmp_path_factory.mktemp("roads") / "photos"
    chance = np.random.default_rng(11)

    def noise(height: int, width: int, channels: int = 3) -> Image.Image:
        tiles = chance.integers(0, 256, (7, 5, channels), np.uint8)
        made = Image.fromarray(tiles if channels > 1 else tiles[:, :, 0])
        return made.resize((width, height), Image.Resampling.BICUBIC)

    for part, name in (("train", "a"), ("train", "b"), ("val", "a"), ("val", "b")):
        (root / part / name).mkdir(parents=True)
        noise(40, 40).save(root / part / name / "plain.png")
    exif = Image.Exif()
    exif[0x0112] = 8
    val = root / "val"
    noise(61, 37).save(val / "a" / "odd.jpg", quality=83)
    noise(33, 129).save(val / "a" / "turned.jpg", exif=exif)
    noise(50, 51).convert("CMYK").save(val / "a" / "cmyk.jpg")
    noise(45, 47, 1).save(val / "b" / "gray.png")
    noise(41, 83, 4).save(val / "b" / "alpha.png")
    noise(70, 39).convert("P").save(val / "b" / "palette.gif")
    noise(37, 58).save(val / "b" / "photo.webp", quality=70)
    noise(39, 44).save(val / "b" / "scan.tiff")
    noise(55, 36).save(val / "b" / "paint.bmp")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a resnet18 with random weights."""
    torch.manual_seed(5)
    network = models.create("resnet18", ("a", "b"), preprocess={"size": [64, 64], "resize_to": 73})
    folder = tmp_path_factory.mktemp("model")
    save(folder / MODEL_FILE, network, models.card_of(network))
    return folder


class Watched:
    """An engine that keeps the pixels it is given, by content, and lets the true one compute."""

    lanes = 1

    def __init__(self, predictor: Predictor) -> None:
        self.engine, self.seen = predictor.engine, list[NDArray[np.uint8]]()
        predictor.engine = self

    def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.seen += [image.transpose(1, 2, 0).copy() for image in inputs["images"]]
        return self.engine.dense(inputs)


def val_items(photos: Path) -> dict[str, Path]:
    dataset = open_dataset(DataConfig(source=str(photos)))
    return {item.key: photos / item.key for item in dataset.items if item.part == "val"}


def by_training(photos: Path, model: Path) -> Pixels:
    network = load(model).engine.network  # type: ignore[attr-defined]
    dataset = open_dataset(DataConfig(source=str(photos)))
    loaders = make_loaders(dataset, network.preprocess, TrainingConfig(batch_size=4), AugmentConfig())
    found: Pixels = {}
    for _, batch, _ in loaders.val:
        found |= zip(batch.keys, batch.images.permute(0, 2, 3, 1).numpy(), strict=True)
    return found


def test_validation_gives_the_bits_that_predict_gives_at_equal_batch_size(photos: Path, model: Path) -> None:
    predictor, items = load(model), val_items(photos)
    network = predictor.engine.network  # type: ignore[attr-defined]
    task = plugins.load(tasks, "classification")
    config = TrainingConfig(batch_size=4)
    loaders = make_loaders(
        open_dataset(DataConfig(source=str(photos))), network.preprocess, config, AugmentConfig()
    )
    seen: list[Any] = []
    watching = ModuleType("watching")
    watching.__dict__.update(task.__dict__)
    watching.results = lambda *given: seen.extend(found := task.results(*given)) or found  # type: ignore[attr-defined]
    evaluate(network, watching, loaders.val, Place(torch.device("cpu")), Stop(), "epoch 1")
    for result, expected in zip(seen, predictor.predict(list(items.values()), batch_size=4), strict=True):
        np.testing.assert_array_equal(result.probabilities, expected.probabilities)


def by_eval(photos: Path, model: Path) -> Pixels:
    predictor = load(model)
    watched, dataset = Watched(predictor), open_dataset(DataConfig(source=str(photos)))
    indices = dataset.indices("val")
    evaluate_indices(predictor, dataset, indices)
    return dict(zip([dataset.items[index].key for index in indices], watched.seen, strict=True))


def by(give: Callable[[Path], Any]) -> Callable[[Path, Path], Pixels]:
    def road(photos: Path, model: Path) -> Pixels:
        predictor, items = load(model), val_items(photos)
        watched = Watched(predictor)
        predictor.predict([give(path) for path in items.values()])
        return dict(zip(items, watched.seen, strict=True))

    return road


ROADS: dict[str, Callable[[Path, Path], Pixels]] = {
    "eval": by_eval,
    "paths": by(str),
    "bytes": by(Path.read_bytes),
    "PIL": by(Image.open),
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_network_sees_the_same_pixels_as_in_training(photos: Path, model: Path, road: str) -> None:
    expected, found = by_training(photos, model), ROADS[road](photos, model)
    assert found.keys() == expected.keys()
    for key, pixels in expected.items():
        np.testing.assert_array_equal(found[key], pixels, err_msg=key)


def test_the_command_line_gives_the_bits_that_python_gives(
    photos: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(model), str(photos / "val"), "--json", "--batch-size", "4"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    results = striate.predict(model, photos / "val", batch_size=4)
    assert [row["key"] for row in printed] == [result.key for result in results]
    for row, result in zip(printed, results, strict=True):
        assert [*row["probabilities"].values()] == result.probabilities.tolist()


def test_bytes_give_the_bits_that_paths_give_at_equal_batch_size(photos: Path, model: Path) -> None:
    predictor, paths = striate.load(model), list(val_items(photos).values())
    by_path = predictor.predict(paths, batch_size=4)
    by_bytes = predictor.predict([path.read_bytes() for path in paths], batch_size=4)
    for a, b in zip(by_path, by_bytes, strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)


def test_the_batch_size_changes_a_probability_by_less_than_a_millionth(photos: Path, model: Path) -> None:
    predictor, paths = striate.load(model), list(val_items(photos).values())
    together = predictor.predict(paths, batch_size=8)
    for result, path in zip(together, paths, strict=True):
        alone = predictor.predict(path)
        np.testing.assert_allclose(alone.probabilities, result.probabilities, rtol=0, atol=1e-6)
