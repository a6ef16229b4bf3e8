"""Batches of pictures and the boxes in them."""

import threading
import xml.etree.ElementTree as ElementTree
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

from striate.data import proposal_cache
from striate.data.batches import Caches
from striate.data.batches.detection import AugmentConfig, for_measuring, for_training, frequencies
from striate.data.cache import Budget
from striate.data.dataset import Dataset, Item
from striate.data.decode import decode_image
from striate.data.disk_space import DiskSpace
from striate.data.draws import Draws
from striate.data.loader import EvalLoader, TrainLoader
from striate.data.preprocess import apply
from striate.data.tree import open_tree
from striate.errors import DataError, UsageError
from striate.structures import Batch, BoxTargets, Objects, Preprocess
from striate.tasks import detection

SPEC = Preprocess(size=(48, 64), fit="letterbox")
SHORTER = Preprocess(size=(24, 24), fit="shorter", max_size=60, pad_to=16, pad_value=9)
EVERYTHING = AugmentConfig(
    flip=0.5, distort=0.5, expand=2, crop=True, hue=0.1, mosaic=0.4, mixup=0.3, sizes=(0.6, 1.4)
)
TARGETS = partial(detection.targets, options=detection.TargetOptions(3))
SIZES = ((48, 64), (60, 80), (100, 74), (48, 64), (64, 80), (40, 40), (33, 90))


@dataclass
class Drawn:
    """Pictures of noise; counts what is read."""

    sizes: tuple[tuple[int, int], ...]
    read: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def content(self, key: str) -> NDArray[np.uint8]:
        with self.lock:
            self.read[key] += 1
        chance = np.random.default_rng(int(key[1:]))
        return chance.integers(0, 256, (*self.sizes[int(key[1:])], 3), np.uint8)


def objects_of(index: int, size: tuple[int, int]) -> Objects:
    """`index` boxes; the last is a crowd and reaches over the edge."""
    chance = np.random.default_rng(index)
    corners = chance.uniform(0, 0.7, (index, 2))
    shares = np.concatenate((corners, corners + chance.uniform(0.1, 0.3, (index, 2))), 1)
    boxes = (shares * np.array([size[1], size[0]] * 2)).astype(np.float32)
    boxes[-1:, 2:] += 1000
    crowd = np.arange(index) == index - 1
    return Objects(boxes, np.arange(index) % 3, crowd, ~crowd)


def dataset_of(sizes: tuple[tuple[int, int], ...] = SIZES) -> tuple[Dataset, Drawn]:
    """Pictures p0, p1, ... with 0, 1, ... objects."""
    drawn = Drawn(sizes)
    items = tuple(
        Item(f"p{index}", "train", objects=objects_of(index, size)) for index, size in enumerate(sizes)
    )
    return Dataset("test", "drawn", "detection", ("a", "b", "c"), items, drawn), drawn


def every(dataset: Dataset) -> NDArray[np.int64]:
    """0, 1, ... len(dataset) - 1."""
    return np.arange(len(dataset))


def memory(count: int = 1 << 24) -> Caches:
    """A cache of `count` bytes of memory, and none on disk."""
    return Caches(Budget(count))


def boxes_of(batch: Batch[Any]) -> BoxTargets[Any]:
    """Its targets."""
    assert isinstance(batch.targets, BoxTargets)
    return batch.targets


def assert_equal(one: Batch[Any], other: Batch[Any]) -> None:
    """Bit by bit."""
    assert (one.keys, one.geometry) == (other.keys, other.geometry)
    np.testing.assert_array_equal(one.images, other.images)
    for name in BoxTargets.__slots__:
        np.testing.assert_array_equal(getattr(one.targets, name), getattr(other.targets, name))
    assert one.extras.keys() == other.extras.keys()
    for name, array in one.extras.items():
        np.testing.assert_array_equal(array, other.extras[name])


