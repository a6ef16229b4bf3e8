import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.vgg import make_layers

from striate import models
from striate.errors import UsageError
from striate.layers.local_response_norm import LocalResponseNorm
from striate.models.classification import vgg

PARAMETERS = {
    "vgg11": 132_863_336,
    "vgg11_lrn": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16_c": 133_638_952,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
}

MULTIPLY_ADDS = {
    "vgg11": 7_609_090_048,
    "vgg11_lrn": 7_609_090_048,
    "vgg13": 11_308_466_176,
    # D's, less 8 of 9 weights at each pixel of conv3_3, conv4_3 and conv5_3.
    "vgg16_c": 15_470_264_320 - 8 * (256**2 * 56**2 + 512**2 * (28**2 + 14**2)),
    "vgg16": 15_470_264_320,
    "vgg19": 19_632_062_464,
    "vgg11_bn": 7_609_090_048,
    "vgg13_bn": 11_308_466_176,
    "vgg16_bn": 15_470_264_320,
    "vgg19_bn": 19_632_062_464,
}

DILATED = {"kernel": 3, "stride": 1, "padding": 1}


def on_meta(name: str, **config: object) -> nn.Module:
    with torch.device("meta"):
        return models.create(name, **config).eval()


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def pictures(side: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=generator)


def narrow(name: str = "vgg16", **config: object) -> vgg.VGG:
    """With 4 to 32 maps and 20 hidden units."""
    torch.manual_seed(0)
    return models.create(name, classes=5, width=4, hidden=20, **config).eval()


def sides(network: vgg.VGG, side: int) -> dict[str, int]:
    with torch.no_grad():
        return {name: maps.shape[2] for name, maps in network.features(pictures(side, 1)).items()}


