"""A network's input as a picture that people can look at."""

import numpy as np
from torch import Tensor

from striate.errors import UsageError
from striate.explain._sheet import visible
from striate.explain.colours import as_seen
from striate.models.network import Network
from striate.structures import Image

__all__ = ["one_picture", "seen_by"]


def one_picture(images: Tensor) -> Tensor:
    """`images` itself where it is a batch of one picture (1, C, H, W). Raises UsageError where it is not."""
    if images.ndim != 4 or images.shape[0] != 1 or not images.numel():
        raise UsageError(
            "images",
            f"they are {tuple(images.shape)}",
            "give one picture at the network's input: (1, C, H, W)",
        )
    return images


def seen_by(module: object, images: Tensor) -> Image:
    """The picture `images` (1, C, H, W) at the input of `module` as RGB, uint8 (H, W, 3).

    Pixels of a Network are those; another module's input is spread from its least to its largest value, and
    of channels that are no colours the mean is shown in gray.
    """
    values = images[0].detach().permute(1, 2, 0).cpu().double().numpy()
    if isinstance(module, Network):
        pixels = np.rint(values.clip(0, 255)).astype(np.uint8)
        return visible(as_seen(module.preprocess, pixels))
    if values.shape[2] != 3:
        values = values.mean(2, keepdims=True)
    low, high = float(values.min()), float(values.max())
    return visible(np.rint(255 * (values - low) / ((high - low) or 1.0)).astype(np.uint8))
