"""Kernels of 3, 5 and 7 with strides of 1, 2 and 3.

A larger kernel sees more at once and costs more; a larger stride costs less and throws away detail.
Tutorials draw two rules from that: small kernels do as well at less cost, and a stride trades accuracy
for time.

The kernel and the stride are those of the first convolution, with 16 maps; a max pool of 2x2, a
convolution of 3x3 with 32 maps, a global average and a linear layer follow, the same for all nine.

Usage: python recipes/experiments/kernel_and_stride.py DATA
About 6 minutes with Fashion-MNIST on one core.
"""

from itertools import product

from experiment import ADAMW, Arm, Claim, Experiment, main, pixels
from torch import nn

KERNELS, STRIDES = (3, 5, 7), (1, 2, 3)


def network(classes: int, kernel: int, stride: int) -> nn.Module:
    """Two convolutions, the first with this `kernel` and `stride`."""
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel, stride, padding=kernel // 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


def named(kernel: int, stride: int) -> str:
    """The name of an arm."""
    return f"{kernel}x{kernel}, stride {stride}"


EXPERIMENT = Experiment(
    name="kernel_and_stride",
    about=__doc__ or "",
    arms=tuple(
        Arm(named(kernel, stride), network, {"kernel": kernel, "stride": stride})
        for kernel, stride in product(KERNELS, STRIDES)
    ),
    claims=(
        *(
            Claim(
                f"7x7 is more accurate than 3x3 at stride {stride}",
                "test",
                named(7, stride),
                named(3, stride),
            )
            for stride in STRIDES
        ),
        Claim("7x7 takes more time than 3x3 at stride 1", "time", named(7, 1), named(3, 1)),
        *(
            Claim(
                f"stride 1 is more accurate than 3 with {kernel}x{kernel}",
                "test",
                named(kernel, 1),
                named(kernel, 3),
            )
            for kernel in KERNELS
        ),
        Claim("stride 1 takes more time than 3 with 3x3", "time", named(3, 1), named(3, 3)),
    ),
    preprocess=pixels(28),
    training=ADAMW,
    shown=(("train", "test"), ("time",)),
    is_timed=True,
)

if __name__ == "__main__":
    main(EXPERIMENT)
