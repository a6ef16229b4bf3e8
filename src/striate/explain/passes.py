"""What every pass through a network shares: whose call an operation belongs to, and how it is run."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from striate.explain.operations import RECURRENCES

__all__ = [
    "bound_arguments",
    "composite",
    "eager",
    "first_tensor",
    "watched",
]

Before = Callable[[str, nn.Module, Any], None]
"""Told the module's name, the module and all its inputs when a call of it begins."""

After = Callable[[Any], Any]
"""Told the outputs of the call that ends; what it returns takes their place, if it is not None."""

# Functions that read a sequence step by step, hundreds of operations.
_RECURRENT_FUNCTIONS = {getattr(torch, name): name for name in RECURRENCES}

_RECURRENT_ARGUMENTS = (
    *("input", "hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional"),
    "batch_first",
)
_PAD_ARGUMENTS = ("input", "pad", "mode", "value")
_LRN_ARGUMENTS = ("input", "size", "alpha", "beta", "k")


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


def composite(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The name of a function whose parts do not show what it is, and its arguments by name; None of others.

    Circular padding is "pad", and writes the ends of its input beside it slice by slice.
    """
    if func is F.pad:
        given = {**dict(zip(_PAD_ARGUMENTS, args, strict=False)), **kwargs}
        return ("pad", given) if given.get("mode") == "circular" else None
    if func is F.local_response_norm:
        return "local_response_norm", {**dict(zip(_LRN_ARGUMENTS, args, strict=False)), **kwargs}
    if func in _RECURRENT_FUNCTIONS and not _is_packed(args) and not kwargs:
        return _RECURRENT_FUNCTIONS[func], dict(zip(_RECURRENT_ARGUMENTS, args, strict=True))
    return None


def _is_packed(args: tuple[Any, ...]) -> bool:
    """Whether sequences of several lengths come as one, with their number at each step."""
    return isinstance(args[1], Tensor) and not args[1].is_floating_point()


def first_tensor(values: Any) -> Tensor | None:
    """The first tensor in nested `values`."""
    return next((leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)), None)
