"""How strong the gradient of the loss is in each layer, and which units give nothing.

A sigmoid passes on a quarter at most of what reaches it, so that the first layers of a deep network hardly
learn (Glorot and Bengio 2010); a shortcut lets the gradient past (He et al. 2016, arXiv:1603.05027).
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import torch
from torch import Tensor, nn

from striate.explain.recording import Recording, record
from striate.models.network import Network

__all__ = [
    "DEAD_SHARE",
    "EXPLODING",
    "VANISHING",
    "ActivationFlow",
    "GradientFlow",
    "LayerFlow",
    "gradient_flow",
]

VANISHING = 1e-4
"""Share of the largest norm below which a layer hardly learns."""
EXPLODING = 1e3
"""Times the median norm above which a layer drowns the others; so does one that is not finite."""
DEAD_SHARE = 0.5
"""Share of a layer's units that are 0 in every picture and place, from which on it is told of."""

_BAR = 24  # characters of the largest norm, a decade of it in a few of them
_DECADES = 8.0
_CUTTING = ("ReLU", "ReLU6", "Hardtanh", "Hardswish", "Threshold", "Softshrink", "Hardshrink", "Hardsigmoid")
_CUTTING_FUNCTIONS = (
    "(relu)",
    "(relu6)",
    "(hardtanh)",
    "(hardswish)",
    "(threshold)",
    "(clamp)",
    "(clamp_min)",
)


@dataclass(frozen=True, slots=True)
class LayerFlow:
    """The gradient of one layer's weights."""

    name: str
    kind: str
    weights: int
    norm: float  # of the gradient of the weights; biases are left out
    flag: str  # "vanishing", "exploding", "no gradient", or nothing

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "weights": self.weights,
            "norm": self.norm if math.isfinite(self.norm) else None,
            "flag": self.flag,
        }


@dataclass(frozen=True, slots=True)
class ActivationFlow:
    """The zeros that one activation gives."""

    name: str
    zeros: float  # share of its values that are 0
    units: int  # channels, or values of a layer without places
    dead: int  # of them 0 in every picture and place

    @property
    def flag(self) -> str:
        """ "dead units" where they are many."""
        return "dead units" if self.dead >= DEAD_SHARE * self.units else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "zeros": self.zeros,
            "units": self.units,
            "dead": self.dead,
            "flag": self.flag,
        }


@dataclass(frozen=True, slots=True, repr=False)
class GradientFlow:
    """What `gradient_flow` gives."""

    name: str
    loss: float
    layers: tuple[LayerFlow, ...]  # in the order of the network's modules
    activations: tuple[ActivationFlow, ...]  # those that cut off, in the order of the calls

    @property
    def flagged(self) -> dict[str, tuple[str, ...]]:
        """The layers by what is wrong with them; only what there is."""
        found: dict[str, tuple[str, ...]] = {}
        flags = [(row.flag, row.name) for row in self.layers]
        flags += [(own.flag, own.name) for own in self.activations]
        for flag, name in flags:
            if flag:
                found[flag] = (*found.get(flag, ()), name)
        return found

    def lines(self) -> Iterator[str]:
        """A row a layer with a bar over the logarithm of its norm, the activations, then what stands out."""
        yield f"{self.name}: loss {self.loss:.4g}; norm of its gradient by the weights of each layer"
        names = [row.name for row in self.layers] + [own.name for own in self.activations]
        width = max(map(len, names), default=0)
        largest = max((row.norm for row in self.layers if math.isfinite(row.norm)), default=0.0)
        for row in self.layers:
            bar = _bar(row.norm, largest)
            yield f"  {row.name:<{width}}  {row.norm:>9.3g}  {bar:<{_BAR}}  {row.flag}".rstrip()
        if self.activations:
            yield "zeros behind each activation, and units that are 0 in every picture and place"
        for own in self.activations:
            dead = f"{own.dead} of {own.units}"
            yield f"  {own.name:<{width}}  {own.zeros:>9.1%}  {dead:<{_BAR}}  {own.flag}".rstrip()
        for flag, flagged in self.flagged.items():
            yield f"{flag}: {', '.join(flagged)}"
        yield (
            f"vanishing: below {VANISHING:g} of the largest norm; exploding: above {EXPLODING:g} times the "
            f"median or not finite; dead units: {DEAD_SHARE:.0%} of a layer's or more; a bar loses its "
            f"length in {_DECADES:g} decades"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "model": self.name,
            "loss": self.loss,
            "thresholds": {"vanishing": VANISHING, "exploding": EXPLODING, "dead_units": DEAD_SHARE},
            "layers": [row.to_dict() for row in self.layers],
            "activations": [row.to_dict() for row in self.activations],
            "flagged": {flag: list(names) for flag, names in self.flagged.items()},
        }

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


