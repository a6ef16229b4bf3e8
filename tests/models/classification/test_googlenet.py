from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from striate import models
from striate.errors import UsageError
from striate.models.classification import googlenet
from striate.structures import ClassTargets, Preprocess

# Parameters with and without auxiliary heads, and millions of multiply-adds of one picture without them.
COUNTS = {
    "googlenet": (13_378_280, 6_998_552, 1582.7),
    "googlenet_bn": (13_004_888, 6_624_904, 1498.4),
}


def test_every_variant_has_its_counts_here() -> None:
    assert set(COUNTS) == set(googlenet.VARIANTS)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_published_ones(name: str, counts: Callable[..., tuple[int, int]]) -> None:
    with_heads, without, multiply_adds = COUNTS[name]
    assert counts(name)[0] == with_heads
    parameters, found = counts(name, auxiliary_weight=0)
    assert (parameters, round(found / 1e6, 1)) == (without, multiply_adds)


def test_auxiliary_heads_cost_eight_million_multiply_adds_in_training_and_none_in_use(
    counts: Callable[..., tuple[int, int]], targets: Callable[..., ClassTargets[Tensor]]
) -> None:
    with torch.device("meta"):
        network = models.create("googlenet").train()
        with FlopCounterMode(display=False) as counter:
            network.loss(network(torch.zeros(1, 3, 224, 224)), targets(network, 1))
    assert round(counter.get_total_flops() / 2e9, 3) == 1.591
    assert counts("googlenet").multiply_adds == counts("googlenet", auxiliary_weight=0).multiply_adds


@pytest.mark.parametrize("name", COUNTS)
def test_maps_shrink_as_in_table_1(name: str) -> None:
    with torch.device("meta"):
        features = models.create(name).features(torch.zeros(1, 3, 224, 224))
    assert {name: tuple(maps.shape[1:]) for name, maps in features.items()} == {
        "conv1": (64, 112, 112),
        "conv3": (192, 56, 56),
        "inception3a": (256, 28, 28),
        "inception3b": (480, 28, 28),
        "inception4a": (512, 14, 14),
        "inception4b": (512, 14, 14),
        "inception4c": (512, 14, 14),
        "inception4d": (528, 14, 14),
        "inception4e": (832, 14, 14),
        "inception5a": (832, 7, 7),
        "inception5b": (1024, 7, 7),
    }


