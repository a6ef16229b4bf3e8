"""The search for the fastest batch, on times that are told and not measured."""

from itertools import accumulate

import pytest

from striate.runtime._batch_size import MOST_PIXELS, Bounded, Fixed, Searched


def settled(size: Searched, seconds: dict[int, float], passes: int = 60) -> list[int]:
    """The sizes that were asked for, where a pass over so many pictures takes so long."""
    asked = []
    for _ in range(passes):
        asked.append(size.next())
        size.tell(asked[-1], seconds.get(asked[-1], 1e9))
    return asked


def test_a_fixed_size_stays() -> None:
    size = Fixed(7)
    size.tell(7, 1.0)
    assert (size.next(), size.most((4000, 4000, 3))) == (7, 7)


def test_a_bounded_size_is_smaller_for_large_pictures_and_time_has_no_say() -> None:
    size = Bounded(64, lanes=2)
    size.tell(32, 1e9)
    assert size.next() == 32
    assert [size.most((side, side, 3)) for side in (8, 224, 448, 5000)] == [32, 32, 8, 1]
    assert (Bounded(3, lanes=8).next(), Bounded(3).most((8, 8, 3))) == (1, 3)


def test_sizes_are_doubled_while_they_gain_and_the_fastest_is_kept() -> None:
    #                    a picture: 1.0    0.6     0.4     0.5     0.41
    asked = settled(Searched(), {1: 1.0, 2: 1.2, 4: 1.6, 8: 4.0, 16: 6.6})
    assert asked[:15] == [1] * 3 + [2] * 3 + [4] * 3 + [8] * 3 + [16] * 3
    assert set(asked[15:]) == {4}


def test_where_one_is_fastest_little_else_is_tried() -> None:
    asked = settled(Searched(lanes=2), {1: 1.0, 2: 2.2, 4: 4.4})
    assert asked[:10] == [1, 1, 1, 2, 2, 2, 4, 4, 4, 1]
    assert set(asked[9:]) == {1}


def test_a_gain_too_small_for_its_memory_is_none() -> None:
    #           a picture: 1.0    0.93     0.91
    times = {1: 1.0, 2: 1.86, 4: 3.64}
    assert settled(Searched(), times)[-1] == 1


def test_the_slow_first_pass_of_a_size_does_not_count_against_it() -> None:
    size = Searched()
    for pictures, seconds in ((1, 9.0), (1, 1.0), (1, 1.0), (2, 9.0), (2, 1.0), (2, 1.0)):
        size.tell(pictures, seconds)
    assert settled(size, {4: 8.0, 8: 16.0})[-1] == 2


def test_passes_of_another_size_tell_nothing() -> None:
    size = Searched()
    for _ in range(9):
        size.tell(5, 1e-9)
    assert size.next() == 1


@pytest.mark.parametrize(("lanes", "most"), [(1, 64), (2, 32), (64, 1), (1000, 1)])
def test_lanes_share_the_pixels(lanes: int, most: int) -> None:
    assert Searched(lanes).most((224, 224, 3)) == most
    asked = settled(Searched(lanes, (224, 224)), {2**power: 1.0 for power in range(9)})
    assert max(asked) == most
    assert max(asked) * 224 * 224 * lanes <= max(MOST_PIXELS, lanes * 224 * 224)


def test_towards_the_end_batches_shrink_so_that_no_lane_waits_long_for_another() -> None:
    seconds = {1: 1.0, 2: 1.2, 4: 1.6, 8: 1.8, 16: 6.6, 32: 13.2}
    asked = settled(Searched(lanes=2, count=350), seconds)
    end = list(accumulate(asked)).index(350) + 1
    assert asked[end - 11 : end] == [8, 8, 7, 5, 4, 3, 2, 1, 1, 1, 1]


def test_more_pictures_than_were_told_of_go_in_the_best_size() -> None:
    assert settled(Searched(count=1), {1: 1.0, 2: 1.2, 4: 4.0})[-1] == 2
