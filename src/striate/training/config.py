"""The settings of training."""

import math
from collections.abc import Callable
from typing import Literal

from striate.config import Settings
from striate.errors import UsageError

__all__ = ["TrainingConfig"]

_LONGEST_WARMUP = 0.2  # share of the run

# None, where a setting may be that, is always allowed.
_RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (("epochs", "batch_size", "accumulate", "eval_every"), lambda n: n >= 1, "1 or more"),
    (("patience", "threads"), lambda n: n >= 1, "1 or more"),
    (("workers", "seed"), lambda n: n >= 0, "0 or more"),
    (("learning_rate", "clip_norm"), lambda x: 0 < x < math.inf, "a number above 0"),
    (("weight_decay", "warmup_epochs"), lambda x: 0 <= x < math.inf, "a number of at least 0"),
    (("checkpoint_minutes",), lambda x: 0 <= x < math.inf, "a number of at least 0"),
    (("momentum", "ema", "label_smoothing"), lambda x: 0 <= x < 1, "a number of at least 0, below 1"),
    (("step_factor",), lambda x: 0 < x < 1, "a number above 0, below 1"),
    (("layer_decay",), lambda x: 0 < x <= 1, "a number above 0, at most 1"),
)


class TrainingConfig(Settings, frozen=True):
    """How a network is trained."""

    epochs: int = 10
    batch_size: int = 64  # pictures a step, however many parts it is cut into
    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float | None = None  # at its highest; None: 0.05 for sgd, 0.001 for adamw
    momentum: float = 0.9  # of sgd; adamw's first beta
    nesterov: bool | None = None  # of sgd; None: with any momentum
    weight_decay: float = 5e-4  # never of biases and normalisation weights
    schedule: Literal["cosine", "triangular", "step", "constant"] = "cosine"
    warmup_epochs: float = 1.0  # the rate rises from 0 for so long, but for a fifth of the run at most
    step_epochs: tuple[int, ...] = ()  # schedule "step": after each of these epochs ...
    step_factor: float = 0.1  # ... the rate is multiplied by this
    layer_decay: float = 1.0  # the rate of each stage is this share of the next one's; the last has all
    freeze: tuple[str, ...] = ()  # patterns of names of parameters that are not trained: "trunk.*"
    ema: float = 0.0  # decay of the moving average of the weights that is measured and kept; 0: off
    label_smoothing: float = 0.0  # share of the target spread evenly over all classes
    clip_norm: float | None = None  # largest norm of the gradient
    accumulate: int = 1  # parts a batch is cut into to save memory; the gradient is the whole batch's
    patience: int | None = None  # stop after so many epochs without a better one
    # Weight of a class in the loss: inverse to how often it comes, so that each has the same share of it; or
    # the median frequency over its own, counted among the pictures that show it (arXiv:1411.4734, 6.3.2).
    balance: Literal["none", "inverse", "median"] = "none"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    layout: Literal["auto", "channels_last", "contiguous"] = "auto"  # in memory; auto: the faster, timed
    sync_bn: bool = False  # batch norm over the pictures of all processes, not of each alone
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    seed: int = 0  # of weights, order, augmentation and dropout
    threads: int | None = None  # of torch on the CPU; None: one a core, for tiny steps one
    workers: int | None = None  # threads that prepare pictures; None: one a core, up to 8
    keep_memory: bool = True  # on the CPU: what a step frees stays for the next; needs glibc
    deterministic: bool = False  # refuse operations whose result differs from run to run
    checkpoint_minutes: float = 10.0  # between checkpoints within an epoch; 0: only after each epoch
    eval_every: int = 1  # epochs between evaluations; the last one always has one

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_combinations()

    @property
    def peak_rate(self) -> float:
        """The highest learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 0.05 if self.optimiser == "sgd" else 0.001

    @property
    def uses_nesterov(self) -> bool:
        """Whether sgd looks ahead (Nesterov's momentum)."""
        chosen = self.momentum > 0 if self.nesterov is None else self.nesterov
        return self.optimiser == "sgd" and chosen

    @property
    def effective_warmup(self) -> float:
        """Epochs of warm-up that this run has."""
        return min(self.warmup_epochs, _LONGEST_WARMUP * self.epochs)

    def _check_ranges(self) -> None:
        for names, allowed, fix in _RANGES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not allowed(value):
                    raise UsageError(f"training.{name}", f"{value!r} is out of range", f"give {fix}")

    def _check_combinations(self) -> None:
        steps = self.step_epochs
        if self.nesterov and (self.optimiser != "sgd" or not self.momentum):
            raise _conflict("nesterov", True, "it needs the optimiser sgd with a momentum above 0")
        if (self.schedule == "step") != bool(steps):
            raise _conflict("step_epochs", list(steps), "set it together with training.schedule = step")
        if self.schedule != "step" and self.step_factor != 0.1:
            raise _conflict("step_factor", self.step_factor, "it needs training.schedule = step")
        if list(steps) != sorted(set(steps)) or any(not 0 < epoch < self.epochs for epoch in steps):
            raise _conflict(
                "step_epochs", list(steps), f"give ascending epochs between 1 and {self.epochs - 1}"
            )
        if self.accumulate > 1 and self.accumulate > self.batch_size // 2:
            most = max(1, self.batch_size // 2)
            fix = f"a part needs two pictures: at most {most} for a batch_size of {self.batch_size}"
            raise _conflict("accumulate", self.accumulate, fix)


def _conflict(name: str, value: object, fix: str) -> UsageError:
    return UsageError(f"training.{name}", f"{value!r} does not go with the other settings", fix)
