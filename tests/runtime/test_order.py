"""Work in threads that is handed out in order."""

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from striate.runtime._order import decoding_threads, in_order


def numbers(taken: list[int]) -> Iterator[Callable[[], int]]:
    for number in range(100):
        taken.append(number)
        yield partial(int, number)


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_what_comes_out_has_the_order_of_what_went_in(threads: int) -> None:
    assert list(in_order(numbers([]), threads, 9)) == list(range(100))


def test_a_slow_first_piece_is_waited_for_while_others_are_done() -> None:
    others = threading.Event()
    pieces: list[Callable[[], str]] = [
        lambda: "first" if others.wait(10) else "nobody else worked",
        lambda: (others.set(), "second")[1],
    ]
    assert list(in_order(pieces, 2, 2)) == ["first", "second"]


def test_no_more_than_so_many_are_begun() -> None:
    taken: list[int] = []
    found = in_order(numbers(taken), 2, 5)
    assert next(found) == 0
    assert taken == [0, 1, 2, 3, 4]
    assert next(found) == 1
    assert len(taken) == 6
    found.close()


def test_no_thread_outlives_the_iterator() -> None:
    before = set(threading.enumerate())
    found = in_order(numbers([]), 3, 7)
    next(found)
    assert set(threading.enumerate()) > before
    found.close()
    with decoding_threads(2) as pool:
        pool.submit(int)
    assert set(threading.enumerate()) == before


def test_an_error_comes_at_its_place() -> None:
    def fails() -> int:
        raise KeyError("third")

    found = in_order([lambda: 1, lambda: 2, fails, lambda: 4], 2, 4)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(KeyError, match="third"):
        next(found)


def test_what_is_not_begun_is_given_up_when_the_block_ends() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def waits() -> None:
        begun.set()
        go_on.wait(10)

    done = []
    with decoding_threads(1) as pool:
        pool.submit(waits)
        pool.submit(done.append, 1)
        assert begun.wait(10)
        threading.Timer(0.05, go_on.set).start()
    assert done == []
