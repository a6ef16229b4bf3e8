"""Rounding of a number of maps, as the MobileNets scale their widths."""

__all__ = ["make_divisible"]

_LEAST_SHARE = 0.9


def make_divisible(maps: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `maps`, halves up; at least `divisor`, never below 90 % of `maps`.

    Processors read maps in groups of eight. The rule is that of the authors' published code, and all
    published counts of scaled networks depend on it.
    """
    nearest = max(divisor, int(maps + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < _LEAST_SHARE * maps else nearest
