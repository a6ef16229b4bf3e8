"""Products of matrices: each feature times its weight, added up."""

from torch import Tensor

from striate.explain.arithmetics._explained import (
    Element,
    Explained,
    Rule,
    WindowSum,
    element_of,
    number,
    operand,
)

__all__ = ["RULES"]

# Each product: its matrices, and what is added to it.
_PRODUCTS = {
    "mm": ("self", "mat2", ""),
    "addmm": ("mat1", "mat2", "self"),
    "bmm": ("self", "mat2", ""),
    "baddbmm": ("batch1", "batch2", "self"),
    "mv": ("self", "vec", ""),
    "addmv": ("mat", "vec", "self"),
}


def _product(element: Element) -> Explained:
    left, right, added = _PRODUCTS[element.performed.name]
    row, column = _vectors(element.given[left], element.given[right], element.position)
    bias = None
    if added:
        bias = element.given["beta"] * element_of(element.given[added], element.position)
    found = WindowSum.of(row, element.given.get("alpha", 1) * column, 0, bias, noun="feature")
    end = "" if bias is None else f" + bias {operand(bias)}"
    value = found.sum + (bias or 0.0)
    return Explained(
        "linear",
        value,
        "y = sum of feature x weight" + (" + bias" if end else ""),
        f"sum {number(found.sum)}{end} = {number(value)}" if end else f"sum = {number(value)}, no bias",
        {"sum": found.sum, "bias": bias or 0.0},
        found,
        magnitude=found.magnitude,
    )


def _vectors(left: Tensor, right: Tensor, position: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The row of `left` and the column of `right` that meet at `position`, float64."""
    is_vector = right.ndim == 1
    before = position if is_vector else position[:-1]
    column = right if is_vector else right[position[:-2]].select(-1, position[-1])
    return left[before].detach().double(), column.detach().double()


RULES: dict[str, Rule] = dict.fromkeys(_PRODUCTS, _product)
