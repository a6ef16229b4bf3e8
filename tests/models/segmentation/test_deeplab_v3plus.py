from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from striate import models
from striate.models.segmentation import deeplab_v3plus
from striate.models.unweighted import unweighted
from striate.structures import MaskTargets

# Those on ResNet-50 and 101 are the published ones; the others follow from their encoders below.
PARAMETERS = {
    "deeplab_v3plus_resnet50": 40_352_181,
    "deeplab_v3plus_resnet101": 59_344_309,
    "deeplab_v3plus_resnet18": 16_608_181,
    "deeplab_v3plus_resnet34": 26_716_341,
    "deeplab_v3plus_mobilenet_v2": 2_719_813,
}

# Billions of multiply-adds of one picture of 513x513 by output stride.
MULTIPLY_ADDS = {
    ("deeplab_v3plus_resnet50", 16): 72.2,
    ("deeplab_v3plus_resnet101", 16): 92.8,
    ("deeplab_v3plus_resnet101", 8): 267.9,
}

Pictures = Callable[..., Tensor]


def on_meta(name: str, **config: object) -> deeplab_v3plus.DeepLabV3Plus:
    with unweighted():
        network = models.create(name, **config)
    assert isinstance(network, deeplab_v3plus.DeepLabV3Plus)
    return network


@pytest.fixture(params=["tiny", *deeplab_v3plus.TINIES])
def network(request: pytest.FixtureRequest) -> deeplab_v3plus.DeepLabV3Plus:
    """Each of the small forms."""
    torch.manual_seed(0)
    return deeplab_v3plus.build({"tiny": deeplab_v3plus.TINY, **deeplab_v3plus.TINIES}[request.param])


def weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_variant_has_its_count_here() -> None:
    assert set(PARAMETERS) == set(deeplab_v3plus.VARIANTS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert weights(on_meta(name)) == PARAMETERS[name]


def test_the_decoders_weights_are_those_of_the_paper() -> None:
    made = on_meta("deeplab_v3plus_resnet50")
    norm = 2 * 256
    assert weights(made.low_level) == 256 * 48 + 2 * 48
    assert weights(made.decoder) == (304 * 256 * 9 + norm) + (256 * 256 * 9 + norm)
    assert weights(made.classifier) == 256 * 21 + 21


def test_the_form_for_small_machines_has_separable_convolutions() -> None:
    made = on_meta("deeplab_v3plus_mobilenet_v2")
    norm, taps = 2 * 256, 9
    assert weights(made.backbone) == 1_811_712  # MobileNet v2 to its 320 maps
    separable = [320 * taps + 2 * 320 + 320 * 256 + norm] * 3
    assert weights(made.aspp) == 2 * (320 * 256 + norm) + sum(separable) + 5 * 256 * 256 + norm
    assert weights(made.decoder) == (304 * taps + 2 * 304 + 304 * 256 + norm) + (
        256 * taps + 2 * 256 + 256 * 256 + norm
    )
    kernels = [m for m in (*made.aspp.modules(), *made.decoder.modules()) if isinstance(m, nn.Conv2d)]
    assert all(m.groups == m.in_channels for m in kernels if m.kernel_size == (3, 3))


@pytest.mark.parametrize(("name", "output_stride"), MULTIPLY_ADDS)
def test_multiply_adds_follow_the_output_stride(
    name: str, output_stride: int, counts: Callable[..., tuple[int, int]]
) -> None:
    _, multiply_adds = counts(name, (513, 513), output_stride=output_stride)
    assert round(multiply_adds / 1e9, 1) == MULTIPLY_ADDS[name, output_stride]


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_decoder_reads_maps_at_stride_4_and_the_last_at_the_output_stride(name: str) -> None:
    made = on_meta(name)
    strides = {feature.name: feature.stride for feature in made.backbone.feature_info}
    assert (strides[made.low], strides[made.last]) == (4, 16)
    finer = on_meta(name, output_stride=8)
    assert finer.backbone.feature_info[-1].stride == 8
    assert [rate * 2 for rate in made.config.rates] == list(finer.config.rates) == [12, 24, 36]


def test_depthwise_kernels_spread_by_the_rates() -> None:
    atrous = on_meta("deeplab_v3plus_mobilenet_v2").aspp.atrous
    assert [layer.depthwise.conv.dilation[0] for layer in atrous] == [6, 12, 18]
    assert {layer.pointwise.conv.dilation[0] for layer in atrous} == {1}


def test_shapes_on_the_way_are_those_of_the_papers_figure() -> None:
    made = on_meta("deeplab_v3plus_resnet50").eval()
    seen: dict[str, tuple[int, ...]] = {}
    for name in ("low_level", "aspp", "decoder", "classifier"):
        made.get_submodule(name).register_forward_hook(
            lambda _, __, maps, name=name: seen.update({name: tuple(maps.shape[1:])})
        )
    logits = made.dense(torch.zeros(1, 3, 513, 513, device="meta"))["logits"]
    assert seen == {
        "low_level": (48, 129, 129),
        "aspp": (256, 33, 33),
        "decoder": (256, 129, 129),
        "classifier": (21, 129, 129),
    }
    assert logits.shape == (1, 21, 513, 513)


@pytest.mark.parametrize("size", [(48, 64), (37, 51), (1, 1), (130, 17)])
def test_logits_have_the_size_of_any_picture(
    network: deeplab_v3plus.DeepLabV3Plus, size: tuple[int, int], pictures: Pictures
) -> None:
    assert network.eval().dense(pictures(*size))["logits"].shape == (2, 5, *size)


def test_both_the_deep_and_the_early_maps_reach_the_logits(
    network: deeplab_v3plus.DeepLabV3Plus, pictures: Pictures
) -> None:
    images = pictures(48, 64)
    network.eval()
    before = network.dense(images)["logits"]
    for part in (network.aspp.project, network.low_level):
        kept = part.norm.bias.detach().clone()
        with torch.no_grad():
            part.norm.bias.add_(1.0)
        assert not torch.allclose(network.dense(images)["logits"], before)
        with torch.no_grad():
            part.norm.bias.copy_(kept)
    assert torch.equal(network.dense(images)["logits"], before)


def test_a_mirrored_picture_has_mirrored_logits(
    network: deeplab_v3plus.DeepLabV3Plus,
    mirrored: Callable[[nn.Module], nn.Module],
    pictures: Pictures,
) -> None:
    mirrored(network)
    images = pictures(33, 49)  # sides of 16 n + 1 pixels
    expected = network.dense(images)["logits"].flip(-1)
    torch.testing.assert_close(network.dense(images.flip(-1))["logits"], expected)


@pytest.mark.parametrize("kind", ["cross_entropy", "dice", "focal"])
def test_it_trains_in_half_precision(kind: str, pictures: Pictures) -> None:
    torch.manual_seed(0)
    config = {"width": 0.25}
    network = models.create(
        "deeplab_v3plus_mobilenet_v2", 5, backbone_settings=config, aspp_maps=16, decoder_maps=16, loss=kind
    ).train()
    labels = torch.randint(0, 5, (2, 48, 64), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        terms = network.loss(network(pictures(48, 64)), MaskTargets(labels, torch.ones(2, 48, 64)))
    assert set(terms) == {kind}
    terms[kind].backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


class Dense(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.dense(images)["logits"]


def test_one_exported_graph_takes_pictures_of_several_sizes(
    network: deeplab_v3plus.DeepLabV3Plus, pictures: Pictures
) -> None:
    network.eval()
    height, width = (torch.export.Dim(name, min=32, max=512) for name in ("height", "width"))
    exported = torch.export.export(
        Dense(network), (pictures(48, 64),), dynamic_shapes={"images": {2: height, 3: width}}
    )
    for size in ((48, 64), (65, 33)):
        images = pictures(*size)
        torch.testing.assert_close(
            exported.module()(images), network.dense(images)["logits"], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v2_0.5"])
def test_the_weights_of_a_classification_network_are_those_of_its_encoder(name: str) -> None:
    family = "deeplab_v3plus_mobilenet_v2" if "mobile" in name else "deeplab_v3plus_resnet18"
    made = on_meta(family, backbone=name)
    with unweighted():
        whole = models.create(name)
    taken = deeplab_v3plus.from_backbone(whole.state_dict(), made.config)
    here = {name: tensor.shape for name, tensor in made.state_dict().items() if "backbone." in name}
    assert {name: tensor.shape for name, tensor in taken.items()} == here
    assert deeplab_v3plus.backbone_of(made.config) == name
