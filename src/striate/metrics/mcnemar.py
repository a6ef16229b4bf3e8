"""Whether two models differ, by the pictures that only one of them gets right."""

import math
from dataclasses import dataclass

from striate.errors import DataError

__all__ = ["PairedTest", "mcnemar"]

_FEW = 1000  # pictures on which the models differ, up to which the probabilities are summed one by one


@dataclass(frozen=True, slots=True)
class PairedTest:
    """How likely it is that equally good models differ this much."""

    p_value: float  # two-sided, 0..1
    name: str  # of the test


def mcnemar(only_first: int, only_second: int) -> PairedTest:
    """McNemar's test (1947, doi:10.1007/BF02295996) on the pictures that one model alone gets right.

    Exact (the binomial distribution with an even chance) up to 1,000 of them, beyond with the chi-square
    distribution and Edwards' correction for continuity. Raises DataError for a negative count.
    """
    if min(only_first, only_second) < 0:
        raise DataError("McNemar", f"{only_first} and {only_second} are no counts", "give counts of pictures")
    total = only_first + only_second
    if total <= _FEW:
        tail = sum(math.comb(total, count) for count in range(min(only_first, only_second) + 1))
        # Whole numbers until the last division: 2^1000 is beyond floats in a sum of parts.
        return PairedTest(min(1.0, 2 * tail / (1 << total)), "exact McNemar test")
    square = (abs(only_first - only_second) - 1) ** 2 / total
    return PairedTest(math.erfc(math.sqrt(max(square, 0.0) / 2)), "McNemar test, corrected for continuity")
