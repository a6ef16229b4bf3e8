"""When each stage of a training begins, and what it changes."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import msgspec
from torch import nn

from striate.errors import UsageError
from striate.models.stage import Stage
from striate.training.config import TrainingConfig

__all__ = ["Span", "spans", "train_only"]


@dataclass(frozen=True, slots=True)
class Span:
    """A stage and its epochs."""

    stage: Stage
    first: int  # epoch, counted from 0
    config: TrainingConfig  # with as many epochs as the stage has

    @property
    def end(self) -> int:
        """The epoch behind its last."""
        return self.first + self.config.epochs


def spans(stages: Sequence[Stage], config: TrainingConfig) -> tuple[Span, ...]:
    """The epochs of `config` shared out among `stages`, at least one each.

    The schedule of the learning rate begins anew with each. Raises UsageError where there are too few epochs,
    or a schedule names epochs of a run that has several stages.
    """
    if len(stages) == 1:
        return (Span(stages[0], 0, config),)
    if config.epochs < len(stages):
        names = ", ".join(stage.name for stage in stages)
        raise UsageError(
            "training.epochs",
            f"there are {config.epochs} for {len(stages)} stages: {names}",
            f"give at least {len(stages)}",
        )
    if config.schedule == "step":
        raise UsageError(
            "training.schedule", "step names epochs, and each stage begins anew", "use cosine or constant"
        )
    return tuple(_spans(stages, config))


def _spans(stages: Sequence[Stage], config: TrainingConfig) -> Iterator[Span]:
    total, first, share = sum(stage.share for stage in stages), 0, 0.0
    for left, stage in zip(range(len(stages) - 1, -1, -1), stages, strict=True):
        share += stage.share
        end = max(first + 1, min(round(config.epochs * share / total), config.epochs - left))
        yield Span(stage, first, msgspec.structs.replace(config, epochs=end - first))
        first = end


def train_only(network: nn.Module, patterns: Collection[str], frozen: Collection[str]) -> None:
    """Let gradients reach the parameters that one of `patterns` matches, but for those named in `frozen`."""
    for name, parameter in network.named_parameters():
        is_asked = any(fnmatchcase(name, pattern) for pattern in patterns)
        parameter.requires_grad_(is_asked and name not in frozen)
