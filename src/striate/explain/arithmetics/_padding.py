"""Where the values of a padded tensor come from."""

from dataclasses import dataclass

from torch import Tensor

from striate.explain.recorded_call import Performed

__all__ = ["Padding", "is_padding", "padding_of"]

_MODES = {"constant": "zeros", "reflection": "reflect", "replication": "replicate", "pad": "circular"}


@dataclass(frozen=True, slots=True, eq=False)
class Padding:
    """A tensor padded by `before` cells at the beginning of each axis, and some at its end."""

    tensor: Tensor
    before: tuple[int, ...]  # for every axis of the tensor
    mode: str  # "zeros", "constant", "reflect", "replicate", "circular"
    value: float  # the constant

    def source(self, position: tuple[int, ...]) -> tuple[int, ...] | None:
        """Where in the tensor the value at `position` behind the padding is from; None: the constant."""
        found = []
        for axis, place in enumerate(position):
            origin = self.origin(axis, place)
            if origin is None:
                return None
            found.append(origin)
        return tuple(found)

    def origin(self, axis: int, place: int) -> int | None:
        """The same along one axis."""
        length = self.tensor.shape[axis]
        start = place - self.before[axis]
        if 0 <= start < length:
            return start
        if self.mode == "circular":
            return start % length
        if self.mode == "replicate":
            return min(max(start, 0), length - 1)
        if self.mode == "reflect":
            return -start if start < 0 else 2 * (length - 1) - start
        return None

    def is_inside(self, position: tuple[int, ...]) -> bool:
        """Whether `position` behind the padding lies in the tensor itself."""
        return all(
            0 <= place - before < length
            for place, before, length in zip(position, self.before, self.tensor.shape, strict=True)
        )


def is_padding(performed: Performed) -> bool:
    """Whether it pads in a mode that is understood."""
    name, given = performed.name, performed.step.arguments
    return (name == "pad" and given.get("mode") == "circular") or name.split("_")[0] in (
        "constant",
        "reflection",
        "replication",
    )


def padding_of(performed: Performed) -> Padding:
    """What `performed`, a padding, did."""
    given = performed.step.arguments
    tensor = performed.step.tensors[0]
    margins = given["padding"] if "padding" in given else given["pad"]
    before = [0] * tensor.ndim
    for place, margin in enumerate(margins[::2]):
        before[tensor.ndim - 1 - place] = margin
    value = float(given.get("value") or 0)
    mode = _MODES[performed.name.split("_")[0]]
    return Padding(tensor, tuple(before), "constant" if mode == "zeros" and value else mode, value)
