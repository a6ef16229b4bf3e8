"""What an R-CNN does not learn by gradients: linear SVMs of the classes, ridge regressions of the boxes.

Girshick et al. 2014, arXiv:1311.2524, section 2.3 and appendices B and C, with the constants that were
published with it. `finish` does it all to a network; `solve` is numpy in, numpy out. Pictures stream past
twice, so that few of their features are in memory: those of the objects and of what lies near them, and the
negatives that are hard for the SVMs of the moment.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.data.overlaps import areas, pairwise_iou, shares_inside
from striate.errors import DataError, EnvironmentProblem
from striate.models.detection.rcnn import RCNN
from striate.models.network import Network
from striate.ops.boxes import BoxCoder
from striate.structures import Batch, BoxTargets

__all__ = [
    "BoxRegression",
    "HardNegativeSVM",
    "Linear",
    "Looked",
    "RCNNSolution",
    "SVMSettings",
    "finish",
    "looked_at",
    "solve",
]

Array = NDArray[np.float32]
Precise = NDArray[np.float64]

_SAME = 1 - 1e-4  # overlap of a proposal that is an object's own box
_NEGATIVE = 0.3  # overlap with a class's objects below which a proposal is none of them
_REGRESSED = 0.6  # overlap from which a proposal's box is to be corrected
_MOSTLY = 0.5  # share in a crowd above which a proposal is no negative
_NORM = 20.0  # that features are scaled to, on average
_WHITENING = 1e-3  # keeps directions in which targets do not vary finite
_LEAST = 1e-12
_ABSENT = -10.0  # margin of a class that no picture shows
_RIDGE = 1000.0  # lambda of appendix C
_MOST_BYTES = 1 << 30  # of features that are remembered
_MOST_ROUNDS = 10_000  # of the solver: it needs some dozens


@dataclass(frozen=True, slots=True)
class SVMSettings:
    """Constants of the SVMs."""

    cost: float = 1e-3  # C of an example outside its margin
    positive_weight: float = 2.0  # of a positive's cost
    bias_scale: float = 10.0  # the constant that stands beside the features
    hard: float = -1.0  # margin above which a negative is kept
    easy: float = -1.2  # margin below which one that was kept is dropped
    retrain_after: int = 2000  # new negatives


@dataclass(frozen=True, slots=True)
class Looked:
    """One picture: what the network saw in each of P boxes, proposals and the objects' own."""

    features: Array  # (P, D)
    pool5: Array  # (P, M)
    proposals: Array  # (P, 4) in the pixels of `boxes`; rows that are unused are 0
    boxes: Array  # (N, 4) of the objects
    labels: NDArray[np.int64]  # (N,)
    crowd: NDArray[np.bool_]  # (N,)


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer: values @ weight.T + bias."""

    weight: Array  # (outputs, inputs)
    bias: Array  # (outputs,)


@dataclass(frozen=True, slots=True)
class RCNNSolution:
    """What an R-CNN's `svm` and `box` are to be."""

    svm: Linear  # (K, D)
    box: Linear  # (4 K, M)

    def state(self) -> dict[str, NDArray[np.float32] | NDArray[np.bool_]]:
        """The buffers of the network by name."""
        return {
            "svm.weight": self.svm.weight,
            "svm.bias": self.svm.bias,
            "box.weight": self.box.weight,
            "box.bias": self.box.bias,
            "fitted": np.array(True),
        }


