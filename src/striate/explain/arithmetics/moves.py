"""Operations that put values elsewhere and change none: views, concatenation, shuffles, copies, padding."""

import torch
from torch import Tensor

from striate.explain.arithmetics._explained import Element, Explained, Rule, Source, Unexplained, number
from striate.explain.arithmetics._padding import is_padding, padding_of

__all__ = ["RULES"]

_COPIES = ("_to_copy", "alias", "clone", "contiguous", "detach", "lift_fresh")

_MOVES = (
    *("_reshape_alias", "_unsafe_view", "cat", "channel_shuffle", "expand", "flip", "native_channel_shuffle"),
    *("permute", "pixel_shuffle", "pixel_unshuffle", "repeat", "roll", "select", "slice", "split"),
    *("split_with_sizes", "squeeze", "stack", "t", "transpose", "unbind", "unsafe_split", "unsqueeze"),
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "view"),
)

_PADS = tuple(f"{kind}_pad{axes}d" for kind in ("reflection", "replication") for axes in (1, 2, 3))


def _copied(element: Element) -> Explained:
    source: Tensor = element.given["self"]
    return _taken("copy", source, element.position, "")


def _moved(element: Element) -> Explained:
    """Found by doing the same to numbers that say where each value was."""
    tensors = element.performed.step.tensors
    numbered: dict[int, Tensor] = {}
    first = 0
    for tensor in tensors:
        if id(tensor) not in numbered:
            places = torch.arange(first, first + tensor.numel(), dtype=torch.float64, device=tensor.device)
            numbered[id(tensor)] = places.view(tensor.shape)
            first += tensor.numel()
    arguments = {key: _replaced(value, numbered) for key, value in element.given.items()}
    moved = element.performed.function(**arguments)
    output = moved if isinstance(moved, Tensor) else moved[element.output]
    found = int(output[element.position])
    for place, tensor in enumerate(tensors, 1):
        start = int(numbered[id(tensor)].flatten()[0]) if tensor.numel() else first
        if start <= found < start + tensor.numel():
            index = torch.unravel_index(torch.tensor(found - start), tensor.shape)
            which = f"input {place} of {len(tensors)}, " if len(tensors) > 1 else ""
            return _taken(_name(element), tensor, tuple(map(int, index)), which)
    raise AssertionError("every value of a view is one of those it looks at")


def _replaced(value: object, numbered: dict[int, Tensor]) -> object:
    if isinstance(value, Tensor):
        return numbered[id(value)]
    if isinstance(value, list | tuple):
        return [_replaced(each, numbered) for each in value]
    return value


def _padded(element: Element) -> Explained | Unexplained:
    if not is_padding(element.performed):
        return Unexplained(f"no rule for padding of mode {element.given.get('mode')}")
    padding = padding_of(element.performed)
    source = padding.source(element.position)
    if source is None:
        return Explained(
            "padding", padding.value, "y = what the padding puts there", f"padded: {number(padding.value)}"
        )
    mark = "" if padding.is_inside(element.position) else f"padded ({padding.mode}): "
    return _taken("padding", padding.tensor, source, mark)


def _taken(operation: str, tensor: Tensor, position: tuple[int, ...], mark: str) -> Explained:
    value = float(tensor[position])
    spot = ", ".join(map(str, position[1:])) or "0"
    return Explained(
        operation,
        value,
        "y = a value of the input",
        f"{mark}the value at ({spot}) = {number(value)}",
        source=Source(tensor, position),
    )


def _name(element: Element) -> str:
    words = {"cat": "concatenation", "stack": "concatenation"}
    return words.get(element.performed.name, element.performed.name.strip("_").replace("_", " "))


RULES: dict[str, Rule] = {
    **dict.fromkeys(_COPIES, _copied),
    **dict.fromkeys(_MOVES, _moved),
    **dict.fromkeys((*_PADS, "constant_pad_nd", "pad"), _padded),
}
