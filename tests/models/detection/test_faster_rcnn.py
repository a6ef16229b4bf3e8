"""Faster R-CNN: the published counts, torchvision's numbers, and what training reads."""

import warnings
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TheirFasterRCNN
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.ops import batched_nms

from striate import models
from striate.errors import UsageError
from striate.models.convert import convert
from striate.models.detection import faster_rcnn
from striate.models.detection.faster_rcnn import FasterRCNN
from striate.models.network import Classifier
from striate.models.unweighted import unweighted
from striate.ops.boxes import pairwise_iou
from striate.structures import BoxTargets

FORMS = {"tiny": faster_rcnn.TINY, **faster_rcnn.TINIES}
HEIGHT, WIDTH = 256, 320


def tiny(form: str, **changes: Any) -> FasterRCNN:
    torch.manual_seed(0)
    return faster_rcnn.build(msgspec.structs.replace(FORMS[form], **changes))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def pictures(count: int = 2, side: int = 64) -> Tensor:
    chance = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=chance)


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


def crowded(count: int) -> list[list[float]]:
    places = torch.rand(count, 2, generator=torch.Generator().manual_seed(2)) * 40
    return [[x, y, x + 4 + index % 20, y + 4 + index % 17] for index, (x, y) in enumerate(places.tolist())]


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [
        ("faster_rcnn_vgg16", 20, 137_078_239),
        ("faster_rcnn_vgg16", 80, 138_307_339),
        ("faster_rcnn_resnet50_fpn", 90, 41_755_286),
    ],
)
def test_parameters_are_as_many_as_published(name: str, classes: int, count: int) -> None:
    with unweighted():
        assert parameters(models.create(name, classes)) == count


def test_with_norms_that_learn_torchvision_has_53120_more() -> None:
    with unweighted():
        network = models.create("faster_rcnn_resnet50_fpn", 90, norm="batch")
    assert parameters(network) == 41_808_406


def test_the_paper_s_reads_conv5_3_and_the_pyramid_four_stages() -> None:
    with unweighted():
        paper, pyramid = models.create("faster_rcnn_vgg16"), models.create("faster_rcnn_resnet50_fpn")
    assert isinstance(paper, FasterRCNN)
    assert isinstance(pyramid, FasterRCNN)
    assert paper.map_names == ("conv5_3",)
    assert pyramid.map_names == ("layer1", "layer2", "layer3", "layer4")


@pytest.mark.parametrize("name", ["faster_rcnn_resnet18_fpn", "faster_rcnn_mobilenet_v2_fpn"])
def test_small_ones_propose_100_regions_whatever_the_batch(name: str) -> None:
    network = models.create(name, 3).eval()
    with torch.inference_mode():
        raw = network(torch.zeros(1, 3, 64, 96, dtype=torch.uint8))
    assert raw.regions.proposals.shape == (1, 100, 4)
    assert [maps.shape for maps in raw.maps] == [(1, 128, 64 // s, 96 // s) for s in (8, 16, 32)]


# --- torchvision's numbers


def theirs(**settings: Any) -> TheirFasterRCNN:
    """torchvision's network with random weights whose answers are neither sure nor all alike."""
    torch.manual_seed(3)
    network = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91, **settings)
    network.transform.min_size, network.transform.max_size = (HEIGHT,), WIDTH
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1)
                module.bias.normal_(0, 0.1)
    return network.eval()


def unsettle(network: TheirFasterRCNN, picture: Tensor) -> None:
    """Scale the last layers until what they say of `picture` has these deviations."""
    wanted = (
        (network.rpn.head.cls_logits, 2.0),
        (network.rpn.head.bbox_pred, 0.3),
        (network.roi_heads.box_predictor.cls_score, 2.0),
        (network.roi_heads.box_predictor.bbox_pred, 1.0),
    )
    found: dict[nn.Module, list[Tensor]] = {layer: [] for layer, _ in wanted}

    def note(module: nn.Module, _: Any, output: Tensor) -> None:
        found[module].append(output.std())

    for layers in (wanted[:2], wanted[2:]):
        hooks = [layer.register_forward_hook(note) for layer, _ in layers]
        with torch.no_grad():
            network([picture / 255])
            for (layer, deviation), hook in zip(layers, hooks, strict=True):
                hook.remove()
                layer.weight.mul_(deviation / torch.stack(found[layer]).mean())


