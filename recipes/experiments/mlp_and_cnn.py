"""A fully connected network against a convolutional one.

A convolution uses the same few weights everywhere, so a CNN is said to need fewer parameters than an MLP,
to be more accurate, and to recognise an object that has moved, which to an MLP is another picture.

The networks are striate's own `mlp` (256, 128 and 100 units) and `simple_cnn` with 16, 32 and 64 maps,
its dropout off. Both are trained on pictures in place. Then every test picture is moved by 1 to 4 pixels
to the left, right, up and down, the border repeated, and the accuracy is the mean over these four.

Usage: python recipes/experiments/mlp_and_cnn.py DATA
About 3 minutes with Fashion-MNIST on one core.
"""

from functools import partial

from experiment import ADAMW, Arm, Claim, Experiment, Measure, Trained, accuracy, accuracy_moved, main, pixels

STEPS = (1, 2, 3, 4)  # pixels


def lost(trained: Trained) -> float:
    """How much of the accuracy a move by the largest step takes."""
    return accuracy(trained.test_logits, trained.test.labels) - accuracy_moved(trained, STEPS[-1])


MLP, CNN = "mlp", "simple_cnn"

EXPERIMENT = Experiment(
    name="mlp_and_cnn",
    about=__doc__ or "",
    arms=(Arm(MLP, "mlp"), Arm(CNN, "simple_cnn", {"widths": [16, 32, 64], "dropout": 0.0})),
    claims=(
        Claim("the MLP has more parameters than the CNN", "parameters", MLP, CNN),
        Claim("the CNN is more accurate than the MLP", "test", CNN, MLP),
        Claim("the CNN is more accurate on pictures moved by 2 pixels", "shift_2", CNN, MLP),
        Claim("a move by 4 pixels costs the MLP more accuracy than the CNN", "lost", MLP, CNN),
    ),
    preprocess=pixels(28),
    training=ADAMW,
    measures=(
        *(
            Measure(f"shift_{step}", f"moved {step} px", "percent", partial(accuracy_moved, step=step))
            for step in STEPS
        ),
        Measure("lost", "lost at 4 px", "percent", lost),
    ),
    shown=(("train", "test"), ("shift_4",)),
)

if __name__ == "__main__":
    main(EXPERIMENT)
