"""How sure a share is that was counted on so many pictures."""

import math

from striate.errors import DataError

__all__ = ["wilson"]

_Z = 1.959963984540054  # of the normal distribution, 95 % lie within


def wilson(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share of which `right` of `total` were seen, 0..1.

    Wilson's score interval (1927, doi:10.1080/01621459.1927.10502953), which stays within 0..1 and holds for
    few pictures too. Raises DataError where the counts are none.
    """
    if not 0 <= right <= total or not total:
        raise DataError("interval", f"{right} of {total} is no share", "give counts of at least one picture")
    share, square = right / total, _Z * _Z
    middle = share + square / (2 * total)
    reach = _Z * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    whole = 1 + square / total
    # At its ends it is exactly 0 and 1, which rounding would miss.
    low = 0.0 if right == 0 else (middle - reach) / whole
    return low, 1.0 if right == total else (middle + reach) / whole
