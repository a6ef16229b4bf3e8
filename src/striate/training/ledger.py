"""The losses of the steps since the last event, read from the device together and checked."""

import math
import time
from collections import deque
from dataclasses import dataclass
from itertools import chain
from zlib import crc32

import torch
from torch import Tensor

from striate.errors import NotFiniteError
from striate.training.events import StepEvent
from striate.training.processes import team

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
    keys: tuple[str, ...]  # of this process's pictures
    counted: bool  # False: another process has the same pictures, and counts them
    losses: dict[str, Tensor]  # scalars, this process's part, still on the device


class Ledger:
    """The steps of one epoch that no event told of yet."""

    def __init__(self, epoch: int, steps_in_epoch: int) -> None:
        self.epoch, self.steps_in_epoch = epoch, steps_in_epoch
        self._records: list[StepRecord] = []
        self._team = team()
        # When, and the pictures since the entry before; the start of the epoch has none.
        self._times = deque([(time.perf_counter(), 0)], maxlen=_RATE_WINDOW)

    def __len__(self) -> int:
        """How many steps no event told of."""
        return len(self._records)

    def add(self, record: StepRecord) -> None:
        """Note a step; nothing is waited for."""
        self._records.append(record)

    def drain(self) -> StepEvent:
        """The event of all steps added since the last one; waits for the device and for all processes.

        Raises NotFiniteError naming the first step whose loss is NaN or infinite, and its pictures.
        """
        names = tuple(self._records[0].losses)
        images, checksum, table = self._totals()
        for record, row in zip(self._records, table, strict=True):
            if not all(map(math.isfinite, row)):
                raise self._not_finite(record, dict(zip(names, row, strict=True)))
        last = self._records[-1]
        self._times.append((time.perf_counter(), images))
        self._records.clear()
        return StepEvent(
            step=last.step,
            epoch=self.epoch,
            steps_in_epoch=self.steps_in_epoch,
            losses={name: sum(terms) / len(table) for name, *terms in zip(names, *table, strict=True)},
            learning_rate=last.learning_rate,
            images_per_second=self._images_per_second(),
            images=images,
            checksum=checksum,
        )

    def _totals(self) -> tuple[int, int, list[list[float]]]:
        """Of all processes: pictures, the checksum of their keys, and the losses, a row a step."""
        losses = torch.stack([torch.stack(list(record.losses.values())) for record in self._records])
        keys = [key for record in self._records if record.counted for key in record.keys]
        # Below 2**53 both are exact: up to two million pictures an event.
        counts = torch.tensor([len(keys), sum(crc32(key.encode()) for key in keys)], dtype=torch.float64)
        sums = self._team.total(torch.cat((counts, losses.double().cpu().flatten())))
        return int(sums[0]), int(sums[1]), sums[2:].view(losses.shape).tolist()

    def _images_per_second(self) -> float:
        (start, _), *later = self._times
        return sum(count for _, count in later) / max(later[-1][0] - start, 1e-9)

    def _not_finite(self, record: StepRecord, losses: dict[str, float]) -> NotFiniteError:
        bad = ", ".join(f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value))
        keys = tuple(dict.fromkeys(chain.from_iterable(self._team.gather(record.keys))))
        more = len(keys) - _KEYS_NAMED
        named = ", ".join(keys[:_KEYS_NAMED]) + (f" and {more} more" if more > 0 else "")
        error = NotFiniteError(
            f"step {record.step}, epoch {self.epoch}",
            f"the loss {bad}, at learning rate {record.learning_rate:.4g}, on {named}",
            CALMER,
        )
        # The line stays readable; a traceback shows all of them.
        error.add_note(f"pictures of that batch: {', '.join(keys)}")
        return error
