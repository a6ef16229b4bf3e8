"""Sigmoid against ReLU in deeper and deeper networks.

The slope of a sigmoid is a quarter at most, so the gradient is said to vanish on its way through many
layers (Glorot and Bengio 2010): the first layers of a deep sigmoid network hardly learn, while ReLU,
whose slope is 0 or 1, lets depth be used.

2, 4 and 8 hidden layers of 64 units on the pixels, and a linear layer; plain SGD with momentum, since Adam
divides the gradient by its size and would hide what is to be seen. The weights are drawn in the same way for
both functions (He et al. 2015). The gradient is that of the loss of 200 training pictures before the first
step: the norm in the first hidden layer over that in the last.

Usage: python recipes/experiments/activation_and_depth.py DATA
About 2 minutes with Fashion-MNIST on one core.
"""

from experiment import SGD, Arm, Claim, Experiment, Measure, Trained, main, pixels, targets_of
from torch import nn

from striate.explain.gradient_flow import gradient_flow
from striate.layers.initialise import he_normal

DEPTHS = (2, 4, 8)
SIDE, UNITS = 28, 64
LOOKED_AT = 200  # pictures
ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "ReLU": nn.ReLU}


def network(classes: int, activation: str, depth: int) -> nn.Module:
    """So many hidden layers, each with its activation."""
    layers: list[nn.Module] = [nn.Flatten()]
    for index in range(depth):
        layers += [nn.Linear(UNITS if index else SIDE * SIDE, UNITS), ACTIVATIONS[activation]()]
    he_normal(layers)
    return nn.Sequential(*layers, nn.Linear(UNITS, classes))


def first_over_last(trained: Trained) -> float:
    """The gradient's norm in the first hidden layer over that in the last, before training."""
    images, labels = trained.train.images[:LOOKED_AT], trained.train.labels[:LOOKED_AT]
    targets = targets_of(labels, len(trained.fresh.classes))
    norms = [layer.norm for layer in gradient_flow(trained.fresh, images, targets).layers]
    return norms[0] / norms[-2]  # the last is that of the classes


def named(activation: str, depth: int) -> str:
    """The name of an arm."""
    return f"{activation}, {depth} layers"


DEEP_RELU, DEEP_SIGMOID = named("ReLU", DEPTHS[-1]), named("sigmoid", DEPTHS[-1])

EXPERIMENT = Experiment(
    name="activation_and_depth",
    about=__doc__ or "",
    arms=tuple(
        Arm(named(activation, depth), network, {"activation": activation, "depth": depth})
        for activation in ACTIVATIONS
        for depth in DEPTHS
    ),
    claims=(
        *(
            Claim(
                f"with {depth} layers ReLU is more accurate than sigmoid",
                "test",
                named("ReLU", depth),
                named("sigmoid", depth),
            )
            for depth in DEPTHS
        ),
        Claim("with ReLU 8 layers are more accurate than 2", "test", DEEP_RELU, named("ReLU", 2)),
        Claim("with sigmoid 2 layers are more accurate than 8", "test", named("sigmoid", 2), DEEP_SIGMOID),
        Claim(
            "in 8 layers ReLU lets more of the gradient reach the first one", "flow", DEEP_RELU, DEEP_SIGMOID
        ),
    ),
    preprocess=pixels(SIDE),
    training={**SGD, "learning_rate": 0.02},
    measures=(Measure("flow", "gradient, first / last", "number", first_over_last, is_log=True),),
    shown=(("train", "test"), ("flow",)),
)

if __name__ == "__main__":
    main(EXPERIMENT)
