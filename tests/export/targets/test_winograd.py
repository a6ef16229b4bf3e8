"""ONNX by Winograd: the file is the network, and one that gains nothing is refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import striate
from striate import models
from striate.errors import ModelError
from striate.export.proof import Examination
from striate.export.targets.winograd import write
from striate.modelfile import card_text
from striate.models.network import Network
from striate.runtime.predictor import Predictor
from striate.runtime.pytorch import PyTorchEngine
from striate.structures import Sample


def spread(network: Network) -> Network:
    """`network` in evaluation mode with statistics that keep what it says of noise apart."""
    torch.manual_seed(1)
    for module in network.requires_grad_(False).modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_file_says_what_the_network_says(engine: str, tmp_path: Path) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    network = spread(models.create("resnet18"))
    path, card = tmp_path / "model.onnx", models.card_of(network)

    write(network, path, card)

    graph = onnx.load(path).graph
    assert sum(node.op_type == "Conv" for node in graph.node) == 20 - 9  # those of 128 maps and more
    photos = [
        Sample(f"noise {number}", np.random.default_rng(number).integers(0, 256, (90, 120, 3), np.uint8))
        for number in range(3)
    ]
    export = striate.load(path, "cpu", engine=engine)
    examination = Examination(Predictor(card, PyTorchEngine(network)), export)
    told, _ = examination.compare(photos)
    examination.compare_alone(photos, told)
    assert examination.agreement().problems == ()
    assert card_text(export.card) == card_text(card)


def test_a_network_that_gains_nothing_is_refused(tmp_path: Path) -> None:
    network = models.create("mobilenet_v2").eval()

    with pytest.raises(ModelError, match="no large 3x3 convolution") as caught:
        write(network, tmp_path / "model.onnx", models.card_of(network))

    assert caught.value.fix == "export it with --to onnx"
    assert not list(tmp_path.iterdir())
