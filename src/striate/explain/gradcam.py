"""Where a network looked for one of its answers: Grad-CAM and Grad-CAM++, for classes, boxes and masks.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
2017, arXiv:1610.02391. Chattopadhay et al., "Grad-CAM++", WACV 2018, arXiv:1710.11063, equation 19. For masks
the score is the sum of the class's logits over its region (Vinogradova et al. 2020, arXiv:2002.11434); for a
box, whose score hangs on a part of the picture, the map is 0 where its gradient is.

A map that does not change when the weights are drawn anew explains the picture, not the network (Adebayo et
al., "Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv:1810.03292): `sanity` is that test.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.explain._cam_layer import chosen_layer
from striate.explain._cam_target import Target, target_of
from striate.explain._figure import figure
from striate.explain._live import LiveCall, LivePass, live_pass
from striate.explain._picture import one_picture, seen_by
from striate.explain._sheet import Tile, enlarged, outlined, sheet
from striate.explain.colours import Scale
from striate.structures import Image

__all__ = ["Cam", "Sanity", "gradcam", "sanity"]

_SIDE = 320  # pixels of a picture in a sheet
_LEAST_OPACITY, _MOST_OPACITY = 0.15, 0.75  # of the colours over the picture, where they are 0 and 1


@dataclass(frozen=True, slots=True, repr=False)
class Cam:
    """What `gradcam` gives."""

    method: str  # "Grad-CAM" or "Grad-CAM++"
    layer: str
    kind: str  # the class of its module
    why: str  # why this layer
    target: Target
    score: float
    map: NDArray[np.float32]  # (h, w) of the layer: the weighted sum of its maps, at least 0
    heat: NDArray[
        np.float32
    ]  # (H, W) of the input, bilinear, 0..1; all 0 where nothing speaks for the target
    picture: Image  # the network's input, RGB
    sheet: Image  # the picture, and the heat on it

    @property
    def strongest(self) -> tuple[int, int]:
        """Row and column of the map's largest value."""
        row, column = np.unravel_index(int(self.map.argmax()), self.map.shape)
        return int(row), int(column)

    def lines(self) -> Iterator[str]:
        """What was asked, of which layer, and where the answer is."""
        height, width = self.map.shape
        yield f"{self.method} for {self.target.name} ({self.target.measure} {self.score:.4g})"
        yield f"layer {self.layer} ({self.kind}), {height}x{width}: {self.why}"
        if not self.heat.any():
            yield "nothing in this layer speaks for it, or its score is at its end: the map is 0"
            return
        row, column = self.strongest
        yield f"strongest at row {row}, column {column} of the layer's map"
        if height <= _MOST_ROWS and width <= _MOST_COLUMNS:
            yield from _shaded(self.map)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `explain --json`."""
        return {
            "method": self.method,
            "layer": self.layer,
            "why_this_layer": self.why,
            "target": self.target.to_dict(),
            "score": self.score,
            "map": self.map.tolist(),
            "strongest": list(self.strongest) if self.heat.any() else None,
        }

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return figure(self.sheet, self.lines())


_MOST_ROWS, _MOST_COLUMNS = 20, 32  # of a map that is drawn in characters
_SHADES = " .:-=+*#%@"


def _shaded(values: NDArray[np.float32]) -> Iterator[str]:
    """`values` as characters, two a place, @ the largest."""
    places = np.rint(values / (values.max() or 1.0) * (len(_SHADES) - 1)).astype(int)
    for row in places.tolist():
        yield "  |" + "".join(2 * _SHADES[place] for place in row) + "|"


def gradcam(
    module: nn.Module,
    images: Tensor,
    target: int | str | None = None,
    layer: str | None = None,
    plus_plus: bool = False,
    **extras: Tensor,
) -> Cam:
    """Where `module` looked in `images` (1, C, H, W) for `target`, in evaluation mode.

    target: a class, by name or id; for boxes the row among the network's candidates, as in
        `Detections.candidate`, or a class by name, whose surest candidate is meant. None takes the likeliest
        class, the surest box, or the class with most pixels that is not the first (the background).
    layer: a call that gives maps. None takes, for classes, the last map that all of the score goes through
        before pooling; for boxes and masks the coarsest map that the score hangs on. The result says which.
    Raises UsageError where the network has no map (an MLP), or there is no such target, UnknownName for a
    layer that it has not.
    """
    found = live_pass(module, one_picture(images), extras)
    asked = target_of(module, found.outputs, target)
    return _cam(module, images, found, asked, layer, plus_plus)


def _cam(
    module: nn.Module, images: Tensor, found: LivePass, asked: Target, layer: str | None, plus_plus: bool
) -> Cam:
    score = asked.score(found.outputs)
    chosen, why = chosen_layer(module, found, score, asked, layer)
    maps, gradient, region = _asked_of(found, score, chosen.output)
    weighted = _weighted(maps, gradient, plus_plus)
    if asked.task == "detection":
        # The score of a box hangs on a part of the picture: elsewhere like maps would mean nothing.
        weighted = weighted * (gradient != 0).any(1, keepdim=True)
    heat = weighted.detach().sum(1, keepdim=True).clamp(min=0).double()
    top, left, bottom, right = region
    full = np.zeros(images.shape[2:])
    size = (bottom - top, right - left)
    full[top:bottom, left:right] = F.interpolate(heat, size, mode="bilinear", align_corners=False)[0, 0].cpu()
    largest = full.max()
    shares = (full / largest if largest > 0 else full).astype(np.float32)
    picture = seen_by(module, images)
    method = "Grad-CAM++" if plus_plus else "Grad-CAM"
    small = heat[0, 0].float().cpu().numpy()
    panel = _panel(picture, shares, asked, method, chosen)
    return Cam(
        method, chosen.name, chosen.kind, why, asked, float(score.detach()), small, shares, picture, panel
    )


def _asked_of(
    found: LivePass, score: Tensor, maps: Tensor
) -> tuple[Tensor, Tensor, tuple[int, int, int, int]]:
    """`maps`, the gradient of `score` by them, and the part of the input (y0 x0 y1 x1) that they show.

    Of maps of several regions (n, C, h, w) those of the one that the score hangs on most.
    """
    several = len(maps) > 1
    asked = (maps, found.images) if several else (maps,)
    gradient, *others = torch.autograd.grad(score, asked, allow_unused=True)
    gradient = torch.zeros_like(maps) if gradient is None else gradient
    whole = (0, 0, found.images.shape[2], found.images.shape[3])
    if not several:
        return maps, gradient, whole
    (pixels,) = others
    row = int(gradient.abs().flatten(1).sum(1).argmax())
    places = [] if pixels is None else pixels[0].any(0).nonzero().tolist()
    rows, columns = [y for y, _ in places] or [0, whole[2] - 1], [x for _, x in places] or [0, whole[3] - 1]
    region = (min(rows), min(columns), max(rows) + 1, max(columns) + 1)
    return maps[row : row + 1], gradient[row : row + 1], region


def _weighted(maps: Tensor, gradient: Tensor, plus_plus: bool) -> Tensor:
    """Each of `maps` (1, C, h, w) times what it weighs for the score."""
    if not plus_plus:
        return gradient.mean((2, 3), keepdim=True) * maps
    squared, cubed = gradient**2, gradient**3
    divisor = 2 * squared + maps.sum((2, 3), keepdim=True) * cubed
    share = torch.where(divisor != 0, squared / torch.where(divisor != 0, divisor, 1.0), 0.0)
    return (share * gradient.clamp(min=0)).sum((2, 3), keepdim=True) * maps


@dataclass(frozen=True, slots=True, repr=False)
class Sanity:
    """What `sanity` gives."""

    cam: Cam
    randomised: Cam  # of the same network with its weights drawn anew
    likeness: float  # rank correlation of the two heats, -1..1; 0 where either is the same everywhere
    sheet: Image

    def lines(self) -> Iterator[str]:
        """What to make of it."""
        if not self.randomised.heat.any():
            yield "with weights drawn anew the map is 0 everywhere"
            return
        alike = f"{self.likeness:+.2f} (rank correlation, 1: the same)"
        yield f"with weights drawn anew the map is alike by {alike}"
        if self.likeness > _ALIKE:
            yield f"above {_ALIKE:g}: it hangs on the picture and the network's form more than on its weights"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `explain --json`."""
        return {
            "likeness": self.likeness,
            "alike_above": _ALIKE,
            "randomised_map": self.randomised.map.tolist(),
        }

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return figure(self.sheet, self.lines())


