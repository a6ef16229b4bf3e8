"""R-CNN: what is seen in a proposal, the labels of the fine-tuning, and what the solved layers change."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.models.detection import rcnn
from striate.models.detection.rcnn import RawRCNN
from striate.ops.context_crop import warped
from striate.structures import BoxTargets

FORMS = {"tiny": rcnn.TINY, **rcnn.TINIES}


def tiny(form: str = "tiny", **changes: Any) -> rcnn.RCNN:
    torch.manual_seed(0)
    return rcnn.build(msgspec.structs.replace(FORMS[form], **changes))


def pictures(batch: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, 64, 64), dtype=torch.uint8, generator=generator)


def proposals(batch: int = 2, count: int = 12, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, count, 2, generator=generator) * 40
    return torch.cat((corner, corner + 4 + 18 * torch.rand(batch, count, 2, generator=generator)), 2)


def targets(*pictures: list[list[float]], crowd: bool = False) -> BoxTargets[Tensor]:
    """One list of boxes a picture; labels go 0, 1, 2, 0, ... along them."""
    most = max(1, *map(len, pictures))
    boxes, valid = torch.zeros(len(pictures), most, 4), torch.zeros(len(pictures), most, dtype=torch.bool)
    for row, found in enumerate(pictures):
        if found:
            boxes[row, : len(found)] = torch.tensor(found)
            valid[row, : len(found)] = True
    labels = (torch.arange(most) % 3).expand(len(pictures), -1) * valid
    return BoxTargets(boxes, labels, valid, valid & crowd, torch.ones(len(pictures)))


def test_alexnet_without_its_last_layer_and_21_outputs(counts: Callable[..., Any]) -> None:
    with torch.device("meta"):
        network, alexnet = models.create("rcnn_alexnet"), models.create("alexnet")
        raw = network(torch.zeros(1, 3, 512, 512), torch.zeros(1, 3, 4))
    own, its = (sum(p.numel() for p in found.parameters()) for found in (network, alexnet))
    assert own == its - (4096 + 1) * 1000 + (4096 + 1) * 21 == 57_089_877
    assert raw.features.shape == (1, 3, 4096)
    assert raw.pool5.shape == (1, 3, 9216)
    assert raw.logits.shape == (1, 3, 21)


@pytest.mark.parametrize(
    ("name", "features", "pool5"), [("resnet18", 512, 512 * 9), ("mobilenet_v2", 1280, 320 * 9)]
)
def test_smaller_backbones_give_the_mean_of_their_last_maps(name: str, features: int, pool5: int) -> None:
    with torch.device("meta"):
        network = models.create(f"rcnn_{name}")
        raw = network(torch.zeros(1, 3, 384, 512), torch.zeros(1, 2, 4))
    assert raw.features.shape == (1, 2, features)
    assert raw.pool5.shape == (1, 2, pool5)


@pytest.mark.parametrize("name", ["vgg11", "resnet20_cifar", "mobilenet_v3_small", "alexnet_2012"])
def test_other_classification_networks_are_taken(name: str) -> None:
    with torch.device("meta"):
        network = models.create("rcnn_alexnet", 2, backbone=name)
        dense = network.dense(torch.zeros(1, 3, 512, 512), proposals=torch.zeros(1, 2, 4))
    assert dense["scores"].shape == (1, 4)


def test_a_network_without_maps_is_refused() -> None:
    with pytest.raises(UsageError, match="'mlp' has no maps"):
        models.create("rcnn_resnet18", backbone="mlp")


def test_squares_that_are_too_small_for_the_backbone_are_refused() -> None:
    with pytest.raises(UsageError, match=r"network.side: .* at least 63 pixels a side, got 62x62. fix: warp"):
        models.create("rcnn_alexnet", side=62)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": 16}, "16 pixels at each border leave nothing of 32.* at most 15"),
        ({"preprocess": replace(rcnn.TINY.preprocess, proposals=0)}, "finds nothing without them"),
        ({"backbone_settings": {"classes": 3}}, "backbone_settings.classes: it is the network's own"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        msgspec.structs.replace(rcnn.TINY, **changes)


def test_a_proposal_is_seen_as_its_square_alone() -> None:
    network = tiny().eval()
    images, boxes = pictures(1), proposals(1, 1)
    square = warped(network.normalize(images), boxes, 32, 3)[:, 0]
    seen = network.backbone(square)
    raw = network(images, boxes)
    torch.testing.assert_close(raw.features[:, 0], seen.features)
    torch.testing.assert_close(raw.pool5[:, 0], seen.pool5)


@pytest.mark.parametrize("form", FORMS)
def test_the_backbone_says_what_the_classification_network_does(form: str) -> None:
    network = tiny(form).eval()
    config = network.config
    spec = replace(config.preprocess, size=(config.side,) * 2, fit="stretch", proposals=0)
    settings = {"preprocess": msgspec.to_builtins(spec), **config.backbone_settings}
    whole = models.create(config.backbone, 5, **settings).eval()
    weights = rcnn.from_backbone(whole.state_dict(), config)
    kept = {name for name in network.state_dict() if name.startswith("backbone.")}
    assert weights.keys() == kept
    network.load_state_dict(weights, strict=False)
    squares = torch.randint(0, 256, (2, 3, config.side, config.side), dtype=torch.uint8)
    features = network.backbone(network.normalize(squares)).features
    last = whole.get_submodule("fc8" if form == "fully_connected" else "classifier.linear")
    torch.testing.assert_close(last(features), whole(squares).logits)


def test_looking_at_few_proposals_at_a_time_changes_nothing() -> None:
    network, other = tiny(at_a_time=5).eval(), tiny(at_a_time=100).eval()
    for found, expected in zip(network(pictures(), proposals()), other(pictures(), proposals()), strict=True):
        torch.testing.assert_close(found, expected)


def test_as_many_proposals_are_looked_at_together_whatever_the_batch() -> None:
    network, squares = tiny(at_a_time=8).eval(), []
    network.backbone.register_forward_pre_hook(lambda _, given: squares.append(len(given[0])))
    for batch in (1, 4, 16):
        network(pictures(batch), proposals(batch))
    assert squares == [8, 4] + [4 * 2] * 6 + [16] * 12


def raw_of(logits: Tensor, boxes: list[list[float]]) -> RawRCNN:
    count = len(boxes)
    return RawRCNN(logits, torch.zeros(1, count, 32), torch.zeros(1, count, 80), torch.tensor([boxes]))


def test_loss_by_hand() -> None:
    logits = torch.tensor([[[0.0, 1, 2, 3], [4, 0, 0, 0], [0, 0, 9, 0], [0, 0, 0, 9]]])
    boxes = [[10.0, 10, 20, 20], [40.0, 40, 50, 50], [10, 10, 20, 14.9], [0.0, 0, 0, 0]]
    # The second row's label is 1; the first proposal is its own box, the third overlaps it by .49.
    truths = replace(targets([[10.0, 10, 20, 20]]), labels=torch.tensor([[1]]))
    found = tiny().loss(raw_of(logits, boxes), truths)
    own = math.log(1 + math.e + math.e**2 + math.e**3) - 2
    background = math.log(math.e**4 + 3) - 4
    missed = math.log(3 + math.e**9)
    assert found.keys() == {"classes"}
    assert found["classes"].item() == pytest.approx((own + background + missed) / 3, rel=1e-5)


def test_proposals_in_a_crowd_do_not_count() -> None:
    logits = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(0))
    raw = raw_of(logits, [[10.0, 10, 20, 20], [40, 40, 50, 50]])
    found = tiny().loss(raw, targets([[0.0, 0, 30, 30]], crowd=True))["classes"].item()
    assert found == pytest.approx(-logits[0, 1].log_softmax(0)[0].item(), rel=1e-5)


HARD = {
    "no boxes in one picture": targets([], [[8.0, 8, 40, 40]]),
    "no boxes at all": targets([], []),
    "a box as large as the picture": targets([[0.0, 0, 64, 64]], [[0.0, 0, 64, 64]]),
    "a box of one pixel": targets([[5.0, 6, 6, 7]], [[63.0, 63, 64, 64]]),
    "500 boxes": targets([[x % 50, x // 50, x % 50 + 9, x // 50 + 9] for x in range(500)], []),
    "crowds alone": targets([[0.0, 0, 64, 64]], [[0.0, 0, 64, 64]], crowd=True),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("truths", HARD.values(), ids=HARD.keys())
@pytest.mark.parametrize("kind", ["random", "unused", "the true boxes", "a speck"])
def test_loss_and_gradients_are_finite(form: str, truths: BoxTargets[Tensor], kind: str) -> None:
    network = tiny(form)
    boxes = {
        "random": proposals(),
        "unused": torch.zeros(2, 4, 4),
        "the true boxes": truths.boxes[:, :20],
        "a speck": torch.tensor([7.0, 7, 7.001, 7.001]).expand(2, 3, 4),
    }[kind]
    terms = network.loss(network(pictures(), boxes), truths)
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
    terms["classes"].backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def only(truths: BoxTargets[Tensor], row: int) -> BoxTargets[Tensor]:
    return truths.map(lambda tensor: tensor[row : row + 1])


def test_a_picture_counts_by_its_weight() -> None:
    network = tiny().eval()
    truths = targets([[8.0, 8, 40, 40]], [[20.0, 4, 60, 30]])
    raw = network(pictures(), proposals())
    each = [
        network.loss(RawRCNN(*(part[row : row + 1] for part in raw)), only(truths, row)) for row in range(2)
    ]
    together = network.loss(raw, replace(truths, weight=torch.tensor([1.0, 3.0])))
    torch.testing.assert_close(together["classes"], (each[0]["classes"] + 3 * each[1]["classes"]) / 4)


def test_scores_are_the_softmax_and_boxes_the_proposals_until_it_is_fitted() -> None:
    network = tiny().eval()
    raw = network(pictures(), proposals())
    boxes, scores = network.predictions(raw)
    torch.testing.assert_close(boxes, proposals()[:, :, None].expand(-1, -1, 3, -1))
    torch.testing.assert_close(scores, raw.logits.softmax(2)[..., 1:])


def test_then_scores_are_the_svms_and_boxes_are_regressed() -> None:
    network = tiny().eval()
    network.fitted.fill_(True)
    nn.init.normal_(network.svm.weight)
    network.svm.bias.copy_(torch.tensor([0.0, 1, 2]))
    network.box.bias.copy_(torch.tensor([0, 0, 0, 0, 0.5, -0.25, math.log(2), 0, 0, 0, 0, 0]))
    raw = network(pictures(), torch.tensor([10.0, 20, 18, 28]).expand(2, 1, 4))
    boxes, scores = network.predictions(raw)
    # Of class 1: 8 wide and centred at 14, 24: 4 to the right, 2 up, twice as wide.
    assert boxes[0, 0].flatten().tolist() == pytest.approx([10, 20, 18, 28, 10, 18, 26, 26, 10, 20, 18, 28])
    margins = raw.features @ network.svm.weight.T + network.svm.bias
    torch.testing.assert_close(scores, margins.sigmoid())


def test_unused_proposals_score_nothing() -> None:
    network = tiny().eval()
    boxes = proposals()
    boxes[1, 5:] = 0
    for fitted in (False, True):
        network.fitted.fill_(fitted)
        _, scores = network.predictions(network(pictures(), boxes))
        assert not scores[1, 5:].any()
        assert (scores[1, :5] > 0).all()


def test_what_is_solved_for_has_no_gradient() -> None:
    names = {name for name, _ in tiny().named_parameters()}
    assert not any(name.startswith(("svm.", "box.")) for name in names)
    assert {"svm.weight", "svm.bias", "box.weight", "box.bias", "fitted"} <= tiny().state_dict().keys()


def test_half_precision_in_training_gives_float32_losses() -> None:
    network = tiny()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = network(pictures(), proposals())
        terms = network.loss(raw, targets([[8.0, 8, 40, 40]], []))
        boxes, scores = network.predictions(raw)
    assert raw.logits.dtype == torch.bfloat16
    assert boxes.dtype == scores.dtype == terms["classes"].dtype == torch.float32
    terms["classes"].backward()  # type: ignore[no-untyped-call]


class Dense(nn.Module):
    def __init__(self, network: rcnn.RCNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, proposals: Tensor) -> dict[str, Tensor]:
        return self.network.dense(images, proposals=proposals)


def test_dense_exports_with_a_dynamic_batch() -> None:
    network = tiny("fully_connected").eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(
        Dense(network),
        (pictures(2), proposals(2)),
        dynamic_shapes={"images": {0: batch}, "proposals": {0: batch}},
    )
    for count in (1, 3):
        inputs = pictures(count), proposals(count)
        found, expected = exported.module()(*inputs), network.dense(inputs[0], proposals=inputs[1])
        assert expected["boxes"].shape == (count, 30, 4)
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)


def test_a_few_steps_bring_the_loss_down() -> None:
    network, images = tiny(), pictures()
    truths = targets([[8.0, 8, 40, 40]], [[30.0, 20, 60, 60]])
    boxes = torch.cat((truths.boxes, truths.boxes + 1, proposals(count=4)), 1)
    optimiser = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    totals = []
    for _ in range(12):
        total = network.loss(network(images, boxes), truths)["classes"]
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        totals.append(total.item())
    assert totals[-1] < totals[0] / 2
