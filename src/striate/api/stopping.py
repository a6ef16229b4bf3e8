"""Being stopped while nothing is worth keeping yet."""

from collections.abc import Iterator
from contextlib import contextmanager

from striate.errors import Interrupted
from striate.training.interruption import Terminated, raise_on_sigterm

__all__ = ["stopped_by_sigterm"]


@contextmanager
def stopped_by_sigterm(where: str) -> Iterator[None]:
    """Within it SIGTERM raises Interrupted with exit code 143, naming `where`; open things are closed."""
    try:
        with raise_on_sigterm():
            yield
    except Terminated:
        raise Interrupted(where, "stopped by SIGTERM", "run the command again", 143) from None
