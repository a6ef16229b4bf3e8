"""The optimiser that the settings ask for.

Torch's optimiser classes import its compiler when the first one is made, which takes over a second of every
run; their functions, which do the arithmetic, do not.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from striate.training.config import TrainingConfig
from striate.training.depth import rate_scales

__all__ = ["SGD", "AdamW", "Group", "Optimiser", "make_optimiser"]

_SECOND_BETA, _EPSILON = 0.999, 1e-8  # of AdamW, as its paper has them


@dataclass(slots=True)
class Group:
    """Parameters that are treated alike."""

    parameters: list[nn.Parameter]
    weight_decay: float
    scale: float  # share of the learning rate that they have
    rate: float = 0.0  # of the next step, that share in it


class Optimiser(ABC):
    """Changes parameters by their gradients, all of a group in one pass over memory."""

    def __init__(self, groups: list[Group]) -> None:
        self.groups = groups
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}  # what a step leaves for the next, by name

    def set_rate(self, rate: float) -> None:
        """Use the learning rate `rate` from the next step on, each group its share."""
        for group in self.groups:
            group.rate = rate * group.scale

    def zero_grad(self) -> None:
        """Drop the gradients; the next backward pass makes new ones."""
        for group in self.groups:
            for parameter in group.parameters:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take one step; parameters without a gradient stay."""
        for group in self.groups:
            moving = [parameter for parameter in group.parameters if parameter.grad is not None]
            if moving:
                self._move(moving, [p.grad for p in moving if p.grad is not None], group)

    @abstractmethod
    def _move(self, parameters: list[nn.Parameter], gradients: list[Tensor], group: Group) -> None: ...


class SGD(Optimiser):
    """Stochastic gradient descent with momentum, Nesterov's if asked (Sutskever et al. 2013)."""

    def __init__(self, groups: list[Group], momentum: float, nesterov: bool) -> None:
        super().__init__(groups)
        self.momentum, self.nesterov = momentum, nesterov

    def _move(self, parameters: list[nn.Parameter], gradients: list[Tensor], group: Group) -> None:
        buffers = [self.state.get(parameter, {}).get("momentum_buffer") for parameter in parameters]
        sgd(
            list(parameters),
            gradients,
            buffers,
            fused=True,
            weight_decay=group.weight_decay,
            momentum=self.momentum,
            lr=group.rate,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
        )
        for parameter, buffer in zip(parameters, buffers, strict=True):
            if buffer is not None:  # the first step has made it
                self.state[parameter] = {"momentum_buffer": buffer}


class AdamW(Optimiser):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019, arXiv:1711.05101)."""

    def __init__(self, groups: list[Group], first_beta: float) -> None:
        super().__init__(groups)
        self.betas = (first_beta, _SECOND_BETA)

    def _move(self, parameters: list[nn.Parameter], gradients: list[Tensor], group: Group) -> None:
        states = [self.state.setdefault(parameter, _moments(parameter)) for parameter in parameters]
        adamw(
            list(parameters),
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=group.rate,
            weight_decay=group.weight_decay,
            eps=_EPSILON,
            maximize=False,
        )


def _moments(parameter: nn.Parameter) -> dict[str, Tensor]:
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }


def make_optimiser(network: nn.Module, config: TrainingConfig) -> Optimiser:
    """SGD or AdamW over the trainable parameters of `network`, at the highest rate of `config`.

    Weight decay leaves out parameters of fewer than two axes: biases, and weights of normalisation, whose
    scale the next layer undoes.
    """
    groups = list(_groups(network, config))
    optimiser: Optimiser
    if config.optimiser == "adamw":
        optimiser = AdamW(groups, config.momentum)
    else:
        optimiser = SGD(groups, config.momentum, config.uses_nesterov)
    optimiser.set_rate(config.peak_rate)
    return optimiser


def _groups(network: nn.Module, config: TrainingConfig) -> Iterator[Group]:
    scales = rate_scales(network, config.layer_decay)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for scale in sorted(set(scales.values())):
        alike = [parameter for parameter in trainable if scales[parameter] == scale]
        decayed, others = [p for p in alike if p.ndim >= 2], [p for p in alike if p.ndim < 2]
        for parameters, decay in ((decayed, config.weight_decay), (others, 0.0)):
            if parameters:
                yield Group(parameters, decay, scale)
