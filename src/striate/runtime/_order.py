"""Work done in threads and handed out in order, with a bounded number of pieces begun."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

__all__ = ["decoding_threads", "in_order"]

T = TypeVar("T")


def in_order(pieces: Iterable[Callable[[], T]], threads: int, ahead: int) -> Generator[T]:
    """What each of `pieces` gives, in order; `ahead` of them at most wait, are at work or done.

    They are taken from their iterator in the caller's thread, as they are needed. With 0 threads each is done
    there too, when it is asked for. No thread outlives the iterator, but for a KeyboardInterrupt, which waits
    for nothing.
    """
    if not threads:
        yield from (piece() for piece in pieces)
        return
    pool, iterator, is_patient = ThreadPoolExecutor(threads, "striate-predict"), iter(pieces), True
    waiting: deque[Future[T]] = deque()
    try:
        while True:
            waiting.extend(pool.submit(piece) for piece in islice(iterator, ahead - len(waiting)))
            if not waiting:
                return
            yield waiting.popleft().result()
    except KeyboardInterrupt:
        is_patient = False
        raise
    finally:
        pool.shutdown(wait=is_patient, cancel_futures=True)


@contextmanager
def decoding_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """`count` threads; when the block ends, what they have not begun is given up, and none stays."""
    pool = ThreadPoolExecutor(count, "striate-decode")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
