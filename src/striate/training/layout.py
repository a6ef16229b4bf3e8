"""In which order a network's maps and filters lie in memory: the same numbers, and other speeds."""

from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from striate.structures import Batch

__all__ = ["LAYOUTS", "Layout", "lay_out", "moved"]

Layout = Literal["channels_last", "contiguous"]

LAYOUTS: dict[Layout, torch.memory_format] = {
    "channels_last": torch.channels_last,  # all channels of a pixel side by side, as pictures come
    "contiguous": torch.contiguous_format,  # all pixels of a channel side by side
}

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def lay_out(network: NetworkT, device: torch.device, layout: Layout) -> NetworkT:
    """`network` itself, moved to `device` with its filters in `layout`."""
    placed: Any = network.to(device)
    laid_out: NetworkT = placed.to(memory_format=LAYOUTS[layout])
    return laid_out


def moved(batch: Batch[Tensor], device: torch.device, layout: Layout) -> Batch[Tensor]:
    """`batch` on `device`, its pictures in `layout`; no copy of what is so already."""
    here = batch.map(lambda tensor: tensor.to(device, non_blocking=True))
    return replace(here, images=here.images.contiguous(memory_format=LAYOUTS[layout]))
