"""With and without batch normalisation, at two learning rates.

Ioffe and Szegedy (2015, arXiv:1502.03167): a network with batch normalisation learns faster, and bears
higher rates than one without.

Six convolutions of 3x3, two each with 16, 32 and 64 maps, a max pool behind the second and fourth, a
global average, a linear layer; with a batch normalisation between each convolution and its ReLU, or
without; with SGD at a rate of 0.02 and of 0.2.

Usage: python recipes/experiments/batch_norm.py DATA
About 4 minutes with Fashion-MNIST on one core.
"""

from experiment import SGD, Arm, Claim, Experiment, main, pixels
from torch import nn

LOW, HIGH = 0.02, 0.2  # learning rates


def network(classes: int, normalises: bool) -> nn.Module:
    """Six convolutions."""
    return nn.Sequential(
        *layer(1, 16, normalises),
        *layer(16, 16, normalises),
        nn.MaxPool2d(2),
        *layer(16, 32, normalises),
        *layer(32, 32, normalises),
        nn.MaxPool2d(2),
        *layer(32, 64, normalises),
        *layer(64, 64, normalises),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )


def layer(channels: int, width: int, normalises: bool) -> list[nn.Module]:
    """A convolution and its ReLU; what batch normalisation adds replaces the bias."""
    convolution = nn.Conv2d(channels, width, 3, padding=1, bias=not normalises)
    return [convolution, *([nn.BatchNorm2d(width)] if normalises else []), nn.ReLU()]


def arm(name: str, normalises: bool, rate: float) -> Arm:
    """One way."""
    return Arm(name, network, {"normalises": normalises}, {"learning_rate": rate})


WITH_LOW, WITH_HIGH = f"batch norm, rate {LOW:g}", f"batch norm, rate {HIGH:g}"
WITHOUT_LOW, WITHOUT_HIGH = f"without, rate {LOW:g}", f"without, rate {HIGH:g}"

EXPERIMENT = Experiment(
    name="batch_norm",
    about=__doc__ or "",
    arms=(
        arm(WITHOUT_LOW, False, LOW),
        arm(WITHOUT_HIGH, False, HIGH),
        arm(WITH_LOW, True, LOW),
        arm(WITH_HIGH, True, HIGH),
    ),
    claims=(
        Claim("at the low rate batch norm is more accurate", "test", WITH_LOW, WITHOUT_LOW),
        Claim("at the high rate batch norm is more accurate", "test", WITH_HIGH, WITHOUT_HIGH),
        Claim("without it the low rate is more accurate than the high", "test", WITHOUT_LOW, WITHOUT_HIGH),
        Claim("with it the high rate is more accurate than the low", "test", WITH_HIGH, WITH_LOW),
    ),
    preprocess=pixels(28),
    training=SGD,
)

if __name__ == "__main__":
    main(EXPERIMENT)
