"""A contender of benchmarks/training.py: Keras's `fit`, in an interpreter of its own that needs no striate.

Usage: KERAS_BACKEND=torch python benchmarks/keras_fit.py NETWORK SIZE BATCH SETTLE STEPS

Speaks as `serve` there does: a line when it is loaded, then for each line of the standard input an answer, of
which the first says what it is and the others how many images a second `fit` had.
"""

import ctypes
import json
import sys
import time
from importlib import import_module
from typing import Any

import numpy as np

CLASSES = 10


def main() -> None:
    """Be the contender."""
    try:
        keras = import_module("keras")
    except ImportError as error:
        answer({"not_run": str(error)})
        return
    answer({})
    sys.stdin.readline()
    name, *numbers = sys.argv[1:]
    size, batch, settle, steps = map(int, numbers)
    channels = 1 if name == "lenet" else 3
    model = build(keras, name, (size, size, channels))
    # As the plain loop has it: learning rate and momentum, a loss and nothing else to measure.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=1e-4), loss)
    count = (settle + steps) * batch
    images = np.random.default_rng(0).normal(size=(count, size, size, channels)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, CLASSES, count)
    clock = clock_of(keras, settle)
    answer({"facts": facts(keras)})
    for _ in sys.stdin:
        model.fit(images, labels, batch, epochs=1, verbose=0, callbacks=[clock])
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if settle and trim is not None:
            trim(0)  # as the other contenders do: all must fit the machine at once
        answer({"reached": steps * batch / (clock.ended - clock.started)})


def build(keras: Any, name: str, shape: tuple[int, int, int]) -> Any:
    """`lenet`, as Keras's MNIST tutorial has it, or an application of Keras."""
    if name != "lenet":
        application = getattr(keras.applications, name)
        return application(weights=None, input_shape=shape, classes=CLASSES, classifier_activation=None)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(CLASSES),
        ]
    )


def clock_of(keras: Any, settle: int) -> Any:
    """A callback that notes when the first `settle` steps of `fit` are done, and when all are."""

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        started = ended = 0.0

        def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
            del logs
            self.started = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            if batch + 1 == settle:
                float((logs or {})["loss"])  # JAX answers before it is done
                self.started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            del epoch
            float((logs or {})["loss"])
            self.ended = time.perf_counter()

    return Clock()


def facts(keras: Any) -> dict[str, object]:
    """How it computes: Keras's own defaults throughout."""
    backend = keras.backend.backend()
    found: dict[str, object] = {
        "precision": "bf16" if "bfloat16" in keras.config.dtype_policy().name else "fp32",
        "layout": keras.config.image_data_format(),
        "versions": {"keras": keras.__version__, backend: import_module(backend).__version__},
    }
    if backend == "torch":
        found["threads"] = import_module("torch").get_num_threads()
    return found


def answer(line: dict[str, object]) -> None:
    """Tell the benchmark."""
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
