"""Bilinear interpolation: four neighbours, weighted by how near they are."""

from math import floor

from torch import Tensor

from striate.explain.arithmetics._explained import Element, Explained, Rule, number, operand

__all__ = ["RULES"]


def _bilinear(element: Element) -> Explained:
    maps: Tensor = element.given["input"] if "input" in element.given else element.given["self"]
    batch, channel, *spot = element.position
    aligned = element.given["align_corners"]
    scales = (element.given.get("scales_h"), element.given.get("scales_w"))
    axes = [
        _neighbours(place, length, wanted, aligned, scale)
        for place, length, wanted, scale in zip(
            spot, maps.shape[2:], element.performed.step.shape[2:], scales, strict=True
        )
    ]
    terms = [
        (float(maps[batch, channel, row, column]), row_share * column_share)
        for row, row_share in axes[0]
        for column, column_share in axes[1]
    ]
    value = sum(each * share for each, share in terms)
    sums = " + ".join(f"{operand(each)}·{share:.4g}" for each, share in terms if share)
    rows, columns = ([place for place, _ in axis] for axis in axes)
    return Explained(
        "bilinear interpolation",
        value,
        f"y = the values at rows {rows[0]}, {rows[1]} and columns {columns[0]}, {columns[1]} by nearness",
        f"{sums} = {number(value)}",
    )


def _neighbours(
    place: int, length: int, wanted: int, aligned: bool, scale: float | None
) -> list[tuple[int, float]]:
    """The two rows or columns beside the spot that `place` stands for, and the share of each."""
    if aligned:
        spot = place * (length - 1) / (wanted - 1) if wanted > 1 else 0.0
    else:
        step = 1 / scale if scale else length / wanted
        spot = max(0.0, (place + 0.5) * step - 0.5)
    first = min(floor(spot), length - 1)
    share = min(max(spot - first, 0.0), 1.0)
    return [(first, 1 - share), (min(first + 1, length - 1), share)]


RULES: dict[str, Rule] = {"upsample_bilinear2d": _bilinear}
