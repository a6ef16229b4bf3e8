"""Batch normalisation over the pictures of all processes, as if one process had the whole batch."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SyncBatchNorm2d", "synchronised"]


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of maps (B, C, H, W) whose mean and variance are those of every process's pictures together.

    Each process adds its count, sum and sum of squares per channel to the others', in float64, where the
    difference of large numbers costs nothing; they come from a local mean and variance, which are stable.
    In eval mode, or where there is one process, it is batch norm. Parameters, buffers and their names are the
    same. Source: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1, over the global batch.
    """

    def forward(self, maps: Tensor) -> Tensor:
        if not (self.training and dist.is_initialized()):
            return super().forward(maps)
        normalised, mean, variance, count = _Normalise.apply(maps, self.weight, self.bias, self.eps)
        self._track(mean, variance, int(count))
        result: Tensor = normalised
        return result

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        # momentum None means the plain average of all batches, as in torch.
        step = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), step)
        unbiased = variance * (count / max(count - 1, 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), step)


class _Normalise(torch.autograd.Function):
    """(maps - mean) / sqrt(variance + eps) * weight + bias, with the statistics of all processes."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        kind = weight.dtype  # at least float32, where maps may have fewer bits
        local_variance, local_mean = torch.var_mean(maps.to(kind), (0, 2, 3), correction=0)
        own, local_mean = maps.numel() // maps.shape[1], local_mean.double()
        squares = own * (local_variance.double() + local_mean**2)
        sums = torch.cat((own * local_mean, squares, local_mean.new_tensor([own])))
        dist.all_reduce(sums)
        channels, count = maps.shape[1], sums[-1]
        mean = sums[:channels] / count
        variance = (sums[channels:-1] / count - mean**2).clamp_(min=0)
        ctx.save_for_backward(maps, weight, mean.to(kind), (variance + eps).rsqrt().to(kind), count)
        result = F.batch_norm(maps, mean.to(kind), variance.to(kind), weight, bias, training=False, eps=eps)
        ctx.mark_non_differentiable(mean, variance, count)
        return result, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        maps, weight, mean, inverse_std, count = ctx.saved_tensors
        kind, shape = weight.dtype, (1, -1, 1, 1)
        gradient = gradients[0].to(kind)
        standardised = (maps.to(kind) - mean.view(shape)) * inverse_std.view(shape)
        for_bias = gradient.sum((0, 2, 3))
        for_weight = (gradient * standardised).sum((0, 2, 3))
        sums = torch.cat((for_bias, for_weight)).double()
        dist.all_reduce(sums)
        # Mean and variance depend on every value of the channel, in all processes: equation of section 3.
        shared_bias, shared_weight = (sums / count).to(kind).chunk(2)
        change = gradient - shared_bias.view(shape) - standardised * shared_weight.view(shape)
        for_maps = change * (weight * inverse_std).view(shape)
        return for_maps.to(maps.dtype), for_weight, for_bias, None


def synchronised(network: nn.Module) -> nn.Module:
    """`network` with each BatchNorm2d turned into a SyncBatchNorm2d, in place; same weights and names."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            # The same attributes and another forward: nothing to copy, and no reference to it gets lost.
            module.__class__ = SyncBatchNorm2d
    return network
