"""Dilation against pooling for the receptive field.

Three 3x3 convolutions in a row see 7 pixels a side. Pooling between them widens that and makes the maps
smaller; dilation widens it too, with the same number of weights and maps at full resolution. Tutorials
call dilation a way to a large field without the loss of resolution; its price is arithmetic at that
resolution.

Three convolutions of 3x3 with 16, 32 and 32 maps, a global average, a linear layer: as they are (field
7); with a max pool of 3x3, stride 2 behind the first two (field 21); with dilations 1, 3 and 6 (field
21). The fields are those that striate works out. All have the same weights to learn.

Usage: python recipes/experiments/dilation.py DATA
About 3 minutes with Fashion-MNIST on one core.
"""

from collections.abc import Sequence

from experiment import ADAMW, Arm, Claim, Experiment, Measure, Trained, main, pixels
from torch import nn

import striate
from striate.explain.nodes import Node


def network(classes: int, dilations: Sequence[int], pools: bool) -> nn.Module:
    """Three convolutions, and a linear layer on the mean of their last maps."""
    first, second, third = dilations
    return nn.Sequential(
        *stage(1, 16, first, pools),
        *stage(16, 32, second, pools),
        *stage(32, 32, third, pools=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


def stage(channels: int, width: int, dilation: int, pools: bool) -> list[nn.Module]:
    """A convolution that keeps the size of its maps, and a pool if asked."""
    convolution = nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation)
    return [convolution, nn.ReLU(), *([nn.MaxPool2d(3, stride=2, padding=1)] if pools else [])]


def last_convolution(trained: Trained) -> Node:
    """What striate knows of it."""
    return [node for node in striate.summary(trained.network).nodes if node.kind == "Conv2d"][-1]


def field(trained: Trained) -> float:
    """Pixels a side that a value of the last maps sees."""
    seen = last_convolution(trained).field
    return seen.size[0] if seen else 0


def side(trained: Trained) -> float:
    """Pixels a side of the last maps."""
    shape = last_convolution(trained).output_shape
    return shape[-1] if shape else 0


def macs(trained: Trained) -> float:
    """Multiply-adds of one picture."""
    return striate.summary(trained.network).macs


NEITHER, POOLED, DILATED = "neither", "max pooling", "dilation 1, 3, 6"

EXPERIMENT = Experiment(
    name="dilation",
    about=__doc__ or "",
    arms=(
        Arm(NEITHER, network, {"dilations": [1, 1, 1], "pools": False}),
        Arm(POOLED, network, {"dilations": [1, 1, 1], "pools": True}),
        Arm(DILATED, network, {"dilations": [1, 3, 6], "pools": False}),
    ),
    claims=(
        Claim("the wider field of pooling is more accurate than the narrow one", "test", POOLED, NEITHER),
        Claim("the wider field of dilation is more accurate than the narrow one", "test", DILATED, NEITHER),
        Claim("dilation keeps more resolution than pooling", "side", DILATED, POOLED),
        Claim("dilation takes more time than pooling", "time", DILATED, POOLED),
        Claim("at an equal field dilation is more accurate than pooling", "test", DILATED, POOLED),
    ),
    preprocess=pixels(28),
    training=ADAMW,
    measures=(
        Measure("field", "field", "count", field),
        Measure("side", "last maps' side", "count", side),
        Measure("macs", "MACs", "count", macs),
    ),
    shown=(("train", "test"), ("time",)),
    is_timed=True,
)

if __name__ == "__main__":
    main(EXPERIMENT)
