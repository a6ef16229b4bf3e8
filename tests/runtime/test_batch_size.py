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


def test_sizes_are_tripled_while_they_gain_and_the_fastest_is_kept() -> None:
    #                    a picture: 1.0    0.6     0.4     0.39
    asked = settled(Searched(), {1: 1.0, 3: 1.8, 9: 3.6, 27: 10.53})
    assert asked[:12] == [1] * 3 + [3] * 3 + [9] * 3 + [27] * 3
    assert set(asked[12:]) == {9}


def test_where_one_is_fastest_one_more_size_is_tried() -> None:
    asked = settled(Searched(lanes=2), {1: 1.0, 3: 3.3})
    assert asked[:7] == [1, 1, 1, 3, 3, 3, 1]
    assert set(asked[6:]) == {1}


def test_a_gain_too_small_for_its_memory_is_none() -> None:
    assert settled(Searched(), {1: 1.0, 3: 3 * 0.91})[-1] == 1
    assert settled(Searched(), {1: 1.0, 3: 3 * 0.89})[-1] == 3


def test_the_slow_first_pass_of_a_size_does_not_count_against_it() -> None:
    size = Searched()
    for pictures, seconds in ((1, 9.0), (1, 1.0), (1, 1.0), (3, 9.0), (3, 1.0), (3, 1.0)):
        size.tell(pictures, seconds)
    assert settled(size, {9: 9.0})[-1] == 3


def test_passes_of_another_size_tell_nothing() -> None:
    size = Searched()
    for _ in range(9):
        size.tell(5, 1e-9)
    assert size.next() == 1


@pytest.mark.parametrize(("lanes", "most"), [(1, 64), (2, 32), (64, 1), (1000, 1)])
def test_lanes_share_the_pixels(lanes: int, most: int) -> None:
    assert Searched(lanes).most((224, 224, 3)) == most
    asked = settled(Searched(lanes, (224, 224)), dict.fromkeys(range(1, 65), 1.0))
    assert max(asked) == most
    assert max(asked) * 224 * 224 * lanes <= max(MOST_PIXELS, lanes * 224 * 224)


def test_towards_the_end_batches_shrink_so_that_no_lane_waits_long_for_another() -> None:
    asked = settled(Searched(lanes=2, left=350), {1: 1.0, 3: 1.2, 9: 1.8, 27: 10.0})
    end = list(accumulate(asked)).index(350) + 1
    assert asked[end - 11 : end] == [9, 8, 6, 5, 4, 3, 2, 1, 1, 1, 1]


def test_more_pictures_than_were_told_of_go_in_the_best_size() -> None:
    assert settled(Searched(left=1), {1: 1.0, 3: 1.2, 9: 9.0})[-1] == 3
