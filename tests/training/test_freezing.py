"""Parameters that are not trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from striate.errors import UnknownName, UsageError
from striate.models.network import frozen_norms
from striate.tasks import classification
from striate.training.config import TrainingConfig
from striate.training.fit import fit
from striate.training.freezing import freeze
from striate.training.optimisers import make_optimiser


def trainable(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_patterns_choose_by_name(network: Callable[..., Any]) -> None:
    tiny = network()
    freeze(tiny, ["conv*", "*.bias"])
    assert trainable(tiny) == {"norm.weight", "head.weight"}


def test_a_pattern_that_matches_nothing_is_answered_with_the_nearest(network: Callable[..., Any]) -> None:
    with pytest.raises(UnknownName, match=r"there is no 'hed\.\*'\. fix: did you mean head\.\*"):
        freeze(network(), ["convolution.*", "hed.*"])


def test_something_must_be_left_to_train(network: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="every parameter is frozen"):
        freeze(network(), ["*"])


def test_a_frozen_norm_keeps_its_statistics_in_training_mode(network: Callable[..., Any]) -> None:
    tiny = network()
    freeze(tiny, ["norm.weight"])
    assert tiny.train().norm.training  # its bias is still trained
    freeze(tiny, ["norm.bias"])
    assert not tiny.train().norm.training
    assert tiny.convolution.training
    assert list(frozen_norms(tiny)) == [tiny.norm]


def test_a_norm_without_weights_is_not_frozen() -> None:
    assert not list(frozen_norms(nn.Sequential(nn.BatchNorm2d(2, affine=False))))


def test_the_optimiser_holds_no_frozen_parameter(network: Callable[..., Any]) -> None:
    tiny = network()
    freeze(tiny, ["convolution.*"])
    groups = make_optimiser(tiny, TrainingConfig()).groups
    held = {id(parameter) for group in groups for parameter in group.parameters}
    assert held == {id(parameter) for name, parameter in tiny.named_parameters() if name in trainable(tiny)}


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_training_leaves_frozen_parts_as_they_are(
    optimiser: Any, network: Callable[..., Any], loaders: Callable[..., Any], card: Any, tmp_path: Path
) -> None:
    tiny = network()
    freeze(tiny, ["convolution.*", "norm.*"])
    before: dict[str, Tensor] = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    config = TrainingConfig(epochs=2, batch_size=12, workers=0, optimiser=optimiser, ema=0.5)
    for _ in fit(tiny, classification, loaders(config), config, tmp_path, card):
        pass
    same = {name for name, tensor in tiny.state_dict().items() if torch.equal(tensor, before[name])}
    assert same == {name for name in before if not name.startswith("head")}
    assert {"norm.running_mean", "norm.num_batches_tracked"} <= same