class HardNegativeSVM:
    """The linear SVM of one class, trained on all positives and on the negatives that it gets wrong."""

    def __init__(self, positives: Array, settings: SVMSettings) -> None:
        self.settings = settings
        self.positives = positives  # (n, D), of the norm that all features are scaled to
        self.negatives = np.zeros((0, positives.shape[1]), np.float32)
        self._line: Linear | None = None
        self._new = 0

    def offer(self, negatives: Array) -> int:
        """Keep those of `negatives` (m, D) that are hard, all before the first training; how many they are.

        Trains anew whenever so many have come together.
        """
        if not len(self.positives):
            return 0
        if self._line is not None:
            negatives = negatives[_margins(negatives, self._line) > self.settings.hard]
        self.negatives = np.concatenate((self.negatives, negatives))
        self._new += len(negatives)
        if self._new >= self.settings.retrain_after:
            self._train()
        return len(negatives)

    def solution(self, name: str) -> Linear:
        """The SVM, (1, D) and (1,), of all that was offered; of a class without positives one that says no.

        Raises DataError where there are positives and no negative; `name` says of what.
        """
        width = self.positives.shape[1]
        if not len(self.positives):
            return Linear(np.zeros((1, width), np.float32), np.full(1, _ABSENT, np.float32))
        if not len(self.negatives) and self._line is None:
            raise DataError(
                name, "no proposal lies apart from its objects", "add pictures with some background"
            )
        if self._new or self._line is None:
            self._train()
        assert self._line is not None
        return self._line

    def _train(self) -> None:
        examples = np.concatenate((self.positives, self.negatives))
        is_positive = np.arange(len(examples)) < len(self.positives)
        self._line = _svm(examples, is_positive, self.settings)
        self.negatives = self.negatives[_margins(self.negatives, self._line) >= self.settings.easy]
        self._new = 0


def _margins(values: Array, line: Linear) -> Array:
    """How far each of `values` (n, D) is on the positive side: (n,)."""
    margins: Array = values @ line.weight[0] + line.bias[0]
    return margins


def _svm(values: Array, is_positive: NDArray[np.bool_], settings: SVMSettings) -> Linear:
    """The SVM of linear loss for `values` (n, D), by liblinear's dual coordinate descent."""
    try:
        from sklearn.svm import LinearSVC
    except ModuleNotFoundError:
        raise EnvironmentProblem(
            "R-CNN's SVMs", "scikit-learn is not installed", "pip install 'striate[train]'"
        ) from None
    machine = LinearSVC(
        loss="hinge",
        C=settings.cost,
        class_weight={True: settings.positive_weight},
        intercept_scaling=settings.bias_scale,
        max_iter=_MOST_ROUNDS,
        random_state=0,
    )
    machine.fit(values.astype(np.float64), is_positive)
    return Linear(machine.coef_.astype(np.float32), machine.intercept_.astype(np.float32))


