"""Weights that torchvision publishes: which, how they are checked, what comes along. No network is used."""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from striate import models
from striate.errors import EnvironmentProblem, ModelError, UnknownName
from striate.models.published import Published, find_published, published_models
from striate.models.unweighted import unweighted

Place = Callable[..., Published]


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of torch's hub, empty, and a network that is not there."""
    before = torch.hub.get_dir()

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub"
    torch.hub.set_dir(before)


@pytest.fixture
def place(hub: Path) -> Place:
    """Puts a state dict where the hub has the weights of `model`, their name with its own hash in it."""

    def put(model: str, state_dict: dict[str, Any]) -> Published:
        found = find_published(model)
        folder = hub / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(state_dict, folder / "new")
        digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
        named = replace(found, url=found.url.replace(found.sha256, digest[:8]))
        (folder / "new").rename(named.path)
        return named

    return put


SMALL = ("googlenet_bn", "mobilenet_v2", "mobilenet_v3_small", "resnet18", "shufflenet_v2_0.5")


def test_torchvisions_tensors_have_the_names_and_shapes_of_ours_after_the_key_map() -> None:
    there = {name: shapes(torchvision.models.get_model(_there(name), **_aux(name))) for name in SMALL}
    for name, tensors in there.items():
        given = {key: torch.zeros(shape, device="meta") for key, shape in tensors.items()}
        source = models.family_of(name).from_torchvision(given)
        with unweighted():
            assert {key: tuple(value.shape) for key, value in source.items()} == shapes(
                models.create(name)
            ), name


def shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _there(name: str) -> str:
    return {"googlenet_bn": "googlenet", "shufflenet_v2_0.5": "shufflenet_v2_x0_5"}.get(name, name)


def _aux(name: str) -> dict[str, bool]:
    return {"aux_logits": True, "init_weights": False} if name == "googlenet_bn" else {}


def test_all_families_that_torchvision_has_are_listed() -> None:
    found = set(published_models())
    assert {"alexnet", "vgg16", "vgg19_bn", "resnet50", "resnet152", "mobilenet_v3_large"} <= found
    assert {"googlenet_bn", "shufflenet_v2", "shufflenet_v2_1.5", "shufflenet_v2_2"} <= found
    # The paper's GoogLeNet and ResNet v1 are other networks than torchvision's of that name.
    assert not {"googlenet", "resnet50_v1", "alexnet_2012", "mobilenet_v1", "lenet5"} & found


def test_the_newest_is_taken_unless_a_version_is_named() -> None:
    newest, first = find_published("resnet50"), find_published("resnet50", "IMAGENET1K_V1")
    assert (newest.version, newest.preprocess.resize_to) == ("IMAGENET1K_V2", 232)
    assert (first.version, first.preprocess.resize_to) == ("IMAGENET1K_V1", 256)
    assert newest.url != first.url
    with pytest.raises(UnknownName, match="did you mean IMAGENET1K_V2 or IMAGENET1K_V1"):
        find_published("resnet50", "IMAGENET1K_V3")


def test_weights_without_a_classifier_are_not_offered() -> None:
    with pytest.raises(UnknownName, match="there is no 'IMAGENET1K_FEATURES'"):
        find_published("vgg16", "IMAGENET1K_FEATURES")


def test_a_network_that_nobody_publishes_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"torchvision publishes none for lenet5\. fix: choose one of alexnet"
    ):
        find_published("lenet5")


def test_classes_and_preprocessing_are_those_that_torchvision_states() -> None:
    found = find_published("resnet18")
    assert (len(found.classes), found.classes[0], found.classes[-1]) == (1000, "tench", "toilet tissue")
    spec = found.preprocess
    assert (spec.size, spec.fit, spec.resize_to, spec.interpolation) == ((224, 224), "crop", 256, "bilinear")
    assert (spec.mean, spec.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_googlenets_weights_want_pictures_between_minus_one_and_one() -> None:
    spec = find_published("googlenet_bn").preprocess
    assert spec.mean == spec.std == (0.5, 0.5, 0.5)


def test_a_cached_file_is_read_under_our_names(place: Place) -> None:
    torch.manual_seed(0)
    there = torchvision.models.mobilenet_v2()
    found = place("mobilenet_v2", there.state_dict()).state_dict()
    torch.testing.assert_close(found["trunk.stem.conv.weight"], there.features[0][0].weight.detach())
    torch.testing.assert_close(found["classifier.linear.bias"], there.classifier[1].bias.detach())
    assert set(found) == set(models.create("mobilenet_v2").state_dict())


def test_googlenet_gives_torchvisions_outputs_with_its_own_turned_pictures(place: Place) -> None:
    torch.manual_seed(0)
    there = torchvision.models.googlenet(aux_logits=True, init_weights=False, transform_input=True).eval()
    found = place("googlenet_bn", there.state_dict())
    here = models.create("googlenet_bn", preprocess={"mean": (0.5,) * 3, "std": (0.5,) * 3}).eval()
    here.load_state_dict(found.state_dict())
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        theirs = there((images / 255 - mean) / std)
        torch.testing.assert_close(here.dense(images)["logits"], theirs, atol=1e-4, rtol=1e-4)


def test_a_damaged_file_is_refused_before_it_is_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    found = place("resnet18", {})
    found.path.write_bytes(b"not what its name says")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ModelError, match=r"does not begin with .* fix: delete it"):
        found.state_dict()


def test_weights_of_another_shape_are_refused(place: Place) -> None:
    with pytest.raises(ModelError, match=r"these weights are not those of resnet18: .* tensors fit"):
        place("resnet18", torchvision.models.resnet34().state_dict()).state_dict()


def test_without_a_network_the_address_and_the_way_are_named(hub: Path) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        find_published("resnet18").state_dict()
    assert caught.value.where == "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert "Name or service not known" in caught.value.what
    assert caught.value.fix.endswith(f"put a copy at {hub}/checkpoints/resnet18-f37072fd.pth")


def test_what_arrives_with_another_hash_is_not_kept(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = hub.parent / "resnet18-f37072fd.pth"
    source.write_bytes(b"something else")
    monkeypatch.undo()  # an address of a file needs no network
    found = replace(find_published("resnet18"), url=source.as_uri())
    with pytest.raises(EnvironmentProblem, match="what was fetched is damaged"):
        found.state_dict()
    assert not found.path.exists()