def photos(folder: Path) -> Tensor:
    paths = sorted(folder.rglob("*.jpg"))[:2]
    shown = [Image.open(path).convert("RGB").resize((WIDTH, HEIGHT)) for path in paths]
    return torch.from_numpy(np.stack([np.array(picture) for picture in shown])).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def reference(shared_data: Callable[[str], Path]) -> tuple[TheirFasterRCNN, Tensor]:
    shown = photos(shared_data("coco128"))
    network = theirs(rpn_post_nms_top_n_test=60)
    unsettle(network, shown[0])
    return network, shown


def test_detections_are_torchvision_s_on_photos(reference: tuple[TheirFasterRCNN, Tensor]) -> None:
    network, shown = reference
    weights = faster_rcnn.from_torchvision(network.state_dict())
    rpn = msgspec.to_builtins(faster_rcnn.VARIANTS["faster_rcnn_resnet50_fpn"].rpn) | {"proposals": 60}
    own = models.create("faster_rcnn_resnet50_fpn", 90, per_class=60, rpn=rpn).eval()
    own.load_state_dict(weights)
    with torch.inference_mode():
        expected, dense = network([picture / 255 for picture in shown]), own.dense(shown)
    spread = torch.cat([picture["scores"] for picture in expected])
    assert spread.min() < 0.06
    assert spread.max() > 0.8
    assert spread.numel() > 100
    for number, wanted in enumerate(expected):
        found = {name: tensor[number] for name, tensor in dense.items()}
        found = {name: tensor[found["scores"] > 0.05] for name, tensor in found.items()}
        kept = batched_nms(found["boxes"], found["scores"], found["labels"], 0.5)[:100]
        assert len(kept) == len(wanted["scores"])
        # As sets: each of ours is one of theirs.
        apart = (found["boxes"][kept][:, None] - wanted["boxes"]).abs().amax(2)
        apart += 1e3 * (found["labels"][kept][:, None] != wanted["labels"] - 1)
        nearest = apart.argmin(1)
        assert len(nearest.unique()) == len(nearest)
        assert apart.amin(1).max() < 1e-3
        torch.testing.assert_close(found["scores"][kept], wanted["scores"][nearest], atol=1e-5, rtol=0)


def test_losses_and_gradients_are_torchvision_s(reference: tuple[TheirFasterRCNN, Tensor]) -> None:
    network, shown = reference
    network.transform.min_size, network.transform.max_size = (HEIGHT // 2,), WIDTH // 2
    shown = shown[..., ::2, ::2]
    for sampler in (network.rpn.fg_bg_sampler, network.roi_heads.fg_bg_sampler):
        sampler.batch_size_per_image = 10**6  # all there are
    few = {"candidates_training": 100, "proposals_training": 100, "sampled": 10**6}
    network.rpn._pre_nms_top_n["training"] = network.rpn._post_nms_top_n["training"] = 100
    rpn = msgspec.to_builtins(faster_rcnn.VARIANTS["faster_rcnn_resnet50_fpn"].rpn) | few
    own = models.create("faster_rcnn_resnet50_fpn", 90, rois=10**6, rpn=rpn).train()
    own.load_state_dict(faster_rcnn.from_torchvision(network.state_dict()))
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    truths = targets([[[5, 10, 60, 100], [50, 25, 155, 125], [2, 2, 13, 15]], [[30, 30, 100, 90]]])
    rows = [truths.boxes[number][truths.valid[number]] for number in range(2)]
    labels = [truths.labels[number][truths.valid[number]] + 1 for number in range(2)]
    wanted = network(
        [picture / 255 for picture in shown],
        [{"boxes": boxes, "labels": each} for boxes, each in zip(rows, labels, strict=True)],
    )
    found = own.loss(own(shown), truths)
    names = {
        "objectness": "loss_objectness",
        "proposals": "loss_rpn_box_reg",
        "classes": "loss_classifier",
        "boxes": "loss_box_reg",
    }
    for name, there in names.items():
        torch.testing.assert_close(found[name], wanted[there], rtol=1e-4, atol=1e-6)
        assert found[name] > 0
    for terms in (found, wanted):
        sum(terms.values()).backward()  # type: ignore[union-attr]
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    here = faster_rcnn.from_torchvision(gradients)
    for name, parameter in own.named_parameters():
        assert parameter.grad is not None
        scale = here[name].abs().max().clamp(min=1e-8)
        torch.testing.assert_close(parameter.grad / scale, here[name] / scale, rtol=0, atol=5e-3)


def test_old_and_new_names_of_torchvision_are_known() -> None:
    with unweighted():
        there = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=11).state_dict()
        here = models.create("faster_rcnn_resnet50_fpn", 10).state_dict()
    renamed = faster_rcnn.from_torchvision(there)
    assert {name: tensor.shape for name, tensor in renamed.items()} == {
        name: tensor.shape for name, tensor in here.items()
    }
    old = {
        name.replace("rpn.head.conv.0.0.", "rpn.head.conv.").replace("_blocks.0.0.", "_blocks.0."): tensor
        for name, tensor in there.items()
    }
    assert old.keys() != there.keys()
    assert faster_rcnn.from_torchvision(old).keys() == renamed.keys()


