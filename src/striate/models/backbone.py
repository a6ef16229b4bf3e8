"""A classification network as the encoder of another: cut behind a feature, its weights taken over."""

from collections.abc import Mapping
from typing import Any

import msgspec
from torch import Tensor

from striate import models
from striate.models.network import Classifier
from striate.structures import Preprocess

__all__ = ["backbone", "with_prefix"]


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
