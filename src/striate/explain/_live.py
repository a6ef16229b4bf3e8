"""One pass whose maps stay in the graph of gradients, so that any number can be asked what moves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from striate.errors import UnknownName, UsageError, first_line
from striate.explain.nodes import unspaced
from striate.explain.passes import eager, first_tensor, watched
from striate.models.evaluating import evaluating
from striate.models.network import Network

__all__ = ["LiveCall", "LivePass", "live_pass"]


@dataclass(frozen=True, slots=True, eq=False)
class LiveCall:
    """One call of a module, with others inside or not."""

    name: str  # as summaries have it: "layer1.0.relu #2"
    module: nn.Module
    output: Tensor  # in the graph; nothing behind it has written into it

    @property
    def kind(self) -> str:
        """The module's class."""
        return type(self.module).__name__


@dataclass(frozen=True, slots=True, eq=False)
class LivePass:
    """What one pass gave."""

    images: Tensor  # float, in the graph
    outputs: Any  # `dense` of a Network
    calls: tuple[
        LiveCall, ...
    ]  # in the order in which they ended; what handed on another's output is not there

    def find(self, name: str) -> LiveCall:
        """The call `name`. Raises UnknownName with the nearest."""
        named = {unspaced(call.name): call for call in self.calls}
        if unspaced(name) not in named:
            raise UnknownName("layer", name, [call.name for call in self.calls])
        return named[unspaced(name)]


def live_pass(module: nn.Module, images: Tensor, extras: Mapping[str, Tensor] | None = None) -> LivePass:
    """One pass of `module` over `images`, in evaluation mode, its modules' outputs in the graph of gradients.

    Raises UsageError naming the call where the network refuses its input.
    """
    place = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), images.device)
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    inputs = images.detach().to(place, dtype).clone().requires_grad_()
    watcher = _Watcher(inputs)
    dense = module.dense if isinstance(module, Network) else module
    given = {name: tensor.to(place) for name, tensor in (extras or {}).items()}
    watching = watched(module, watcher.start, watcher.end)
    with eager(module), watching, evaluating(module), torch.enable_grad():
        try:
            outputs = dense(inputs, **given)
        except (RuntimeError, ValueError) as refusal:
            raise watcher.refused(refusal, images) from refusal
    return LivePass(inputs, outputs, tuple(watcher.calls))


class _Watcher:
    """Keeps each module's output, and hands on a copy, which the next may write into."""

    def __init__(self, inputs: Tensor) -> None:
        self.calls: list[LiveCall] = []
        self.stack: list[tuple[str, nn.Module]] = []
        self.numbers: dict[str, int] = {}
        self.handed_on = [(inputs, inputs._version)]

    def start(self, path: str, module: nn.Module, inputs: Any) -> None:  # noqa: ARG002 - told by `watched`
        """A call of `module` begins."""
        self.numbers[path] = self.numbers.get(path, 0) + 1
        number = self.numbers[path]
        self.stack.append((path + (f" #{number}" if number > 1 else ""), module))

    def end(self, outputs: Any) -> Any:
        """The call that began last has given `outputs`."""
        name, module = self.stack.pop()
        output = first_tensor(outputs)
        if output is None or not output.requires_grad or self.is_handed_on(output):
            return None
        double = output.clone()
        self.handed_on.append((double, double._version))
        self.calls.append(LiveCall(name, module, output))
        return tree_map(lambda leaf: double if leaf is output else leaf, outputs)

    def is_handed_on(self, output: Tensor) -> bool:
        """Whether `output` is what another module gave, and nothing wrote into it: no new map."""
        return any(output is own and own._version == version for own, version in self.handed_on)

    def refused(self, error: Exception, images: Tensor) -> UsageError:
        """What to say where the network cannot take `images`."""
        name = self.stack[-1][0] if self.stack else "the network"
        reason = first_line(error)
        return UsageError(
            name,
            f"it cannot take what {tuple(images.shape)} became ({reason})",
            "give the network the channels and the size that it was made for",
        )
