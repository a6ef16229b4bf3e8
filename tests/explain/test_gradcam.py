"""Grad-CAM against captum's and a second formulation, what it is asked about, and the layer it chooses."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam
from numpy.typing import NDArray
from torch import Tensor, nn

import striate
from striate import models
from striate.errors import UnknownName, UsageError
from striate.explain.gradcam import gradcam, sanity
from striate.models.network import Network


def tiny(name: str, form: str = "") -> Network:
    """The small form of a family, with weights of a fixed seed."""
    family = models.families()[name]
    torch.manual_seed(0)
    network: Network = family.build(family.TINIES[form] if form else family.TINY)
    return network.eval()


def picture(network: Network, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, network.preprocess.channels, *network.preprocess.size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def extras(network: Network, images: Tensor) -> dict[str, Any]:
    """Proposals of different parts of the picture, where the network takes some."""
    blank = network.blank_extras(images.float())
    if "proposals" not in blank:
        return {}
    height, width = images.shape[2:]
    count = blank["proposals"].shape[1]
    corner = torch.arange(count).remainder(4)[:, None] / 8
    boxes = torch.cat((corner * width, corner * height, (corner + 0.5) * width, (corner + 0.5) * height), 1)
    return {"proposals": boxes[None]}


class Replaced:
    """Has one call of one module hand on a tensor of ours, which a gradient can then be asked for."""

    def __init__(self, number: int) -> None:
        self.number, self.seen = number, 0
        self.leaf = torch.empty(0)

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:  # noqa: ARG002
        self.seen += 1
        if self.seen != self.number:
            return None
        self.leaf = output.detach().clone().requires_grad_()
        return self.leaf.clone()


def plain_heat(
    network: Network, images: Tensor, layer: str, score: Callable[[dict[str, Tensor]], Tensor], plus: bool
) -> NDArray[np.float64]:
    """The heat (H, W), largest 1: the graph is cut at the layer, the sums are written as in the papers."""
    name, _, number = layer.partition(" #")
    replaced = Replaced(int(number or 1))
    handle = network.get_submodule(name).register_forward_hook(replaced)
    score(network.dense(images)).backward()
    handle.remove()
    maps, gradient = replaced.leaf.detach()[0].double(), replaced.leaf.grad
    assert gradient is not None
    total = torch.zeros(maps.shape[1:], dtype=torch.float64)
    for own, slope in zip(maps, gradient[0].double(), strict=True):
        if plus:
            below = 2 * slope**2 + own.sum() * slope**3
            share = torch.where(below == 0, 0.0, slope**2 / torch.where(below == 0, 1.0, below))
            total += (share * slope.relu()).sum() * own
        else:
            total += slope.mean() * own
    heat = F.interpolate(total.relu()[None, None], images.shape[2:], mode="bilinear")[0, 0]
    return (heat / heat.max()).numpy()


NETWORKS = {
    "simple_cnn": lambda: tiny("simple_cnn"),
    "alexnet": lambda: tiny("alexnet"),
    "resnet": lambda: tiny("resnet", "basic"),
    "vgg": lambda: tiny("vgg"),
    "shufflenet_v2": lambda: tiny("shufflenet_v2"),
    "mobilenet_v2": lambda: tiny("mobilenet_v2"),
    "darknet": lambda: tiny("darknet"),
    "mobilenet_v1": lambda: tiny("mobilenet_v1"),
    "torchvision squeezenet": lambda: striate.create("torchvision:squeezenet1_1", classes=5).eval(),
    "torchvision resnet18": lambda: striate.create("torchvision:resnet18", classes=5).eval(),
}


class Logits(nn.Module):
    """A network as captum takes it: one tensor comes out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.dense(images)["logits"]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_map_is_that_of_captum(name: str) -> None:
    torch.manual_seed(1)
    network = NETWORKS[name]()
    images = picture(network)[:, :, :96, :96]
    found = gradcam(network, images)
    # A module that is called twice is none of captum's layers; the block around it gives the same maps.
    layer = network.get_submodule(found.layer.removesuffix(".relu #2"))
    method = LayerGradCam(Logits(network), layer)
    expected = method.attribute(images.float(), found.target.label, relu_attributions=True)[0, 0].detach()
    assert found.map.any()
    largest = expected.max()
    np.testing.assert_allclose(found.map / float(largest), expected / largest, atol=1e-5)


