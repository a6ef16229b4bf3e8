"""The stages of a training that does not change all weights by the whole loss all the time."""

from typing import NamedTuple

__all__ = ["Stage"]


class Stage(NamedTuple):
    """Some epochs of gradient descent on a part of a network."""

    name: str
    share: float = 1.0  # of the epochs, in proportion to the other stages'
    trainable: tuple[str, ...] = ("*",)  # patterns of names of the parameters that it changes
    terms: tuple[str, ...] | None = None  # of the loss, that it listens to; None: all