def test_a_training_batch_has_boxes_inside_its_pictures() -> None:
    dataset, _ = dataset_of()
    training = for_training(dataset, every(dataset), SPEC, EVERYTHING, memory())
    for epoch in range(5):
        batch = training.make(Draws(0, epoch), np.array([4, 1, 6], np.int64), TARGETS)
        assert batch.keys == ("p4", "p1", "p6")
        assert batch.images.dtype == np.uint8
        assert batch.images.shape[:2] == (3, 3)
        height, width = batch.images.shape[2:]
        assert height % 32 == width % 32 == 0
        targets = boxes_of(batch)
        boxes = targets.boxes[targets.valid]
        assert len(boxes)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= [width, height]).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert batch.extras == {}


@pytest.mark.parametrize("room", [0, 30_000, 1 << 24], ids=["none", "some", "all"])
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


def test_an_epoch_reads_no_picture_again() -> None:
    dataset, drawn = dataset_of()
    training = for_training(dataset, every(dataset), SPEC, EVERYTHING, memory())
    measuring = for_measuring(dataset, every(dataset), SPEC, memory())
    for epoch in range(3):
        training.make(Draws(0, epoch), every(dataset), TARGETS)
        measuring.make(every(dataset), TARGETS)
        measuring.truths(every(dataset))
    assert drawn.read == {f"p{index}": 2 for index in range(len(dataset))}


def test_measuring_sees_the_pictures_as_predict_does_and_their_boxes_by_the_same_geometry() -> None:
    dataset, drawn = dataset_of()
    measuring = for_measuring(dataset, every(dataset), SPEC, memory())
    asked = np.array([2, 0, 5], np.int64)
    batch = measuring.make(asked, TARGETS)
    targets = boxes_of(batch)
    assert targets.valid.sum(1).tolist() == [2, 0, 5]
    for row, index in enumerate(asked.tolist()):
        image, geometry = apply(SPEC, decode_image(drawn.content(f"p{index}")))
        np.testing.assert_array_equal(batch.images[row], image.transpose(2, 0, 1))
        assert batch.geometry[row] == geometry
        (truth,) = measuring.truths(np.array([index]))
        expected = geometry.boxes_to_input(truth.boxes)
        np.testing.assert_allclose(targets.boxes[row, :index], expected, atol=1e-4)


def test_what_the_fit_cuts_away_is_no_target_but_a_truth() -> None:
    dataset, _ = dataset_of(((40, 80),))
    truth = Objects(
        np.array([[0, 0, 10, 10], [30, 0, 90, 40]], np.float32), np.array([0, 1]), np.zeros(2, bool)
    )
    dataset = replace(dataset, items=(replace(dataset.items[0], objects=truth),))
    spec = Preprocess(size=(40, 40), fit="crop")
    measuring = for_measuring(dataset, every(dataset), spec, memory())
    training = for_training(dataset, every(dataset), spec, AugmentConfig(), memory())
    for batch in (
        measuring.make(every(dataset), TARGETS),
        training.make(Draws(0, 0), every(dataset), TARGETS),
    ):
        assert boxes_of(batch).boxes.tolist() == [[[10, 0, 40, 40]]]
    assert len(measuring.truths(every(dataset))[0]) == 2


def test_truths_are_all_objects_clipped_to_their_picture_and_those_without_area_left_out() -> None:
    dataset, _ = dataset_of(((48, 64),) * 3)
    flat = Objects(
        np.array([[5, 5, 5, 9], [60, 40, 70, 50], [1, 2, 3, 4]], np.float32),
        np.array([0, 1, 2]),
        np.array([False, False, True]),
        np.array([True, False, True]),
    )
    dataset = replace(dataset, items=(replace(dataset.items[0], objects=flat), *dataset.items[1:]))
    (truth,) = for_measuring(dataset, every(dataset), SPEC, memory()).truths(np.array([0]))
    assert truth.boxes.tolist() == [[60, 40, 64, 48], [1, 2, 3, 4]]
    assert truth.labels.tolist() == [1, 2]
    assert truth.crowd.tolist() == truth.difficult.tolist() == [False, True]
    training = for_training(dataset, every(dataset), SPEC, AugmentConfig(), memory())
    targets = boxes_of(training.make(Draws(0, 0), np.array([0]), TARGETS))
    assert targets.boxes[0].tolist() == truth.boxes.tolist()
    assert targets.crowd[0].tolist() == [False, True]


