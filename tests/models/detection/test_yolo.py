"""What the three YOLOs promise alike: losses that hold, half precision, other sizes, export, encoders."""

from types import ModuleType
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from striate import models
from striate.models.convert import SAME_NAMES, compare
from striate.models.detection import yolo_v1, yolo_v2, yolo_v3
from striate.models.network import Detector, Network
from striate.models.unweighted import unweighted
from striate.structures import BoxTargets

FAMILIES = (yolo_v1, yolo_v2, yolo_v3)
FORMS = {
    f"{family.__name__.rpartition('.')[2]}-{form}": (family, config)
    for family in FAMILIES
    for form, config in {"tiny": family.TINY, **family.TINIES}.items()
}
HEIGHT, WIDTH = 64, 96


@pytest.fixture(params=FORMS)
def network(request: pytest.FixtureRequest) -> Detector:
    family, config = FORMS[request.param]
    torch.manual_seed(0)
    built: Detector = family.build(config)
    return built.train()


def pictures(batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)


def targets(*pictures: list[list[float]], crowd: bool = False) -> BoxTargets[Tensor]:
    """The boxes of each picture, all of one class or crowds."""
    most = max(1, *map(len, pictures))
    boxes = torch.zeros(len(pictures), most, 4)
    valid = torch.zeros(len(pictures), most, dtype=torch.bool)
    for number, found in enumerate(pictures):
        boxes[number, : len(found)] = torch.tensor(found).view(-1, 4)
        valid[number, : len(found)] = True
    return BoxTargets(boxes, valid.long(), valid, valid & crowd, torch.ones(len(pictures)))


def many(count: int) -> list[list[float]]:
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([80.0, 50.0])
    boxes = torch.cat((corner, corner + 1 + torch.rand(count, 2, generator=generator) * 14), 1)
    found: list[list[float]] = boxes.tolist()
    return found


WHOLE, PIXEL = [0.0, 0.0, float(WIDTH), float(HEIGHT)], [5.0, 5.0, 6.0, 6.0]
EXTREMES = {
    "a picture without boxes": targets([WHOLE, PIXEL], []),
    "a batch without boxes": targets([], []),
    "a box as large as the picture": targets([WHOLE], [WHOLE]),
    "a box of a pixel": targets([PIXEL], [PIXEL]),
    "a box of no width": targets([[5.0, 5.0, 5.0, 9.0]], [[96.0, 64.0, 96.0, 64.0]]),
    "500 boxes": targets(many(500), []),
    "crowds": targets([WHOLE], many(20), crowd=True),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_losses_and_gradients_are_finite(network: Detector, name: str) -> None:
    terms = network.loss(network(pictures()), EXTREMES[name])
    total = torch.stack(list(terms.values())).sum()
    total.backward()  # type: ignore[no-untyped-call]
    assert total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_a_batch_without_boxes_still_teaches_that_nothing_is_there(network: Detector) -> None:
    terms = network.loss(network(pictures()), EXTREMES["a batch without boxes"])
    assert float(terms.pop("no_object").detach()) > 0
    assert all(float(term.detach()) == 0 for term in terms.values())


def test_a_crowd_over_all_of_every_picture_teaches_nothing(network: Detector) -> None:
    over_all = [[-500.0, -500.0, 999.0, 999.0]]
    terms = network.loss(network(pictures()), targets(over_all, over_all, crowd=True))
    assert all(float(term.detach()) == 0 for term in terms.values())


def test_half_precision_gives_losses_in_float32_near_those_of_full(network: Detector) -> None:
    truths = targets(many(6), [WHOLE])
    network.eval()
    with torch.no_grad():
        full = network.loss(network(pictures()), truths)
        with torch.autocast("cpu", torch.bfloat16):
            half = network.loss(network(pictures()), truths)
    for name, term in half.items():
        assert term.dtype == torch.float32
        assert float(term) == pytest.approx(float(full[name]), rel=0.1, abs=0.05)


def test_25_steps_take_half_off_the_loss(network: Detector) -> None:
    images, truths = pictures(4), targets([WHOLE], [[8.0, 8.0, 30.0, 30.0]], [], [[50.0, 20.0, 90.0, 60.0]])
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    seen = []
    for _ in range(25):
        total = torch.stack(list(network.loss(network(images), truths).values())).sum()
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        seen.append(float(total.detach()))
    assert min(seen[-3:]) < 0.5 * seen[0], seen


class Dense(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.network.dense(images)


@pytest.mark.parametrize("name", [name for name in FORMS if not name.endswith("-tiny")])
def test_dense_of_every_other_form_exports_with_a_dynamic_batch(name: str) -> None:
    family, config = FORMS[name]
    network = family.build(config).eval()
    batch = {"images": {0: torch.export.Dim("batch", min=1, max=64)}}
    exported = torch.export.export(Dense(network), (pictures(2),), dynamic_shapes=batch).module()
    for count in (1, 5):
        for name, expected in network.dense(pictures(count)).items():
            torch.testing.assert_close(exported(pictures(count))[name], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in FORMS if not name.startswith("yolo_v1")])
def test_grids_grow_with_the_pictures(name: str) -> None:
    family, config = FORMS[name]
    network = family.build(config).eval()
    few = network.predictions(network(torch.zeros(1, 3, 64, 96)))[0].shape[1]
    assert network.predictions(network(torch.zeros(1, 3, 128, 192)))[0].shape[1] == 4 * few


@pytest.mark.parametrize("family", [yolo_v2, yolo_v3])
def test_every_variant_takes_its_backbones_weights(family: ModuleType) -> None:
    for variant, config in family.VARIANTS.items():
        with unweighted():
            whole, network = models.create(family.backbone_of(config)), models.create(variant)
        taken = family.from_backbone(whole.state_dict(), config)
        report = compare(taken, network.state_dict(), SAME_NAMES)
        assert (report.unexpected, report.wrong_shape) == ((), ())
        needed = {name for name in network.state_dict() if name.startswith("backbone.")}
        assert taken.keys() == needed


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2_0.5", "darknet53"])
@pytest.mark.parametrize("family", [yolo_v2, yolo_v3])
def test_other_backbones_fit(family: ModuleType, backbone: str) -> None:
    config: Any = next(iter(family.VARIANTS.values()))
    with unweighted():
        network = family.build(msgspec.structs.replace(config, backbone=backbone))
        images = torch.zeros(1, 3, 416, 416, device="meta")
        boxes, _ = network.predictions(network(images))
    assert boxes.shape[1] in (5 * 13**2, 3 * (13**2 + 26**2 + 52**2))