class BoxRegression:
    """Ridge regression of the four numbers that make an object's box of a proposal's: appendix C.

    The targets are whitened, and the constant beside the features is held small like the other weights.
    Memory: the features as they came, and once they are more than their width, its square in float64.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._values: list[Array] = []
        self._targets: list[Precise] = []
        self._gram: Precise | None = None  # of the features with a constant 1 behind them
        self._products: Precise = np.zeros((width + 1, 4))  # of those with the targets

    def add(self, values: Array, targets: Precise) -> None:
        """Take `values` (n, M) and the numbers (n, 4) that belong to them."""
        self._values.append(values)
        self._targets.append(targets)
        if sum(map(len, self._values)) > self.width:
            self._fold()

    def solution(self, scale: float = 1.0, ridge: float = _RIDGE) -> Linear:
        """Weights (4, M) and biases (4,) for features as they came.

        They are those of features times `scale`, whose weights' squares cost `ridge`. Zeros without examples.
        """
        if not self._targets or not sum(map(len, self._targets)):
            return Linear(np.zeros((4, self.width), np.float32), np.zeros(4, np.float32))
        targets = np.concatenate(self._targets)
        mean, whiten, colour = _whitening(targets)
        factors = np.append(np.full(self.width, scale), 1.0)
        if self._gram is None:
            values = _with_constant(np.concatenate(self._values)) * factors
            inner = values @ values.T + ridge * np.eye(len(values))
            solved = values.T @ np.linalg.solve(inner, (targets - mean) @ whiten)
        else:
            self._fold()
            gram = self._gram * factors[:, None] * factors
            products = (self._products - self._gram[:, -1:] * mean) @ whiten * factors[:, None]
            solved = np.linalg.solve(gram + ridge * np.eye(len(gram)), products)
        solved = solved @ colour
        return Linear((solved[:-1].T * scale).astype(np.float32), (solved[-1] + mean).astype(np.float32))

    def _fold(self) -> None:
        """Into sums whose size no number of examples changes."""
        if self._gram is None:
            self._gram = np.zeros((self.width + 1, self.width + 1))
        if self._values:
            values = _with_constant(np.concatenate(self._values))
            self._gram += values.T @ values
            self._products += values.T @ np.concatenate(self._targets[-len(self._values) :])
            self._values = []


def _with_constant(values: Array) -> Precise:
    return np.concatenate((values.astype(np.float64), np.ones((len(values), 1))), 1)


def _whitening(targets: Precise) -> tuple[Precise, Precise, Precise]:
    """Mean (4,) of `targets` (n, 4), the matrix that makes their covariance 1, and the one that undoes it."""
    mean = targets.mean(0)
    centred = targets - mean
    variances, axes = np.linalg.eigh(centred.T @ centred / len(targets))
    roots = np.sqrt(variances + _WHITENING)
    return mean, axes / roots @ axes.T, axes * roots @ axes.T


def finish(network: Network, batches: Callable[[], Iterable[Batch[Tensor]]]) -> None:
    """Solve for the SVMs and box regressions of a fine-tuned `network`, in place; it scores by them then.

    `batches()` gives the training pictures as they are, with their proposals, on the network's device, the
    same each time; it is called a second time where the features take more than 1 GiB. Raises DataError as
    `solve`.
    """
    assert isinstance(network, RCNN)
    solution = solve(_Remembered(lambda: looked_at(network, batches())), len(network.classes))
    state = {name: torch.from_numpy(values) for name, values in solution.state().items()}
    network.load_state_dict(state, strict=False)


class _Remembered:
    """What `look()` gives, and at the second call the same from memory, where it fits: without pool5."""

    def __init__(self, look: Callable[[], Iterable[Looked]]) -> None:
        self._look = look
        self._pictures: list[Looked] = []
        self._bytes = 0
        self._is_whole = False

    def __call__(self) -> Iterator[Looked]:
        if self._is_whole:
            yield from self._pictures
            return
        for picture in self._look():
            yield picture
            self._keep(picture)
        self._is_whole = self._bytes <= _MOST_BYTES

    def _keep(self, picture: Looked) -> None:
        self._bytes += picture.features.nbytes
        if self._bytes > _MOST_BYTES:
            self._pictures.clear()
        else:
            # Boxes are regressed in the first pass.
            nothing = np.zeros((len(picture.features), 0), np.float32)
            self._pictures.append(replace(picture, pool5=nothing))


@torch.no_grad()
def looked_at(network: RCNN, batches: Iterable[Batch[Tensor]]) -> Iterator[Looked]:
    """What `network` sees in the proposals of each picture, and in the objects' own boxes."""
    network.eval()
    for batch in batches:
        targets = batch.targets
        assert isinstance(targets, BoxTargets)
        boxes = targets.boxes * targets.valid[..., None]
        raw = network(batch.images, torch.cat((boxes, batch.extras["proposals"]), 1))
        arrays = [values.float().cpu().numpy() for values in (raw.features, raw.pool5, raw.proposals)]
        truths = targets.map(lambda tensor: tensor.cpu().numpy())
        for row, valid in enumerate(truths.valid):
            features, pool5, proposals = (array[row] for array in arrays)
            objects = (values[row][valid] for values in (truths.boxes, truths.labels, truths.crowd))
            yield Looked(features, pool5, proposals, *objects)


