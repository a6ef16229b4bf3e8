"""Batches of pictures and masks."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from striate.data.batches import Caches
from striate.data.batches.segmentation import AugmentConfig, for_measuring, for_training, frequencies
from striate.data.border_weight import border_weight
from striate.data.cache import Budget
from striate.data.dataset import Dataset, Item
from striate.data.decode import decode_image
from striate.data.disk_space import DiskSpace
from striate.data.draws import Draws
from striate.data.loader import TrainLoader
from striate.data.preprocess import apply
from striate.data.tree import open_tree
from striate.errors import DataError
from striate.structures import Batch, MaskTargets, Preprocess
from striate.tasks import segmentation

SPEC = Preprocess(size=(24, 32), fit="letterbox")
EVERYTHING = AugmentConfig(flip=0.5, zoom=(0.5, 2.0), jitter=0.3, rotate=10, elastic=2, border_weight=10)
TARGETS = partial(segmentation.targets, options=segmentation.TargetOptions(3))
SIZES = ((24, 32), (30, 40), (50, 37), (24, 32), (64, 80), (20, 20), (33, 44))


@dataclass
class Drawn:
    """Pictures of noise and masks of blocks of three classes, some void; counts what is read."""

    sizes: tuple[tuple[int, int], ...]
    read: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def content(self, key: str) -> NDArray[np.uint8]:
        return self._chance(key).integers(0, 256, (*self.sizes[int(key[1:])], 3), np.uint8)

    def mask(self, key: str) -> NDArray[np.uint8]:
        height, width = self.sizes[int(key[1:])]
        blocks = self._chance(key).choice(np.array([0, 0, 0, 1, 2, 255], np.uint8), (10, 10))
        return blocks.repeat(8, 0).repeat(8, 1)[:height, :width].copy()

    def _chance(self, key: str) -> np.random.Generator:
        with self.lock:
            self.read[key] += 1
        return np.random.default_rng(int(key[1:]))


def dataset_of(sizes: tuple[tuple[int, int], ...] = SIZES) -> tuple[Dataset, Drawn]:
    """Pictures p0, p1, ... with the masks m0, m1, ..."""
    drawn = Drawn(sizes)
    items = tuple(Item(f"p{index}", "train", mask=f"m{index}") for index in range(len(sizes)))
    dataset = Dataset("test", "drawn", "segmentation", ("a", "b", "c"), items, drawn, masks=drawn)
    return dataset, drawn


def every(dataset: Dataset) -> NDArray[np.int64]:
    """0, 1, ... len(dataset) - 1."""
    return np.arange(len(dataset))


def memory(count: int = 1 << 24) -> Caches:
    """A cache of `count` bytes of memory, and none on disk."""
    return Caches(Budget(count))


def assert_equal(one: Batch[Any], other: Batch[Any]) -> None:
    """Bit by bit."""
    assert (one.keys, one.geometry) == (other.keys, other.geometry)
    assert isinstance(one.targets, MaskTargets)
    assert isinstance(other.targets, MaskTargets)
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.targets.labels, other.targets.labels)
    np.testing.assert_array_equal(one.targets.weight, other.targets.weight)


def test_a_training_batch_has_a_label_and_a_weight_for_each_pixel() -> None:
    dataset, _ = dataset_of()
    training = for_training(dataset, every(dataset), SPEC, replace_border(EVERYTHING), memory())
    batch = training.make(Draws(0, 0), np.array([4, 1], np.int64), TARGETS)
    targets = batch.targets
    assert isinstance(targets, MaskTargets)
    assert batch.keys == ("p4", "p1")
    assert batch.images.shape == (2, 3, 24, 32)
    assert targets.labels.shape == targets.weight.shape == (2, 24, 32)
    assert batch.images.dtype == targets.labels.dtype == np.uint8
    assert targets.weight.dtype == np.float32
    np.testing.assert_array_equal(targets.weight, targets.labels != 255)
    assert set(np.unique(targets.labels)) == {0, 1, 2, 255}


def replace_border(config: AugmentConfig) -> AugmentConfig:
    """`config` without the weight of borders."""
    values = {name: getattr(config, name) for name in config.__struct_fields__}
    return AugmentConfig(**{**values, "border_weight": 0.0})


def test_border_weights_are_those_of_the_varied_labels_on_top_of_the_class_weights() -> None:
    dataset, _ = dataset_of()
    weights = (0.5, 2.0, 1.0)
    targets = partial(segmentation.targets, options=segmentation.TargetOptions(3, class_weights=weights))
    training = for_training(dataset, every(dataset), SPEC, EVERYTHING, memory())
    made = training.make(Draws(0, 0), every(dataset), targets).targets
    assert isinstance(made, MaskTargets)
    for labels, weight in zip(made.labels, made.weight, strict=True):
        own = np.array([*weights, *[0] * 253], np.float32)[labels]
        np.testing.assert_allclose(weight, own + border_weight(labels, 10, 5), rtol=1e-6)
    assert (made.weight[made.labels == 255] == 0).all()
    assert made.weight.max() > 5


@pytest.mark.parametrize("room", [0, 9000, 1 << 24], ids=["none", "some", "all"])
def test_a_batch_is_the_same_from_any_cache(room: int) -> None:
    dataset, _ = dataset_of()
    expected = for_training(dataset, every(dataset), SPEC, EVERYTHING, memory())
    found = for_training(dataset, every(dataset), SPEC, EVERYTHING, memory(room))
    for epoch in range(2):
        drawn = Draws(1, epoch)
        assert_equal(
            found.make(drawn, every(dataset), TARGETS), expected.make(drawn, every(dataset), TARGETS)
        )


def test_pictures_on_disk_give_the_same_batch_in_a_later_run(tmp_path: Path) -> None:
    drawn_ones, _ = dataset_of()
    (tmp_path / "pictures").mkdir()
    for item in drawn_ones.items:
        pixels = drawn_ones.storage.content(item.key)
        assert isinstance(pixels, np.ndarray)
        Image.fromarray(pixels).save(tmp_path / "pictures" / item.key, "PNG")
    dataset = replace(drawn_ones, storage=open_tree(tmp_path / "pictures"))
    expected = for_training(dataset, every(dataset), SPEC, EVERYTHING, memory())
    for _ in range(2):
        space = DiskSpace(tmp_path / "cache", 1 << 30)
        found = for_training(dataset, every(dataset), SPEC, EVERYTHING, Caches(Budget(0), space))
        assert_equal(
            found.make(Draws(0, 0), every(dataset), TARGETS),
            expected.make(Draws(0, 0), every(dataset), TARGETS),
        )
    assert found.pictures.disk is not None
    assert len(found.pictures.disk) == len(dataset)


def test_workers_change_nothing() -> None:
    dataset, _ = dataset_of()
    epochs = []
    for workers in (0, 3):
        source = for_training(dataset, every(dataset), SPEC, EVERYTHING, memory())
        loader = TrainLoader(source, every(dataset), TARGETS, 3, seed=5, workers=workers)
        epochs.append([*loader.epoch(0), *loader.epoch(1)])
    assert len(epochs[0]) == 4
    for one, other in zip(*epochs, strict=True):
        assert_equal(one, other)


def test_an_epoch_reads_no_mask_and_no_picture_again() -> None:
    dataset, drawn = dataset_of()
    training = for_training(dataset, every(dataset), SPEC, EVERYTHING, memory())
    for epoch in range(3):
        training.make(Draws(0, epoch), every(dataset), TARGETS)
    assert drawn.read == {f"{kind}{index}": 1 for kind in "pm" for index in range(len(dataset))}


def test_measuring_sees_the_pictures_as_predict_does_and_the_masks_by_the_same_geometry() -> None:
    dataset, drawn = dataset_of()
    measuring = for_measuring(dataset, every(dataset), SPEC, memory())
    asked = np.array([2, 0, 5], np.int64)
    batch = measuring.make(asked, TARGETS)
    assert isinstance(batch.targets, MaskTargets)
    for row, index in enumerate(asked.tolist()):
        image, geometry = apply(SPEC, decode_image(drawn.content(f"p{index}")))
        np.testing.assert_array_equal(batch.images[row], image.transpose(2, 0, 1))
        assert batch.geometry[row] == geometry
        expected = geometry.mask_to_input(drawn.mask(f"m{index}"))
        np.testing.assert_array_equal(batch.targets.labels[row], expected)
    for truth, index in zip(measuring.truths(asked), asked.tolist(), strict=True):
        np.testing.assert_array_equal(truth, drawn.mask(f"m{index}"))


@pytest.mark.parametrize("fit", ["none", "shorter"])
def test_what_a_batch_is_padded_with_is_void(fit: Any) -> None:
    dataset, _ = dataset_of(((20, 27), (20, 27)))
    spec = Preprocess(size=(20, 20), fit=fit, pad_to=16)
    for batch in (
        for_measuring(dataset, every(dataset), spec, memory()).make(every(dataset), TARGETS),
        for_training(dataset, every(dataset), spec, AugmentConfig(), memory()).make(
            Draws(0, 0), every(dataset), TARGETS
        ),
    ):
        assert isinstance(batch.targets, MaskTargets)
        assert batch.targets.labels.shape == batch.images.shape[:1] + batch.images.shape[2:] == (2, 32, 32)
        assert (batch.targets.labels[:, 20:] == 255).all()
        assert (batch.targets.labels[:, :, 27:] == 255).all()
        assert (batch.targets.labels[:, :20, :27] != 255).any()


def test_pictures_of_several_sizes_in_one_batch_need_a_fixed_fit_or_zoom() -> None:
    dataset, _ = dataset_of()
    spec = Preprocess(size=(24, 32), fit="none")
    measuring = for_measuring(dataset, every(dataset), spec, memory())
    training = for_training(dataset, every(dataset), spec, AugmentConfig(), memory())
    message = "p1: it is 40x30, p0 is 32x24, and one batch needs one size"
    with pytest.raises(DataError, match=message):
        measuring.make(every(dataset), TARGETS)
    with pytest.raises(DataError, match=message):
        training.make(Draws(0, 0), every(dataset), TARGETS)
    zoomed = for_training(dataset, every(dataset), spec, AugmentConfig(zoom=(1.0, 1.0)), memory())
    assert zoomed.make(Draws(0, 0), every(dataset), TARGETS).images.shape == (7, 3, 24, 32)


@pytest.mark.parametrize("make", [for_training, for_measuring])
def test_an_item_without_a_mask_is_refused_by_name_before_anything_is_read(make: Callable[..., Any]) -> None:
    dataset, drawn = dataset_of()
    items = (*dataset.items[:3], replace(dataset.items[3], mask=None), *dataset.items[4:])
    dataset = replace(dataset, items=items)
    extra = (AugmentConfig(),) if make is for_training else ()
    with pytest.raises(DataError, match="p3: it has no mask"):
        make(dataset, every(dataset), SPEC, *extra, memory())
    make(dataset, np.array([0, 4], np.int64), SPEC, *extra, memory())
    assert not drawn.read


@pytest.mark.parametrize("make", [for_training, for_measuring])
def test_a_mask_of_another_size_is_refused_by_name(make: Callable[..., Any]) -> None:
    dataset, _ = dataset_of()
    items = (replace(dataset.items[0], mask="m1"), *dataset.items[1:])
    dataset = replace(dataset, items=items)
    training = make is for_training
    batches = make(dataset, every(dataset), SPEC, *([AugmentConfig()] if training else []), memory())
    drawn = (Draws(0, 0),) if training else ()
    with pytest.raises(DataError, match="m1: it is 40x30, and its picture p0 is 32x24"):
        batches.make(*drawn, every(dataset), TARGETS)


def test_frequencies_count_pixels_and_those_of_the_pictures_that_show_a_class() -> None:
    class ByHand:
        def mask(self, key: str) -> NDArray[np.uint8]:
            return np.array({"m0": [[0, 0, 255], [1, 0, 0]], "m1": [[0, 0, 2], [2, 2, 2]]}[key], np.uint8)

    dataset = replace(dataset_of(((2, 3), (2, 3)))[0], masks=ByHand())
    own, among = frequencies(dataset, every(dataset))
    assert own.tolist() == [6, 1, 4]
    assert among.tolist() == [11, 5, 6]
    assert frequencies(dataset, np.array([0], np.int64)).own.tolist() == [4, 1, 0]


def test_camvid_gives_batches_of_its_eleven_classes(shared_data: Callable[[str], Path]) -> None:
    root = shared_data("camvid")

    class Annotations:
        def mask(self, key: str) -> NDArray[np.uint8]:
            ids = np.array(Image.open(root / key))
            return np.where(ids == 11, 255, ids).astype(np.uint8)

    paths = sorted((root / "train").iterdir())[:4]
    items = tuple(Item(f"train/{path.name}", "train", mask=f"trainannot/{path.stem}.png") for path in paths)
    classes = tuple(map(str, range(11)))
    dataset = Dataset("camvid", "files", "segmentation", classes, items, open_tree(root), masks=Annotations())
    spec, config = Preprocess(size=(180, 240), fit="letterbox"), AugmentConfig(flip=0.5, zoom=(0.5, 2.0))
    training = for_training(dataset, every(dataset), spec, config, memory(1 << 26))
    targets = partial(segmentation.targets, options=segmentation.TargetOptions(11))
    batch = training.make(Draws(0, 0), every(dataset), targets)
    assert isinstance(batch.targets, MaskTargets)
    assert batch.images.shape == (4, 3, 180, 240)
    assert len(np.unique(batch.targets.labels)) > 8
    assert (batch.targets.labels != 255).mean() > 0.5
