"""YOLOX: counts, arithmetic of cells and loss by hand, names of the published weights."""

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
from striate.models.detection import yolox
from striate.models.detection.yolox import RawYOLOX
from striate.structures import BoxTargets

FORMS = {"tiny": yolox.TINY, **yolox.TINIES}


def tiny(form: str = "tiny", **changes: Any) -> yolox.YOLOX:
    torch.manual_seed(0)
    return yolox.build(msgspec.structs.replace(FORMS[form], **changes))


def pictures(batch: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, 64, 64), dtype=torch.uint8, generator=generator)


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


@pytest.mark.parametrize(
    ("name", "parameters", "giga"),
    [
        ("yolox_nano", 912_159, 0.5226),
        ("yolox_tiny", 5_055_855, 3.206),
        ("yolox_s", 8_968_255, 13.343),
        ("yolox_m", 25_326_495, 36.765),
        ("yolox_l", 54_208_895, 77.646),
        ("yolox_x", 99_071_455, 140.705),
    ],
)
def test_counts(counts: Callable[..., Any], name: str, parameters: int, giga: float) -> None:
    found = counts(name)
    assert found.parameters == parameters
    assert found.multiply_adds / 1e9 == pytest.approx(giga, abs=5e-4)


@pytest.mark.parametrize(("name", "cells"), [("yolox_nano", 3549), ("yolox_s", 8400)])
def test_every_cell_makes_one_guess(name: str, cells: int) -> None:
    with torch.device("meta"):
        network = models.create(name)
        raw = network(torch.zeros(1, 3, *network.preprocess.size))
    assert raw.offsets.shape == (1, cells, 4)
    assert raw.objectness.shape == (1, cells)
    assert raw.classes.shape == (1, cells, 80)


def test_batch_norm_has_the_published_constants() -> None:
    norms = [module for module in tiny("depthwise").modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)}


def published_names(network: nn.Module) -> dict[str, Tensor]:
    """A state dict by the names of the paper's authors, made without the renaming under test."""
    found = {}
    for name, tensor in network.state_dict().items():
        place, *rest = name.split(".")
        parts = [{"norm": "bn", "depthwise": "dconv", "pointwise": "pconv"}.get(part, part) for part in rest]
        above = {"backbone": ["backbone", "backbone"], "neck": ["backbone"], "head": ["head"]}[place]
        found[".".join((*above, *parts))] = tensor
    return found


def test_published_names_of_yolox_s() -> None:
    with torch.device("meta"):
        network = models.create("yolox_s")
    published = published_names(network)
    assert len(published) == 462
    assert {
        "backbone.backbone.stem.conv.conv.weight",
        "backbone.backbone.dark5.1.conv2.bn.running_var",
        "backbone.backbone.dark2.1.m.0.conv2.conv.weight",
        "backbone.lateral_conv0.bn.weight",
        "backbone.C3_n4.conv3.conv.weight",
        "backbone.bu_conv2.conv.weight",
        "head.stems.0.conv.weight",
        "head.cls_convs.2.1.bn.num_batches_tracked",
        "head.obj_preds.1.bias",
    } <= published.keys()
    assert yolox.from_yolox(published).keys() == network.state_dict().keys()


@pytest.mark.parametrize("form", FORMS)
def test_published_weights_fit_and_give_the_same_outputs(form: str) -> None:
    network, other = tiny(form).eval(), tiny(form).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    other.load_state_dict(yolox.from_yolox(published_names(network)))
    for found, expected in zip(other(pictures()), network(pictures()), strict=True):
        assert torch.equal(found, expected)


def test_focus_orders_pixels_as_the_published_weights_need_it() -> None:
    focus = yolox.Focus(1, 4)
    focus.conv = nn.Identity()  # type: ignore[assignment]
    found = focus(torch.tensor([[[[1.0, 2], [3, 4]]]]))
    assert found.flatten().tolist() == [1, 3, 2, 4]  # the left column downwards, then the right one


