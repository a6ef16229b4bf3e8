"""Gradients by layer: what deep sigmoids, shortcuts, huge weights and dead units do to them."""

import msgspec
import pytest
import torch
from torch import Tensor, nn

import striate
from striate.explain.gradient_flow import EXPLODING, VANISHING, GradientFlow, gradient_flow
from striate.models.network import Classifier, Logits, Network, NetworkConfig
from striate.structures import ClassTargets, Preprocess

GRAY = Preprocess(size=(6, 6), color="gray", mean=(0.5,), std=(0.5,))


class Deep(Classifier):
    """`depth` linear layers with an activation behind each, added to what came in where `adds_input`."""

    def __init__(self, depth: int, activation: type[nn.Module], adds_input: bool = False) -> None:
        super().__init__(NetworkConfig(classes=3, preprocess=GRAY))
        torch.manual_seed(0)
        self.first = nn.Linear(36, 16)
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(depth))
        self.activations = nn.ModuleList(activation() for _ in range(depth))
        self.last = nn.Linear(16, 3)
        self.adds_input = adds_input

    def features(self, images: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        return {}

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]
        values = self.first(self.normalize(images).flatten(1))
        for layer, activation in zip(self.layers, self.activations, strict=True):
            made = activation(layer(values))
            values = values + made if self.adds_input else made
        return Logits(self.last(values))


def flow(network: Network, count: int = 6) -> GradientFlow:
    generator = torch.Generator().manual_seed(0)
    spec = network.preprocess
    shape = (count, spec.channels, *spec.size)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % len(network.classes)
    targets = ClassTargets(torch.eye(len(network.classes))[labels], torch.ones(count))
    return gradient_flow(network, images, targets)


def share_of(found: GradientFlow, name: str) -> float:
    norms = {row.name: row.norm for row in found.layers}
    return norms[name] / max(norms.values())


def test_deep_sigmoids_starve_the_first_layers_and_rectifiers_hardly() -> None:
    sigmoid, relu = flow(Deep(8, nn.Sigmoid)), flow(Deep(8, nn.ReLU))
    assert share_of(sigmoid, "first") < VANISHING < share_of(relu, "first")
    assert "first" in sigmoid.flagged["vanishing"]
    assert "vanishing" not in relu.flagged


def test_a_shortcut_lets_the_gradient_past() -> None:
    plain, residual = flow(Deep(8, nn.Sigmoid)), flow(Deep(8, nn.Sigmoid, adds_input=True))
    assert share_of(residual, "first") > 1000 * share_of(plain, "first")
    assert "vanishing" not in residual.flagged


def test_a_layer_that_drowns_the_others_is_told_to_explode() -> None:
    network = Deep(4, nn.Identity)
    with torch.no_grad():
        for layer in network.layers:
            layer.weight.mul_(0.01)  # little of what the last one says comes back through these
        network.layers[3].bias.fill_(1e4)
    found = flow(network)
    norms = sorted(row.norm for row in found.layers)
    assert norms[-1] > EXPLODING * norms[len(norms) // 2]
    assert found.flagged["exploding"] == ("last",)


def test_a_gradient_that_is_no_number_is_told_to_explode() -> None:
    broken = Deep(2, nn.ReLU)
    with torch.no_grad():
        broken.first.weight.fill_(float("inf"))
    found = flow(broken)
    assert "first" in found.flagged["exploding"]
    assert b"NaN" not in msgspec.json.encode(found.to_dict())


def test_units_that_are_never_on_are_counted_and_told() -> None:
    network = Deep(2, nn.ReLU)
    with torch.no_grad():
        network.layers[0].bias[:12] = -100.0
        network.layers[1].bias.fill_(5.0)
    found = flow(network)
    first, second = found.activations
    assert (first.name, first.units) == ("activations.0", 16)
    assert first.dead >= 12
    assert first.zeros >= 12 / 16
    assert (second.dead, second.flag) == (0, "")
    assert found.flagged["dead units"] == ("activations.0",)


def test_norms_are_those_of_a_plain_backward_pass() -> None:
    network = Deep(2, nn.ReLU).train()
    found = flow(network)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 1, 6, 6), generator=generator, dtype=torch.uint8)
    targets = ClassTargets(torch.eye(3)[torch.arange(6) % 3], torch.ones(6))
    loss = sum(network.loss(network(images), targets).values())
    assert isinstance(loss, Tensor)
    loss.backward()
    assert found.loss == pytest.approx(loss.item(), rel=1e-6)
    for row in found.layers:
        weight = network.get_submodule(row.name).weight
        assert isinstance(weight, nn.Parameter)
        assert weight.grad is not None
        assert row.norm == pytest.approx(weight.grad.norm().item(), rel=1e-5)
    assert [row.name for row in found.layers] == ["first", "layers.0", "layers.1", "last"]


def test_the_network_is_left_as_it_was_and_a_frozen_one_is_read_too() -> None:
    network = striate.create("simple_cnn", classes=3).eval().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = flow(network)
    assert all(row.norm > 0 for row in found.layers)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert flow(network).to_dict() == found.to_dict()


def test_lines_state_the_thresholds_and_data_is_plain() -> None:
    found = flow(Deep(2, nn.ReLU))
    *_, last = found.lines()
    assert "below 0.0001 of the largest norm" in last
    assert "above 1000 times the median" in last
    assert msgspec.json.decode(msgspec.json.encode(found.to_dict()))["thresholds"]["vanishing"] == VANISHING
