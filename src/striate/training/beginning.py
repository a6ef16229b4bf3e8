"""The training pictures that a network starts from, where its family wants some."""

import torch
from torch import Tensor

from striate.data.cache import Budget, Pictures
from striate.data.dataset import Dataset
from striate.data.draws import Draws
from striate.structures import Preprocess

__all__ = ["MOST_PICTURES", "start_pictures"]

MOST_PICTURES = 1000


def start_pictures(dataset: Dataset, preprocess: Preprocess, seed: int) -> Tensor:
    """Up to MOST_PICTURES of the train part of `dataset`, chosen by `seed`: (N, C, H, W) uint8.

    Raises DataError naming a file that cannot be decoded.
    """
    chosen = Draws(seed, 0).order(dataset.indices("train"))[:MOST_PICTURES]
    images, _ = Pictures.for_input(dataset, preprocess, Budget(0)).batch(chosen)
    return torch.from_numpy(images).permute(0, 3, 1, 2)
