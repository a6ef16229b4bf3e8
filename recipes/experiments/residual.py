"""Plain against residual networks at 20 and 56 layers.

He et al. (2015, arXiv:1512.03385, Fig. 1 and 6): of plain networks the deeper one has the larger training
error, so that it is not overfitting but cannot be trained as well; with shortcuts the deeper one is the
better.

The networks are striate's own `plain20_cifar`, `plain56_cifar`, `resnet20_cifar` and `resnet56_cifar` of
section 4.2, which have the same weights by pairs (option A), with the paper's SGD, momentum 0.9. The
paper's 64,000 steps on 50,000 pictures would take days here: there are a few hundred, of pictures shrunk
to 16x16, without augmentation, and at half the paper's rate, as for half its batch. The training loss is
measured after the last step, in evaluation mode.

Usage: python recipes/experiments/residual.py DATA
About 20 minutes with CIFAR-10 on one core.
"""

from experiment import SGD, Arm, Claim, Experiment, Measure, Trained, main, pixels
from torch.nn.functional import cross_entropy


def train_loss(trained: Trained) -> float:
    """Cross-entropy on the pictures that it was trained on."""
    return float(cross_entropy(trained.train_logits, trained.train.labels))


PLAIN_20, PLAIN_56, RESIDUAL_20, RESIDUAL_56 = (
    "plain20_cifar",
    "plain56_cifar",
    "resnet20_cifar",
    "resnet56_cifar",
)

EXPERIMENT = Experiment(
    name="residual",
    about=__doc__ or "",
    arms=tuple(Arm(name, name) for name in (PLAIN_20, PLAIN_56, RESIDUAL_20, RESIDUAL_56)),
    claims=(
        Claim("56 plain layers end with a larger training loss than 20", "loss", PLAIN_56, PLAIN_20),
        Claim(
            "20 plain layers are more accurate on their training pictures than 56",
            "train",
            PLAIN_20,
            PLAIN_56,
        ),
        Claim(
            "at 56 layers the plain network ends with a larger training loss", "loss", PLAIN_56, RESIDUAL_56
        ),
        Claim("at 56 layers the residual network is more accurate", "test", RESIDUAL_56, PLAIN_56),
        Claim("20 residual layers end with a larger training loss than 56", "loss", RESIDUAL_20, RESIDUAL_56),
        Claim("56 residual layers are more accurate than 20", "test", RESIDUAL_56, RESIDUAL_20),
    ),
    preprocess=pixels(16, "rgb"),
    training={**SGD, "batch_size": 64},
    measures=(Measure("loss", "train loss", "number", train_loss, is_log=True),),
    shown=(("train", "test"), ("loss",)),
    pictures=2000,
    epochs=24,
)

if __name__ == "__main__":
    main(EXPERIMENT)