def test_converting_tells_the_classes_without_the_background() -> None:
    settings = msgspec.to_builtins(faster_rcnn.TINY)
    del settings["classes"]
    weights = tiny("tiny", classes=7).state_dict()
    conversion = convert(weights, "faster_rcnn_resnet50_fpn", config=settings)
    assert conversion.report.fits
    assert conversion.classes == 7


# --- a backbone's weights


@pytest.mark.parametrize("name", faster_rcnn.VARIANTS)
def test_a_classification_network_s_weights_fit_all_of_the_backbone(name: str) -> None:
    config = faster_rcnn.VARIANTS[name]
    with unweighted():
        here = models.create(name).state_dict()
        whole = models.create(faster_rcnn.backbone_of(config)).state_dict()
    taken = {key: tensor.shape for key, tensor in faster_rcnn.from_backbone(whole, config).items()}
    backbone = {key: tensor.shape for key, tensor in here.items() if key.startswith("backbone.")}
    layers = [f"head.{layer}.{leaf}" for layer in ("fc6", "fc7") for leaf in ("weight", "bias")]
    of_head = {key: here[key].shape for key in layers} if name == "faster_rcnn_vgg16" else {}
    assert taken == backbone | of_head


@pytest.mark.parametrize("form", FORMS)
def test_with_its_weights_it_reads_the_classification_network_s_maps(form: str) -> None:
    network = tiny(form, pyramid=None, strides=(16,), rpn=FORMS["paper"].rpn).eval()
    settings = {**network.config.backbone_settings, "preprocess": msgspec.to_builtins(network.preprocess)}
    whole = models.create(network.config.backbone, **settings).eval()
    assert isinstance(whole, Classifier)
    for module in whole.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.weight, 0.5, 1)
    weights = faster_rcnn.from_backbone(whole.state_dict(), network.config)
    assert network.load_state_dict(weights, strict=False).unexpected_keys == []
    with torch.inference_mode():
        (maps,) = network(pictures()).maps
        torch.testing.assert_close(maps, whole.features(pictures())[network.map_names[0]])


# --- what training reads


TRUTHS = targets([[[4, 4, 28, 30], [30, 20, 60, 60]], [[10, 30, 40, 50]]])


@pytest.mark.parametrize("form", FORMS)
def test_true_boxes_are_among_the_regions(form: str) -> None:
    network = tiny(form, rois=8).train()
    raw = network(pictures())
    boxes, matched = network._drawn(raw.regions.proposals, TRUTHS)
    assert boxes.shape == (2, 8, 4)
    # At most a quarter of 8 show an object: both true boxes of the first picture if no proposal does.
    overlaps = pairwise_iou(boxes, TRUTHS.boxes)
    for picture in range(2):
        shown = matched[picture] >= 0
        assert 0 < shown.sum() <= 2
        assert (overlaps[picture][shown].amax(1) >= 0.5).all()
        assert (overlaps[picture][matched[picture] == -1].amax(1) < 0.5).all()


def test_where_there_are_too_few_regions_the_rest_counts_for_nothing() -> None:
    network = tiny("tiny", rois=8)
    boxes, matched = network._drawn(torch.zeros(1, 3, 4), targets([[[4, 4, 28, 30]]]))
    assert boxes.shape == (1, 4, 4)
    assert sorted(matched[0].tolist()) == [-2, -2, -2, 0]


def test_regions_that_were_not_drawn_do_not_fill_up_what_is_missing() -> None:
    network = tiny("tiny", rois=8)
    shown = torch.tensor([[4.0, 4.0, 28.0, 30.0]]).repeat(4, 1)
    elsewhere = torch.tensor([[40.0, 40.0, 60.0, 60.0]])
    _, matched = network._drawn(torch.cat((shown, elsewhere))[None], targets([[[4, 4, 28, 30]]]))
    # A quarter of 8 may show the object; there is one region for the other 6.
    assert sorted(matched[0].tolist()) == [-2, -2, -2, -1, 0, 0]


