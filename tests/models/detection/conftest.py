"""What the tests of the detection families share: photos, and results that may come in any order."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from striate.models.network import DetectorConfig

Detected = Mapping[str, Tensor]


@pytest.fixture(scope="session")
def photos(shared_data: Callable[[str], Path]) -> Callable[[int, int], Tensor]:
    """The first `count` photos of COCO-128 at `side` x `side`: (count, 3, side, side) uint8."""
    files = sorted((shared_data("coco128") / "images").glob("*.jpg"))

    def read(count: int, side: int) -> Tensor:
        pictures = [Image.open(file).convert("RGB").resize((side, side)) for file in files[:count]]
        return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)

    return read


@pytest.fixture(scope="session")
def detected() -> Callable[[Detected, DetectorConfig], list[Detected]]:
    """What is left of each picture's dense outputs behind the thresholds of a config, surest first."""

    def narrow(dense: Detected, config: DetectorConfig) -> list[Detected]:
        found: list[Detected] = []
        for picture in range(len(dense["scores"])):
            row = {name: tensor[picture] for name, tensor in dense.items()}
            sure = row["scores"] > config.score_threshold
            row = {name: tensor[sure] for name, tensor in row.items()}
            kept = torchvision.ops.batched_nms(
                row["boxes"], row["scores"], row["labels"], config.nms_threshold
            )[: config.detections]
            found.append({name: tensor[kept] for name, tensor in row.items()})
        return found

    return narrow


@pytest.fixture(scope="session")
def spread() -> Callable[[nn.Module, nn.Module, Tensor], None]:
    """Scales the last layers of two SSDs with equal weights, so that scores lie all over 0.05..0.95."""

    def scale(ours: nn.Module, theirs: nn.Module, pictures: Tensor) -> None:
        deviations: dict[nn.Module, float] = {}
        pairs = list(zip(_last_layers(ours), _last_layers(theirs), strict=True))
        for layer, _ in pairs:
            layer.register_forward_hook(lambda own, _, maps: deviations.update({own: float(maps.std())}))
        with torch.no_grad():
            ours(pictures)
            for layer, other in pairs:
                for weights in (*layer.parameters(), *other.parameters()):
                    weights.mul_(2 / deviations[layer])

    return scale


def _last_layers(network: nn.Module) -> list[nn.Module]:
    """The convolutions with a bias in the head, those of scores first."""
    head = network.get_submodule("head")
    ours = hasattr(head, "conf")
    names = ("conf", "loc") if ours else ("classification_head", "regression_head")
    modules = [module for name in names for module in head.get_submodule(name).modules()]
    return [module for module in modules if isinstance(module, nn.Conv2d) and module.bias is not None]


@pytest.fixture(scope="session")
def same_detections() -> Callable[[Detected, Detected], bool]:
    """Whether two pictures' detections are the same as sets: boxes within 1e-3 pixels, scores within 1e-5.

    Of those that differ by rank alone, whose scores are as near to one another, any may stand in a place.
    """

    def same(found: Detected, expected: Detected) -> bool:
        if len(found["scores"]) != len(expected["scores"]):
            return False
        apart = (found["boxes"][:, None] - expected["boxes"]).abs().amax(2) > 1e-3
        apart |= (found["scores"][:, None] - expected["scores"]).abs() > 1e-5
        apart |= found["labels"][:, None] != expected["labels"]
        return bool((~apart).any(0).all() and (~apart).any(1).all())

    return same
