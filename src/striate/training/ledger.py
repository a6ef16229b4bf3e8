"""The losses of the steps since the last event, read from the device together and checked."""

import math
import time
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.errors import NotFiniteError
from striate.training.events import StepEvent

__all__ = ["CALMER", "Ledger", "StepRecord"]

CALMER = "train with a lower learning_rate, a longer warmup_epochs or clip_norm = 1"
"""What helps against a loss that grows without bound."""

_RATE_WINDOW = 20  # events that images per second is measured over
_KEYS_NAMED = 8


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimiser step, not yet waited for."""

    step: int  # counted from 1
    learning_rate: float
    keys: tuple[str, ...]  # of its pictures
    losses: dict[str, Tensor]  # scalars, still on the device


class Ledger:
    """The steps of one epoch that no event told of yet."""

    def __init__(self, epoch: int, steps_in_epoch: int) -> None:
        self.epoch, self.steps_in_epoch = epoch, steps_in_epoch
        self._records: list[StepRecord] = []
        # When, and the pictures since the entry before; the start of the epoch has none.
        self._times = deque([(time.perf_counter(), 0)], maxlen=_RATE_WINDOW)

    def __len__(self) -> int:
        """How many steps no event told of."""
        return len(self._records)

    def add(self, record: StepRecord) -> None:
        """Note a step; nothing is waited for."""
        self._records.append(record)

    def drain(self) -> StepEvent:
        """The event of all steps added since the last one; waits for the device.

        Raises NotFiniteError naming the first step whose loss is NaN or infinite, and its pictures.
        """
        names = tuple(self._records[0].losses)
        table = torch.stack([torch.stack(list(record.losses.values())) for record in self._records]).tolist()
        for record, row in zip(self._records, table, strict=True):
            if not all(map(math.isfinite, row)):
                raise self._not_finite(record, dict(zip(names, row, strict=True)))
        last = self._records[-1]
        self._times.append((time.perf_counter(), sum(len(record.keys) for record in self._records)))
        self._records.clear()
        return StepEvent(
            step=last.step,
            epoch=self.epoch,
            steps_in_epoch=self.steps_in_epoch,
            losses={name: sum(terms) / len(table) for name, *terms in zip(names, *table, strict=True)},
            learning_rate=last.learning_rate,
            images_per_second=self._images_per_second(),
        )

    def _images_per_second(self) -> float:
        (start, _), *later = self._times
        return sum(count for _, count in later) / max(later[-1][0] - start, 1e-9)

    def _not_finite(self, record: StepRecord, losses: dict[str, float]) -> NotFiniteError:
        bad = ", ".join(f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value))
        more = len(record.keys) - _KEYS_NAMED
        named = ", ".join(record.keys[:_KEYS_NAMED]) + (f" and {more} more" if more > 0 else "")
        error = NotFiniteError(
            f"step {record.step}, epoch {self.epoch}",
            f"the loss {bad}, at learning rate {record.learning_rate:.4g}, on {named}",
            CALMER,
        )
        # The line stays readable; a traceback shows all of them.
        error.add_note(f"pictures of that batch: {', '.join(record.keys)}")
        return error
