"""The stages of a network in the order of their depth, and the share of the learning rate that each has."""

from itertools import chain

from torch import nn

from striate.layers.stack import Stack

__all__ = ["rate_scales", "stages"]

_FEWEST = 4  # stages; a network that seems to have fewer has them inside plain containers
_LISTS = (Stack, nn.ModuleDict, nn.ModuleList)  # what holds stages and is none


def stages(network: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each stage of `network`, the first layer's first: of its children and a trunk's.

    The order is that of definition. A layer without matrix or kernel, such as a normalisation, belongs to
    the stage before it. In a network on a backbone, all that is not the backbone's is the last stage.
    """
    backbone = getattr(network, "backbone", None)
    if isinstance(backbone, nn.Module):
        found = stages(backbone)
        taken = set(chain.from_iterable(found))
        return [*found, [parameter for parameter in network.parameters() if parameter not in taken]]
    modules = _children(network)
    while (opened := _opened(modules)) != modules:
        modules = opened
    found = []
    for module in modules:
        parameters = list(module.parameters())
        if found and all(parameter.ndim < 2 for parameter in parameters):
            found[-1].extend(parameters)
        else:
            found.append(parameters)
    return found


def rate_scales(network: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """The share of the learning rate of each parameter: 1 in the last stage, `decay` in the one before, ...

    So early features, which serve any task, stay near what they were (Clark et al. 2020, arXiv:2003.10555;
    Bao et al. 2022, arXiv:2106.08254). A parameter in no stage has the whole rate.
    """
    scales = dict.fromkeys(network.parameters(), 1.0)
    found = stages(network)
    for number, parameters in enumerate(found, 1):
        scales |= dict.fromkeys(parameters, decay ** (len(found) - number))
    return scales


def _opened(modules: list[nn.Module]) -> list[nn.Module]:
    """`modules` with the children of each that only holds stages in its place."""
    kinds = (*_LISTS, nn.Sequential) if len(modules) < _FEWEST else _LISTS
    found: list[nn.Module] = []
    for module in modules:
        only_holds = isinstance(module, kinds) or len(modules) == 1
        found += (_children(module) if only_holds else []) or [module]
    return found


def _children(module: nn.Module) -> list[nn.Module]:
    return [child for child in module.children() if any(True for _ in child.parameters())]
