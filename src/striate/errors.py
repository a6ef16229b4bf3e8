"""Everything striate raises on purpose, and the exit code of each kind.

    StriateError                 1  a check failed, or a kind without a better code
    ├── UsageError               2  the command line, a config key, a name
    │   └── UnknownName          2  a name that is not in a list; offers the nearest
    ├── DataError                3  a picture, a label file, a folder
    │   └── LabelError           3  a pixel of a mask that is no class
    ├── ModelError               4  a model file, a network's config, weights
    │   └── NotFiniteError       4  a loss or weight became NaN or infinite
    ├── EnvironmentProblem       5  a missing extra, device or permission
    ├── DiskFull                28
    └── Interrupted        130/143  a signal; what was done so far is saved

Each prints as one line, `error: WHERE: what is wrong. fix: what to do`.
"""

import difflib
import errno
import re
from collections.abc import Iterable

__all__ = [
    "DataError",
    "DiskFull",
    "EnvironmentProblem",
    "Interrupted",
    "LabelError",
    "ModelError",
    "NotFiniteError",
    "StriateError",
    "UnknownName",
    "UsageError",
    "first_line",
    "nearest",
    "printable",
]

# C0 and C1 control characters and the bidirectional overrides: a file name may hold them,
# and a terminal would obey them.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    """`text` with control characters spelled \\xNN, safe to print on any terminal."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", str(text))


def first_line(error: BaseException) -> str:
    """What `error` says, without where in its own code that was found; its class if it says nothing."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0]


def nearest(name: str, known: Iterable[str], count: int = 3) -> tuple[str, ...]:
    """The names in `known` that `name` may be a misspelling of, best first; empty if none is near."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), list(by_folded), n=count, cutoff=0.6)
    return tuple(by_folded[match] for match in close)


class StriateError(Exception):
    """Something striate refuses: where it is, what is wrong, and how to put it right."""

    exit_code = 1

    def __init__(self, where: object, what: str, fix: str) -> None:
        self.where = printable(where)
        self.what = printable(what).rstrip(".")
        self.fix = printable(fix).rstrip(".")
        super().__init__(self.where, self.what, self.fix)

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. fix: {self.fix}"

    def __reduce__(self) -> tuple[type["StriateError"], tuple[str, str, str]]:
        return type(self), (self.where, self.what, self.fix)

    def to_dict(self) -> dict[str, object]:
        """The `--json` twin of the printed line."""
        return {
            "error": type(self).__name__,
            "where": self.where,
            "what": self.what,
            "fix": self.fix,
            "exit_code": self.exit_code,
        }


class UsageError(StriateError):
    """A command, flag, config key or argument that cannot be honoured."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that is in no list; the fix offers the nearest ones."""

    def __init__(self, where: object, name: str, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        close = nearest(name, self.known)
        listed = ", ".join(self.known[:12]) + (", ..." if len(self.known) > 12 else "")
        fix = f"did you mean {' or '.join(close)}?" if close else f"use one of: {listed or 'none exist'}"
        super().__init__(where, f"there is no {name!r}", fix)

    def __reduce__(self) -> tuple[type["UnknownName"], tuple[str, str, tuple[str, ...]]]:  # type: ignore[override]
        return type(self), (self.where, self.name, self.known)


class DataError(StriateError):
    """A picture, label file or folder that cannot be used as it is."""

    exit_code = 3


class LabelError(DataError):
    """A mask that can be read, with pixels that are no class."""


class ModelError(StriateError):
    """A model file, a network's config or weights that do not fit."""

    exit_code = 4


class NotFiniteError(ModelError):
    """A loss, gradient or weight became NaN or infinite."""


class EnvironmentProblem(StriateError):
    """The machine lacks something: an extra, a device, a permission."""

    exit_code = 5


class DiskFull(StriateError):
    """No room to write; what was there before is intact."""

    exit_code = 28

    @classmethod
    def is_cause(cls, error: OSError) -> bool:
        """Whether `error` says that the disk or the quota is full."""
        return error.errno in (errno.ENOSPC, errno.EDQUOT)


class Interrupted(StriateError):
    """A signal asked to stop; everything worth keeping is saved first."""

    def __init__(self, where: object, what: str, fix: str, exit_code: int = 130) -> None:
        super().__init__(where, what, fix)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[str, str, str, int]]:  # type: ignore[override]
        return type(self), (self.where, self.what, self.fix, self.exit_code)
