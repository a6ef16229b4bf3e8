"""How the inputs and outputs of an exported graph meet what its card needs; for every engine of exports."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from striate import plugins, tasks
from striate.errors import ModelError, UsageError, first_line
from striate.modelfile import ModelCard, card_from_text
from striate.runtime.card_file import needs_card
from striate.structures import Preprocess

__all__ = ["Port", "Wiring", "chosen_card", "told", "wired"]

_PIXELS = ("uint8", "float16", "float32")
_IMAGES, _PROPOSALS = "images", "proposals"
_LONGEST = 300  # characters of an error

Arrays = dict[str, NDArray[Any]]


class Port(NamedTuple):
    """An input or output of a graph."""

    name: str
    dtype: str  # numpy's name: "uint8"
    shape: tuple[int | None, ...] | None  # None: any length of that axis, or any number of axes

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.name} {self.dtype} of any shape"
        return f"{self.name} {self.dtype} ({', '.join('any' if n is None else str(n) for n in self.shape)})"

    def fits(self, *shape: int | None) -> bool:
        """Whether an array of `shape` can pass; None passes with everything."""
        if self.shape is None:
            return True
        pairs = zip(self.shape, shape, strict=False)
        return len(self.shape) == len(shape) and all(a == b or None in (a, b) for a, b in pairs)


@dataclass(frozen=True, slots=True)
class Wiring:
    """The ports of a graph by the names that striate gives them."""

    path: Path
    preprocess: Preprocess
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]

    def run(self, inputs: Mapping[str, NDArray[Any]], call: Callable[[Arrays], Arrays]) -> Arrays:
        """The dense outputs by name for `inputs` by name; `call` maps arrays of the graph's own names.

        Of a graph that is bound to a number of pictures, as many calls as it takes, the last one filled up.
        Floating outputs are float32.
        """
        if set(inputs) != set(self.inputs):
            raise UsageError(
                "inputs",
                f"there are {', '.join(sorted(inputs)) or 'none'}, it takes {', '.join(sorted(self.inputs))}",
                "prepare pictures with the model's own preprocessing",
            )
        fed = {self.inputs[name].name: self._fed(name, array) for name, array in inputs.items()}
        count = len(inputs[_IMAGES])
        found = [self._cut(call(part)) for part in self._parts(fed, count)]
        named = {name: [part[port.name] for part in found] for name, port in self.outputs.items()}
        return {
            name: _wide(parts[0] if len(parts) == 1 else np.concatenate(parts))[:count]
            for name, parts in named.items()
        }

    def failed(self, arrays: Arrays, error: Exception) -> ModelError:
        """What to raise for an `error` of the engine on `arrays`, by the graph's own names."""
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        return ModelError(self.path, f"its graph fails on {shapes} ({told(error)})", "export it again")

    def _fed(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """`array` as the graph takes it: of its type, and normalised where it does not take pixels."""
        dtype = np.dtype(self.inputs[name].dtype)
        if name == _IMAGES and dtype.kind == "f":
            array = _normalized(self.preprocess, array)
        return np.ascontiguousarray(array, dtype)

    def _cut(self, outputs: Arrays) -> Arrays:
        return {port.name: outputs[port.name] for port in self.outputs.values()}

    def _parts(self, fed: Arrays, count: int) -> list[Arrays]:
        """`fed` in parts of as many pictures as the graph is bound to; the last one filled up."""
        shape = self.inputs[_IMAGES].shape
        bound = None if shape is None else shape[0]
        if bound is None or bound == count:
            return [fed]
        places = np.arange(-(-count // bound) * bound).clip(max=count - 1).reshape(-1, bound)
        return [{name: array[rows] for name, array in fed.items()} for rows in places]


def chosen_card(path: Path, text: str | None, given: ModelCard | None) -> ModelCard:
    """The card that the `text` in `path` spells, or the `given` one where there is none.

    Raises ModelError without any, UsageError where there are two.
    """
    if text is None and given is None:
        raise needs_card(path)
    if text is not None and given is not None:
        raise UsageError("card", f"{path} has its own", "leave it out")
    return card_from_text(text, path) if text is not None else cast(ModelCard, given)


def told(error: Exception) -> str:
    """What a runtime says is wrong, in a line that is not too long."""
    return first_line(error)[:_LONGEST]


def wired(card: ModelCard, inputs: Sequence[Port], outputs: Sequence[Port], path: Path) -> Wiring:
    """How the graph of `path` is used as the model of `card`.

    Inputs and outputs go by name; where there is only one and only one is needed, by place. A float input
    gets pictures normalised by the card's scale, mean, std and channel order, in numpy: that graph begins
    behind the layer which does so. Raises ModelError for what is missing, left over, or does not fit.
    """
    if card.task not in plugins.names(tasks):
        raise ModelError(path, f"its task {card.task!r} is unknown here", "upgrade striate")
    spec, axes = card.preprocess, plugins.load(tasks, card.task).DENSE
    needed = (_IMAGES, _PROPOSALS) if spec.proposals else (_IMAGES,)
    wiring = Wiring(
        path,
        spec,
        _by_name(needed, inputs, "input", path),
        _by_name(tuple(axes), outputs, "output", path),
    )
    if len(inputs) > len(needed):
        spare = next(port for port in inputs if port not in wiring.inputs.values())
        raise ModelError(path, f"it has a further input, {spare}", f"export it with {_listed(needed)} alone")
    _check_images(wiring.inputs[_IMAGES], spec, path)
    if spec.proposals:
        _check(wiring.inputs[_PROPOSALS], ("float32",), (None, spec.proposals, 4), path)
    lengths = {"B": None, "K": len(card.classes), "M": None, "H": None, "W": None, "4": 4}
    for name, port in wiring.outputs.items():
        types = ("int64", "int32") if name == "labels" else ("float32", "float16", "float64")
        _check(port, types, tuple(lengths[axis] for axis in axes[name]), path)
    return wiring


def _by_name(needed: tuple[str, ...], there: Sequence[Port], kind: str, path: Path) -> dict[str, Port]:
    found = {port.name: port for port in there}
    if len(needed) == len(there) == 1:
        return {needed[0]: there[0]}
    missing = [name for name in needed if name not in found]
    if missing:
        listed = "; ".join(map(str, there)) or "none"
        raise ModelError(
            path,
            f"it has no {kind} {_listed(missing)}; its {kind}s are: {listed}",
            f"export it with the {kind}{'s' * (len(needed) > 1)} {_listed(needed)}",
        )
    return {name: found[name] for name in needed}


def _check_images(port: Port, spec: Preprocess, path: Path) -> None:
    """Raise ModelError where prepared pictures cannot pass `port`."""
    height, width = spec.size if spec.is_fixed else (None, None)
    _check(port, _PIXELS, (None, spec.channels, height, width), path)
    if not spec.is_fixed and port.shape is not None and None not in port.shape[2:]:
        raise ModelError(
            path,
            f"its input is {port}, pictures of fit {spec.fit!r} come in any size",
            'let its preprocessing fit "crop", "stretch" or "letterbox", or export it with free sizes',
        )


def _check(port: Port, types: tuple[str, ...], shape: tuple[int | None, ...], path: Path) -> None:
    if port.dtype not in types or not port.fits(*shape):
        needed = Port(port.name, " or ".join(types), shape)
        raise ModelError(
            path, f"it has {port} where its card needs {needed}", "give the card that belongs to this file"
        )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)


def _normalized(spec: Preprocess, images: NDArray[Any]) -> NDArray[np.float32]:
    """`(x * scale - mean) / std` of uint8 (B, C, H, W), as the networks' first layer does it, in float32."""
    factor = np.array([spec.scale / std for std in spec.std], np.float32)
    shift = np.array([-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)], np.float32)
    values: NDArray[np.float32] = images * factor[:, None, None] + shift[:, None, None]
    return values[:, ::-1] if spec.channel_order == "bgr" else values


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array
