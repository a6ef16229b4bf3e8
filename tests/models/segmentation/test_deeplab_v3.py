from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from striate import models
from striate.errors import UnknownName, UsageError
from striate.models.convert import convert
from striate.models.segmentation import deeplab_v3
from striate.models.unweighted import unweighted
from striate.structures import MaskTargets

# Weights; of those, torchvision's forms have 2,365,205 in the auxiliary head.
PARAMETERS = {
    "deeplab_v3_resnet50": 39_048_533,
    "deeplab_v3_resnet101": 58_040_661,
    "deeplab_v3_resnet50_torchvision": 42_004_074,
    "deeplab_v3_resnet101_torchvision": 60_996_202,
}

# Billions of multiply-adds of one picture of 513x513 by output stride.
MULTIPLY_ADDS = {
    ("deeplab_v3_resnet50", 16): 50.4,
    ("deeplab_v3_resnet50", 8): 166.2,
    ("deeplab_v3_resnet101", 16): 71.1,
    ("deeplab_v3_resnet101", 8): 246.2,
}

Randomise = Callable[[nn.Module], nn.Module]
Pictures = Callable[..., Tensor]


def on_meta(name: str, **config: object) -> deeplab_v3.DeepLabV3:
    with unweighted():
        network = models.create(name, **config)
    assert isinstance(network, deeplab_v3.DeepLabV3)
    return network


def tiny(**changes: object) -> deeplab_v3.DeepLabV3:
    torch.manual_seed(0)
    name = "deeplab_v3_resnet50"
    settings = {"depths": [1, 1, 1, 2], "width": 8}
    network = models.create(
        name, 5, **{"backbone_settings": settings, "multi_grid": (1, 2), "aspp_maps": 16, **changes}
    )
    assert isinstance(network, deeplab_v3.DeepLabV3)
    return network


