"""What the optimiser does with each kind of weight."""

import pytest
import torch
from torch import nn

from striate.training.config import TrainingConfig
from striate.training.optimisers import AdamW, make_optimiser


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_weight_decay_shrinks_matrices_and_leaves_biases_and_norm_weights(optimiser: str) -> None:
    module = network()
    config = TrainingConfig(optimiser=optimiser, learning_rate=0.1, weight_decay=0.5)  # type: ignore[arg-type]
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    make_optimiser(module, config).step()
    for name, weight in module.named_parameters():
        shrunk = weight.ndim == 2
        # Nesterov's first step counts the gradient 1 + momentum times.
        factor = 1 - 0.1 * 0.5 * (1.9 if optimiser == "sgd" else 1) if shrunk else 1
        torch.testing.assert_close(weight.detach(), before[name] * factor)


def test_frozen_weights_are_left_out() -> None:
    module = network()
    for weight in module[0].parameters():
        weight.requires_grad_(False)
    found = [
        weight for group in make_optimiser(module, TrainingConfig()).groups for weight in group.parameters
    ]
    assert {id(weight) for weight in found} == {id(w) for layer in module[1:] for w in layer.parameters()}


def test_sgd_with_nesterov_is_the_formula() -> None:
    weight = nn.Parameter(torch.ones(1, 1))
    module = nn.Module()
    module.weight = weight
    config = TrainingConfig(learning_rate=0.1, weight_decay=0.0, momentum=0.5)
    optimiser = make_optimiser(module, config)
    expected, velocity = 1.0, 0.0
    for gradient in (1.0, -2.0, 0.5):
        weight.grad = torch.full((1, 1), gradient)
        optimiser.step()
        velocity = 0.5 * velocity + gradient
        expected -= 0.1 * (gradient + 0.5 * velocity)
    assert weight.item() == pytest.approx(expected)


def test_momentum_is_the_first_beta_of_adamw() -> None:
    optimiser = make_optimiser(network(), TrainingConfig(optimiser="adamw", momentum=0.8))
    assert isinstance(optimiser, AdamW)
    assert optimiser.betas == (0.8, 0.999)


def test_with_layer_decay_a_group_keeps_its_share_of_the_rate() -> None:
    optimiser = make_optimiser(network(), TrainingConfig(layer_decay=0.25))
    found = [(group.scale, group.weight_decay, len(group.parameters)) for group in optimiser.groups]
    assert [group.rate for group in optimiser.groups] == [0.0125, 0.0125, 0.05, 0.05]
    # The first matrix and the norm are one stage, the second matrix is the other.
    assert found == [(0.25, 5e-4, 1), (0.25, 0.0, 3), (1.0, 5e-4, 1), (1.0, 0.0, 1)]


def test_without_layer_decay_every_group_has_the_whole_rate() -> None:
    optimiser = make_optimiser(network(), TrainingConfig())
    assert [group.scale for group in optimiser.groups] == [1.0, 1.0]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_every_step_is_that_of_torchs_own_class(name: str) -> None:
    # In double precision: AdamW makes a whole step of a gradient that is 0 but for rounding.
    ours, theirs = network().double(), network().double()
    config = TrainingConfig(optimiser=name, learning_rate=0.03, weight_decay=0.1)  # type: ignore[arg-type]
    optimiser = make_optimiser(ours, config)
    decayed = [parameter for parameter in theirs.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in theirs.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    reference: torch.optim.Optimizer = (
        torch.optim.SGD(groups, 0.03, momentum=0.9, nesterov=True)
        if name == "sgd"
        else torch.optim.AdamW(groups, 0.03, betas=(0.9, 0.999))
    )
    for step in range(4):
        pixels = torch.randn(5, 3, generator=torch.Generator().manual_seed(step)).double()
        for module, mover in ((ours, optimiser), (theirs, reference)):
            mover.zero_grad()
            module(pixels).square().sum().backward()
            mover.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_a_weight_without_a_gradient_stays() -> None:
    module = network()
    before = [weight.detach().clone() for weight in module.parameters()]
    make_optimiser(module, TrainingConfig()).step()
    assert all(torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))