class ByHand:
    """The paper's network as functions of its weights alone, read off Fig. 3."""

    def __init__(self, network: googlenet.GoogLeNet) -> None:
        self.weights = dict(network.state_dict())

    def logits(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.conv("conv1", pixels, stride=2, padding=3)
        maps = self.response_norm(self.pool(maps))
        maps = self.conv("conv3", self.conv("conv2", maps), padding=1)
        maps = self.pool(self.response_norm(maps))
        maps = self.pool(self.inceptions(maps, "3a", "3b"))
        auxiliary1 = maps = self.inceptions(maps, "4a")
        auxiliary2 = maps = self.inceptions(maps, "4b", "4c", "4d")
        maps = self.inceptions(self.pool(self.inceptions(maps, "4e")), "5a", "5b")
        return (
            self.linear("fc", maps.mean((2, 3))),
            self.head("aux1", auxiliary1),
            self.head("aux2", auxiliary2),
        )

    def inceptions(self, maps: Tensor, *names: str) -> Tensor:
        for name in (f"inception{name}" for name in names):
            one = self.conv(f"{name}.branch1", maps)
            three = self.conv(f"{name}.branch2.1", self.conv(f"{name}.branch2.0", maps), padding=1)
            five = self.conv(f"{name}.branch3.1", self.conv(f"{name}.branch3.0", maps), padding=2)
            pooled = self.conv(f"{name}.branch4.1", F.max_pool2d(maps, 3, stride=1, padding=1))
            maps = torch.cat((one, three, five, pooled), 1)
        return maps

    def head(self, name: str, maps: Tensor) -> Tensor:
        pooled = self.conv(f"{name}.conv", F.avg_pool2d(maps, 5, stride=3))
        return self.linear(f"{name}.fc2", self.linear(f"{name}.fc1", pooled.flatten(1)).relu())

    def conv(self, name: str, maps: Tensor, **settings: int) -> Tensor:
        return F.conv2d(
            maps, self.weights[f"{name}.conv.weight"], self.weights[f"{name}.conv.bias"], **settings
        ).relu()

    def linear(self, name: str, values: Tensor) -> Tensor:
        return F.linear(values, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def pool(self, maps: Tensor) -> Tensor:
        return F.max_pool2d(maps, 3, stride=2, ceil_mode=True)

    def response_norm(self, maps: Tensor) -> Tensor:
        squares = F.pad(maps.square(), (0, 0, 0, 0, 2, 2))
        total = sum(squares[:, i : i + maps.shape[1]] for i in range(5))
        return maps / (1 + 1e-4 / 5 * total) ** 0.75


def test_paper_form_equals_an_independent_formulation(
    randomised: Callable[[nn.Module], nn.Module],
    pictures: Callable[..., Tensor],
    relative_difference: Callable[[Tensor, Tensor], float],
) -> None:
    # Pictures of 224 give the heads maps of 14x14, which only there become 4x4.
    network = randomised(models.create("googlenet", classes=10, width=0.25)).double().eval()
    # Larger values than real pictures give, so that the response normalisation changes them.
    pixels = 30 * network.normalize(pictures(224, batch=1)).double()
    network.normalize = nn.Identity()
    with torch.inference_mode():
        raw = network(pixels)
        found = raw.logits, network.aux1(raw.inception4a), network.aux2(raw.inception4d)
        for ours, theirs in zip(found, ByHand(network).logits(pixels), strict=True):
            assert relative_difference(ours, theirs) < 1e-12


def test_response_normalisation_has_the_published_caffe_networks_constants() -> None:
    maps = np.linspace(-400, 400, 7)
    network = models.create("googlenet", width=0.25)
    for norm in (network.norm1, network.norm2):
        found = norm(torch.tensor(maps).view(1, 7, 1, 1)).flatten().numpy()
        # Caffe: alpha 1e-4 times the mean of five squares, k 1, beta 3/4.
        expected = maps[3:4] / (1 + 1e-4 * np.mean(maps[1:6] ** 2)) ** 0.75
        np.testing.assert_allclose(found[3:4], expected)
        np.testing.assert_allclose(found[0], maps[0] / (1 + 1e-4 * np.sum(maps[:3] ** 2) / 5) ** 0.75)


Pair = tuple[googlenet.GoogLeNet, nn.Module]


@pytest.fixture
def pair(randomised: Callable[[nn.Module], nn.Module]) -> Pair:
    """Our network and torchvision's with the same weights, in double precision and without dropout."""
    theirs = torchvision.models.GoogLeNet(num_classes=10, init_weights=False, dropout=0.0, dropout_aux=0.0)
    ours = models.create("googlenet_bn", classes=10, dropout=0.0, auxiliary_dropout=0.0)
    ours.load_state_dict(googlenet.from_torchvision(randomised(theirs).state_dict()), strict=True)
    return ours.double(), theirs.double()


@pytest.mark.parametrize("side", [64, 97])
def test_outputs_equal_torchvisions(
    pair: Pair,
    side: int,
    pictures: Callable[..., Tensor],
    relative_difference: Callable[[Tensor, Tensor], float],
) -> None:
    ours, theirs = (network.float().eval() for network in pair)
    images = pictures(side)
    with torch.inference_mode():
        found, expected = ours.dense(images)["logits"], theirs(ours.normalize(images))
    assert relative_difference(found, expected) < 1e-5


def test_losses_and_gradients_in_training_equal_torchvisions(
    pair: Pair,
    pictures: Callable[..., Tensor],
    targets: Callable[..., ClassTargets[Tensor]],
    relative_difference: Callable[[Tensor, Tensor], float],
) -> None:
    ours, theirs = (network.train() for network in pair)
    images, labels = pictures(64, batch=4), torch.arange(4)
    terms = ours.loss(ours(images), targets(ours, 4))
    sum(terms.values()).backward()
    outputs = theirs(ours.normalize(images).double())
    expected = {
        "cross_entropy": F.cross_entropy(outputs.logits, labels),
        "auxiliary_4a": 0.3 * F.cross_entropy(outputs.aux_logits1, labels),
        "auxiliary_4d": 0.3 * F.cross_entropy(outputs.aux_logits2, labels),
    }
    sum(expected.values()).backward()
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        assert term.item() == pytest.approx(expected[name].item(), rel=1e-5)
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert relative_difference(parameter.grad, gradients[name]) < 1e-4, name


def test_a_change_of_any_layer_is_seen(
    pair: Pair,
    pictures: Callable[..., Tensor],
    relative_difference: Callable[[Tensor, Tensor], float],
) -> None:
    ours, theirs = (network.float().eval() for network in pair)
    images = pictures(32, batch=1)
    with torch.no_grad():
        expected = theirs(ours.normalize(images))
        for name, parameter in ours.named_parameters():
            before = parameter.clone()
            parameter.mul_(1.1)
            changed = relative_difference(ours.dense(images)["logits"], expected) > 1e-5
            assert changed != name.startswith("aux"), name
            parameter.copy_(before)


def test_batch_norm_form_sees_pixels_as_torchvisions_published_weights_do(
    pictures: Callable[..., Tensor],
) -> None:
    images = pictures(8)
    theirs = torchvision.models.GoogLeNet(num_classes=2, init_weights=False, transform_input=True)
    imagenet = models.create("resnet18").normalize(images)
    found = models.create("googlenet_bn", width=0.1).normalize(images)
    torch.testing.assert_close(found, theirs._transform_input(imagenet))


def tiny(**changes: Any) -> googlenet.GoogLeNet:
    return googlenet.build(msgspec.structs.replace(googlenet.TINY, **changes))


@pytest.mark.parametrize("form", ["2014", "batch_norm"])
def test_auxiliary_losses_are_terms_of_training_only(
    form: str, pictures: Callable[..., Tensor], targets: Callable[..., ClassTargets[Tensor]]
) -> None:
    network, images = tiny(form=form), pictures(64)
    truths = targets(network, 2)
    trained = network.train().loss(network(images), truths)
    measured = network.eval().loss(network(images), truths)
    assert list(trained) == ["cross_entropy", "auxiliary_4a", "auxiliary_4d"]
    assert list(measured) == ["cross_entropy"]


def test_auxiliary_weight_scales_the_auxiliary_losses(
    pictures: Callable[..., Tensor], targets: Callable[..., ClassTargets[Tensor]]
) -> None:
    network, images = tiny(dropout=0, auxiliary_dropout=0).train(), pictures(64)
    before = network.loss(network(images), targets(network, 2))
    network.auxiliary_weight = 0.6
    after = network.loss(network(images), targets(network, 2))
    assert after["cross_entropy"] == before["cross_entropy"]
    torch.testing.assert_close(after["auxiliary_4a"], 2 * before["auxiliary_4a"])


@pytest.mark.parametrize(("name", "rates"), [("googlenet", (0.4, 0.7)), ("googlenet_bn", (0.2, 0.7))])
def test_dropout_rates_are_the_published_ones(name: str, rates: tuple[float, float]) -> None:
    with torch.device("meta"):
        network = models.create(name)
    assert (network.dropout.p, network.aux1.dropout.p) == rates
    assert network.aux2.dropout.p == rates[1]


@pytest.mark.parametrize("form", ["2014", "batch_norm"])
def test_without_auxiliary_weight_there_are_no_heads(
    form: str, pictures: Callable[..., Tensor], targets: Callable[..., ClassTargets[Tensor]]
) -> None:
    network = tiny(form=form, auxiliary_weight=0).train()
    assert not [name for name in network.state_dict() if name.startswith("aux")]
    assert list(network.loss(network(pictures(64)), targets(network, 2))) == ["cross_entropy"]


@pytest.mark.parametrize("mode", [True, False])
def test_forward_and_decode_never_run_the_heads(mode: bool, pictures: Callable[..., Tensor]) -> None:
    network = tiny().train(mode)
    network.aux1 = network.aux2 = None  # calling them would fail
    assert network.dense(pictures(64))["logits"].shape == (2, 10)


@pytest.mark.parametrize("form", ["2014", "batch_norm"])
def test_backward_reaches_every_parameter_through_the_loss(
    form: str,
    randomised: Callable[[nn.Module], nn.Module],
    pictures: Callable[..., Tensor],
    targets: Callable[..., ClassTargets[Tensor]],
) -> None:
    network = randomised(tiny(form=form)).train()
    sum(network.loss(network(pictures(64, batch=4)), targets(network, 4)).values()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_auxiliary_pool_of_the_paper_averages_five_pixels_every_three() -> None:
    config = googlenet.Config(width=0.25)
    head = googlenet.AuxiliaryHead(config, channels=1, classes=2)
    ramp = torch.arange(14.0).expand(1, 1, 14, 14)
    assert head.pool(ramp)[0, 0].tolist() == [[2, 5, 8, 11]] * 4
    assert head.fc1.in_features == 32 * 4 * 4


@pytest.mark.parametrize(
    ("side", "maps", "units"), [(224, 14, 16), (112, 7, 1), (64, 4, 1), (47, 3, 1), (31, 2, 1)]
)
def test_heads_fit_the_maps_of_any_picture_size(
    side: int,
    maps: int,
    units: int,
    pictures: Callable[..., Tensor],
    targets: Callable[..., ClassTargets[Tensor]],
) -> None:
    network = tiny(preprocess=Preprocess(size=(side, side), fit="stretch"), width=0.1)
    raw = network(pictures(side))
    assert raw.inception4a.shape[2:] == (maps, maps)
    assert network.aux1.fc1.in_features == 13 * units
    assert len(network.loss(raw, targets(network, 2))) == 3


def test_pictures_of_another_size_are_refused_by_the_heads_and_classified_without_them(
    pictures: Callable[..., Tensor], targets: Callable[..., ClassTargets[Tensor]]
) -> None:
    network, images = tiny(), pictures(96)
    assert network.dense(images)["logits"].shape == (2, 10)
    with pytest.raises(UsageError, match="the auxiliary heads take maps of 4x4, got 6x6"):
        network.loss(network(images), targets(network, 2))


@pytest.mark.parametrize(("form", "least"), [("2014", 31), ("batch_norm", 15)])
def test_too_small_pictures_are_refused_before_a_map_vanishes(
    form: str, least: int, pictures: Callable[..., Tensor]
) -> None:
    spec = Preprocess(size=(least, least), fit="stretch")
    network = tiny(form=form, preprocess=spec, auxiliary_weight=0).eval()
    assert network.features(pictures(least))["inception5b"].shape[2:] == (1, 1)
    with pytest.raises(UsageError, match=f"images: this network needs at least {least} pixels a side, got"):
        network(pictures(least - 1))
    with pytest.raises(UsageError, match=f"preprocess.size: this network needs at least {least} pixels"):
        tiny(form=form, preprocess=Preprocess(size=(least - 1, 64), fit="stretch"))


def test_features_are_those_that_forward_uses(pictures: Callable[..., Tensor]) -> None:
    network, images = tiny().eval(), pictures(64)
    features, raw = network.features(images), network(images)
    assert torch.equal(raw.inception4a, features["inception4a"])
    assert torch.equal(raw.logits, network.fc(features["inception5b"].mean((2, 3))))
    assert torch.equal(network.inception4b(features["inception4a"]), features["inception4b"])


def test_starting_weights_keep_the_signal_alive_in_the_paper_form(pictures: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    network = googlenet.build(googlenet.TINY).eval()
    last = network.features(pictures(64))["inception5b"]
    assert 0.05 < last.detach().std() < 20


def test_starting_weights_of_the_batch_norm_form_are_torchvisions() -> None:
    torch.manual_seed(0)
    network = tiny(form="batch_norm")
    for layer in (network.inception5b.branch2[1].conv, network.aux1.fc1):
        assert layer.weight.detach().std().item() == pytest.approx(0.01, rel=0.05)
    assert not network.fc.bias.any()
