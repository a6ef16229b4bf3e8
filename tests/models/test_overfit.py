"""Every family learns a few pictures by heart: whatever its parts are, together they train."""

import dataclasses
import math
from collections.abc import Iterator
from functools import cache, partial
from types import ModuleType

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from striate import models
from striate.data.batches import Caches
from striate.data.batches import detection as boxes
from striate.data.batches.segmentation import for_measuring
from striate.data.builtin import digits, shapes_boxes, shapes_masks
from striate.data.cache import Budget
from striate.data.preprocess import apply
from striate.models.network import Network
from striate.structures import Batch, BoxTargets, ClassTargets, Objects, Preprocess
from striate.tasks import detection, segmentation
from striate.training.config import TrainingConfig
from striate.training.optimisers import make_optimiser
from striate.training.step import Step

PICTURES = 64
MOST_STEPS = 300  # most families take 30 to 90
CONFIG = TrainingConfig(optimiser="adamw", learning_rate=3e-3, weight_decay=0.0)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The same sums in the same order on every machine; and small tensors gain nothing from threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def batch_for(spec: Preprocess) -> Batch[Tensor]:
    """The first scans of `digits`, as `spec` prepares them."""
    dataset = digits.read()
    samples = [dataset.sample(index) for index in range(PICTURES)]
    prepared = [apply(spec, sample.image) for sample in samples]
    images = torch.from_numpy(np.stack([image for image, _ in prepared])).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([sample.label for sample in samples])
    targets = ClassTargets(nn.functional.one_hot(labels, 10).float(), torch.ones(PICTURES))
    return Batch(images, targets, tuple(s.key for s in samples), tuple(geometry for _, geometry in prepared))


def correct(network: Network, batch: Batch[Tensor]) -> int:
    """How many pictures of `batch` the network classifies rightly, as it would in use."""
    network.eval()
    with torch.inference_mode():
        chosen = network.dense(batch.images)["logits"].argmax(1)
    network.train()
    return int((chosen == batch.targets.probabilities.argmax(1)).sum())