_ALIKE = 0.7
"""Likeness above which a map is suspicious."""


def sanity(module: nn.Module, images: Tensor, cam: Cam, seed: int = 0, **extras: Tensor) -> Sanity:
    """`cam` beside that of `module` with other weights, from a normal of each tensor's mean and deviation.

    Biases and normalisation stay. For boxes the target is the surest candidate of the same class then, for
    masks the class's logits over the same region.
    """
    drawn = _randomised(module, seed)
    found = live_pass(drawn, images, extras)
    asked = cam.target.in_other(found.outputs)
    other = _cam(drawn, images, found, asked, cam.layer, cam.method == "Grad-CAM++")
    likeness = _rank_correlation(cam.heat, other.heat)
    outcome = f"alike by {likeness:+.2f}" if other.heat.any() else "0 everywhere"
    tiles = (
        Tile(_large(cam.picture), "the picture at the input"),
        Tile(_heated(cam.picture, cam.heat, cam.target), f"{cam.target.name}: {cam.method}"),
        Tile(_heated(cam.picture, other.heat, None), f"weights drawn anew: {outcome}"),
    )
    heading = (f"Where it looked for {cam.target.name}", f"{cam.method} at {cam.layer}")
    return Sanity(cam, other, likeness, sheet(tiles, heading, (_LEGEND,), columns=3))


