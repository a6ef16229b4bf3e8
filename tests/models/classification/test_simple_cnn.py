import pytest
import torch

from striate import models
from striate.errors import UsageError


@pytest.mark.parametrize(
    ("side", "strides", "last"),
    [
        (4, [2, 2, 2], 2),  # a second pool would leave one pixel
        (8, [2, 4, 4], 2),
        (28, [2, 4, 8], 3),
        (64, [2, 4, 8], 8),
        (1, [1, 1, 1], 1),
    ],
)
def test_pooling_stops_before_two_pixels_a_side(side: int, strides: list[int], last: int) -> None:
    network = models.create("simple_cnn", preprocess={"size": (side, side)}).eval()
    assert [feature.stride for feature in network.feature_info] == strides
    assert network.features(torch.zeros(1, 3, side, side))["stage3"].shape == (1, 128, last, last)


def test_parameters_counted_by_hand() -> None:
    stages = 3 * 9 * 32 + 32 * 9 * 64 + 64 * 9 * 64 + 64 * 9 * 128 + 128 * 9 * 128
    norms = 2 * (32 + 64 + 64 + 128 + 128)
    network = models.create("simple_cnn")
    assert sum(p.numel() for p in network.parameters()) == stages + norms + 128 * 10 + 10


def test_it_takes_pictures_larger_than_it_was_built_for() -> None:
    network = models.create("simple_cnn", preprocess={"size": (8, 8)}).eval()
    assert network.dense(torch.zeros(2, 3, 40, 24))["logits"].shape == (2, 10)


def test_dropout_works_in_training_only() -> None:
    torch.manual_seed(0)
    network = models.create("simple_cnn", dropout=0.5, preprocess={"size": (8, 8)})
    maps = torch.ones(1, 1000)
    assert network.dropout.train()(maps).unique().tolist() == [0.0, 2.0]
    assert network.dropout.eval()(maps).unique().tolist() == [1.0]


def test_stages_follow_their_settings() -> None:
    network = models.create("simple_cnn", widths=(4, 6), convolutions=(3, 1))
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(3, 4), (4, 4), (4, 4), (4, 6)]


@pytest.mark.parametrize(
    "settings", [{"widths": (8, 8)}, {"convolutions": (1,)}, {"widths": ()}, {"convolutions": (1, 0, 1)}]
)
def test_settings_that_disagree_are_refused(settings: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(UsageError, match=r"widths|convolutions"):
        models.create("simple_cnn", **settings)


def test_it_learns_which_half_is_bright() -> None:
    torch.manual_seed(0)
    network = models.create(
        "simple_cnn", classes=2, widths=(8,), convolutions=(1,), preprocess={"size": (6, 6)}
    )
    labels = torch.arange(32) % 2
    images = torch.randint(0, 100, (32, 3, 6, 6))
    images[labels == 0, :, :3] += 150
    images[labels == 1, :, :, :3] += 150  # the left half instead of the upper
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(images).logits, labels)
        loss.backward()
        optimiser.step()
    assert (network.eval().dense(images)["logits"].argmax(1) == labels).float().mean() > 0.95