def test_every_variant_has_its_counts_here() -> None:
    assert set(PARAMETERS) == set(MULTIPLY_ADDS) == set(vgg.VARIANTS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert parameters(on_meta(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_multiply_adds_are_the_published_ones(name: str) -> None:
    network = on_meta(name)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 224, 224, device="meta"))
    assert counter.get_total_flops() // 2 == MULTIPLY_ADDS[name]


def test_convolutions_of_d_have_14_7_million_parameters() -> None:
    assert parameters(on_meta("vgg16").trunk) == 14_714_688


def torchvisions(name: str) -> nn.Module:
    """torchvision's VGG with a sixteenth of the maps and 20 hidden units, in double precision."""
    letter = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}[name.removesuffix("_bn")]
    layout = [v if v == "M" else int(v) // 16 for v in torchvision.models.vgg.cfgs[letter]]
    with torch.device("meta"):
        theirs = torchvision.models.VGG(
            make_layers(layout, batch_norm=name.endswith("_bn")), init_weights=False
        )
    for index, (inputs, units) in {0: (32 * 49, 20), 3: (20, 20), 6: (20, 5)}.items():
        theirs.classifier[index] = nn.Linear(inputs, units, device="meta")
    theirs = theirs.to_empty(device="cpu").double().eval()
    generator = torch.Generator().manual_seed(1)
    for name, tensor in theirs.state_dict().items():
        if "running_var" in name or (tensor.ndim == 1 and name.endswith("weight")):
            nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
        elif tensor.ndim > 1:
            nn.init.normal_(tensor, std=(2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif tensor.ndim == 1:
            nn.init.normal_(tensor, std=0.1, generator=generator)
    return theirs


@pytest.fixture(params=["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg16_bn", "vgg19_bn"])
def pair(request: pytest.FixtureRequest) -> tuple[vgg.VGG, nn.Module]:
    """Ours and torchvision's with the same random weights."""
    theirs, ours = torchvisions(request.param), narrow(request.param).double()
    ours.load_state_dict(vgg.from_torchvision(theirs.state_dict()), strict=True)
    return ours, theirs


@pytest.mark.parametrize("side", [32, 75])
def test_outputs_equal_torchvisions(pair: tuple[vgg.VGG, nn.Module], side: int) -> None:
    ours, theirs = pair
    images = pictures(side)
    with torch.inference_mode():
        expected = theirs(ours.normalize(images))
        torch.testing.assert_close(ours.dense(images)["logits"], expected, rtol=1e-10, atol=1e-12)


def test_one_perturbed_layer_shows(pair: tuple[vgg.VGG, nn.Module]) -> None:
    ours, theirs = pair
    images = pictures(64)
    with torch.inference_mode():
        ours.trunk.conv3_2.weight.mul_(1.01)
        expected = theirs(ours.normalize(images))
        difference = (ours.dense(images)["logits"] - expected).abs().max()
    assert difference > 1e-5 * expected.abs().max()


def test_gradients_equal_torchvisions(pair: tuple[vgg.VGG, nn.Module]) -> None:
    ours, theirs = pair
    images, labels = pictures(64), torch.tensor([0, 3])
    nn.functional.cross_entropy(ours(images).logits, labels).backward()
    nn.functional.cross_entropy(theirs(ours.normalize(images)), labels).backward()
    expected = vgg.from_torchvision({name: p.grad for name, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-8, atol=1e-12)


def test_single_precision_stays_within_a_hundred_thousandth(pair: tuple[vgg.VGG, nn.Module]) -> None:
    ours, theirs = (network.float() for network in pair)
    images = pictures(64)
    with torch.inference_mode():
        expected = theirs(ours.normalize(images))
        difference = (ours.dense(images)["logits"] - expected).abs().max()
    assert difference <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    "name", ["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"]
)
def test_true_size_state_dict_of_torchvision_fits(name: str) -> None:
    with torch.device("meta"):
        weights = vgg.from_torchvision(getattr(torchvision.models, name)().state_dict())
    ours = on_meta(name).state_dict()
    assert {key: tensor.shape for key, tensor in weights.items()} == {k: t.shape for k, t in ours.items()}


def test_weights_of_another_network_keep_their_names() -> None:
    weights = {"layer1.0.conv1.weight": torch.ones(1, 1, 1, 1), "features.x.weight": torch.ones(1)}
    assert vgg.from_torchvision(weights).keys() == weights.keys()


def test_maps_of_d_halve_with_every_pool() -> None:
    network = on_meta("vgg16")
    features = network.features(torch.zeros(1, 3, 224, 224, device="meta"))
    pools = {name: tuple(maps.shape[1:]) for name, maps in features.items() if "pool" in name}
    assert pools == {
        "pool1": (64, 112, 112),
        "pool2": (128, 56, 56),
        "pool3": (256, 28, 28),
        "pool4": (512, 14, 14),
        "pool5": (512, 7, 7),
    }
    assert features["conv4_3"].shape[1:] == (512, 28, 28)
    assert features["conv5_3"].shape[1:] == (512, 14, 14)
    assert network.at_strides(8, 16, 32) == (
        ("conv4_3", 512, 8),
        ("conv5_3", 512, 16),
        ("pool5", 512, 32),
    )


def test_c_has_1x1_at_the_end_of_blocks_3_to_5_only() -> None:
    kernels = {n: m.kernel_size[0] for n, m in on_meta("vgg16_c").trunk.named_children() if "conv" in n}
    assert [name for name, kernel in kernels.items() if kernel == 1] == ["conv3_3", "conv4_3", "conv5_3"]
    assert set(kernels.values()) == {1, 3}


def test_a_lrn_normalises_once_behind_conv1_1() -> None:
    names = list(dict(on_meta("vgg11_lrn").trunk.named_children()))
    assert names[:4] == ["conv1_1", "relu1_1", "norm1_1", "pool1"]
    assert sum(isinstance(m, LocalResponseNorm) for m in on_meta("vgg11_lrn").modules()) == 1


@pytest.mark.parametrize("name", ["vgg11_lrn", "vgg16_bn"])
def test_features_are_not_overwritten_by_the_layers_behind_them(name: str) -> None:
    network = narrow(name)
    layers = dict(network.trunk.named_children())
    with torch.no_grad():
        features = network.features(pictures(64))
        maps = network.normalize(pictures(64))
        for layer_name, layer in layers.items():
            maps = layer(maps)
            feature = layer_name.replace("relu", "conv")
            if feature in features and not layer_name.startswith("conv"):
                assert torch.equal(features[feature], maps), feature
    assert all((maps >= 0).all() for maps in features.values())


def test_forward_and_features_agree() -> None:
    network = narrow()
    images = pictures(75)
    with torch.no_grad():
        pool5 = network.average(network.features(images)["pool5"]).flatten(1)
        logits = network.fc8(torch.relu(network.fc7(torch.relu(network.fc6(pool5)))))
        torch.testing.assert_close(network(images).logits, logits)


def test_dropout_comes_behind_fc6_and_fc7() -> None:
    network = narrow(grid=2).train()
    dropped: list[int] = []
    network.dropout.register_forward_hook(lambda *args: dropped.append(args[2].shape[1]))
    network(pictures(32))
    assert network.fc6.in_features == 32 * 4
    assert dropped == [20, 20]


@pytest.mark.parametrize(("stride", "dilation"), [(8, 2), (16, 1), (32, 1)])
def test_output_stride_keeps_maps_large_and_spreads_conv5(stride: int, dilation: int) -> None:
    network = narrow(output_stride=stride)
    assert sides(network, 64)["pool5"] == 64 // stride
    assert network.feature_info[-1].stride == stride
    found = {n: m.dilation[0] for n, m in network.trunk.named_children() if isinstance(m, nn.Conv2d)}
    assert {name: found[name] for name in ("conv4_3", "conv5_1", "conv5_3")} == {
        "conv4_3": 1,
        "conv5_1": dilation,
        "conv5_3": dilation,
    }


def test_weights_fit_every_output_stride() -> None:
    weights = narrow().state_dict()
    narrow(output_stride=8).load_state_dict(weights, strict=True)


def test_dilation_sees_what_the_pool_would_have_left() -> None:
    """With pools of one pixel, stride 8 is stride 32 at four times the places."""
    plain = narrow(pool4={"kernel": 1}, pool5={"kernel": 1})
    one = {"kernel": 1, "stride": 1}
    spread = narrow(pool4=one, pool5=one, output_stride=8)
    spread.load_state_dict(plain.state_dict())
    with torch.no_grad():
        coarse, fine = (network.features(pictures(64)) for network in (plain, spread))
    torch.testing.assert_close(fine["conv5_3"][..., ::2, ::2], coarse["conv5_3"])
    torch.testing.assert_close(fine["pool5"][..., ::4, ::4], coarse["pool5"])


def test_the_form_of_fcn_has_198_pixels_more() -> None:
    network = on_meta("vgg16", first_padding=100, pool_ceil=True)
    features = network.features(torch.zeros(1, 3, 500, 500, device="meta"))
    found = {name: maps.shape[2] for name, maps in features.items() if "pool" in name}
    assert found == {"pool1": 349, "pool2": 175, "pool3": 88, "pool4": 44, "pool5": 22}


def test_the_form_of_ssd_has_maps_of_38_and_19() -> None:
    network = on_meta("vgg16", pool_ceil=True, pool5=DILATED, output_stride=16)
    features = network.features(torch.zeros(1, 3, 300, 300, device="meta"))
    assert [features[name].shape[2] for name in ("conv3_3", "conv4_3", "conv5_3", "pool5")] == [
        75,
        38,
        19,
        19,
    ]


def test_the_form_of_deeplab_has_maps_of_41() -> None:
    first = {"kernel": 3, "stride": 2, "padding": 1}
    network = on_meta("vgg16", first_pools=first, output_stride=8)
    features = network.features(torch.zeros(1, 3, 321, 321, device="meta"))
    assert [features[f"pool{n}"].shape[2] for n in range(1, 6)] == [161, 81, 41, 41, 41]
    pools = [network.trunk.get_submodule(f"pool{n}") for n in range(1, 6)]
    assert [(pool.kernel_size, pool.stride, pool.padding) for pool in pools] == [(3, 2, 1)] * 3 + [
        (3, 1, 1)
    ] * 2


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"pool5": DILATED}, "give pool5.stride = 2, or another output_stride"),
        ({"pool4": {"stride": 2}, "output_stride": 8}, "give pool4.stride = 1, or another output_stride"),
        ({"first_pools": DILATED}, "give first_pools.stride = 2, or another output_stride"),
    ],
)
def test_pools_that_contradict_the_output_stride_are_refused(settings: dict[str, object], fix: str) -> None:
    with pytest.raises(UsageError, match=fix):
        on_meta("vgg16", **settings)


def test_padding_beyond_half_the_kernel_is_refused() -> None:
    with pytest.raises(UsageError, match="more than half of the kernel 2"):
        on_meta("vgg16", pool4={"padding": 2})


def test_weights_start_with_hes_spread() -> None:
    network = narrow("vgg16", grid=1)
    assert network.trunk.conv5_1.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)
    assert all(not p.any() for name, p in network.named_parameters() if name.endswith("bias"))


def test_fewer_pixels_than_five_pools_can_halve_are_refused() -> None:
    network = narrow()
    assert sides(network, 32)["pool5"] == 1
    with pytest.raises(UsageError, match="at least 32 pixels a side, got 31x31"):
        network(pictures(31))
    with pytest.raises(UsageError, match="at least 32 pixels a side, got 28x28"):
        on_meta("vgg16", preprocess={"size": (28, 28), "resize_to": 28})
    assert sides(narrow(output_stride=8), 8)["pool5"] == 1


@pytest.mark.parametrize(
    "settings", [{"depths": (1, 2)}, {"norm": "layer"}, {"width": 0}, {"output_stride": 4}]
)
def test_unknown_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(settings))):
        models.create("vgg16", **settings)
