"""Fast R-CNN: the published counts, regions that come from outside, and layers in two steps."""

from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.models.detection import fast_rcnn
from striate.models.detection.fast_rcnn import FastRCNN, compressed
from striate.models.unweighted import unweighted
from striate.structures import BoxTargets

FORMS = {"tiny": fast_rcnn.TINY, **fast_rcnn.TINIES}


def tiny(form: str = "tiny", **changes: Any) -> FastRCNN:
    torch.manual_seed(0)
    return fast_rcnn.build(msgspec.structs.replace(FORMS[form], **changes))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def pictures(count: int = 2) -> Tensor:
    chance = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=chance)


def regions(count: int = 2, used: int = 9, unused: int = 3) -> Tensor:
    """Boxes at the same places in each picture, and rows without one."""
    places = torch.rand(used, 2, generator=torch.Generator().manual_seed(2)) * 30
    found = torch.cat((places, places + 10 + places.flip(0)), 1)
    return torch.cat((found, torch.zeros(unused, 4))).expand(count, -1, -1)


def targets(rows: list[list[list[float]]], crowd: bool = False) -> BoxTargets[Tensor]:
    """The boxes of each picture, of classes 0, 1, 2, 0, ..., all crowds or none."""
    most = max(1, *map(len, rows))
    boxes = torch.zeros(len(rows), most, 4)
    valid = torch.zeros(len(rows), most, dtype=torch.bool)
    for picture, own in enumerate(rows):
        if own:
            boxes[picture, : len(own)], valid[picture, : len(own)] = torch.tensor(own), True
    labels = torch.where(valid, torch.arange(most) % 3, 0)
    return BoxTargets(boxes, labels, valid, valid & crowd, torch.ones(len(rows)))


@pytest.mark.parametrize(("classes", "count"), [(20, 134_690_729), (80, 135_919_829)])
def test_parameters_are_as_many_as_published(classes: int, count: int) -> None:
    with unweighted():
        assert parameters(models.create("fast_rcnn_vgg16", classes)) == count


def test_compressed_fc6_and_fc7_have_under_a_third_of_the_weights() -> None:
    with unweighted():
        whole = models.create("fast_rcnn_vgg16", 20)
        smaller = models.create("fast_rcnn_vgg16", 20, svd=[1024, 256])
    layers = (512 * 49 + 4096) * 4096 + 2 * 4096
    factored = 1024 * (512 * 49 + 4096) + 256 * (4096 + 4096) + 2 * 4096
    assert parameters(whole) - parameters(smaller) == layers - factored
    assert factored < layers / 3


@pytest.mark.parametrize("name", fast_rcnn.VARIANTS)
def test_the_map_has_stride_16(name: str) -> None:
    with unweighted():
        network = models.create(name)
    assert isinstance(network, FastRCNN)
    assert network.read.stride == 16
    assert network.read.name == {"fast_rcnn_vgg16": "conv5_3", "fast_rcnn_resnet18": "layer3"}.get(
        name, "stage5"
    )


@pytest.mark.parametrize("form", FORMS)
def test_rows_without_a_region_score_nothing_and_change_nothing(form: str) -> None:
    network = tiny(form).eval()
    raw, without = network(pictures(), regions()), network(pictures(), regions(unused=0))
    boxes, scores = network.predictions(raw)
    assert boxes.shape == (2, 12, 3, 4)
    assert not scores[:, 9:].any()
    assert scores[:, :9].all()
    torch.testing.assert_close(scores[:, :9], network.predictions(without)[1])
    truths = targets([[[2, 2, 20, 20], [30, 30, 60, 60]], [[10, 10, 50, 50]]])
    expected, found = (network.loss(each, truths) for each in (without, raw))
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term)


def test_a_region_learns_the_object_that_it_overlaps_by_half() -> None:
    network = tiny().eval()
    boxes = torch.tensor([[[0.0, 0.0, 32.0, 32.0], [0.0, 0.0, 32.0, 60.0], [0.0, 0.0, 64.0, 64.0]]])
    raw = network(pictures(1), boxes)
    # Overlaps of 1, 32 / 60 and 1 / 4 with an object of class 0.
    terms = network.loss(raw, targets([[[0, 0, 32, 32]]]))
    scores = raw.answers.scores[0]
    expected = F.cross_entropy(scores, torch.tensor([1, 1, 0]))
    torch.testing.assert_close(terms["classes"], expected)


def test_any_number_of_regions_is_taken() -> None:
    network = tiny().eval()
    for used in (1, 5, 40):
        dense = network.dense(pictures(), proposals=regions(used=used))
        count = min(network.config.per_class, used + 3) * 3
        assert dense["boxes"].shape == (2, count, 4)