@pytest.mark.parametrize("plus", [False, True], ids=["plain", "plus_plus"])
@pytest.mark.parametrize("name", NETWORKS)
def test_heat_is_that_of_a_second_formulation(name: str, plus: bool) -> None:
    torch.manual_seed(1)
    network = NETWORKS[name]()
    images = picture(network)
    if name.startswith("torchvision"):
        images = images[:, :, :96, :96]
    found = gradcam(network, images, plus_plus=plus)
    label = found.target.label
    expected = plain_heat(network, images, found.layer, lambda dense: dense["logits"][0, label], plus)
    assert found.heat.max() == 1.0
    np.testing.assert_allclose(found.heat, expected, atol=1e-5)


def test_a_map_that_is_written_over_later_is_read_as_it_was() -> None:
    network = tiny("resnet", "basic")
    layer = "bn1"  # an in-place rectifier follows
    found = gradcam(network, picture(network), layer=layer)
    label = found.target.label
    expected = plain_heat(
        network, picture(network), layer, lambda dense: dense["logits"][0, label], plus=False
    )
    np.testing.assert_allclose(found.heat, expected, atol=1e-5)


def test_behind_a_mean_and_a_linear_layer_each_map_weighs_its_weight() -> None:
    network = tiny("simple_cnn")
    found = gradcam(network, picture(network), 2)
    weights = network.get_submodule("fc").weight[2].detach()  # type: ignore[union-attr, index, operator]
    maps: list[Tensor] = []
    network.get_submodule(found.layer).register_forward_hook(
        lambda _, __, output: maps.append(output.clone())
    )
    with torch.no_grad():
        network.dense(picture(network))
    expected = (weights[:, None, None] * maps[0][0]).sum(0).relu() / maps[0][0, 0].numel()
    np.testing.assert_allclose(found.map, expected.detach().numpy(), atol=1e-6)


CHOSEN = {
    ("alexnet", ""): "trunk.relu5",
    ("googlenet", ""): "inception5b",
    ("resnet", "basic"): "layer4.0.relu #2",
    ("vgg", ""): "trunk.relu5_2",
    ("deeplab_v3", "plain"): "aspp.project.activation",
    ("faster_rcnn", "paper"): "backbone.trunk.relu5_1",
}


@pytest.mark.parametrize("name", CHOSEN, ids="-".join)
def test_the_layer_is_the_last_before_pooling_or_the_coarsest(name: tuple[str, str]) -> None:
    family, form = name
    network = tiny(family, form)
    images = picture(network)
    found = gradcam(network, images, **extras(network, images))
    assert found.layer == CHOSEN[name]
    assert found.why in list(found.lines())[1]


def test_a_network_without_maps_is_refused_with_the_reason() -> None:
    network = tiny("mlp")
    with pytest.raises(UsageError, match="none of its layers has a map of the picture"):
        gradcam(network, picture(network))


@pytest.mark.parametrize("family", [name for name in models.families() if name != "mlp"])
def test_every_family_has_a_place_to_point_at(family: str) -> None:
    network = tiny(family)
    images = picture(network)
    found = gradcam(network, images, **extras(network, images))
    assert found.heat.shape == tuple(images.shape[2:])
    assert 0.0 <= found.heat.min() <= found.heat.max() <= 1.0
    assert found.target.task == network.task


def test_a_layer_that_was_asked_for_is_taken_and_one_without_maps_refused() -> None:
    network = tiny("resnet", "basic")
    assert gradcam(network, picture(network), layer="layer2.0.relu#2").layer == "layer2.0.relu #2"
    with pytest.raises(UsageError, match=r"fc: its output is \(1, 10\), no map"):
        gradcam(network, picture(network), layer="fc")
    with pytest.raises(UnknownName, match=r"did you mean layer2\.0"):
        gradcam(network, picture(network), layer="layer2.0.relx")


def test_classes_go_by_name_or_number_and_others_are_refused() -> None:
    network = striate.create("simple_cnn", classes=("ant", "bee", "cat"))
    assert gradcam(network, picture(network), "bee").target.label == 1
    assert gradcam(network, picture(network), 2).target.name == "cat"
    with pytest.raises(UnknownName, match="did you mean cat or ant"):
        gradcam(network, picture(network), "amt")
    with pytest.raises(UsageError, match=r"there are 3 classes. fix: give 0\.\.2"):
        gradcam(network, picture(network), 3)


