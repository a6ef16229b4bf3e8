"""The states of torch's random numbers: taken, and put back."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["random_states", "restore_random_states"]


def random_states(device: torch.device) -> dict[str, Tensor]:
    """States of the generators that a step on `device` may draw from, uint8 on the CPU."""
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["mps"] = torch.mps.get_rng_state()
    return found


def restore_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put `states` back; a generator that they do not hold stays as it is."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
