"""The arithmetic holds on every family, on other people's networks, and on modules that are awkward."""

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import msgspec
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision.models as zoo
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import striate
from striate import models
from striate.errors import UsageError
from striate.explain.recording import record
from striate.explain.verify import Verification, verify, verify_recording
from striate.models.network import Network


def everything(_: str) -> bool:
    return True


def picture(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def verified(network: Network) -> Verification:
    chance = torch.Generator().manual_seed(0)
    shape = (1, network.preprocess.channels, *network.preprocess.size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=chance)
    found = verify(network, images, **network.blank_extras(images))
    assert found.ok, found
    # Far inside what is allowed: a slip is not hidden by the tolerance.
    assert found.worst_share < 0.3
    return found


def forms() -> dict[str, tuple[Any, Any]]:
    """The smallest config of each family, and the other small ones of classifiers, with the family."""
    return {
        f"{name}-{form}": (family, config)
        for name, family in models.families().items()
        for form, config in {"tiny": family.TINY, **_others(family)}.items()
    }


def _others(family: Any) -> dict[str, Any]:
    classifies = family.__name__.split(".")[-2] == "classification"
    found: dict[str, Any] = getattr(family, "TINIES", {}) if classifies else {}
    return found


FORMS = forms()


@pytest.mark.parametrize("form", FORMS)
def test_every_small_form_of_ours(form: str) -> None:
    family, config = FORMS[form]
    torch.manual_seed(0)
    found = verified(family.build(config))
    # What stands unexplained picks boxes, reads sequences or samples; every layer of a trunk is explained.
    kinds = {"convolution", "native_batch_norm", "addmm", "relu", "max_pool2d_with_indices", "cat"}
    left = {each.operation for each in found.not_explained if not each.reason.endswith("whole numbers")}
    assert not kinds & left


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v3_large"])
def test_public_variants_of_ours_on_small_pictures(name: str) -> None:
    settings = msgspec.to_builtins(models.defaults_of(name).preprocess) | {"size": (48, 48)}
    assert not verified(striate.create(name, preprocess=settings)).not_explained


@pytest.mark.parametrize(
    "name",
    ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf",
     "densenet121", "efficientnet_b0"],
)  # fmt: skip
def test_networks_of_torchvision(name: str) -> None:
    found = verify(zoo.get_model(name, weights=None), picture(1, 3, 48, 48))
    assert found.ok, found
    assert not found.not_explained


@pytest.mark.parametrize("name", ["seresnet18", "lcnet_050", "mobilevit_xxs", "tf_efficientnet_lite0"])
def test_networks_of_timm(name: str) -> None:
    found = verify(timm.create_model(name), picture(1, 3, 64, 64))
    assert found.ok, found


class Block(nn.Module):
    """A module whose code is given."""

    def __init__(self, code: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.code = code
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, images: Tensor) -> Any:
        return self.code(self, images)


def repeated(block: Any, images: Tensor) -> Tensor:
    """As often as the values say."""
    for _ in range(1 + int(images.mean() > 0)):
        images = block.conv(images)
    return images


def written_into(block: Any, images: Tensor) -> Tensor:
    maps = block.conv(images)
    maps[:, 0] = 0.5
    maps += images[:, :, 1:-1, 1:-1].mean(1, keepdim=True)
    return F.relu_(maps).mul_(2)


def weighted(block: Any, images: Tensor) -> Tensor:
    gate = torch.sigmoid(block.squeeze(images.mean((2, 3), keepdim=True)))
    return block.conv(images * gate)


def attention(block: Any, images: Tensor) -> Tensor:
    tokens = images.flatten(2).transpose(1, 2)
    return block.attend(tokens, tokens, tokens, need_weights=False)[0]


