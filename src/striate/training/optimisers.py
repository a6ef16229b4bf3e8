"""The optimiser that the settings ask for."""

import torch
from torch import nn

from striate.training.config import TrainingConfig

__all__ = ["make_optimiser"]


def make_optimiser(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable parameters of `network`, fused into one pass over them.

    Weight decay leaves out parameters of fewer than two axes: biases, and weights of normalisation, whose
    scale the next layer undoes.
    """
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimiser == "adamw":
        return torch.optim.AdamW(groups, config.peak_rate, betas=(config.momentum, 0.999), fused=True)
    nesterov = config.uses_nesterov
    return torch.optim.SGD(groups, config.peak_rate, momentum=config.momentum, nesterov=nesterov, fused=True)
