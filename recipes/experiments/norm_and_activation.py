"""Normalisation before the activation, after it, or none.

Ioffe and Szegedy (2015, arXiv:1502.03167, section 3.2) put batch normalisation before the activation;
others put it behind. A ReLU is dead where its input is negative for every picture: it gives 0, gets no
gradient and stays so. Normalisation in front of it centres its inputs and is said to keep it alive.

Four convolutions of 3x3 with 16, 16, 32 and 32 maps, a max pool behind the second, a global average, a
linear layer; a batch normalisation between convolution and ReLU, behind the ReLU, or none; SGD at a rate
of 0.1. A map is counted as dead if its ReLU gives 0 at every place of every test picture.

Usage: python recipes/experiments/norm_and_activation.py DATA
About 4 minutes with Fashion-MNIST on one core.
"""

from typing import Any

import torch
from experiment import SGD, Arm, Claim, Experiment, Measure, Trained, logits_of, main, pixels
from torch import Tensor, nn


def network(classes: int, norm: str) -> nn.Module:
    """Four convolutions, normalised "before" or "behind" their ReLU, or not ("none")."""
    return nn.Sequential(
        *layer(1, 16, norm),
        *layer(16, 16, norm),
        nn.MaxPool2d(2),
        *layer(16, 32, norm),
        *layer(32, 32, norm),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


def layer(channels: int, width: int, norm: str) -> list[nn.Module]:
    """A convolution with its ReLU and its normalisation."""
    pair: dict[str, list[nn.Module]] = {
        "before": [nn.BatchNorm2d(width), nn.ReLU()],
        "behind": [nn.ReLU(), nn.BatchNorm2d(width)],
        "none": [nn.ReLU()],
    }
    return [nn.Conv2d(channels, width, 3, padding=1), *pair[norm]]


def dead_share(trained: Trained) -> float:
    """The share of the maps behind a ReLU that are 0 at every place of every test picture."""
    alive: dict[nn.Module, Tensor] = {}

    def look(module: nn.Module, _: Any, output: Tensor) -> None:
        alive[module] = alive.get(module, torch.tensor(False)) | (output > 0).any(dim=(0, 2, 3))

    found = [module for module in trained.network.modules() if isinstance(module, nn.ReLU)]
    hooks = [module.register_forward_hook(look) for module in found]
    logits_of(trained.network, trained.test.images)
    for hook in hooks:
        hook.remove()
    return 1 - float(torch.cat(list(alive.values())).double().mean())


BEFORE, BEHIND, NONE = "before the ReLU", "behind the ReLU", "none"

EXPERIMENT = Experiment(
    name="norm_and_activation",
    about=__doc__ or "",
    arms=(
        Arm(BEFORE, network, {"norm": "before"}),
        Arm(BEHIND, network, {"norm": "behind"}),
        Arm(NONE, network, {"norm": "none"}),
    ),
    claims=(
        Claim("normalisation before the ReLU is more accurate than none", "test", BEFORE, NONE),
        Claim("normalisation behind the ReLU is more accurate than none", "test", BEHIND, NONE),
        Claim("before is more accurate than behind", "test", BEFORE, BEHIND),
        Claim("without normalisation more ReLUs are dead than with one before", "dead", NONE, BEFORE),
        Claim("with one behind more ReLUs are dead than with one before", "dead", BEHIND, BEFORE),
    ),
    preprocess=pixels(28),
    training={**SGD, "learning_rate": 0.1},
    measures=(Measure("dead", "dead ReLUs", "percent", dead_share),),
    shown=(("train", "test"), ("dead",)),
)

if __name__ == "__main__":
    main(EXPERIMENT)
