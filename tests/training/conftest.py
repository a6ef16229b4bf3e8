"""A tiny network and tiny data that every test of training can afford."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from striate.data.augment import AugmentConfig
from striate.data.dataset import Dataset, Item
from striate.data.storage import ArrayStorage
from striate.modelfile import ModelCard
from striate.models.network import Classifier, Logits, NetworkConfig
from striate.structures import Preprocess
from striate.training.config import TrainingConfig
from striate.training.loaders import Loaders, make_loaders

SPEC = Preprocess(size=(6, 6), fit="stretch", color="gray", mean=(0.5,), std=(0.3,))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Several threads for tiny tensors cost a hundred times their work where tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TinyNetwork(Classifier):
    """Convolution -> (batch norm) -> ReLU -> (dropout) -> linear; 3 classes, 6x6 gray."""

    feature_info = ()

    def __init__(self, norm: bool = True, dropout: float = 0.0) -> None:
        super().__init__(NetworkConfig(classes=("dark", "mid", "light"), preprocess=SPEC))
        self.convolution = nn.Conv2d(1, 4, 3, bias=not norm)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(64, 3)

    def forward(self, images: Tensor, **_: Tensor) -> Logits:
        maps = torch.relu(self.norm(self.convolution(self.normalize(images))))
        return Logits(self.head(self.dropout(maps.flatten(1))))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        return {"input": images}


@pytest.fixture
def network() -> Callable[..., TinyNetwork]:
    """Makes a tiny network, always with the same weights."""

    def make(**options: Any) -> TinyNetwork:
        torch.manual_seed(123)
        return TinyNetwork(**options)

    return make


def shades(train: int = 36, val: int = 12) -> Dataset:
    """Noisy pictures, dark, middling and light, that a tiny network learns in a few steps."""
    count = train + val
    labels = np.arange(count) % 3
    noise = np.random.default_rng(0).integers(0, 60, (count, 6, 6, 1))
    storage = ArrayStorage((labels[:, None, None, None] * 90 + noise).astype(np.uint8), "shade")
    parts = ["train"] * train + ["val"] * val
    items = tuple(
        Item(key, part, int(label))  # type: ignore[arg-type]
        for key, part, label in zip(storage.keys(), parts, labels, strict=True)
    )
    return Dataset("shades", "drawn", "classification", ("dark", "mid", "light"), items, storage)


@pytest.fixture
def dataset() -> Dataset:
    """36 pictures to train on and 12 to validate with."""
    return shades()


@pytest.fixture
def loaders() -> Callable[..., Loaders]:
    """Makes the loaders of `config` over a small dataset."""

    def make(config: TrainingConfig, augment: AugmentConfig | None = None, **parts: int) -> Loaders:
        return make_loaders(shades(**parts), SPEC, config, augment or AugmentConfig())

    return make


@pytest.fixture
def card() -> ModelCard:
    """A card for the tiny network."""
    return ModelCard("classification", "tiny", "tiny", {}, ("dark", "mid", "light"), SPEC)
