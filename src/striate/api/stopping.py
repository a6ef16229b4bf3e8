"""Being stopped in the middle: what is left to say is how to go on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from striate.errors import DiskFull, Interrupted
from striate.training.interruption import Terminated, raise_on_sigterm

__all__ = ["resumable", "stopped_by_sigterm"]


@contextmanager
def stopped_by_sigterm(where: str) -> Iterator[None]:
    """Within it SIGTERM raises Interrupted with exit code 143, naming `where`; open things are closed."""
    try:
        with raise_on_sigterm():
            yield
    except Terminated:
        raise Interrupted(where, "stopped by SIGTERM", "run the command again", 143) from None


@contextmanager
def resumable(folder: Path, way_on: Callable[[], str]) -> Iterator[None]:
    """Within it SIGTERM, Ctrl-C and a full disk say by `way_on` how to go on with the work in `folder`."""
    try:
        with raise_on_sigterm():
            yield
    except (KeyboardInterrupt, Terminated) as stop:
        reason, code = ("SIGTERM", 143) if isinstance(stop, Terminated) else ("Ctrl-C", 130)
        raise Interrupted(folder, f"stopped at once by {reason}", way_on(), code) from None
    except DiskFull as error:
        raise DiskFull(error.where, error.what, f"free some room, then {way_on()}") from error