_LEGEND = ("share of the strongest", Scale(0.0, 1.0))


def _randomised(module: nn.Module, seed: int) -> nn.Module:
    chance = torch.Generator().manual_seed(seed)
    drawn = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in drawn.parameters():
            if parameter.ndim > 1:
                noise = torch.randn(parameter.shape, generator=chance, dtype=torch.float64).to(parameter)
                parameter.copy_(parameter.mean() + noise * parameter.std(correction=0))
    return drawn


def _rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Spearman's, of the values of two maps."""
    ranks = [_ranks(heat.ravel()) for heat in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    size = np.sqrt(np.square(centred[0]).sum() * np.square(centred[1]).sum())
    return float((centred[0] * centred[1]).sum() / size) if size else 0.0


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The rank of each, equal ones sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean: NDArray[np.float64] = (ends - (counts - 1) / 2)[inverse]
    return mean


def _panel(picture: Image, heat: NDArray[np.float32], asked: Target, method: str, chosen: LiveCall) -> Image:
    tiles = (
        Tile(_large(picture), "the picture at the input"),
        Tile(_heated(picture, heat, asked), f"{asked.name}: {method}"),
    )
    heading = (f"Where it looked for {asked.name}", f"{method} at {chosen.name}")
    return sheet(tiles, heading, (_LEGEND,), columns=2)


def _large(picture: Image) -> Image:
    return enlarged(picture, _SIDE)


def _heated(picture: Image, heat: NDArray[np.float32], asked: Target | None) -> Image:
    """`picture` in gray under the colours of `heat` (H, W), more of them where it is hot; a box is drawn."""
    gray = picture.mean(2, keepdims=True)
    opacity = (_LEAST_OPACITY + (_MOST_OPACITY - _LEAST_OPACITY) * heat)[:, :, None]
    mixed = np.rint((1 - opacity) * gray + opacity * Scale(0.0, 1.0)(heat)).astype(np.uint8)
    large = _large(mixed)
    if asked is None or asked.box is None:
        return large
    x0, y0, x1, y1 = (side * large.shape[0] / picture.shape[0] for side in asked.box)
    return outlined(large, (y0, x0, y1, x1))
