"""One job over many machines: which pictures are whose, and what each part's output is called."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from striate.errors import UsageError

__all__ = ["Shard", "chosen_shard"]

_FIX = "give the part's number and how many there are: 1/4, 2/4, 3/4, 4/4"


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `number`, from 1, of `count` equal ones. Raises UsageError for a part that there is not."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise UsageError(f"shard {self}", "there is no such part", _FIX)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The part that "2/8" means."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
        if found is None:
            raise UsageError(f"shard {text}", "this is no part", _FIX)
        return cls(int(found[1]), int(found[2]))

    def named(self, path: Path) -> Path:
        """`path` with the part in its name: found.csv is found-2-of-8.csv."""
        return path.with_name(f"{path.stem}-{self.number}-of-{self.count}{path.suffix}")


def chosen_shard(text: str | None, environment: Mapping[str, str] = os.environ) -> Shard | None:
    """The part that `text` asks for, or that torchrun gave to this process; None: there is one part alone.

    Raises UsageError where both do, or what torchrun says is no part.
    """
    rank, world_size = environment.get("RANK"), environment.get("WORLD_SIZE", "1")
    if rank is None or world_size == "1":
        return None if text is None else Shard.parse(text)
    if text is not None:
        raise UsageError(f"shard {text}", f"torchrun's {world_size} processes divide the job", "leave it out")
    if not (rank.isdecimal() and world_size.isdecimal()):
        raise UsageError("RANK, WORLD_SIZE", f"{rank}, {world_size} are no numbers", "start it by torchrun")
    return Shard(int(rank) + 1, int(world_size))
