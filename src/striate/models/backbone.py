"""A classification network as the encoder of another: cut behind a feature, its weights taken over."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from torch import Tensor, nn

from striate import models
from striate.models.network import Classifier
from striate.models.unweighted import unweighted
from striate.structures import Preprocess

__all__ = ["backbone", "taken_over", "with_prefix"]


def backbone(name: str, last: str, preprocess: Preprocess, **settings: Any) -> Classifier:
    """The classification network `name` cut behind its feature `last`, with fresh weights.

    Of it only `features(values)` is left to call, with values that are normalised already. `preprocess` is
    that of the whole network; `settings` are further fields of the family's Config (`output_stride=16`).
    """
    encoder = models.create(name, preprocess=msgspec.to_builtins(preprocess), **settings)
    if not isinstance(encoder, Classifier):
        raise TypeError(f"{name} is no classification network")
    return encoder.cut(last)


def with_prefix(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """`state_dict` with `prefix` before each name: a backbone's weights where the network has them."""
    return {f"{prefix}{name}": tensor for name, tensor in state_dict.items()}


def taken_over(
    state_dict: Mapping[str, Tensor], make: Callable[[], nn.Module], prefix: str = ""
) -> dict[str, Tensor]:
    """Those weights of a whole classification network that `make()` has under `prefix`, by its names.

    What is made gets no memory.
    """
    with unweighted():
        here = make().state_dict().keys()
    return {name: tensor for name, tensor in with_prefix(state_dict, prefix).items() if name in here}
