"""Weights under other names: what takes over those of a network whose modules are called otherwise."""

from collections.abc import Iterable, Mapping

from torch import Tensor

__all__ = ["renamed"]


def renamed(state_dict: Mapping[str, Tensor], modules: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    """`state_dict` with each module's tensors under its new name; `modules` has the old and new names.

    Tensors of a module that is not among them keep their names.
    """
    here = dict(modules)
    found = {}
    for name, tensor in state_dict.items():
        module, dot, leaf = name.rpartition(".")
        found[f"{here.get(module, module)}{dot}{leaf}"] = tensor
    return found
