"""The first layer's weights as pictures: what each of its channels looks for in the pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from striate.errors import UnknownName, UsageError
from striate.explain._figure import figure
from striate.explain._sheet import Tile, enlarged, sheet
from striate.explain.colours import Scale
from striate.models.network import Network
from striate.structures import Image

__all__ = ["Filters", "filters"]

_SIDE = 72  # pixels of one filter in the sheet
_MOST = 256  # filters in a sheet


@dataclass(frozen=True, slots=True, repr=False)
class Filters:
    """What `filters` gives."""

    layer: str
    kind: str
    weights: NDArray[np.float32]  # (O, C, k, l), channels in the order of the picture's colours
    meaning: str  # of the colours in the sheet
    sheet: Image

    def lines(self) -> Iterator[str]:
        """What is shown, in words and numbers."""
        outputs, channels, height, width = self.weights.shape
        yield f"{self.layer} ({self.kind}): {outputs} filters of {channels}x{height}x{width}"
        yield f"weights {self.weights.min():.4g} to {self.weights.max():.4g}; {self.meaning}"
        if outputs > _MOST:
            yield f"the first {_MOST} are shown"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `explain --json`."""
        return {
            "layer": self.layer,
            "kind": self.kind,
            "shape": list(self.weights.shape),
            "min": float(self.weights.min()),
            "max": float(self.weights.max()),
            "norms": np.sqrt(np.square(self.weights, dtype=np.float64).sum((1, 2, 3))).tolist(),
        }

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return figure(self.sheet, self.lines())


def filters(module: nn.Module, layer: str | None = None) -> Filters:
    """The weights of the convolution `layer`, or of the first one in `module`, as a sheet of pictures.

    Filters over red, green and blue are in colour, gray being 0; others are blue below and orange above 0,
    their input channels side by side. A network without a convolution shows the weights of its first linear
    layer, if that reads the picture itself. Raises UsageError where there is neither, UnknownName for a layer
    that is no convolution.
    """
    name, weights, kind = _named(module, layer) if layer is not None else _first(module)
    if isinstance(module, Network) and module.preprocess.channel_order == "bgr" and weights.shape[1] == 3:
        weights = weights[:, ::-1]
    is_colour = weights.shape[1] == 3 and getattr(_preprocess(module), "color", "rgb") == "rgb"
    scale = Scale.of(np.array([-1.0, 1.0]) * float(np.abs(weights).max()))
    draw = _in_colour if is_colour else _side_by_side
    tiles = [
        Tile(enlarged(draw(each, scale), _SIDE), str(number)) for number, each in enumerate(weights[:_MOST])
    ]
    meaning = (
        "red, green and blue as they weigh those of the picture, gray is 0" if is_colour else _words(weights)
    )
    shown = f", the first {_MOST}" if len(weights) > _MOST else ""
    heading = (f"{name}: {len(weights)} filters {weights.shape[2]}x{weights.shape[3]}{shown}", meaning)
    legend = () if is_colour else (("weight", scale),)
    return Filters(name, kind, weights, meaning, sheet(tiles, heading, legend))


def _words(weights: NDArray[np.float32]) -> str:
    beside = f", its {weights.shape[1]} input channels side by side" if weights.shape[1] > 1 else ""
    return f"orange above 0, blue below{beside}"


def _preprocess(module: nn.Module) -> Any:
    return module.preprocess if isinstance(module, Network) else None


def _convolutions(module: nn.Module) -> dict[str, nn.Module]:
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(getattr(part, "weight", None), nn.Parameter | nn.Buffer) and part.weight.ndim == 4
    }


def _first(module: nn.Module) -> tuple[str, NDArray[np.float32], str]:
    for name in _convolutions(module):
        return _named(module, name)
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear) and isinstance(module, Network):
            spec = module.preprocess
            if part.in_features == spec.channels * spec.size[0] * spec.size[1]:
                weights = part.weight.detach().cpu().float().view(-1, spec.channels, *spec.size)
                return name, weights.numpy(), type(part).__name__
            break
    raise UsageError(
        getattr(module, "name", "") or type(module).__name__,
        "no layer of it has weights that lie on the picture",
        "use a network that begins with a convolution",
    )


def _named(module: nn.Module, layer: str) -> tuple[str, NDArray[np.float32], str]:
    found = _convolutions(module)
    if layer not in found:
        raise UnknownName("convolution", layer, found)
    weights: Any = found[layer].weight
    return layer, weights.detach().cpu().float().numpy(), type(found[layer]).__name__


def _in_colour(weights: NDArray[np.float32], scale: Scale) -> Image:
    """(3, k, l) as a colour picture: 0 is gray, the largest weight of the layer full light."""
    share = 0.5 + weights.transpose(1, 2, 0) / (2 * scale.high or 1.0)
    colors: Image = np.rint(255 * share).astype(np.uint8)
    return colors


def _side_by_side(weights: NDArray[np.float32], scale: Scale) -> Image:
    """(C, k, l) as squares in rows, a black line between two."""
    channels, height, width = weights.shape
    columns = int(np.ceil(np.sqrt(channels)))
    rows = -(-channels // columns)
    canvas = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), np.uint8)
    for channel in range(channels):
        row, column = divmod(channel, columns)
        top, left = row * (height + 1), column * (width + 1)
        canvas[top : top + height, left : left + width] = scale(weights[channel])
    return canvas
