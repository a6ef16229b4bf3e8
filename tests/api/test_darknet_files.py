"""Files that darknet wrote become model files."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import striate
from striate import api, models
from striate.errors import ModelError, UsageError
from striate.modelfile import read_tensors
from striate.models.detection import yolo_v2
from striate.models.network import Network

NAME = "tiny_yolo_v2"


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """A small network of the layers of `tiny_yolo_v2`, which is now that name's default."""
    monkeypatch.setitem(yolo_v2.VARIANTS, NAME, yolo_v2.TINIES["pooled"])
    torch.manual_seed(1)
    return models.create(NAME).eval()


@pytest.fixture
def file(network: Network, tmp_path: Path) -> Path:
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    values: list[torch.Tensor] = []
    for convolution, norm in zip(convolutions, norms, strict=False):  # the last one has no norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        values += [norm.bias, norm.weight, norm.running_mean, norm.running_var, convolution.weight]
    last = convolutions[-1]
    assert last.bias is not None
    values += [last.bias, last.weight]
    path = tmp_path / "tiny.weights"
    stream = b"".join(np.asarray(tensor.detach(), "<f4").tobytes() for tensor in values)
    path.write_bytes(struct.pack("<3iq", 0, 2, 5, 64) + stream)
    return path


def test_the_model_file_has_the_networks_values(network: Network, file: Path, tmp_path: Path) -> None:
    report = api.convert(file, out=tmp_path / "out", model=NAME, classes=("cat", "dog", "bird"))
    assert (report.model, report.source, report.recognised) == (NAME, "darknet", False)
    assert report.names["convolution 1 scales"] == "backbone.trunk.stage1.0.norm.weight"
    assert report.matched == len(report.names) == 8 * 5 + 2
    assert striate.load(tmp_path / "out").classes == ("cat", "dog", "bird")
    found = read_tensors(Path(report.path))
    assert found.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


def test_without_a_model_its_name_is_asked_for(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no names and no shapes.*--model"):
        api.convert(file, out=tmp_path / "out")


def test_a_source_of_names_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--source torchvision"):
        api.convert(file, out=tmp_path / "out", model=NAME, source="torchvision")


def test_nothing_is_written_for_a_file_cut_short(file: Path, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ModelError, match="bytes of weights"):
        api.convert(file, out=tmp_path / "out", model=NAME)
    assert not (tmp_path / "out").exists()
