"""One call of a recorded pass: what went in, what came out, and what torch did in between."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.explain.field_rules import is_value_by_value
from striate.explain.nodes import FUNCTION, SILENT
from striate.explain.operations import Step

__all__ = ["Failure", "Performed", "RecordedCall", "Thumbnail", "is_following"]

Shape = tuple[int, ...]

_THUMBNAIL_SIDE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Performed:
    """An operation that was carried out, with its values as they were then.

    Weights and statistics of the network are not copied: they are the network's own tensors.
    """

    function: Callable[..., Any]  # torch's own; takes the arguments by their names
    step: Step
    outputs: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        """As in torch's core set: "convolution", "native_batch_norm", "relu"."""
        return self.step.name


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnail:
    """A map in eight bits: each channel from its lowest value (0) to its highest (255).

    A side above 32 is reduced to 32: of each area the value of largest size stays, so that peaks survive.
    """

    pixels: NDArray[np.uint8]  # (C, h, w)
    low: NDArray[np.float32]  # (C,)
    high: NDArray[np.float32]

    @classmethod
    def of(cls, maps: Tensor) -> "Thumbnail":
        """Of `maps` (C, H, W)."""
        small = _reduced(maps.detach().float()).cpu()
        low, high = small.amin((1, 2)), small.amax((1, 2))
        scale = 255 / (high - low).clamp(min=torch.finfo(torch.float32).tiny)
        pixels = ((small - low[:, None, None]) * scale[:, None, None]).round().clamp(0, 255)
        return cls(torch.nan_to_num(pixels).to(torch.uint8).numpy(), low.numpy(), high.numpy())


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RecordedCall:
    """A call of a module that calls none inside, or a function that a module's own code called.

    Keyed by the call, not by the module: "layer1.0.relu" is its first call, "layer1.0.relu #2" the second;
    a function is "layer1.0.(add)". Shapes have the batch axis. Where several tensors come out, `output` is
    the first.
    """

    name: str
    kind: str  # the module's class, or "function"
    module: nn.Module | None
    operations: tuple[str, ...]  # torch's own, in order: ("reflection_pad2d", "convolution")
    input_shapes: tuple[Shape, ...]
    sources: tuple[
        str, ...
    ]  # the call that made each input; "" for the network's input, a weight, a constant
    output_shape: Shape | None
    inputs: tuple[Tensor, ...] | None = None  # copies from before anything wrote into them, where wanted
    output: Tensor | None = None
    thumbnail: Thumbnail | None = None
    performed: tuple[Performed, ...] = ()  # where wanted
    live: Tensor | None = None  # the output in the graph of gradients, where wanted and asked for

    def __repr__(self) -> str:
        shapes = " and ".join("x".join(map(str, shape)) for shape in self.input_shapes)
        output = "x".join(map(str, self.output_shape or ()))
        return f"{self.name} ({self.kind}): {shapes} -> {output}"

    @property
    def is_function(self) -> bool:
        """Whether a module's own code called it between its modules."""
        return self.kind == FUNCTION

    @property
    def only_moves(self) -> bool:
        """Whether it looks at its input in another way, or copies it, and makes no number."""
        return bool(self.operations) and all(name in SILENT for name in self.operations)


@dataclass(frozen=True, slots=True)
class Failure:
    """The call at which a pass ended with an error."""

    call: str
    kind: str
    shapes: tuple[Shape, ...]  # of all that met there: of what came in, then of the weights
    reason: str

    @property
    def where(self) -> str:
        """The call and its kind."""
        return f"{self.call or 'the network'} ({self.kind})"

    @property
    def what(self) -> str:
        """The shapes that met, and the reason."""
        met = " and ".join("x".join(map(str, shape)) or "one number" for shape in self.shapes)
        return f"{met or 'no tensor'}: {self.reason}"

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def is_following(step: Step) -> bool:
    """Whether `step` turns each value into another by itself: batch normalisation, an activation."""
    if "batch_norm" in step.name:
        return True
    first, *others = step.tensors
    # Beside a map of the same size it is a sum or a product of two.
    is_alone = all(other.numel() < first.numel() or other.ndim == 0 for other in others)
    return is_value_by_value(step) and step.name not in SILENT and is_alone


def _reduced(maps: Tensor) -> Tensor:
    height, width = maps.shape[1:]
    size = (min(height, _THUMBNAIL_SIDE), min(width, _THUMBNAIL_SIDE))
    if size == (height, width):
        return maps
    _, places = F.adaptive_max_pool2d(maps.abs()[None], size, return_indices=True)
    return maps.flatten(1).gather(1, places[0].flatten(1)).view(-1, *size)
