"""Batch normalisation whose every number stays as it is, for batches too small to learn from."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FrozenNorm", "freeze_norms"]


class FrozenNorm(nn.Module):
    """What trained batch normalisation does in evaluation, in training too; it has no parameters."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, maps: Tensor) -> Tensor:
        return F.batch_norm(maps, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


def freeze_norms(network: nn.Module, eps: float) -> None:
    """Put a FrozenNorm, which begins as the identity, in the place of each batch norm in `network`."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent = network.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], FrozenNorm(module.num_features, eps))
