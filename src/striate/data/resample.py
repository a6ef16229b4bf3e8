"""A quicker resize than preprocessing's own, for training pictures alone: never off by more than one level.

torch resizes 8-bit RGB with vector instructions and releases Python's lock: a cut takes 0.10 ms to 224x224
where Pillow takes 0.36. The filter is the same, in whole numbers too, but its weights have 16 bits instead of
22, so that a value in fifty comes out one level higher or lower. What a network sees in use, and what it is
measured on, is always `preprocess.apply` without it.
"""

import numpy as np
import torch
from torch.nn import functional as F

from striate.data.preprocess import Resize
from striate.structures import Image, Preprocess

__all__ = ["resampler"]


def resampler(spec: Preprocess) -> Resize | None:
    """What may resize RGB pictures in place of `apply`'s own filter; None where nothing quicker is as good.

    That is torch's antialiased bilinear filter on a processor with AVX2; without it torch is slower than
    Pillow, and its bicubic filter is up to 29 levels off.
    """
    has_vectors = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    is_same_filter = spec.interpolation == "bilinear" and spec.antialias and spec.color == "rgb"
    return _bilinear if has_vectors and is_same_filter else None


def _bilinear(image: Image, size: tuple[int, int]) -> Image:
    """`image` (H, W, 3) at `size` (h, w), fresh."""
    # torch would make a part of a picture contiguous with threads of its own, beside the loader's.
    pixels = torch.from_numpy(np.require(image, requirements=("C", "W")))[None].permute(0, 3, 1, 2)
    resized = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    result: Image = resized[0].permute(1, 2, 0).numpy()
    return result
