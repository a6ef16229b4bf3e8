"""What every engine offers: arrays in, dense arrays out."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from striate.modelfile import ModelCard

__all__ = ["Engine", "Opened"]


class Engine(Protocol):
    """Anything that runs a network. It knows no task, and calls from several threads do not disturb it."""

    @property
    def lanes(self) -> int:
        """How many calls side by side are as fast as it gets; 1: each call uses all cores by itself."""
        ...

    def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The dense outputs by name, for `images` (B, C, H, W) uint8 and further inputs by name."""
        ...


class Opened(NamedTuple):
    """A file made ready by an engine."""

    engine: Engine
    card: ModelCard