def gradient_flow(network: Network, images: Tensor, targets: Any, **extras: Any) -> GradientFlow:
    """The gradient that a step of training on `images` (B, C, H, W) and `targets` would see, layer by layer.

    In training mode, dropout drawn from a fixed seed. Weights, their gradients, statistics and modes are left
    as they were. Where every weight is frozen, as in a model loaded to predict, all are taken for free.
    """
    step = _Loss(network, targets)
    with _trainable(network), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = record(step, images, wanted=_cutting(step), gradients=True, training=True, **extras).whole()
        layers = tuple(_layers(network, found.outputs))
    return GradientFlow(
        getattr(network, "name", "") or type(network).__name__,
        float(found.outputs.detach()),
        layers,
        tuple(_activations(found)),
    )


class _Loss(nn.Module):
    """Pictures in, the training loss out."""

    def __init__(self, network: Network, targets: Any) -> None:
        super().__init__()
        self.network = network
        self.targets = targets

    def forward(self, images: Tensor, **extras: Tensor) -> Tensor:
        terms = self.network.loss(self.network(images, **extras), self.targets)
        return torch.stack(list(terms.values())).sum()


_INSIDE = "network."


def _cutting(step: nn.Module) -> Callable[[str], bool]:
    """Tells by its name whether a call gives zeros on purpose."""
    kinds = {name: type(module).__name__ for name, module in step.named_modules()}

    def is_cutting(call: str) -> bool:
        name = call.partition(" #")[0]
        return kinds.get(name) in _CUTTING or name.rpartition(".")[2] in _CUTTING_FUNCTIONS

    return is_cutting


@contextmanager
def _trainable(network: Network) -> Iterator[None]:
    """Within it the weights can have gradients; what was frozen among others stays so."""
    frozen = [parameter for parameter in network.parameters() if parameter.is_floating_point()]
    if any(parameter.requires_grad for parameter in frozen):
        frozen = []
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _layers(network: Network, loss: Tensor) -> Iterator[LayerFlow]:
    weights = {
        name: [each for each in module.parameters(recurse=False) if each.ndim > 1 and each.requires_grad]
        for name, module in network.named_modules()
    }
    flat = [weight for own in weights.values() for weight in own]
    gradients = iter(torch.autograd.grad(loss, flat, allow_unused=True)) if flat else iter(())
    norms = {
        name: math.sqrt(sum(_square(next(gradients)) for _ in own)) for name, own in weights.items() if own
    }
    finite = [norm for norm in norms.values() if math.isfinite(norm) and norm]
    largest, middle = max(finite, default=0.0), statistics.median(finite or [0.0])
    for name, norm in norms.items():
        count = sum(weight.numel() for weight in weights[name])
        kind = type(network.get_submodule(name)).__name__
        yield LayerFlow(name or "(network)", kind, count, norm, _flag(norm, largest, middle))


def _square(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.double().square().sum())


def _flag(norm: float, largest: float, middle: float) -> str:
    if not math.isfinite(norm) or norm > EXPLODING * middle > 0:
        return "exploding"
    if norm == 0:
        return "no gradient"
    return "vanishing" if norm < VANISHING * largest else ""


def _activations(found: Recording) -> Iterator[ActivationFlow]:
    wanted = _cutting_of(found)
    for name, output in wanted.items():
        zero = output == 0
        others = [axis for axis in range(output.ndim) if axis != 1]
        units = zero.all(dim=others) if output.ndim > 1 else zero
        yield ActivationFlow(name, float(zero.double().mean()), units.numel(), int(units.sum()))


def _cutting_of(found: Recording) -> Mapping[str, Tensor]:
    """The outputs of the activations that cut off, by the names of their calls in the network."""
    kept: dict[str, Tensor] = {}
    for call in found.calls:
        bare = call.name.partition(" #")[0].rpartition(".")[2]
        if call.output is not None and (call.kind in _CUTTING or bare in _CUTTING_FUNCTIONS):
            kept[call.name.removeprefix(_INSIDE)] = call.output
    return kept


def _bar(norm: float, largest: float) -> str:
    """The length of `norm`: all of it for the largest, a share less for each decade below."""
    if not math.isfinite(norm) or not norm or not largest:
        return ""
    decades = math.log10(largest / norm)
    return "#" * max(1, round(_BAR * max(0.0, 1 - decades / _DECADES)))