AWKWARD: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "a layer used twice": (
        lambda: Block(lambda b, x: b.conv(F.relu(b.conv(x))), conv=nn.Conv2d(3, 3, 3)), set()),
    "shared weights under two names": (
        lambda: nn.Sequential(*[nn.Conv2d(3, 3, 3, bias=False)] * 2, nn.ReLU()), set()),
    "functions alone": (lambda: Block(lambda _, x: F.max_pool2d(F.avg_pool2d(x, 2), 2).flatten(1)), set()),
    "a path that values decide": (lambda: Block(repeated, conv=nn.Conv2d(3, 3, 3)), {"gt"}),
    "grouped and dilated": (lambda: nn.Conv2d(3, 9, 3, groups=3, dilation=2, padding=2), set()),
    "transposed": (lambda: nn.ConvTranspose2d(3, 5, 3, 2, 1, 1), set()),
    "padded in a circle": (lambda: nn.Conv2d(3, 4, 3, padding=2, padding_mode="circular"), set()),
    "1x1 and steps beyond the kernel": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 2, stride=5)), set()),
    "written into afterwards": (lambda: Block(written_into, conv=nn.Conv2d(3, 3, 3)), set()),
    "in-place activations": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(True), nn.Hardswish(True)),
        set(),
    ),
    "nested outputs": (
        lambda: Block(lambda b, x: {"a": [b.conv(x)], "b": (x.relu(), {"c": x})}, conv=nn.Conv2d(3, 2, 3)),
        set(),
    ),
    "odd sizes and a ceiling": (
        lambda: nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(3, 2, 1, ceil_mode=True)), set()),
    "a weight that is made": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 4, 3, bias=False))), set()),
    "a gate of squeezed values": (
        lambda: Block(weighted, squeeze=nn.Conv2d(3, 3, 1), conv=nn.Conv2d(3, 4, 3)), set()),
    "attention": (lambda: Block(attention, attend=nn.MultiheadAttention(3, 1, batch_first=True)),
                  {"_scaled_dot_product_flash_attention_for_cpu"}),
    "one dimension": (
        lambda: Block(
            lambda b, x: b.pool(b.conv(x.flatten(2))), conv=nn.Conv1d(3, 4, 5, 3), pool=nn.MaxPool1d(3)),
        set(),
    ),
    "double precision": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double(), set()),
}  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_modules(name: str) -> None:
    build, unexplained = AWKWARD[name]
    torch.manual_seed(0)
    module = Block(lambda block, images: block.inner(images), inner=build())
    images = picture(2, 3, 13, 11)
    images = images.double() if name == "double precision" else images
    for seed in range(5):
        found = verify(module, images, seed)
        assert found.ok, found
        assert {each.operation for each in found.not_explained} <= unexplained


def test_one_weight_changed_after_the_pass_is_found() -> None:
    torch.manual_seed(0)
    for name, shape in (("resnet18", (1, 3, 64, 64)), ("squeezenet1_1", (1, 3, 64, 64))):
        network = zoo.get_model(name, weights=None)
        recording = record(network, picture(*shape), wanted=everything)
        assert verify_recording(recording).ok
        last = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
        with torch.no_grad():
            last.weight += 0.1
        found = verify_recording(recording)
        assert not found.ok
        assert len(found.disagreeing) == 1


def test_a_batch_norm_changed_after_the_pass_is_found() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3))
    recording = record(network, picture(1, 3, 6, 6), wanted=everything)
    network[0].running_mean += 0.5
    assert not verify_recording(recording).ok


def test_it_says_what_it_could_not_do() -> None:
    found = verify(nn.Sequential(nn.Linear(3, 3), nn.GRU(3, 2)), picture(4, 1, 3))
    assert [(each.call, each.reason) for each in found.not_explained] == [("1", "no rule for gru")]
    assert "not explained: 1: no rule for gru" in repr(found)
    nothing = verify(nn.Sequential(nn.Identity()), picture(4, 3))
    assert (nothing.ok, nothing.counts, nothing.worst) == (False, {}, None)
    assert "nothing to compare" in repr(nothing)
    assert json.loads(json.dumps(nothing.to_dict()))["ok"] is False


def test_a_pass_that_fails_is_refused_with_the_call() -> None:
    with pytest.raises(UsageError, match=r"1 \(Conv2d\): 1x4x4x4 and 4x3x3x3"):
        verify(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)), picture(1, 3, 6, 6))


def test_another_seed_takes_other_numbers() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    recording = record(network, picture(1, 3, 16, 16), wanted=everything)
    values = {verify_recording(recording, seed).worst.torch_value for seed in range(4)}
    assert len(values) == 4
    assert verify_recording(recording, 1).to_dict() == verify_recording(recording, 1).to_dict()


def test_a_large_network_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    network = zoo.get_model("squeezenet1_1", weights=None)
    at_once = verify(network, picture(1, 3, 48, 48), seed=3)
    monkeypatch.setattr(import_module("striate.explain.verify"), "_HELD", 300_000)
    in_parts = verify(network, picture(1, 3, 48, 48), seed=3)
    assert in_parts.to_dict() == at_once.to_dict()
    assert (
        in_parts.to_dict()
        == verify_recording(record(network, picture(1, 3, 48, 48), wanted=everything), seed=3).to_dict()
    )


def test_results_read_well() -> None:
    text = repr(verify(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), picture(1, 3, 6, 6)))
    assert text.startswith("Sequential: 2 numbers of 2 calls recomputed in float64: agrees with torch")
    assert "ReLU 1, convolution 1" in text
