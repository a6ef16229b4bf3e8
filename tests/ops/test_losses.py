import math

import torch
from torch.nn.functional import cross_entropy, one_hot

from striate.ops.losses import soft_cross_entropy


def test_equal_logits_cost_the_logarithm_of_the_number_of_classes() -> None:
    loss = soft_cross_entropy(torch.zeros(2, 4), one_hot(torch.tensor([0, 3]), 4).float(), torch.ones(2))
    assert math.isclose(loss.item(), math.log(4), rel_tol=1e-6)


def test_one_hot_targets_give_torchs_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    expected = cross_entropy(logits, labels)
    torch.testing.assert_close(
        soft_cross_entropy(logits, one_hot(labels, 3).float(), torch.ones(5)), expected
    )


def test_smoothed_targets_give_torchs_label_smoothing() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 4), torch.tensor([0, 2, 1, 3, 0])
    smoothed = 0.9 * one_hot(labels, 4) + 0.1 / 4
    expected = cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(soft_cross_entropy(logits, smoothed, torch.ones(5)), expected)


def test_weights_average_the_samples() -> None:
    # -log softmax of (0, log 3) is log 4 for the first class and log 4/3 for the second.
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    loss = soft_cross_entropy(logits, torch.eye(2), torch.tensor([3.0, 1.0]))
    assert math.isclose(loss.item(), (3 * math.log(4) + math.log(4 / 3)) / 4, rel_tol=1e-6)


def test_half_precision_logits_are_summed_in_full() -> None:
    logits = torch.zeros(1, 4096, dtype=torch.bfloat16)
    loss = soft_cross_entropy(logits, torch.full((1, 4096), 1 / 4096), torch.ones(1))
    assert loss.dtype == torch.float32
    assert math.isclose(loss.item(), math.log(4096), rel_tol=1e-6)


def test_huge_logits_stay_finite() -> None:
    loss = soft_cross_entropy(torch.tensor([[1e4, -1e4]]), torch.tensor([[0.0, 1.0]]), torch.ones(1))
    assert loss.item() == 2e4
