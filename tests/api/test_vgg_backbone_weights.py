"""Weights of a VGG for the first segmentation networks, whose fc6 and fc7 come from it too."""

from pathlib import Path

import pytest
import torch

from striate import modelfile, models
from striate.api.starting_weights import InitConfig, begin_with, starting_weights


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VGG16 with 4 to 32 maps and 20 units in fc6 and fc7."""
    torch.manual_seed(0)
    network = models.create("vgg16", 7, width=4, hidden=20)
    path = tmp_path_factory.mktemp("vgg") / "model.safetensors"
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    modelfile.write_model(path, tensors, models.card_of(network))
    return path


@pytest.mark.parametrize(
    ("name", "hidden", "drawn"),
    [
        ("fcn8s", 20, "score_fr, skips, upscore"),
        ("deeplab_v1", 5, "head.fc8"),
        ("deeplab_v2_vgg16", 5, "aspp.c0.fc8, aspp.c1.fc8, aspp.c2.fc8, aspp.c3.fc8"),
    ],
)
def test_all_but_the_layers_that_score_begins_with_vggs(
    vgg_file: Path, name: str, hidden: int, drawn: str
) -> None:
    start = starting_weights(InitConfig(weights=str(vgg_file)), name)
    assert start is not None
    network = models.create(name, 3, width=4, hidden=hidden)
    begun = begin_with(network, start)
    assert (begun.keys.missing, begun.keys.unexpected, begun.keys.wrong_shape) == ((), (), ())
    assert begun.describe()[-1] == f"no part of it, so drawn: {drawn}"
    here, there = network.state_dict(), start.tensors()
    assert torch.equal(here["backbone.trunk.conv5_3.weight"], there["trunk.conv5_3.weight"])
    own = {"fcn8s": "fc6.bias", "deeplab_v1": "head.fc6.bias", "deeplab_v2_vgg16": "aspp.c3.fc6.bias"}
    assert torch.equal(here[own[name]], there["fc6.bias"][:: 20 // hidden])
