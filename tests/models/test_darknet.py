"""Darknet's files, written here by hand from the layers of a network, come back as the same network."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from striate import models
from striate.errors import ModelError, UsageError
from striate.models import darknet
from striate.models.classification.darknet import Config as Darknet
from striate.models.darknet import read_darknet
from striate.models.detection import yolo_v1, yolo_v2, yolo_v3
from striate.models.network import Network, NetworkConfig

SMALL: dict[str, NetworkConfig] = {
    "darknet53": Darknet(classes=4, form="53", width=0.0625),
    "tiny_yolo_v1": yolo_v1.TINIES["direct"],
    "yolo_v2": yolo_v2.TINY,
    "tiny_yolo_v2": yolo_v2.TINIES["pooled"],
    "yolo_v3": yolo_v3.TINY,
    "tiny_yolo_v3": yolo_v3.TINIES["pooled"],
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Network]:
    """Makes the network of a public name a small one of the same layers, wherever it is asked for."""

    def shrink(name: str) -> Network:
        monkeypatch.setitem(models.family_of(name).VARIANTS, name, SMALL[name])
        torch.manual_seed(3)
        return models.create(name).eval()

    return shrink


def unsettle(network: nn.Module) -> None:
    """Give every tensor values of its own, the statistics of batch norm too."""
    generator = torch.Generator().manual_seed(5)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator) * 0.1
            tensor.copy_(values.abs() + 0.5 if name.endswith("running_var") else tensor + values)


def layers_in_order(module: nn.Module) -> Iterator[nn.Module]:
    """The leaves of a network, as defined."""
    children = list(module.children())
    if not children:
        yield module
    for child in children:
        yield from layers_in_order(child)


def stream(network: nn.Module) -> list[Tensor]:
    """What darknet's save_weights writes, layer by layer: a convolution waits for the norm behind it."""
    found: list[Tensor] = []
    kernel: Tensor | None = None
    for layer in layers_in_order(network):
        if isinstance(layer, nn.Conv2d) and layer.bias is None:
            kernel = layer.weight
        elif isinstance(layer, nn.BatchNorm2d):
            assert kernel is not None
            assert layer.running_mean is not None
            assert layer.running_var is not None
            found += [layer.bias, layer.weight, layer.running_mean, layer.running_var, kernel]
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            found += [layer.bias, layer.weight]
    return found


def written(path: Path, network: nn.Module, version: tuple[int, int, int] = (0, 2, 5)) -> Path:
    seen = struct.pack("<q", 32_013_312) if version[:2] >= (0, 2) else struct.pack("<i", 32_013_312)
    values = b"".join(np.asarray(tensor.detach(), "<f4").tobytes() for tensor in stream(network))
    path.write_bytes(struct.pack("<3i", *version) + seen + values)
    return path


@pytest.mark.parametrize("name", SMALL)
def test_a_written_network_comes_back_with_its_outputs(
    small: Callable[[str], Network], name: str, tmp_path: Path
) -> None:
    network = small(name)
    unsettle(network)
    found = read_darknet(written(tmp_path / "net.weights", network), name)
    other = models.create(name).eval()
    other.load_state_dict(found.state_dict)
    images = torch.randint(0, 256, (2, 3, *network.preprocess.size), dtype=torch.uint8)
    for output, expected in network.dense(images).items():
        assert torch.equal(other.dense(images)[output], expected)
    assert found.classes == len(network.classes)
    assert set(found.names.values()) | {n for n in found.state_dict if n.endswith("tracked")} == set(
        network.state_dict()
    )


def test_files_before_version_0_2_count_pictures_in_four_bytes(
    small: Callable[[str], Network], tmp_path: Path
) -> None:
    network = small("tiny_yolo_v2")
    file = written(tmp_path / "old.weights", network, version=(0, 1, 0))
    found = read_darknet(file, "tiny_yolo_v2").state_dict
    assert torch.equal(found["output.weight"], network.state_dict()["output.weight"])


def test_names_say_what_a_value_was_in_the_file(small: Callable[[str], Network], tmp_path: Path) -> None:
    network = small("yolo_v2")
    names = read_darknet(written(tmp_path / "net.weights", network), "yolo_v2").names
    first = {there.partition(" 1 ")[2]: here for there, here in names.items() if " 1 " in there}
    assert list(first) == ["biases", "scales", "means", "variances", "weights"]
    assert first["biases"] == "backbone.trunk.stage1.0.norm.bias"
    assert first["weights"] == "backbone.trunk.stage1.0.conv.weight"
    assert list(names)[-1].startswith("convolution 23 ")  # of YOLO v2's 23
    assert names["convolution 23 weights"] == "output.weight"


@pytest.mark.parametrize("change", [-4, -1, 1, 4, 400])
def test_a_file_of_another_length_is_refused_before_it_is_read(
    small: Callable[[str], Network], monkeypatch: pytest.MonkeyPatch, change: int, tmp_path: Path
) -> None:
    file = written(tmp_path / "net.weights", small("tiny_yolo_v3"))
    content = file.read_bytes()
    file.write_bytes(content[:change] if change < 0 else content + bytes(change))
    monkeypatch.setattr(np, "fromfile", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ModelError, match="bytes of weights; tiny_yolo_v3 with 3 classes has") as caught:
        read_darknet(file, "tiny_yolo_v3")
    assert "use an intact copy" in caught.value.fix
    assert str(file) in caught.value.where


def test_a_file_for_another_number_of_classes_says_which(
    small: Callable[[str], Network], tmp_path: Path
) -> None:
    small("yolo_v3")
    file = written(tmp_path / "net.weights", models.create("yolo_v3", classes=7))
    with pytest.raises(ModelError, match="for 7 classes it has the right length"):
        read_darknet(file, "yolo_v3")
    assert read_darknet(file, "yolo_v3", classes=7).classes == 7


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0\2\0", b"PK\3\4" * 5, struct.pack("<3iq", 0, 2000, 5, 0)])
def test_what_is_no_darknet_file_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "net.weights"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"too short for a darknet file|which no darknet network here has"):
        read_darknet(file, "tiny_yolo_v2")


def test_a_network_that_darknet_never_had_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tiny_yolo_v3"):
        read_darknet(tmp_path / "net.weights", "yolo_v2_mobilenet_v2")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.weights: cannot be read"):
        read_darknet(tmp_path / "none.weights", "tiny_yolo_v2")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        # The sizes of the published files, yolov3.weights 248,007,048 and yolov3-tiny.weights 35,434,956, say
        # the same: a header and four bytes a value, running statistics included.
        ("yolo_v3", (248_007_048 - 20) // 4),
        ("tiny_yolo_v3", (35_434_956 - 20) // 4),
    ],
)
def test_published_files_have_the_length_that_is_asked_for(name: str, values: int) -> None:
    from striate.models.unweighted import unweighted

    with unweighted():
        network = models.create(name)
    assert sum(tensor.numel() for tensor in stream(network)) == values


def test_every_name_in_the_list_is_a_network() -> None:
    assert set(darknet.MODELS) <= models.variants().keys()