def test_weights_gradients_and_modes_stay_as_they_were() -> None:
    network = tiny("resnet", "basic").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    cam = gradcam(network, picture(network))
    sanity(network, picture(network), cam)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_box_is_explained_by_the_places_its_score_hangs_on() -> None:
    network = tiny("ssd")
    images = picture(network).float().requires_grad_()
    dense = network.dense(images)
    scores = dense["scores"][0].tolist()
    row = scores.index(max(scores))
    found = gradcam(network, images.detach())
    assert (found.target.candidate, found.score) == (row, pytest.approx(scores[row]))
    dense["scores"][0, row].backward()
    assert images.grad is not None
    touched = images.grad[0].any(0).numpy()
    assert not found.heat[~touched].any() or touched.all()
    other = gradcam(network, images.detach(), row + 1)
    assert other.target.candidate == row + 1
    with pytest.raises(UsageError, match="candidates"):
        gradcam(network, images.detach(), 10**6)


def test_the_surest_box_of_a_class_is_found_by_its_name() -> None:
    network = tiny("yolo_v3")
    images = picture(network)
    with torch.no_grad():
        dense = network.dense(images)
    found = gradcam(network, images, network.classes[1])
    own = dense["labels"][0] == 1
    assert found.target.label == 1
    assert found.score == pytest.approx(float(dense["scores"][0][own].max()))


def test_the_heat_of_a_region_lies_where_the_region_is() -> None:
    network = tiny("rcnn")
    images = picture(network)
    boxes = extras(network, images)
    found = gradcam(network, images, **boxes)
    rows, columns = np.nonzero(found.heat)
    assert found.heat.any()
    assert found.target.box is not None
    x0, y0, x1, y1 = found.target.box
    # The region is seen with a margin around it, which the map shows too.
    margin = max(x1 - x0, y1 - y0)
    assert x0 - margin <= columns.min() <= columns.max() <= x1 + margin
    assert y0 - margin <= rows.min() <= rows.max() <= y1 + margin


def test_the_score_of_a_mask_is_the_sum_of_its_logits_over_its_region() -> None:
    network = tiny("unet")
    images = picture(network)
    with torch.no_grad():
        logits = network.dense(images)["logits"][0]
    label = int(logits.argmax(0).flatten()[0])
    found = gradcam(network, images, label)
    region = logits.argmax(0) == label
    assert found.score == pytest.approx(float(logits[label][region].sum()), rel=1e-5)
    assert found.target.to_dict()["pixels"] == int(region.sum())
    absent = next((own for own in range(len(logits)) if not (logits.argmax(0) == own).any()), None)
    if absent is not None:
        with pytest.raises(UsageError, match="no pixel of the picture gets this class"):
            gradcam(network, images, absent)


class Edges(nn.Module):
    """A network whose map hangs on one fixed kernel, whatever its weights."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor([[[[-1.0, 1.0]]]]))
        self.edges = nn.ReLU()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.edges(F.conv2d(pixels, self.kernel))
        return F.linear(maps.mean((2, 3)), torch.ones(2, 1)) * self.scale


def test_a_map_that_does_not_hang_on_the_weights_is_called_out() -> None:
    pixels = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    module = Edges()
    cam = gradcam(module, pixels, 0)
    checked = sanity(module, pixels, cam)
    assert cam.layer == "edges"
    assert checked.likeness == pytest.approx(1.0)
    assert any("more than on its weights" in line for line in checked.lines())


def test_a_map_of_weights_changes_when_they_do() -> None:
    network = tiny("resnet", "basic")
    cam = gradcam(network, picture(network))
    checked = sanity(network, picture(network), cam)
    assert checked.likeness < 0.99
    assert sanity(network, picture(network), cam).likeness == checked.likeness


def test_numbers_and_pictures_come_along() -> None:
    network = tiny("simple_cnn")
    found = gradcam(network, picture(network), 0)
    assert found.sheet.dtype == np.uint8
    assert found.sheet.ndim == 3
    plain = msgspec.json.decode(msgspec.json.encode(found.to_dict()))
    assert plain["layer"] == found.layer
    assert np.array(plain["map"]).shape == found.map.shape
    assert found._repr_html_().startswith("<figure")
