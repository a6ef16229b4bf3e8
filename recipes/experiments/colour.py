"""Gray, RGB or HSV pictures.

Colour is said to help where it tells classes apart, and HSV, which keeps hue apart from brightness, to
make that easier to use. Against it speaks that hue is an angle: red is 0 and 255 at once, and that it
means nothing where a picture is gray.

The network is striate's own `simple_cnn` with 16, 32 and 64 maps, its dropout off;
`network.preprocess.color` is the only setting that differs, and with it the channels of the first
convolution: one or three.

Usage: python recipes/experiments/colour.py DATA
About 3 minutes with CIFAR-10 on one core.
"""

from experiment import ADAMW, Arm, Claim, Experiment, main, pixels

SIDE = 32  # pixels


def arm(name: str, color: str) -> Arm:
    """One way to see pictures."""
    options = {"widths": [16, 32, 64], "dropout": 0.0}
    return Arm(name, "simple_cnn", options, preprocess=pixels(SIDE, color))


GRAY, RGB, HSV = "gray", "RGB", "HSV"

EXPERIMENT = Experiment(
    name="colour",
    about=__doc__ or "",
    arms=(arm(GRAY, "gray"), arm(RGB, "rgb"), arm(HSV, "hsv")),
    claims=(
        Claim("RGB is more accurate than gray", "test", RGB, GRAY),
        Claim("HSV is more accurate than gray", "test", HSV, GRAY),
        Claim("HSV is more accurate than RGB", "test", HSV, RGB),
    ),
    preprocess={},
    training=ADAMW,
    pictures=4000,
)

if __name__ == "__main__":
    main(EXPERIMENT)
