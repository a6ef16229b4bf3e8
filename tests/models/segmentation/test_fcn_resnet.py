from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.segmentation import fcn_resnet50, fcn_resnet101

from striate import models
from striate.models.network import resized
from striate.models.segmentation import fcn_resnet
from striate.models.unweighted import unweighted

# Of torchvision's networks for 21 classes, the auxiliary head included.
PARAMETERS = {"fcn_resnet50": 35_322_218, "fcn_resnet101": 54_314_346}
AUXILIARY = 2_365_205


def parameters(name: str, **config: Any) -> int:
    with unweighted():
        network = models.create(name, **config)
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", fcn_resnet.VARIANTS)
def test_parameters_are_torchvisions(name: str) -> None:
    assert parameters(name) == PARAMETERS[name]
    assert parameters(name, auxiliary=False) == PARAMETERS[name] - AUXILIARY


@pytest.fixture(scope="module")
def pair(randomised: Callable[[nn.Module], nn.Module]) -> tuple[fcn_resnet.FCNResNet, nn.Module]:
    """Ours and torchvision's fcn_resnet50 with the same random weights and running statistics."""
    theirs = fcn_resnet50(weights=None, weights_backbone=None, num_classes=5, aux_loss=True)
    randomised(theirs).eval()
    ours = models.create("fcn_resnet50", 5).eval()
    ours.load_state_dict(fcn_resnet.from_torchvision(theirs.state_dict()), strict=True)
    return ours, theirs


def differences(pair: tuple[fcn_resnet.FCNResNet, nn.Module], images: Tensor) -> tuple[float, float]:
    """The largest of the scores' and of the auxiliary scores', as shares of the largest value."""
    ours, theirs = pair
    with torch.inference_mode():
        expected, found = theirs(ours.normalize(images)), ours(images)
    auxiliary = resized(found.auxiliary[0], images.shape[-2:])
    return relative(found.logits, expected["out"]), relative(auxiliary, expected["aux"])


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("size", [(64, 64), (41, 77)])
def test_scores_equal_torchvisions(
    pair: tuple[fcn_resnet.FCNResNet, nn.Module], size: tuple[int, int], pictures: Callable[..., Tensor]
) -> None:
    assert max(differences(pair, pictures(*size))) < 1e-5


@pytest.mark.parametrize("name", ["backbone.layer4.1.conv2", "head.hidden.conv", "auxiliary.classifier"])
def test_one_perturbed_layer_shows(
    pair: tuple[fcn_resnet.FCNResNet, nn.Module], name: str, pictures: Callable[..., Tensor]
) -> None:
    weight = pair[0].get_parameter(f"{name}.weight")
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.mul_(1.01)
        assert max(differences(pair, pictures(64, 64))) > 1e-4
    finally:
        weight.data.copy_(before)


def test_torchvisions_deeper_network_fits_too() -> None:
    with torch.device("meta"):
        theirs = fcn_resnet101(weights=None, weights_backbone=None, aux_loss=True).state_dict()
        ours = models.create("fcn_resnet101").state_dict()
    found = fcn_resnet.from_torchvision(theirs)
    assert {name: tensor.shape for name, tensor in found.items()} == {
        name: tensor.shape for name, tensor in ours.items()
    }


def test_a_resnets_weights_fit_all_of_the_backbone() -> None:
    with torch.device("meta"):
        classifier = torchvision.models.resnet50().state_dict()
        network = models.create("fcn_resnet50")
    assert fcn_resnet.backbone_of(network.config) == "resnet50"
    found = fcn_resnet.from_backbone(classifier, network.config)
    assert found.keys() == {name for name in network.state_dict() if name.startswith("backbone.")}


def test_the_auxiliary_head_counts_half_in_the_loss(
    pictures: Callable[..., Tensor], targets: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    network = fcn_resnet.build(fcn_resnet.TINY).eval()
    images = pictures(40, 56)
    truth = targets(network, images)
    raw = network(images)
    terms = network.loss(raw, truth)
    assert list(terms) == ["cross_entropy", "auxiliary1"]
    alone = network.loss(raw._replace(logits=resized(raw.auxiliary[0], (40, 56)), auxiliary=()), truth)
    torch.testing.assert_close(terms["auxiliary1"], 0.5 * alone["cross_entropy"])


@pytest.mark.parametrize("form", ["tiny", "plain"])
@pytest.mark.parametrize("size", [(1, 1), (33, 58)])
def test_every_size_comes_back(form: str, size: tuple[int, int], pictures: Callable[..., Tensor]) -> None:
    network = fcn_resnet.build({"tiny": fcn_resnet.TINY, **fcn_resnet.TINIES}[form])
    assert network(pictures(*size)).logits.shape == (2, 5, *size)


def test_training_in_bfloat16_gives_finite_gradients(
    pictures: Callable[..., Tensor], targets: Callable[..., Any]
) -> None:
    network = fcn_resnet.build(fcn_resnet.TINY).train()
    images = pictures(40, 56)
    with torch.autocast("cpu", torch.bfloat16):
        sum(network.loss(network(images), targets(network, images)).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