def test_every_variant_has_its_count_here() -> None:
    assert set(PARAMETERS) == set(deeplab_v3.VARIANTS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert sum(parameter.numel() for parameter in on_meta(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "output_stride"), MULTIPLY_ADDS)
def test_multiply_adds_follow_the_output_stride(
    name: str, output_stride: int, counts: Callable[..., tuple[int, int]]
) -> None:
    _, multiply_adds = counts(name, (513, 513), output_stride=output_stride)
    assert round(multiply_adds / 1e9, 1) == MULTIPLY_ADDS[name, output_stride]


@pytest.mark.parametrize(
    ("output_stride", "rates", "last_stage"), [(16, [6, 12, 18], [2, 4, 8]), (8, [12, 24, 36], [4, 8, 16])]
)
def test_rates_and_multi_grid_follow_the_output_stride(
    output_stride: int, rates: list[int], last_stage: list[int]
) -> None:
    network = on_meta("deeplab_v3_resnet50", output_stride=output_stride)
    assert [convolution.conv.dilation[0] for convolution in network.aspp.atrous] == rates
    assert [block.conv2.dilation[0] for block in network.backbone.layer4] == last_stage
    assert network.backbone.feature_info[-1].stride == output_stride


@pytest.fixture(params=["resnet50", "resnet101"])
def pair(request: pytest.FixtureRequest, randomised: Randomise) -> tuple[deeplab_v3.DeepLabV3, nn.Module]:
    """Ours and torchvision's with the same weights; ResNet-101 with a third stage of ResNet-50's depth."""
    return twins(request.param, randomised)


def twins(encoder: str, randomised: Randomise) -> tuple[deeplab_v3.DeepLabV3, nn.Module]:
    build = getattr(torchvision.models.segmentation, f"deeplabv3_{encoder}")
    theirs = randomised(build(weights=None, weights_backbone=None, num_classes=7, aux_loss=True))
    ours = models.create(f"deeplab_v3_{encoder}_torchvision", 7)
    ours.load_state_dict(deeplab_v3.from_torchvision(theirs.state_dict()), strict=True)
    assert isinstance(ours, deeplab_v3.DeepLabV3)
    return ours.eval(), theirs.eval()


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def test_outputs_equal_torchvisions(pair: tuple[deeplab_v3.DeepLabV3, nn.Module], pictures: Pictures) -> None:
    ours, theirs = pair
    images = pictures(65, 90, batch=1)
    with torch.inference_mode():
        raw, expected = ours(images), theirs(ours.normalize(images))
        auxiliary = nn.functional.interpolate(raw.auxiliary[0], (65, 90), mode="bilinear")
    assert difference(ours.decode(raw)["logits"], expected["out"]) < 1e-5
    assert difference(auxiliary, expected["aux"]) < 1e-5


def test_a_change_of_any_layer_behind_the_encoder_is_seen(randomised: Randomise, pictures: Pictures) -> None:
    ours, theirs = twins("resnet50", randomised)
    images = pictures(33, 33, batch=1)
    with torch.inference_mode():
        expected = theirs(ours.normalize(images))
        assert difference(ours(images).logits, expected["out"]) < 1e-5
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name.startswith("backbone.") and name != "backbone.layer4.2.conv2.weight":
                continue
            before = parameter.clone()
            parameter.mul_(1.1)
            raw = ours(images)
            head = nn.functional.interpolate(raw.auxiliary[0], (33, 33), mode="bilinear")
            changed = max(difference(raw.logits, expected["out"]), difference(head, expected["aux"]))
            assert changed > 1e-5, name
            parameter.copy_(before)


def test_torchvisions_weights_are_recognised_by_their_names() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.segmentation.deeplabv3_resnet50(
            weights=None, weights_backbone=None, num_classes=21, aux_loss=True
        )
    conversion = convert(theirs.state_dict(), "deeplab_v3_resnet50_torchvision")
    assert (conversion.report.source, conversion.report.fits, conversion.classes) == ("torchvision", True, 21)


@pytest.mark.parametrize("size", [(48, 64), (37, 51), (1, 1), (130, 17)])
@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_logits_have_the_size_of_any_picture(size: tuple[int, int], color: str, pictures: Pictures) -> None:
    count = 1 if color == "gray" else 3
    preprocess = {"color": color, "mean": (0.5,) * count, "std": (0.25,) * count}
    network = tiny(preprocess=preprocess).eval()
    images = pictures(*size)[:, :count]
    assert network.dense(images)["logits"].shape == (2, 5, *size)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_score_stands_on_the_pixel_that_its_kernels_are_centred_on(
    output_stride: int, pictures: Pictures
) -> None:
    network = tiny(output_stride=output_stride).eval()
    seen: list[Tensor] = []
    network.classifier.register_forward_hook(lambda _, __, maps: seen.append(maps))
    logits = network.dense(pictures(48, 70))["logits"]
    torch.testing.assert_close(logits[..., ::output_stride, ::output_stride], seen[0])


def test_a_mirrored_picture_has_mirrored_logits(mirrored: Randomise, pictures: Pictures) -> None:
    network = mirrored(tiny())
    images = pictures(33, 49)  # sides of 16 n + 1 pixels
    expected = network.dense(images)["logits"].flip(-1)
    torch.testing.assert_close(network.dense(images.flip(-1))["logits"], expected)


def test_the_auxiliary_head_is_heard_in_the_loss_with_its_weight(pictures: Pictures) -> None:
    network = tiny(auxiliary=True, extra_convolution=True).train()
    raw = network(pictures(48, 64))
    assert raw.auxiliary[0].shape == (2, 5, 3, 4)  # a sixteenth of the picture
    labels = torch.zeros(2, 48, 64, dtype=torch.uint8)
    terms = network.loss(raw, MaskTargets(labels, torch.ones(2, 48, 64)))
    assert set(terms) == {"cross_entropy", "auxiliary1"}
    flat = raw._replace(auxiliary=(torch.zeros_like(raw.auxiliary[0]),))
    found = network.loss(flat, MaskTargets(labels, torch.ones(2, 48, 64)))["auxiliary1"]
    torch.testing.assert_close(found, 0.4 * torch.tensor(5.0).log())


def test_it_trains_in_half_precision(pictures: Pictures) -> None:
    network = tiny(auxiliary=True).train()
    targets = MaskTargets(torch.ones(2, 48, 64, dtype=torch.uint8), torch.ones(2, 48, 64))
    with torch.autocast("cpu", torch.bfloat16):
        terms = network.loss(network(pictures(48, 64)), targets)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


class Dense(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.dense(images)["logits"]


def test_one_exported_graph_takes_pictures_of_several_sizes(pictures: Pictures) -> None:
    network = tiny().eval()
    height, width = (torch.export.Dim(name, min=32, max=512) for name in ("height", "width"))
    exported = torch.export.export(
        Dense(network), (pictures(48, 64),), dynamic_shapes={"images": {2: height, 3: width}}
    )
    for size in ((48, 64), (65, 33)):
        images = pictures(*size)
        torch.testing.assert_close(
            exported.module()(images), network.dense(images)["logits"], atol=1e-5, rtol=1e-5
        )


def test_the_weights_of_a_classification_network_are_those_of_its_encoder() -> None:
    network = on_meta("deeplab_v3_resnet50")
    with unweighted():
        whole = models.create("resnet50")
    taken = deeplab_v3.from_backbone(whole.state_dict(), deeplab_v3.VARIANTS["deeplab_v3_resnet50"])
    here = {name: tensor.shape for name, tensor in network.state_dict().items() if "backbone." in name}
    assert {name: tensor.shape for name, tensor in taken.items()} == here
    assert deeplab_v3.backbone_of(network.config) == "resnet50"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"backbone": "vgg16"}, "backbone: 'vgg16' is no encoder"),
        ({"backbone": "resnet5"}, "backbone: 'resnet5' is no encoder"),
        ({"backbone": "resnet20_cifar", "multi_grid": None}, "output_stride: 16 is more than the stride 4"),
        (
            {"backbone_settings": {"depths": [1, 1, 3]}},
            "backbone: resnet50 has the features conv1, layer1, layer2, layer3, none is layer4",
        ),
        (
            {"backbone_settings": {"stem": "cifar"}, "output_stride": 8},
            "backbone: layer1 has stride 1 and layer4 8; this network reads maps at 4 and 8",
        ),
        ({"backbone": "mobilenet_v2"}, "multi_grid: mobilenet_v2 is no ResNet"),
        ({"multi_grid": (1, 2)}, "multi_grid: 2 numbers for the 3 blocks"),
        ({"output_stride": 32}, "output_stride"),
        ({"backbone_settings": {"classes": 3}}, r"backbone_settings\.classes: it is the network's own"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        models.create("deeplab_v3_resnet50", **settings)


def test_an_unknown_setting_of_the_encoder_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="width"):
        models.create("deeplab_v3_resnet50", backbone_settings={"widht": 8})