def solve(
    pictures: Callable[[], Iterable[Looked]], classes: int, settings: SVMSettings | None = None
) -> RCNNSolution:
    """The SVMs and box regressions of `classes` classes, from two passes over `pictures()`.

    The same pictures in the same order give the same numbers. Raises DataError where a class has objects and
    no proposal lies apart from them, or where no picture has a proposal.
    """
    settings = settings or SVMSettings()
    first = _gather(pictures(), classes)
    machines = [HardNegativeSVM(positives, settings) for positives in first.positives]
    for picture in pictures():
        _offer(picture, machines, first.scale)
    lines = [machine.solution(f"class {label}") for label, machine in enumerate(machines)]
    boxes = [regression.solution(first.box_scale) for regression in first.regressions]
    # The network gives its features as they are.
    svm = _stacked(lines)
    return RCNNSolution(Linear(svm.weight * np.float32(first.scale), svm.bias), _stacked(boxes))


def _stacked(lines: Iterable[Linear]) -> Linear:
    weights, biases = zip(*((line.weight, line.bias) for line in lines), strict=True)
    return Linear(np.concatenate(weights), np.concatenate(biases))


@dataclass(frozen=True, slots=True)
class _Gathered:
    """What the first pass finds out."""

    scale: float  # of `features`, to their norm
    box_scale: float  # of `pool5`, to the same
    positives: list[Array]  # (n, D) scaled, of each class
    regressions: list[BoxRegression]  # of each class


def _gather(pictures: Iterable[Looked], classes: int) -> _Gathered:
    positives: list[list[Array]] = [[] for _ in range(classes)]
    regressions: list[BoxRegression] = []
    norms, count = np.zeros(2), 0
    for picture in pictures:
        is_there = areas(picture.proposals) > 0
        norms += [np.linalg.norm(part[is_there], axis=1).sum() for part in (picture.features, picture.pool5)]
        count += int(is_there.sum())
        regressions = regressions or [BoxRegression(picture.pool5.shape[1]) for _ in range(classes)]
        own = _class_overlaps(picture, classes) >= _SAME
        for label in range(classes):
            positives[label].append(picture.features[own[:, label]])
            regressions[label].add(*_corrections(picture, label))
    if not count:
        raise DataError("proposals", "no picture has one", "find proposals for the pictures beforehand")
    scale, box_scale = (_NORM / max(norm / count, _LEAST) for norm in norms)
    joined = [np.concatenate(parts) * np.float32(scale) for parts in positives]
    return _Gathered(scale, box_scale, joined, regressions)


def _offer(picture: Looked, machines: list[HardNegativeSVM], scale: float) -> None:
    """Give each class's machine the proposals that lie apart from its objects."""
    crowds = picture.boxes[picture.crowd]
    in_crowd = shares_inside(picture.proposals, crowds).max(1, initial=0) > _MOSTLY
    usable = (areas(picture.proposals) > 0) & ~in_crowd
    overlaps = _class_overlaps(picture, len(machines))
    for label, machine in enumerate(machines):
        chosen = usable & (overlaps[:, label] < _NEGATIVE)
        machine.offer(picture.features[chosen] * np.float32(scale))


def _class_overlaps(picture: Looked, classes: int) -> Precise:
    """The largest overlap of each proposal with an object of each class, (P, K)."""
    overlaps = pairwise_iou(picture.proposals, picture.boxes)
    return np.stack(
        [
            overlaps[:, (picture.labels == label) & ~picture.crowd].max(1, initial=0)
            for label in range(classes)
        ],
        1,
    )


def _corrections(picture: Looked, label: int) -> tuple[Array, Precise]:
    """Pool5 of the proposals near an object of the class `label`, and the numbers that make it of them."""
    singles = ~picture.crowd
    if not singles.any():
        return picture.pool5[:0], np.zeros((0, 4))
    objects, labels = picture.boxes[singles], picture.labels[singles]
    overlaps = pairwise_iou(picture.proposals, objects)
    most, nearest = overlaps.max(1), overlaps.argmax(1)
    chosen = (most > _REGRESSED) & (most < _SAME) & (labels[nearest] == label)
    goals, starts = (
        torch.from_numpy(boxes[rows]).double()
        for boxes, rows in ((objects, nearest[chosen]), (picture.proposals, chosen))
    )
    return picture.pool5[chosen], BoxCoder().encode(goals, starts).numpy()