def test_pixels_enter_as_blue_green_red_from_0_to_255() -> None:
    red = torch.tensor([250, 20, 10], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    assert tiny().normalize(red)[0, :, 0, 0].tolist() == [10, 20, 250]


def test_other_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="multiples of 32"):
        tiny()(torch.zeros(1, 3, 64, 100))
    assert tiny()(torch.zeros(1, 3, 96, 160)).offsets.shape[1] == 12 * 20 + 6 * 10 + 3 * 5


def raw_of(network: yolox.YOLOX, **changes: Tensor) -> RawYOLOX:
    """Outputs of zeros but for `changes`."""
    raw: RawYOLOX = network(pictures(1))
    zeros = {name: torch.zeros_like(getattr(raw, name)) for name in ("offsets", "objectness", "classes")}
    return raw._replace(**{**zeros, **changes})


def test_boxes_follow_from_cell_offset_and_stride() -> None:
    network = tiny().eval()
    offsets = torch.zeros(1, 84, 4)
    # Cells: 8 x 8 of stride 8, 4 x 4 of 16, 2 x 2 of 32. Number 64 + 4 + 2 is column 2, row 1 of stride 16.
    offsets[0, 70] = torch.tensor([0.5, 0.25, math.log(2), 0])
    boxes, _ = network.predictions(raw_of(network, offsets=offsets))
    assert boxes[0, 70].tolist() == pytest.approx([40 - 16, 20 - 8, 40 + 16, 20 + 8])
    assert boxes[0, 83].tolist() == [16, 16, 48, 48]


def test_a_score_is_class_times_objectness() -> None:
    network = tiny().eval()
    objectness, classes = torch.zeros(1, 84), torch.zeros(1, 84, 3)
    objectness[0, 3], classes[0, 3, 1] = math.log(3), math.log(4)
    _, scores = network.predictions(raw_of(network, objectness=objectness, classes=classes))
    assert scores[0, 3].tolist() == pytest.approx([0.75 / 2, 0.75 * 0.8, 0.75 / 2])


def test_an_untrained_network_is_all_but_sure_of_nothing() -> None:
    network = tiny().train()  # batch norm does not know the pixels' scale before
    _, scores = network.predictions(network(pictures()))
    assert scores.mean().item() == pytest.approx(1e-4, rel=0.5)


def test_loss_of_one_object_by_hand() -> None:
    network = tiny()
    offsets = torch.zeros(1, 84, 4)
    offsets[0, :, 2:] = -9.0  # all guesses are specks, so that one cell is the object's
    offsets[0, 64 + 4 + 1] = torch.tensor([0.5, 0.5, 0, 0])  # the box 16 16 32 32 of stride 16
    raw = raw_of(network, offsets=offsets)
    terms = network.loss(raw, targets([[16, 16, 32, 24]]))
    half = 0.5  # the guess is twice as high as the object
    assert terms["box"].item() == pytest.approx(5 * (1 - half**2), rel=1e-5)
    assert terms["objectness"].item() == pytest.approx(84 * math.log(2), rel=1e-5)
    assert terms["classes"].item() == pytest.approx(3 * math.log(2), rel=1e-5)
    # The object's centre is (24, 20) or (1.5, 1.25) cells: .25 cells higher, and log 2 less high.
    assert terms["l1"].item() == pytest.approx(0.25 + math.log(2), rel=1e-5)


def test_the_true_class_is_to_be_as_sure_as_the_box_fits() -> None:
    network = tiny()
    offsets = torch.zeros(1, 84, 4)
    offsets[0, :, 2:] = -9.0
    offsets[0, 69] = torch.tensor([0.5, 0.5, 0, 0])
    classes = torch.zeros(1, 84, 3).requires_grad_()
    raw = raw_of(network, offsets=offsets, classes=classes)
    network.loss(raw, targets([[16, 16, 32, 24]]))["classes"].backward()  # type: ignore[no-untyped-call]
    # The gradient of a cross-entropy is probability - target: at .5, target .5 for class 0 and 0 for others.
    assert classes.grad is not None
    assert classes.grad[0, 69].tolist() == pytest.approx([0, 0.5, 0.5], abs=1e-6)
    assert classes.grad.abs().sum().item() == pytest.approx(1, abs=1e-5)