@pytest.mark.parametrize(
    "truths",
    [
        targets([[[4, 4, 28, 30]], []]),
        targets([[], []]),
        targets([[[0, 0, 64, 64]], [[5, 5, 6, 6]]]),
        targets([[[i % 40, i % 37, i % 40 + 9, i % 37 + 12] for i in range(500)], [[1, 1, 30, 30]]]),
        targets([[[0, 0, 64, 64]], [[0, 0, 50, 50]]], crowd=True),
    ],
    ids=["a picture without boxes", "no boxes", "huge and a pixel", "five hundred", "crowds"],
)
@pytest.mark.parametrize("used", [0, 9])
@pytest.mark.parametrize("form", FORMS)
def test_losses_and_gradients_are_finite_whatever_the_boxes(
    form: str, used: int, truths: BoxTargets[Tensor]
) -> None:
    network = tiny(form).train()
    terms = network.loss(network(pictures(), regions(used=used)), truths)
    assert terms.keys() == {"classes", "boxes"}
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_trains(form: str) -> None:
    network = tiny(form).train()
    truths = targets([[[4, 4, 28, 30], [30, 20, 60, 60]], [[10, 30, 40, 50]]])
    whole = network.loss(network(pictures(), regions()), truths)
    with torch.autocast("cpu", torch.bfloat16):
        terms = network.loss(network(pictures(), regions()), truths)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        torch.testing.assert_close(term, whole[name], rtol=0.1, atol=0.05)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_compressed_to_full_rank_gives_the_same() -> None:
    network = tiny().eval()
    units = network.config.head.hidden
    smaller = compressed(network, (units, units))
    assert smaller.config.svd == (units, units)
    assert not smaller.training
    found, expected = (each.dense(pictures(), proposals=regions()) for each in (smaller, network))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-4, rtol=1e-4)


def test_compressed_keeps_the_largest_singular_values_and_the_biases() -> None:
    network = tiny().eval()
    weights = network.state_dict()  # which shares its memory
    weights["head.fc7.weight"].zero_()[:3, :3] = torch.diag(torch.tensor([5.0, 1.0, 3.0]))
    weights["head.fc7.bias"][:3] = torch.tensor([7.0, 8.0, 9.0])
    layer = compressed(network, (4, 2)).head.fc7
    values = torch.eye(network.config.head.hidden)[:3]
    expected = torch.tensor([[12.0, 8.0, 9.0], [7.0, 8.0, 9.0], [7.0, 8.0, 12.0]])
    torch.testing.assert_close(layer(values)[:, :3], expected, atol=1e-5, rtol=1e-5)


def test_compressing_twice_or_beyond_the_rank_is_refused() -> None:
    network = tiny()
    with pytest.raises(UsageError, match=r"33 is no rank for head\.fc6"):
        compressed(network, (33, 8))
    with pytest.raises(UsageError, match="in two steps already"):
        compressed(compressed(network, (8, 8)), (4, 4))


@pytest.mark.parametrize("name", fast_rcnn.VARIANTS)
def test_a_classification_network_s_weights_fit_all_of_the_backbone(name: str) -> None:
    config = fast_rcnn.VARIANTS[name]
    with unweighted():
        here = models.create(name).state_dict()
        whole = models.create(fast_rcnn.backbone_of(config)).state_dict()
    taken = {key: tensor.shape for key, tensor in fast_rcnn.from_backbone(whole, config).items()}
    backbone = {key: tensor.shape for key, tensor in here.items() if key.startswith("backbone.")}
    layers = [f"head.{layer}.{leaf}" for layer in ("fc6", "fc7") for leaf in ("weight", "bias")]
    of_head = {key: here[key].shape for key in layers} if name == "fast_rcnn_vgg16" else {}
    assert taken == backbone | of_head


class Dense(nn.Module):
    def __init__(self, network: FastRCNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, proposals: Tensor) -> dict[str, Tensor]:
        return self.network.dense(images, proposals=proposals)


def test_it_exports_with_a_free_batch_and_two_inputs() -> None:
    network = tiny().eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = {"images": {0: batch}, "proposals": {0: batch}}
    exported = torch.export.export(Dense(network), (pictures(), regions().clone()), dynamic_shapes=shapes)
    for count in (1, 5):
        found = exported.module()(pictures(count), regions(count).clone())
        expected = network.dense(pictures(count), proposals=regions(count))
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_network_without_regions_is_refused() -> None:
    preprocess = msgspec.to_builtins(fast_rcnn.TINY.preprocess) | {"proposals": 0}
    with pytest.raises(UsageError, match="finds nothing without them"):
        models.create("fast_rcnn_vgg16", preprocess=preprocess)
