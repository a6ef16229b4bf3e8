import pytest
import torch
from torch import nn

from striate import models
from striate.errors import UsageError


def test_parameters_and_layers_are_those_of_the_benchmark_row() -> None:
    network = models.create("mlp")
    # 784 x 256 + 256 + 256 x 128 + 128 + 128 x 100 + 100 + 100 x 10 + 10
    assert sum(p.numel() for p in network.parameters()) == 247_766
    assert [tuple(layer.weight.shape) for layer in network.layers if isinstance(layer, nn.Linear)] == [
        (256, 784),
        (128, 256),
        (100, 128),
        (10, 100),
    ]


def test_forward_is_a_plain_sequence_of_linear_and_relu() -> None:
    torch.manual_seed(0)
    network = models.create("mlp", hidden=(5, 4), classes=3, preprocess={"size": (2, 3)})
    sequence = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)
    )
    sequence.load_state_dict(
        {name.replace("layers.", ""): t for name, t in network.state_dict().items()}, strict=False
    )
    for ours, theirs in zip(
        (layer for layer in network.layers if isinstance(layer, nn.Linear)),
        (layer for layer in sequence if isinstance(layer, nn.Linear)),
        strict=True,
    ):
        theirs.load_state_dict(ours.state_dict())
    images = torch.randint(0, 256, (4, 1, 2, 3), dtype=torch.uint8)
    expected = sequence((images.float() / 255 - 0.5) / 0.5)
    torch.testing.assert_close(network.dense(images)["logits"], expected, atol=1e-5, rtol=1e-5)


def test_no_hidden_layer_is_a_linear_classifier() -> None:
    network = models.create("mlp", hidden=(), classes=3, preprocess={"size": (2, 2)})
    assert [tuple(p.shape) for p in network.parameters()] == [(3, 4), (3,)]


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(UsageError, match="takes pictures of 28x28, got 27x28"):
        models.create("mlp")(torch.zeros(1, 1, 27, 28))


def test_it_has_no_maps_to_offer() -> None:
    network = models.create("mlp")
    assert network.feature_info == ()
    assert network.features(torch.zeros(1, 1, 28, 28)) == {}


@pytest.mark.parametrize("hidden", [(0,), (-3, 5)])
def test_a_layer_without_units_is_refused(hidden: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="hidden"):
        models.create("mlp", hidden=hidden)
