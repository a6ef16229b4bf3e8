"""The learning rate of each step."""

import math

from striate.training.config import TrainingConfig

__all__ = ["learning_rate"]


def learning_rate(config: TrainingConfig, step: int, steps_in_epoch: int) -> float:
    """The rate of step `step`, counted from 0: a function of the step alone, so nothing is to be resumed.

    It rises linearly to `peak_rate` over the warm-up and then follows the schedule: "cosine" falls to 0 at
    the end of the run (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts), "triangular" falls
    to 0 in a straight line (Smith and Topin 2019, arXiv:1708.07120, one cycle), "step" is multiplied by
    `step_factor` after each of `step_epochs`, "constant" stays.
    """
    warmup = config.effective_warmup * steps_in_epoch
    if step + 1 < warmup:
        return config.peak_rate * (step + 1) / warmup
    return config.peak_rate * _share(config, step, steps_in_epoch, warmup)


def _share(config: TrainingConfig, step: int, steps_in_epoch: int, warmup: float) -> float:
    if config.schedule in ("cosine", "triangular"):
        # The first full step has the whole rate; the step after the last would have 0.
        start = max(math.ceil(warmup) - 1, 0)
        progress = (step - start) / max(config.epochs * steps_in_epoch - start, 1)
        return 0.5 * (1 + math.cos(math.pi * progress)) if config.schedule == "cosine" else 1 - progress
    if config.schedule == "step":
        passed = sum(step >= epoch * steps_in_epoch for epoch in config.step_epochs)
        return config.step_factor**passed
    return 1.0
