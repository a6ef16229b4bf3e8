"""Local response normalisation: a value over a power of the squares of the maps beside it."""

import numpy as np
import torch
from torch import Tensor

from striate.explain.arithmetics._explained import Element, Explained, Rule, Source, number
from striate.layers.local_response_norm import LocalResponseNorm

__all__ = ["MODULES", "RULES"]


def _response_norm(element: Element) -> Explained:
    """torch's: its alpha multiplies the mean of the squares over `size` maps, absent ones counted."""
    given = element.given
    size = given["size"]
    settings = (given.get("k", 1.0), given.get("alpha", 1e-4) / size, given.get("beta", 0.75))
    before = size // 2
    return _explained(given["input"], element.position, (before, size - before), settings)


def _own_response_norm(module: LocalResponseNorm, maps: Tensor, position: tuple[int, ...]) -> Explained:
    """Ours: the alpha of the paper multiplies the sum."""
    reach = (module.n // 2, module.n // 2 + 1)
    return _explained(maps, position, reach, (module.k, module.alpha, module.beta))


def _explained(
    maps: Tensor, position: tuple[int, ...], reach: tuple[int, int], settings: tuple[float, float, float]
) -> Explained:
    batch, channel, *spot = position
    place = int(np.ravel_multi_index(spot, tuple(maps.shape[2:]))) if spot else 0
    k, alpha, beta = settings
    first, end = max(0, channel - reach[0]), min(maps.shape[1], channel + reach[1])
    beside = maps[batch, first:end].reshape(end - first, -1)[:, place].detach().double()
    value, total = float(maps[position]), float(torch.sum(beside * beside))
    result = value / (k + alpha * total) ** beta
    return Explained(
        "local response norm",
        result,
        f"y = x / (k + alpha · sum of squares of maps {first} to {end - 1}) ^ beta",
        f"{number(value)} / ({k:g} + {alpha:g} · {number(total)}) ^ {beta:g} = {number(result)}",
        {"x": value, "k": k, "alpha": alpha, "beta": beta, "squares": total},
        source=Source(maps, position),
    )


RULES: dict[str, Rule] = {"local_response_norm": _response_norm}

MODULES = {LocalResponseNorm: _own_response_norm}
