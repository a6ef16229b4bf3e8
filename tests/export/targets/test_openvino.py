"""OpenVINO's files: the network's answers, its card, float32 or 8 bits, and nothing reported to anybody."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

import striate
from striate import models
from striate.errors import EnvironmentProblem, ModelError
from striate.export.graph import example_inputs
from striate.export.targets import openvino as target
from striate.modelfile import ModelCard, card_text
from striate.models.network import Network
from striate.runtime.predictor import load
from striate.runtime.unreported import openvino_core

if find_spec("openvino") is None:  # importing it would send a message
    pytest.skip("openvino is not installed", allow_module_level=True)

# A network of each kind of operation that is not a plain convolution: a softmax of anchors, free sizes and
# reflecting pads, recurrences.
FAMILIES = ("resnet", "ssd", "unet", "reseg")


def network_of(name: str) -> Network:
    torch.manual_seed(0)
    family = models.families()[name]
    network: Network = family.build(family.TINY)
    for parameter in network.requires_grad_(False).parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape))
    return network.eval()


def card_of(network: Network) -> ModelCard:
    settings = msgspec.to_builtins(network.config)
    del settings["classes"], settings["preprocess"]
    classes = tuple(
        f'"{name}" <&> \u00e9\u4e2d' for name in network.classes
    )  # which XML and JSON must both survive
    return ModelCard(network.task, "tiny", "tiny", settings, classes, network.preprocess)


def arrays(inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in inputs.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps what `written` wrote: writing takes seconds."""
    return tmp_path_factory.mktemp("openvino")


def written(folder: Path, name: str) -> tuple[Network, Path]:
    """The network of a family, and the .xml of it."""
    network, path = network_of(name), folder / f"{name}.xml"
    if not path.exists():
        target.write(network, path, card_of(network))
    return network, path


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_gives_the_same_answers(name: str, folder: Path) -> None:
    network, path = written(folder, name)
    predictor = load(path)
    assert card_text(predictor.card) == card_text(card_of(network))
    for batch in (1, 3):
        inputs = example_inputs(network, batch, seed=batch)
        with torch.no_grad():
            expected = network.dense(**inputs)
        found = predictor.engine.dense(arrays(inputs))
        assert list(found) == list(expected)
        for key, tensor in expected.items():
            near = 1e-4 * float(tensor.abs().max())
            np.testing.assert_allclose(found[key], tensor.numpy(), rtol=0, atol=near)


def test_two_files_are_written_weights_in_float32_and_the_card_alone_beside(folder: Path) -> None:
    _, path = written(folder, "resnet")
    assert sorted(file.name for file in folder.glob("resnet*")) == ["resnet.bin", "resnet.xml"]
    text = path.read_text()
    assert 'element_type="f16"' not in text
    assert re.findall(r"<(\w+) ", text[text.rindex("<rt_info>") :]) == ["info", "striate"]


def test_an_operation_that_openvino_has_not_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    from striate.export.targets import onnx as onnx_target

    real = onnx_target.write

    def write(network: Network, path: Path, card: ModelCard) -> None:
        real(network, path, card)
        model = onnx.load(path)
        model.graph.node[-1].op_type, model.graph.node[-1].domain = "Unheard", "nobody"
        model.opset_import.add(domain="nobody", version=1)
        onnx.save(model, path)

    monkeypatch.setattr(onnx_target, "write", write)
    network = network_of("resnet")
    with pytest.raises(ModelError, match="OpenVINO cannot read its graph"):
        target.write(network, tmp_path / "model.xml", card_of(network))
    assert list(tmp_path.iterdir()) == []


def test_eight_bits_are_near_the_network_and_keep_the_card(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if find_spec("nncf") is None:
        pytest.skip("nncf is not installed")
    network, path = written(folder, "ssd")
    small = tmp_path / "int8.xml"
    target.quantise(path, small, (arrays(example_inputs(network, 1, seed=seed)) for seed in range(8)))
    assert small.with_suffix(".bin").stat().st_size < 0.5 * path.with_suffix(".bin").stat().st_size
    assert re.search('element_type="i8"', small.read_text())
    predictor = load(small)
    assert card_text(predictor.card) == card_text(card_of(network))
    inputs = example_inputs(network, 2, seed=99)
    with torch.no_grad():
        expected = network.dense(**inputs)
    found = predictor.engine.dense(arrays(inputs))
    difference = np.sort(found["scores"], 1) - np.sort(expected["scores"].numpy(), 1)
    assert np.abs(difference).max() < 0.1
    assert capfd.readouterr().out == ""


def test_what_stands_behind_the_last_convolution_stays_as_it_is(folder: Path) -> None:
    _, path = written(folder, "ssd")
    model = openvino_core().read_model(path)
    kept = set(target._kept(model))
    kinds: dict[bool, set[str]] = {True: set(), False: set()}
    for operation in model.get_ordered_ops():
        kinds[operation.get_friendly_name() in kept].add(operation.get_type_name())
    assert {"Softmax", "Exp", "TopK", "Convert"} <= kinds[True]
    assert {"Convolution", "Relu"} <= kinds[False]
    assert "Convolution" not in kinds[True]


def test_quantising_without_nncf_says_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(
        EnvironmentProblem, match=r"nncf is not installed\. fix: pip install 'striate\[export,openvino"
    ):
        target.quantise(tmp_path / "model.xml", tmp_path / "int8.xml", [])


def test_quantising_reports_nothing(folder: Path, tmp_path: Path) -> None:
    # Under pytest NNCF keeps silent by itself, so this runs outside.
    network, path = written(folder, "resnet")
    shape = tuple(example_inputs(network, 1)["images"].shape)
    program = f"""
import sys, numpy as np
from pathlib import Path
from striate.export.targets import openvino
pictures = [{{"images": np.random.default_rng(0).integers(0, 256, {shape}, np.uint8)}}]
openvino.quantise(Path({str(path)!r}), Path({str(tmp_path / "int8.xml")!r}), pictures)
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry.")))
import nncf.telemetry
print(type(nncf.telemetry.telemetry).__name__)
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PYTHONPATH": str(Path(striate.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    # What NNCF puts in the place of its reporter where there is none.
    assert done.stdout.splitlines()[-2:] == ["[]", "MagicMock"], done.stderr
    assert not (home / "intel").exists()
