"""ReSeg's counts, sizes and parts."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.models.classification import vgg
from striate.models.segmentation import reseg
from striate.models.unweighted import unweighted
from striate.structures import Preprocess

VGG_TO_CONV3_3 = 1_735_488


def parameters(**config: Any) -> int:
    with unweighted():
        network = models.create("reseg", 11, **config)
    return sum(parameter.numel() for parameter in network.parameters())


def gru(features: int, units: int, biases: int) -> int:
    return 3 * units * (features + units + biases)


def pictures(height: int, width: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


def tiny(**changes: Any) -> reseg.ReSeg:
    torch.manual_seed(0)
    return reseg.build(msgspec.structs.replace(reseg.TINY, **changes)).eval()


def test_the_camvid_network_has_the_papers_parameters_and_a_second_bias_for_each_gate() -> None:
    assert parameters() == 2_544_549
    both = 2 * gru(256, 100, 1) + 6 * gru(200, 100, 1)
    upsampling = (200 * 50 * 4 + 50) + (50 * 50 * 4 + 50)
    paper = VGG_TO_CONV3_3 + both + upsampling + 50 * 11 + 11
    assert paper == 2_542_149
    assert parameters() - paper == 8 * 3 * 100  # eight GRUs of three gates with 100 units


def test_the_stacked_network_has_the_released_codes_parameters_and_a_second_bias() -> None:
    stacked = gru(256, 100, 1) + 3 * gru(200, 100, 1) + 4 * gru(100, 100, 1)
    released = VGG_TO_CONV3_3 + stacked + 50_100 + 561
    assert released == 2_405_349
    assert parameters(stacked=True) == released + 8 * 3 * 100


def test_maps_have_a_tenth_of_the_camvid_networks_sides() -> None:
    with torch.device("meta"):
        network = models.create("reseg", 11).eval()
        images = torch.empty(1, 3, 36, 48)
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda _, __, output: shapes.update({name: tuple(output.shape[1:])})

    for name in ("backbone.trunk.relu3_3", "upsampling.0", "upsampling.3", "classifier"):
        network.get_submodule(name).register_forward_hook(note(name))
    for number in (0, 1):
        network.get_submodule(f"renet.{number}").register_forward_hook(note(f"renet.{number}"))
    assert network.dense(images)["logits"].shape == (1, 11, 36, 48)
    assert shapes == {
        "backbone.trunk.relu3_3": (256, 9, 12),
        "renet.0": (200, 9, 12),
        "renet.1": (200, 9, 12),
        "upsampling.0": (50, 18, 24),
        "upsampling.3": (50, 36, 48),
        "classifier": (11, 36, 48),
    }


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 31), (33, 18)])
@pytest.mark.parametrize("patches", [(1, 1), (2, 1), (2, 2, 1), (4,)])
def test_every_size_comes_back(size: tuple[int, int], patches: tuple[int, ...]) -> None:
    network = tiny(patches=patches)
    with torch.inference_mode():
        assert network.dense(pictures(*size))["logits"].shape == (2, 5, *size)
    assert len(network.renet) == len(patches)


def test_what_is_cut_off_lies_at_the_bottom_and_right() -> None:
    network = tiny(patches=(1, 1))
    images = pictures(6, 7)
    values = network.normalize(images)
    maps = network.backbone.features(values)["conv3_3"]
    assert maps.shape[-2:] == (2, 2)
    whole = network.classifier(network.upsampling(network.renet(maps)))
    assert whole.shape[-2:] == (8, 8)
    assert torch.equal(network.dense(images)["logits"], whole[:, :, :6, :7])


def test_the_encoder_is_vggs_up_to_conv3_3() -> None:
    torch.manual_seed(0)
    settings = {"width": 4, "hidden": 8, "grid": 1, "pool_ceil": True}
    whole = vgg.build(msgspec.structs.replace(vgg.VARIANTS["vgg16"], **settings)).eval()
    network = tiny()
    weights = reseg.from_backbone(whole.state_dict(), reseg.TINY)
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert not unexpected
    assert {name.partition(".")[0] for name in missing} == {"renet", "upsampling", "classifier"}
    images = pictures(20, 20)
    expected = whole.trunk[:16](whole.normalize(images))
    torch.testing.assert_close(network.backbone.features(network.normalize(images))["conv3_3"], expected)
    assert not any(name.startswith("backbone.trunk.conv4") for name in network.state_dict())


def test_weights_of_vgg16_with_batch_norm_fit_that_form_and_its_statistics_come_along() -> None:
    config = reseg.TINIES["batch_norm"]
    with unweighted():
        whole = models.create(reseg.backbone_of(config), width=4, hidden=8, grid=1)
    weights = reseg.from_backbone(whole.state_dict(), config)
    with unweighted():
        own = reseg.build(config)
    assert weights.keys() == {name for name in own.state_dict() if name.startswith("backbone.")}
    assert "backbone.trunk.bn3_3.running_var" in weights


def test_no_recurrent_layer_an_odd_patch_and_too_coarse_ones_are_refused() -> None:
    assert parameters(patches=(4, 4)) > 0
    for patches in ((), (3, 1), (4, 4, 2)):
        with pytest.raises(UsageError, match="patches"):
            models.create("reseg", patches=patches)


def test_nothing_large_is_drawn_for_what_is_cut_off() -> None:
    with unweighted():
        whole = models.create("vgg16", grid=1, hidden=1)
    assert sum(parameter.numel() for parameter in whole.parameters()) < 15_000_000


@pytest.mark.parametrize("form", ["tiny", *reseg.TINIES])
def test_training_in_bfloat16_gives_finite_gradients(form: str) -> None:
    torch.manual_seed(0)
    network = reseg.build({"tiny": reseg.TINY, **reseg.TINIES}[form]).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(pictures(20, 24)).logits
    nn.functional.cross_entropy(logits.float(), torch.zeros(2, 20, 24, dtype=torch.long)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("stacked", [False, True])
def test_it_exports_with_a_dynamic_batch(stacked: bool) -> None:
    network = tiny(stacked=stacked, preprocess=Preprocess(size=(18, 21), fit="letterbox"))
    batch = torch.export.Dim("batch", min=1, max=16)
    exported = torch.export.export(network, (pictures(18, 21),), dynamic_shapes={"images": {0: batch}})
    images = pictures(18, 21, batch=5)
    torch.testing.assert_close(exported.module()(images).logits, network(images).logits, atol=1e-6, rtol=1e-5)
    assert "gru" in str(exported.graph)  # not step by step
