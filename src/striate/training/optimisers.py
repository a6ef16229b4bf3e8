"""The optimiser that the settings ask for."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from striate.training.config import TrainingConfig
from striate.training.depth import rate_scales

__all__ = ["make_optimiser"]


def make_optimiser(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable parameters of `network`, fused into one pass over them.

    Weight decay leaves out parameters of fewer than two axes: biases, and weights of normalisation, whose
    scale the next layer undoes. Each group holds its `scale`, the share of the learning rate that it has.
    """
    groups = list(_groups(network, config))
    if config.optimiser == "adamw":
        return torch.optim.AdamW(groups, config.peak_rate, betas=(config.momentum, 0.999), fused=True)
    nesterov = config.uses_nesterov
    return torch.optim.SGD(groups, config.peak_rate, momentum=config.momentum, nesterov=nesterov, fused=True)


def _groups(network: nn.Module, config: TrainingConfig) -> Iterator[dict[str, Any]]:
    scales = rate_scales(network, config.layer_decay)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for scale in sorted(set(scales.values())):
        alike = [parameter for parameter in trainable if scales[parameter] == scale]
        decayed, others = [p for p in alike if p.ndim >= 2], [p for p in alike if p.ndim < 2]
        for parameters, decay in ((decayed, config.weight_decay), (others, 0.0)):
            if parameters:
                yield {"params": parameters, "weight_decay": decay, "scale": scale}