def train(network: Network, batch: Batch[Tensor]) -> tuple[int, int]:
    """Steps of half of `batch` each until all of it is right, or MOST_STEPS, and how many are right then."""
    step, optimiser = Step(network.train()), make_optimiser(network, CONFIG)
    halves = [half(batch, slice(None, PICTURES // 2)), half(batch, slice(PICTURES // 2, None))]
    for taken in range(1, MOST_STEPS + 1):
        optimiser.zero_grad()
        torch.stack(list(step(halves[taken % 2]).values())).sum().backward()
        optimiser.step()
        if taken % 10 == 0 and correct(network, batch) == len(batch):
            return taken, len(batch)
    return MOST_STEPS, correct(network, batch)


def half(batch: Batch[Tensor], part: slice) -> Batch[Tensor]:
    targets = batch.targets.map(lambda tensor: tensor[part])
    return Batch(batch.images[part], targets, batch.keys[part], batch.geometry[part])


def test_the_pictures_have_every_class() -> None:
    labels = batch_for(Preprocess(size=(8, 8), fit="stretch")).targets.probabilities.argmax(1)
    assert set(labels.tolist()) == set(range(10))


def of_task(task: str) -> list[str]:
    return [
        name
        for name, family in models.families().items()
        if models.task_of(next(iter(family.VARIANTS))) == task
    ]


@pytest.mark.parametrize("name", of_task("classification"))
def test_tiny_learns_64_pictures_by_heart(name: str) -> None:
    family = models.families()[name]
    torch.manual_seed(0)
    network = family.build(msgspec.structs.replace(family.TINY, classes=10))
    assert max(network.preprocess.size) <= 64
    steps, right = train(network, batch_for(network.preprocess))
    assert right == PICTURES, f"{right} of {PICTURES} after {steps} steps"


# masks

SCENES = 2
MOST_MASK_STEPS = 300
ENOUGH = 0.5  # mean IoU; all as background is below 0.3


@cache
def scenes_for(spec: Preprocess) -> tuple[Batch[Tensor], tuple[NDArray[np.uint8], ...]]:
    """The first pictures of `shapes_masks`, as `spec` prepares them, and their masks as they are."""
    dataset = shapes_masks.read()
    indices = np.arange(SCENES)
    measuring = for_measuring(dataset, indices, spec, Caches(Budget(1 << 24)))
    options = segmentation.TargetOptions(len(dataset.classes))
    batch = measuring.make(indices, partial(segmentation.targets, options=options))
    return batch.map(torch.from_numpy), tuple(measuring.truths(indices))


def overlap(network: Network, batch: Batch[Tensor], truths: tuple[NDArray[np.uint8], ...]) -> float:
    """Mean IoU on `batch`, at the pictures' own size."""
    network.eval()
    with torch.inference_mode():
        dense = {name: tensor.numpy() for name, tensor in network.dense(batch.images).items()}
    network.train()
    metric = segmentation.metric(network.classes)
    options = segmentation.ResultOptions(network.classes)
    metric.update(segmentation.results(dense, batch.keys, batch.geometry, options), truths)
    return metric.compute().values["mean_iou"]


def longest_gradient(family: ModuleType, network: Network) -> float:
    """What the family's recipe allows: without it, a recurrence may leap off and not come back in time."""
    longest: float | None = family.recipe(network.config)["training"].get("clip_norm")
    return math.inf if longest is None else longest


@pytest.mark.parametrize("name", of_task("segmentation"))
def test_tiny_learns_the_masks_of_a_few_pictures_by_heart(name: str) -> None:
    family = models.families()[name]
    torch.manual_seed(0)
    network = family.build(msgspec.structs.replace(family.TINY, classes=7))
    assert max(network.preprocess.size) <= 64
    batch, truths = scenes_for(network.preprocess)
    config = msgspec.structs.replace(CONFIG, learning_rate=1e-2)
    step, optimiser = Step(network.train()), make_optimiser(network, config)
    longest = longest_gradient(family, network)
    found = 0.0
    for taken in range(1, MOST_MASK_STEPS + 1):
        optimiser.zero_grad()
        torch.stack(list(step(batch).values())).sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), longest)
        optimiser.step()
        if taken % 25 == 0 and (found := overlap(network, batch, truths)) >= ENOUGH:
            return
    assert found >= ENOUGH


# boxes

CROWDED = 4
MOST_BOX_STEPS = 200  # all families take 50
FOUND = 0.5  # AP50


@cache
def objects_for(spec: Preprocess) -> tuple[Batch[Tensor], tuple[Objects, ...]]:
    """The first pictures of `shapes_boxes`, as `spec` prepares them, and their objects as they are."""
    dataset = shapes_boxes.read()
    indices, alone = np.arange(CROWDED), dataclasses.replace(spec, proposals=0)
    measuring = boxes.for_measuring(dataset, indices, alone, Caches(Budget(1 << 24)))
    options = detection.TargetOptions(len(dataset.classes))
    batch = measuring.make(indices, partial(detection.targets, options=options)).map(torch.from_numpy)
    if spec.proposals:
        batch = dataclasses.replace(batch, extras={"proposals": near_and_far(batch)})
    return batch, tuple(measuring.truths(indices))


def near_and_far(batch: Batch[Tensor]) -> Tensor:
    """Boxes a few pixels beside each object, and as many anywhere."""
    assert isinstance(batch.targets, BoxTargets)
    chance = torch.Generator().manual_seed(0)
    truths, valid = batch.targets.boxes.repeat(1, 3, 1), batch.targets.valid.repeat(1, 3)
    near = truths + 2 * torch.randn(truths.shape, generator=chance) * valid[..., None]
    corners = 40 * torch.rand(*truths.shape[:2], 2, generator=chance)
    sides = 8 + 16 * torch.rand(*truths.shape[:2], 2, generator=chance)
    return torch.cat((near, torch.cat((corners, corners + sides), 2)), 1)


def average_precision(network: Network, batch: Batch[Tensor], truths: tuple[Objects, ...]) -> float:
    """AP50 on `batch`."""
    network.eval()
    with torch.inference_mode():
        dense = network.dense(batch.images, **batch.extras)
    network.train()
    metric = detection.metric(network.classes)
    options = detection.result_options(network.classes, msgspec.to_builtins(network.config))
    arrays = {name: tensor.numpy() for name, tensor in dense.items()}
    metric.update(detection.results(arrays, batch.keys, batch.geometry, options), truths)
    return metric.compute().values["ap50"]


@pytest.mark.parametrize("name", of_task("detection"))
def test_tiny_learns_the_boxes_of_a_few_pictures_by_heart(name: str) -> None:
    family = models.families()[name]
    torch.manual_seed(0)
    network = family.build(msgspec.structs.replace(family.TINY, classes=6))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # so few steps
    batch, truths = objects_for(network.preprocess)
    step, optimiser = Step(network.train()), make_optimiser(network, CONFIG)
    found = 0.0
    for taken in range(1, MOST_BOX_STEPS + 1):
        optimiser.zero_grad()
        torch.stack(list(step(batch).values())).sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        if taken % 25 == 0 and (found := average_precision(network, batch, truths)) >= FOUND:
            return
    assert found >= FOUND