HARD = {
    "no boxes in one picture": targets([], [[8.0, 8, 40, 40]]),
    "no boxes at all": targets([], []),
    "a box as large as the picture": targets([[0.0, 0, 64, 64]], [[0.0, 0, 64, 64]]),
    "a box of one pixel": targets([[5.0, 6, 6, 7]], [[63.0, 63, 64, 64]]),
    "500 boxes": targets([[x % 50, x // 50, x % 50 + 9, x // 50 + 9] for x in range(500)], []),
    "crowds alone": targets([[0.0, 0, 64, 64]], [[3.0, 3, 20, 20]], crowd=True),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("truths", HARD.values(), ids=HARD.keys())
@pytest.mark.parametrize("wild", [False, True])
def test_loss_and_gradients_are_finite(form: str, truths: BoxTargets[Tensor], wild: bool) -> None:
    network = tiny(form)
    if wild:
        nn.init.normal_(network.head.reg_preds[0].get_parameter("weight"), std=100.0)
        nn.init.normal_(network.head.cls_preds[1].get_parameter("weight"), std=100.0)
    terms = network.loss(network(pictures()), truths)
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_a_picture_that_is_all_crowd_has_no_loss() -> None:
    network = tiny()
    terms = network.loss(network(pictures(1)), targets([[0.0, 0, 64, 64]], crowd=True))
    assert {name: term.item() for name, term in terms.items()} == dict.fromkeys(terms, 0.0)


def test_pictures_count_by_their_weight() -> None:
    network = tiny().eval()
    images, truths = pictures(3), targets([[8.0, 8, 40, 40]], [[20.0, 4, 60, 30], [1, 1, 9, 9]], [])
    each = [network.loss(network(images[row : row + 1]), only(truths, row)) for row in range(2)]
    weight = torch.tensor([1.0, 3.0, 0.0])
    together = network.loss(network(images), replace(truths, weight=weight))
    found = [cells_found(network, images[row : row + 1], truths, row) for row in range(2)]
    for name, term in together.items():
        expected = sum(weight[row] * each[row][name] * found[row] for row in range(2)) / (
            found[0] + 3 * found[1]
        )
        torch.testing.assert_close(term, expected, rtol=1e-5, atol=0)


def only(truths: BoxTargets[Tensor], row: int) -> BoxTargets[Tensor]:
    return truths.map(lambda tensor: tensor[row : row + 1])


def cells_found(network: yolox.YOLOX, image: Tensor, truths: BoxTargets[Tensor], row: int) -> int:
    """How many cells find an object: the gradient of the box term reaches as many."""
    raw = network(image)
    offsets = raw.offsets.detach().requires_grad_()
    network.loss(raw._replace(offsets=offsets), only(truths, row))["l1"].backward()  # type: ignore[no-untyped-call]
    assert offsets.grad is not None
    return int(offsets.grad.any(-1).sum())


def test_half_precision_in_training_gives_float32_losses() -> None:
    network = tiny()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = network(pictures())
        terms = network.loss(raw, targets([[8.0, 8, 40, 40]], []))
    assert raw.offsets.dtype == torch.bfloat16
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    sum(terms.values()).backward()  # type: ignore[union-attr]


def test_l1_is_a_choice() -> None:
    network = tiny("depthwise")
    assert "l1" not in network.loss(network(pictures()), targets([[8.0, 8, 40, 40]], []))


class Dense(nn.Module):
    def __init__(self, network: yolox.YOLOX) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.network.dense(images)


def test_dense_exports_with_a_dynamic_batch() -> None:
    network = tiny().eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(Dense(network), (pictures(2),), dynamic_shapes={"images": {0: batch}})
    for count in (1, 3):
        found, expected = exported.module()(pictures(count)), network.dense(pictures(count))
        assert found.keys() == expected.keys() == {"boxes", "scores", "labels"}
        assert expected["boxes"].shape == (count, 60, 4)
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)


def test_fifteen_steps_take_a_third_off_the_loss() -> None:
    network, images, truths = tiny(), pictures(), targets([[8.0, 8, 40, 40]], [[30.0, 20, 60, 60]])
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    totals = []
    for _ in range(15):
        total = torch.stack(list(network.loss(network(images), truths).values())).sum()
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        totals.append(total.item())
    assert totals[-1] < totals[0] * 2 / 3
