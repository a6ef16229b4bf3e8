import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from striate.ops.losses import pixel_cross_entropy, pixel_focal, soft_cross_entropy, soft_dice


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


# over pixels


def case(classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels with two pixels of no known class, and weights that are 0 there."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, classes, 4, 5, generator=generator)
    labels = torch.randint(0, classes, (2, 4, 5), dtype=torch.uint8, generator=generator)
    labels[0, 0, :2] = 255
    return logits, labels, torch.rand(2, 4, 5, generator=generator) * (labels != 255)


def test_pixel_cross_entropy_is_the_weighted_mean_over_known_pixels() -> None:
    logits, labels, weight = case()
    total = 0.0
    for b, y, x in np.ndindex(2, 4, 5):
        if labels[b, y, x] != 255:
            row = logits[b, :, y, x].double()
            total += float(weight[b, y, x]) * float(row.logsumexp(0) - row[int(labels[b, y, x])])
    expected = total / float(weight.sum())
    assert float(pixel_cross_entropy(logits, labels, weight)) == pytest.approx(expected, rel=1e-5)


def test_pixel_losses_of_no_known_pixel_are_zero_and_give_no_gradient() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    labels, weight = torch.full((1, 2, 2), 255, dtype=torch.uint8), torch.zeros(1, 2, 2)
    for loss in (pixel_cross_entropy, pixel_focal, soft_dice):
        (gradient,) = torch.autograd.grad(loss(logits, labels, weight), logits)
        assert loss(logits, labels, weight).item() == 0
        assert not gradient.any()


def test_focal_counts_easy_pixels_by_the_square_of_what_they_lack() -> None:
    logits = torch.log(torch.tensor([0.9, 0.1])).view(1, 2, 1, 1)
    label, weight = torch.zeros(1, 1, 1, dtype=torch.uint8), torch.ones(1, 1, 1)
    assert float(pixel_focal(logits, label, weight)) == pytest.approx(0.1**2 * -np.log(0.9), rel=1e-4)
    assert float(pixel_focal(logits, label, weight, gamma=0.0)) == pytest.approx(-np.log(0.9), rel=1e-4)


def test_dice_by_hand() -> None:
    """Two pixels, one of each class, each 0.75 sure of its own: both classes give 2 * 0.75 / (0.625 + 1)."""
    logits = torch.log(torch.tensor([[0.75, 0.25], [0.25, 0.75]])).view(1, 2, 1, 2)
    labels, weight = torch.tensor([[[0, 1]]], dtype=torch.uint8), torch.ones(1, 1, 2)
    expected = 1 - 2 * 0.75 / (0.75**2 + 0.25**2 + 1)
    assert float(soft_dice(logits, labels, weight)) == pytest.approx(expected, rel=1e-5)


def test_dice_leaves_out_classes_that_no_pixel_has() -> None:
    logits, labels, weight = case(2)
    more = torch.cat((logits, torch.full((2, 1, 4, 5), -1e4)), 1)
    assert float(soft_dice(more, labels, weight)) == pytest.approx(float(soft_dice(logits, labels, weight)))


def test_dice_agrees_with_sums_over_one_hot_truths() -> None:
    logits, labels, weight = case()
    p = logits.softmax(1)
    truth = torch.stack([(labels == k).float() for k in range(3)], 1)
    w = weight[:, None]
    dice = 2 * (p * truth * w).sum((0, 2, 3)) / ((p**2 * w).sum((0, 2, 3)) + (truth * w).sum((0, 2, 3)))
    assert float(soft_dice(logits, labels, weight)) == pytest.approx(float(1 - dice.mean()), rel=1e-5)
