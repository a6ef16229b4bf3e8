"""Max pooling against average pooling and convolutions with stride 2.

Tutorials say that max pooling beats average pooling, and Springenberg et al. (2014, arXiv:1412.6806) that
a convolution with stride 2 behind each stage can do the work of pooling, at the price of weights of its
own. Moving the stride into the convolution that is there anyway costs nothing and saves three quarters of
it.

Three convolutions of 3x3 with 16, 32 and 64 maps, a halving behind the first two, a global average, a
linear layer. Only the halving differs.

Usage: python recipes/experiments/pooling.py DATA
About 4 minutes with Fashion-MNIST on one core.
"""

from experiment import ADAMW, Arm, Claim, Experiment, main, pixels
from torch import nn


def network(classes: int, halving: str) -> nn.Module:
    """The network with this `halving`."""
    return nn.Sequential(
        *stage(1, 16, halving),
        *stage(16, 32, halving),
        *stage(32, 64, "none"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )


def stage(channels: int, width: int, halving: str) -> list[nn.Module]:
    """A convolution, and what makes its maps half as large."""
    behind: dict[str, list[nn.Module]] = {
        "max": [nn.MaxPool2d(2)],
        "average": [nn.AvgPool2d(2)],
        "learned": [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU()],
        "stride": [],
        "none": [],
    }
    stride = 2 if halving == "stride" else 1
    return [nn.Conv2d(channels, width, 3, stride, padding=1), nn.ReLU(), *behind[halving]]


MAX, AVERAGE, STRIDE, LEARNED = (
    "max pooling",
    "average pooling",
    "stride 2 in the convolution",
    "another convolution, stride 2",
)

EXPERIMENT = Experiment(
    name="pooling",
    about=__doc__ or "",
    arms=(
        Arm(MAX, network, {"halving": "max"}),
        Arm(AVERAGE, network, {"halving": "average"}),
        Arm(STRIDE, network, {"halving": "stride"}),
        Arm(LEARNED, network, {"halving": "learned"}),
    ),
    claims=(
        Claim("max pooling is more accurate than average pooling", "test", MAX, AVERAGE),
        Claim("another convolution is more accurate than max pooling", "test", LEARNED, MAX),
        Claim("max pooling takes more time than a stride in the convolution", "time", MAX, STRIDE),
        Claim("max pooling is more accurate than a stride in the convolution", "test", MAX, STRIDE),
    ),
    preprocess=pixels(28),
    training=ADAMW,
    shown=(("train", "test"), ("time",)),
    is_timed=True,
)

if __name__ == "__main__":
    main(EXPERIMENT)
