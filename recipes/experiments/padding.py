"""Padding with zeros against no padding.

Without padding ("valid") a 3x3 convolution takes a pixel off every side of its maps, and a pixel in the
corner of the picture takes part in one window only, one in the middle in nine. Zeros around the maps
("same") keep their size and are said to keep what lies at the border: more accurate, above all for
objects there.

Four convolutions of 3x3, a max pool behind the second, a global average, a linear layer. Pictures of
28x28 stand in the middle of 40x40 black pixels; for the test at the border every one is moved by 6 pixels
to the left, right, up and down, so that it touches the border and nothing of it is lost. The corner's say
is the number of paths from the corner pixel of the picture to the outputs of the last convolution, over
that of the middle pixel, counted by the gradient of a copy with all weights 1.

Usage: python recipes/experiments/padding.py DATA
About 4 minutes with Fashion-MNIST on one core.
"""

import copy
from functools import partial

import torch
from experiment import ADAMW, Arm, Claim, Experiment, Measure, Trained, accuracy, accuracy_moved, main, pixels
from torch import Tensor, nn

SIDE, BORDER = 40, 6  # pixels; of the side, black on every side


def network(classes: int, padding: int) -> nn.Module:
    """Four convolutions with so many zeros around their maps."""
    return nn.Sequential(maps_of(padding), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes))


def maps_of(padding: int) -> nn.Sequential:
    """The convolutions."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=padding), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=padding), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=padding), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, padding=padding), nn.ReLU()),
    )


def last_maps(trained: Trained, images: Tensor) -> Tensor:
    """The outputs of the last convolution of a copy whose weights are all 1, its pool an average."""
    body = copy.deepcopy(trained.network.get_submodule("body.0"))
    layers = [nn.AvgPool2d(2) if isinstance(layer, nn.MaxPool2d) else layer for layer in body.children()]
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.ones_(parameter)
    maps: Tensor = nn.Sequential(*layers)(images)
    return maps


def side(trained: Trained) -> float:
    """Pixels a side of the last maps."""
    return last_maps(trained, torch.ones(1, 1, SIDE, SIDE)).shape[-1]


def corner_say(trained: Trained) -> float:
    """Paths from the corner pixel to the last maps, over those from the middle pixel."""
    images = torch.ones(1, 1, SIDE, SIDE, requires_grad=True)
    (paths,) = torch.autograd.grad(last_maps(trained, images).sum(), images)
    return float(paths[0, 0, 0, 0] / paths[0, 0, SIDE // 2, SIDE // 2])


def lost(trained: Trained) -> float:
    """How much of the accuracy the move takes."""
    return accuracy(trained.test_logits, trained.test.labels) - accuracy_moved(trained, BORDER)


SAME, VALID = "zeros around (same)", "no padding (valid)"

EXPERIMENT = Experiment(
    name="padding",
    about=__doc__ or "",
    arms=(Arm(SAME, network, {"padding": 1}), Arm(VALID, network, {"padding": 0})),
    claims=(
        Claim("with padding a corner pixel has more say", "corner", SAME, VALID),
        Claim("padding is more accurate than none", "test", SAME, VALID),
        Claim("padding is more accurate than none for objects at the border", "border", SAME, VALID),
        Claim("a move to the border costs more accuracy without padding", "lost", VALID, SAME),
    ),
    preprocess=pixels(SIDE, border=BORDER),
    training=ADAMW,
    measures=(
        Measure("border", "at the border", "percent", partial(accuracy_moved, step=BORDER)),
        Measure("lost", "lost there", "percent", lost),
        Measure("side", "last maps' side", "count", side),
        Measure("corner", "corner's say", "number", corner_say),
    ),
    shown=(("train", "test"), ("border",)),
)

if __name__ == "__main__":
    main(EXPERIMENT)
