"""Pictures in memory: which key is which."""

import numpy as np
import pytest

from striate.data.storage import ArrayStorage, JoinedStorage
from striate.errors import DataError


def numbered(count: int, prefix: str, first: int = 0) -> ArrayStorage:
    """Pictures of 2x3 gray pixels whose value is their number."""
    values = np.arange(first, first + count, dtype=np.uint8)
    return ArrayStorage(np.broadcast_to(values[:, None, None, None], (count, 2, 3, 1)), prefix)


def test_a_key_is_the_prefix_and_the_place() -> None:
    storage = numbered(12, "scans")
    assert storage.keys()[11] == "scans[11]"
    assert storage.content("scans[11]").shape == (2, 3, 1)
    assert [int(storage.content(key)[0, 0, 0]) for key in map("scans[{}]".format, range(12))] == list(
        range(12)
    )


def test_content_is_a_view() -> None:
    images = np.zeros((2, 2, 2, 3), np.uint8)
    assert np.shares_memory(ArrayStorage(images, "x").content("x[1]"), images)


@pytest.mark.parametrize(
    "key", ["x[3]", "x[-1]", "x[]", "x[01]", "x[1", "x1]", "y[1]", "x[1]]", "x[1.0]", "x[²]"]
)
def test_a_key_that_is_not_there_is_refused_with_its_name(key: str) -> None:
    with pytest.raises(DataError) as caught:
        numbered(3, "x").content(key)
    assert caught.value.where == key
    assert caught.value.fix == "keys run from x[0] to x[2]"


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.float32),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(images: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"pictures are uint8 \(N, H, W, 1 or 3\)"):
        ArrayStorage(images, "x")


def test_joined_arrays_answer_by_their_prefix() -> None:
    # One prefix begins like the other.
    joined = JoinedStorage((numbered(2, "t"), numbered(3, "test", first=7)))
    assert len(joined) == 5
    keys = joined.keys()
    assert keys == ("t[0]", "t[1]", "test[0]", "test[1]", "test[2]")
    assert [int(joined.content(key)[0, 0, 0]) for key in keys] == [0, 1, 7, 8, 9]
    with pytest.raises(DataError, match="keys begin with t, test"):
        joined.content("val[0]")


def test_joined_arrays_need_different_prefixes() -> None:
    with pytest.raises(DataError, match="two arrays share a prefix"):
        JoinedStorage((numbered(1, "x"), numbered(1, "x")))
