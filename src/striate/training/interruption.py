"""Ctrl-C and SIGTERM as a flag that the loop looks at, so that a step or a file is never cut in two."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.training.processes import Team

__all__ = ["Stop", "Terminated", "catch_signals", "raise_on_sigterm"]


class Terminated(BaseException):
    """SIGTERM's KeyboardInterrupt."""


class Stop:
    """Whether somebody asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}  # the handlers in whose place this one's are
        self._is_over = False

    def __bool__(self) -> bool:
        return self.signal is not None

    def agree(self, team: "Team") -> bool:
        """Whether any process of `team` was asked to; all of them ask at the same place and hear the same."""
        signal = team.largest(self.signal or 0)
        if signal:
            self.signal = signal
        return bool(signal)

    @property
    def exit_code(self) -> int:
        """128 and the signal's number: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)

    @property
    def reason(self) -> str:
        """What to tell people."""
        return "Ctrl-C" if self.signal == signal.SIGINT else "SIGTERM"

    def _receive(self, number: int, _: FrameType | None) -> None:
        # The second Ctrl-C is from somebody who will not wait.
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def _install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, self._receive)

    def _remove(self) -> None:
        """Put back the handlers from before, but for those in whose place another's are by now."""
        self._is_over = True
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._receive:
                signal.signal(number, _living(number, handler))


def _living(number: int, handler: Any) -> Any:
    """`handler` of signal `number`, or what was there before it where it is that of a Stop which is over."""
    owner = getattr(handler, "__self__", None)
    if isinstance(owner, Stop) and owner._is_over:
        return _living(number, owner._before[number])
    return handler


@contextmanager
def catch_signals() -> Iterator[Stop]:
    """Within it SIGINT and SIGTERM set the flag it gives; then the handlers from before are back.

    Only a program's main thread may handle signals: in another one the flag is never set. A signal that
    was ignored, as under nohup, stays ignored. A block of a generator that nobody finished may end at any
    later time, within another one too, which goes on to hear.
    """
    stop = Stop()
    is_main = threading.current_thread() is threading.main_thread()
    if is_main:
        stop._install()
    try:
        yield stop
    finally:
        if is_main:
            stop._remove()


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Within it SIGTERM raises Terminated, so that what is to be cleaned up is, as after a Ctrl-C.

    Where somebody handles the signal already, or this is not the main thread, nothing changes.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def terminate(*_: object) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