def test_without_memory_truths_need_no_second_decoding_of_what_was_just_measured() -> None:
    dataset, drawn = dataset_of()
    measuring = for_measuring(dataset, every(dataset), SPEC, memory(0))
    measuring.make(np.array([1, 2]), TARGETS)
    measuring.truths(np.array([1, 2]))
    assert drawn.read == {"p1": 1, "p2": 1}
    measuring.truths(np.array([3]))
    assert drawn.read["p3"] == 1


@pytest.mark.parametrize("augment", [AugmentConfig(), AugmentConfig(flip=1.0, crop=True, expand=2.0)])
def test_pictures_of_several_sizes_are_padded_at_the_right_and_bottom(augment: AugmentConfig) -> None:
    dataset, _ = dataset_of()
    measuring = for_measuring(dataset, every(dataset), SHORTER, memory())
    training = for_training(dataset, every(dataset), SHORTER, augment, memory())
    drawn = Draws(0, 0)
    batches = [measuring.make(every(dataset), TARGETS), training.make(drawn, every(dataset), TARGETS)]
    for batch in batches:
        height, width = batch.images.shape[2:]
        largest = np.array([geometry.input for geometry in batch.geometry]).max(0)
        assert (height, width) == tuple(16 * -(-largest // 16))
        for image, geometry in zip(batch.images, batch.geometry, strict=True):
            assert (image[:, geometry.input[0] :] == 9).all()
            assert (image[:, :, geometry.input[1] :] == 9).all()
            assert image[:, : geometry.input[0], : geometry.input[1]].std() > 5
        targets = boxes_of(batch)
        limits = np.array([geometry.input[::-1] for geometry in batch.geometry])[:, None]
        assert (targets.boxes[..., 2:] <= limits).all()
    if augment == AugmentConfig():
        assert_equal(*batches)


def test_loaders_give_tensors() -> None:
    dataset, _ = dataset_of()
    loader = EvalLoader(for_measuring(dataset, every(dataset), SPEC, memory()), every(dataset), TARGETS, 4, 0)
    first, second = loader
    assert first.batch.images.shape == (4, 3, 48, 64)
    assert boxes_of(second.batch).boxes.shape == (3, 6, 4)
    assert [len(truth) for truth in second.truths] == [4, 5, 6]


@pytest.mark.parametrize("make", [for_training, for_measuring])
def test_an_item_without_objects_known_is_refused_by_name_before_anything_is_read(
    make: Callable[..., Any],
) -> None:
    dataset, drawn = dataset_of()
    items = (*dataset.items[:3], replace(dataset.items[3], objects=None), *dataset.items[4:])
    dataset = replace(dataset, items=items)
    extra = (AugmentConfig(),) if make is for_training else ()
    with pytest.raises(DataError, match="p3: nothing is known of its objects"):
        make(dataset, every(dataset), SPEC, *extra, memory())
    make(dataset, np.array([0, 4], np.int64), SPEC, *extra, memory())
    assert not drawn.read


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    (tmp_path / "p0").write_bytes(b"no picture")
    dataset = replace(dataset_of(((4, 4),))[0], storage=open_tree(tmp_path))
    with pytest.raises(DataError, match="p0"):
        for_training(dataset, every(dataset), SPEC, EVERYTHING, memory()).make(
            Draws(0, 0), every(dataset), TARGETS
        )


def test_classes_of_boxes_are_not_balanced() -> None:
    dataset, _ = dataset_of()
    with pytest.raises(UsageError, match=r"training.balance: .* leave it at"):
        frequencies(dataset, every(dataset))


class FakeProposals:
    """In place of selective search: squares of growing size, a row of zeros at the end."""

    searched = 0

    def __init__(self, space: DiskSpace | None) -> None:
        self.space = space

    def __call__(self, image: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
        FakeProposals.searched += 1
        sides = np.arange(4, 4 + count, dtype=np.float32) % min(image.shape[:2])
        return np.stack((0 * sides, 0 * sides, sides, sides), 1) * (np.arange(count) < count - 1)[:, None]


@pytest.fixture
def fake_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposal_cache, "Proposals", FakeProposals)
    FakeProposals.searched = 0


@pytest.mark.usefixtures("fake_proposals")
def test_measured_pictures_come_with_their_proposals_in_input_pixels() -> None:
    dataset, _ = dataset_of()
    measuring = for_measuring(dataset, every(dataset), replace(SPEC, proposals=8), memory())
    batch = measuring.make(every(dataset), TARGETS)
    found = batch.extras["proposals"]
    assert found.shape == (7, 8, 4)
    assert found.dtype == np.float32
    assert (found[:, -1] == 0).all()
    for row, geometry in zip(found, batch.geometry, strict=True):
        expected = geometry.boxes_to_input(np.array([[0, 0, 6, 6]], np.float32))[0]
        np.testing.assert_allclose(row[2], expected, atol=1e-4)
    measuring.make(every(dataset), TARGETS)
    assert FakeProposals.searched == 7


@pytest.mark.usefixtures("fake_proposals")
@pytest.mark.parametrize("rois", [0, 5])
def test_training_proposals_hold_the_true_boxes_and_are_the_same_from_any_workers(rois: int) -> None:
    dataset, _ = dataset_of()
    spec, augment = replace(SHORTER, proposals=30), AugmentConfig(flip=0.5, crop=True, rois=rois)
    epochs = []
    for workers, room in ((0, 1 << 24), (2, 0)):
        source = for_training(dataset, every(dataset), spec, augment, memory(room))
        loader = TrainLoader(source, every(dataset), TARGETS, 3, seed=5, workers=workers)
        epochs.append([*loader.epoch(0), *loader.epoch(1)])
    for one, other in zip(*epochs, strict=True):
        assert_equal(one, other)
    for batch in epochs[0]:
        found, targets = batch.extras["proposals"].numpy(), boxes_of(batch)
        assert found.shape == (len(batch), rois or 30, 4)
        if not rois:
            for row, boxes, valid, crowd in zip(
                found, targets.boxes, targets.valid, targets.crowd, strict=True
            ):
                singles = boxes[valid & ~crowd].numpy()
                np.testing.assert_array_equal(row[: len(singles)], singles)


def cells(root: Path, count: int) -> Dataset:
    """The first pictures of BCCD."""
    names = ("RBC", "WBC", "Platelets")
    sides = ("xmin", "ymin", "xmax", "ymax")
    items = []
    for path in sorted(root.rglob("Annotations/*.xml"))[:count]:
        found = ElementTree.parse(path).getroot().findall("object")
        boxes = [[float(one.findtext(f"bndbox/{side}") or 0) for side in sides] for one in found]
        labels = np.array([names.index(one.findtext("name") or "") for one in found])
        objects = Objects(np.array(boxes, np.float32), labels, np.zeros(len(found), bool))
        items.append(Item(f"{path.stem}.jpg", "train", objects=objects))
    folder = next(root.rglob("JPEGImages"))
    return Dataset("bccd", "files", "detection", names, tuple(items), open_tree(folder))


@pytest.mark.parametrize(
    "augment",
    [AugmentConfig(flip=0.5, crop=True), AugmentConfig(jitter=0.2), AugmentConfig(flip=0.5, mosaic=1.0)],
    ids=["crop", "jitter", "mosaic"],
)
def test_white_cells_of_bccd_are_found_by_their_colour_where_their_boxes_are(
    augment: AugmentConfig, shared_data: Callable[[str], Path]
) -> None:
    dataset = cells(shared_data("bccd"), 6)
    spec = Preprocess(size=(96, 128), fit="letterbox", pad_value=200)
    training = for_training(dataset, every(dataset), spec, augment, memory(1 << 26))
    batch = training.make(Draws(0, 0), every(dataset), TARGETS)
    targets, seen = boxes_of(batch), 0
    for image, boxes, labels in zip(batch.images, targets.boxes, targets.labels, strict=True):
        for x0, y0, x1, y1 in boxes[labels == 1].round().astype(int).tolist():
            # The only thing that is blue.
            redness = image[0].astype(float) - image[2]
            assert redness[y0:y1, x0:x1].mean() < redness.mean() - 5
            seen += 1
    assert seen > 3