EXTREMES = {
    "a picture without boxes": targets([[[4, 4, 28, 30]], []]),
    "no boxes": targets([[], []]),
    "the whole picture": targets([[[0, 0, 64, 64]], [[0, 0, 64, 64]]]),
    "a pixel": targets([[[5, 5, 6, 6]], [[63, 63, 64, 64]]]),
    "five hundred": targets([crowded(500), crowded(3)]),
    "crowds": targets([crowded(5), crowded(3)], crowd=True),
}


@pytest.mark.parametrize("case", EXTREMES)
@pytest.mark.parametrize("form", FORMS)
def test_losses_and_gradients_are_finite_whatever_the_boxes(form: str, case: str) -> None:
    network = tiny(form, rois=64).train()
    terms = network.loss(network(pictures()), EXTREMES[case])
    assert terms.keys() == {"objectness", "proposals", "classes", "boxes"}
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_trains(form: str) -> None:
    network = tiny(form).train()
    whole = network.loss(network(pictures()), TRUTHS)
    with torch.autocast("cpu", torch.bfloat16):
        terms = network.loss(network(pictures()), TRUTHS)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        torch.testing.assert_close(term, whole[name], rtol=0.1, atol=0.02)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_training_reads_other_numbers_of_proposals_where_asked() -> None:
    rpn = msgspec.structs.replace(faster_rcnn.TINY.rpn, proposals=7, proposals_training=11)
    network = tiny("tiny", rpn=rpn)
    assert network.train()(pictures()).regions.proposals.shape == (2, 11, 4)
    assert network.eval()(pictures()).regions.proposals.shape == (2, 7, 4)


def test_frozen_norms_stay_in_training() -> None:
    network = tiny("frozen").train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    sum(network.loss(network(pictures()), TRUTHS).values()).backward()  # type: ignore[union-attr]
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    assert not [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


class Dense(nn.Module):
    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.network.dense(images)


def test_the_paper_s_form_exports_with_a_free_batch() -> None:
    network = tiny("paper").eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    with warnings.catch_warnings():
        # torchvision's own nms calls what torch has renamed.
        warnings.filterwarnings("ignore", "`create_unbacked_symint` is deprecated", FutureWarning)
        exported = torch.export.export(Dense(network), (pictures(),), dynamic_shapes={"images": {0: batch}})
    for count in (1, 5):
        found, expected = exported.module()(pictures(count)), network.dense(pictures(count))
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "lenet5"}, "is no encoder"),
        ({"backbone": "faster_rcnn_vgg16"}, "is no encoder"),
        ({"strides": (4, 8, 16, 64)}, "choose among 2, 4, 8, 16, 32"),
        ({"strides": (8, 4, 16, 32)}, "ascending"),
        ({"pyramid": None}, "anchors are on 1 of 4"),
        ({"strides": (8, 16, 32)}, "they are for 5 maps, and anchors are on 4 of 3"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tiny("tiny", **changes)


def test_four_steps_train_every_parameter_by_the_terms_that_reach_it() -> None:
    config = msgspec.structs.replace(faster_rcnn.TINY, in_stages=True)
    network = faster_rcnn.build(config).train()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    boxes = torch.tensor([[[4.0, 6.0, 30.0, 40.0]], [[20.0, 8.0, 60.0, 50.0]]])
    there = torch.ones(2, 1, dtype=torch.bool)
    targets = BoxTargets(boxes, torch.zeros(2, 1, dtype=torch.int64), there, ~there, torch.ones(2))
    names = {name for name, parameter in network.named_parameters()}
    moving = [
        {name for name in names if any(fnmatchcase(name, pattern) for pattern in stage.trainable)}
        for stage in network.training_stages
    ]
    assert moving[0] | moving[1] == names
    assert moving[2] == {name for name in names if name.startswith("rpn.")}
    assert moving[3] == {name for name in names if name.startswith("head.")}
    for stage, own in zip(network.training_stages, moving, strict=True):
        network.zero_grad()
        terms = network.loss(network(images), targets)
        torch.stack([terms[name] for name in stage.terms or ()]).sum().backward()
        reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
        assert own <= reached
