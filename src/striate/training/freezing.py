"""Parameters that training leaves as they are."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from torch import nn

from striate.errors import UnknownName, UsageError

__all__ = ["freeze"]

_KEY = "training.freeze"


def freeze(network: nn.Module, patterns: Iterable[str]) -> None:
    """Let no gradient reach the parameters whose name one of `patterns` matches ("trunk.stage?.*").

    Batch normalisation whose weights are all among them keeps its statistics too: see `Network.train`.
    Raises UnknownName for a pattern that matches none, UsageError where nothing is left to train.
    """
    parameters = dict(network.named_parameters())
    for pattern in patterns:
        found = [name for name in parameters if fnmatchcase(name, pattern)]
        if not found:
            raise UnknownName(_KEY, pattern, [*_patterns(network), *parameters])
        for name in found:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise UsageError(_KEY, "every parameter is frozen", "leave at least the last layer to be trained")


def _patterns(network: nn.Module) -> Iterator[str]:
    """A pattern for each module with parameters, the outermost first."""
    found = [
        name for name, module in network.named_modules() if name and any(True for _ in module.parameters())
    ]
    yield from (f"{name}.*" for name in sorted(found, key=lambda name: name.count(".")))
