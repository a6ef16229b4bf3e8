"""What batches are made of, one file a task; nothing is registered.

The file of a task offers

    AugmentConfig: type[Settings]          the table `augment` of a run
    for_training(dataset, indices, spec, augment, caches) -> TrainBatches
    for_measuring(dataset, indices, spec, caches) -> EvalBatches
    frequencies(dataset, indices) -> Frequencies

`indices` are the items of the part at hand. Raises DataError naming one of them that has no label, mask or
boxes, UsageError where `augment` does not fit the spec. What a batch holds depends on (seed, epoch, sample
index) alone. Here is what they share.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from striate.data.cache import Budget, Pictures
from striate.data.dataset import Dataset
from striate.data.disk_space import DiskSpace
from striate.data.draws import Draws
from striate.structures import Batch, Geometry, Preprocess, Targets

__all__ = ["Arrays", "Caches", "EvalBatches", "Frequencies", "MakeTargets", "TrainBatches", "batch_of"]

Arrays: TypeAlias = NDArray[Any]

MakeTargets: TypeAlias = Callable[[Any], Targets[Arrays]]
"""To targets, `partial(task.targets, options=...)`: from class ids (B,), those of pixels (B, H, W), or a list
of the `Objects` of each picture in input pixels."""


@dataclass(slots=True)
class Caches:
    """Where the prepared pictures of one dataset may be kept."""

    budget: Budget
    disk: DiskSpace | None = None
    _for_input: dict[Preprocess, Pictures] = field(init=False, default_factory=dict)

    def for_input(self, dataset: Dataset, spec: Preprocess) -> Pictures:
        """The pictures of `dataset` as `predict` prepares them; the same object whoever asks."""
        if spec not in self._for_input:
            self._for_input[spec] = Pictures.for_input(dataset, spec, self.budget, self.disk)
        return self._for_input[spec]


class Frequencies(NamedTuple):
    """How often each class comes: of pictures, or of pixels where masks are learnt."""

    own: NDArray[np.int64]  # (K,): of the class
    among: NDArray[np.int64]  # (K,): of all classes, in the pictures that show this one


class TrainBatches(Protocol):
    """Varied pictures with their targets."""

    @property
    def pictures(self) -> Pictures:
        """What they are made of."""
        ...

    def make(self, drawn: Draws, indices: NDArray[np.int64], targets: MakeTargets) -> Batch[Arrays]:
        """The batch of the items `indices`. Raises DataError naming a file that cannot be decoded."""
        ...


class EvalBatches(Protocol):
    """Pictures exactly as `predict` prepares them, with their targets."""

    @property
    def pictures(self) -> Pictures:
        """What they are made of."""
        ...

    def make(self, indices: NDArray[np.int64], targets: MakeTargets) -> Batch[Arrays]:
        """The batch of the items `indices`. Raises DataError naming a file that cannot be decoded."""
        ...

    def truths(self, indices: NDArray[np.int64]) -> Sequence[Any]:
        """What the metric holds results against: ids, or masks (H, W) or `Objects` at the source's size."""
        ...


def batch_of(
    pictures: Pictures,
    indices: NDArray[np.int64],
    images: NDArray[np.uint8],
    geometry: tuple[Geometry, ...],
    targets: Targets[Arrays],
    extras: Mapping[str, Arrays] | None = None,
) -> Batch[Arrays]:
    """The batch of these `images` (B, H, W, C), which are not copied; `extras` are further graph inputs."""
    keys = tuple(pictures.dataset.items[index].key for index in indices.tolist())
    # (B, H, W, C) in memory seen as (B, C, H, W) is what torch calls channels_last.
    return Batch(images.transpose(0, 3, 1, 2), targets, keys, geometry, dict(extras or {}))
