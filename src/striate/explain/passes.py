"""What every pass through a network shares: whose call an operation belongs to, and how it is run."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from striate.explain.operations import RECURRENCES

__all__ = [
    "RECURRENT_FUNCTIONS",
    "bound_arguments",
    "eager",
    "first_tensor",
    "is_packed",
    "recurrent_arguments",
    "watched",
]

Before = Callable[[str, nn.Module, Any], None]
"""Told the module's name, the module and all its inputs when a call of it begins."""

After = Callable[[Any], Any]
"""Told the outputs of the call that ends; what it returns takes their place, if it is not None."""

RECURRENT_FUNCTIONS = {getattr(torch, name): name for name in RECURRENCES}
"""The functions that read a sequence step by step, hundreds of operations, and their names."""

_RECURRENT_ARGUMENTS = (
    *("input", "hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional"),
    "batch_first",
)


def eager(module: nn.Module) -> AbstractContextManager[object]:
    """Within it no part of `module` is compiled, which would take longer than all the rest."""
    if any(hasattr(part, "_orig_mod") for part in module.modules()):
        stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()


@contextmanager
def watched(module: nn.Module, before: Before, after: After) -> Iterator[None]:
    """Within it `before` and `after` are told of each call of a submodule of `module`."""
    with ExitStack() as stack:
        for path, part in module.named_modules():
            if path and not isinstance(part, torch.jit.ScriptModule):  # a scripted one takes no hooks
                for handle in _hooks(path, part, before, after):
                    stack.callback(handle.remove)
        yield


def _hooks(path: str, module: nn.Module, before: Before, after: After) -> Iterator[Any]:
    def started(module: nn.Module, args: Any, kwargs: Any) -> None:
        before(path, module, (args, kwargs))

    def ended(_: nn.Module, __: Any, ___: Any, outputs: Any) -> Any:
        return after(outputs)

    yield module.register_forward_pre_hook(started, with_kwargs=True)
    yield module.register_forward_hook(ended, with_kwargs=True)


def bound_arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an operation by the names of its schema, defaults included."""
    names = [argument.name for argument in func._schema.arguments]
    defaults = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
    return {**defaults, **dict(zip(names, args, strict=False)), **kwargs}


def recurrent_arguments(args: tuple[Any, ...]) -> dict[str, Any]:
    """The arguments of one of `RECURRENT_FUNCTIONS` by their names."""
    return dict(zip(_RECURRENT_ARGUMENTS, args, strict=True))


def is_packed(args: tuple[Any, ...]) -> bool:
    """Whether sequences of several lengths come as one, with their number at each step."""
    return isinstance(args[1], Tensor) and not args[1].is_floating_point()


def first_tensor(values: Any) -> Tensor | None:
    """The first tensor in nested `values`."""
    return next((leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)), None)
