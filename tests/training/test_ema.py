"""The moving average of the weights."""

from collections.abc import Callable

import pytest
import torch

from striate.training.ema import MovingAverage


def test_the_decay_warms_up_to_its_value(network: Callable[..., torch.nn.Module]) -> None:
    module = network()
    weight = module.head.bias
    average = MovingAverage(module, 0.5)
    expected = weight[0].item()
    for n in range(12):
        with torch.no_grad():
            weight.fill_(float(n))
        average.update(module)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert average.network.head.bias[0].item() == pytest.approx(expected)
    assert weight[0].item() == 11.0


def test_statistics_of_batch_norm_are_copied(network: Callable[..., torch.nn.Module]) -> None:
    module = network()
    average = MovingAverage(module, 0.9)
    module(torch.randint(0, 256, (8, 1, 6, 6), dtype=torch.uint8))
    average.update(module)
    torch.testing.assert_close(average.network.norm.running_var, module.norm.running_var, rtol=0, atol=0)
    assert average.network.norm.num_batches_tracked == 1


def test_the_average_evaluates_and_needs_no_gradient(network: Callable[..., torch.nn.Module]) -> None:
    module = network()
    average = MovingAverage(module.train(), 0.9)
    assert not average.network.training
    assert not any(weight.requires_grad for weight in average.network.parameters())
    assert module.training
    assert all(weight.requires_grad for weight in module.parameters())
