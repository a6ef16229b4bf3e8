"""Where no torch is installed, exports of all three tasks predict what the training environment does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

import striate
from striate import models
from striate.modelfile import ModelCard, write_model
from striate.models.network import Network
from striate.runtime.predictor import Predictor
from striate.runtime.pytorch import PyTorchEngine
from striate.structures import Classification, Detections, Result, Segmentation

pytest.importorskip("onnxscript")

TRAINING = (
    "torch", "torchvision", "timm", "sklearn", "scipy", "hotcoco", "onnx", "onnxscript", "openvino", "nncf",
)  # fmt: skip
PROBABILITY = 1e-5  # by which a probability or score may differ
PIXELS = 1e-2  # by which a side of a box may
SHARE = 1e-3  # of the pixels of a mask whose class may, where two are as likely

NETWORKS = ("resnet", "ssd", "unet_backbone")  # a family of each task


class Prepared(NamedTuple):
    """A folder with an export of each task, pictures, and what the training environment says of them."""

    folder: Path
    expected: dict[str, list[Result]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    from striate.export.targets import onnx

    folder = tmp_path_factory.mktemp("exports")
    paths = pictures(folder / "photos")
    expected = {}
    for name in NETWORKS:
        torch.manual_seed(0)
        family = models.families()[name]
        network: Network = family.build(family.TINY).eval()
        for parameter in network.requires_grad_(False).parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
        onnx.write(network, folder / f"{name}.onnx", card_of(network))
        expected[name] = Predictor(card_of(network), PyTorchEngine(network)).predict(paths)
    return Prepared(folder, expected)


def card_of(network: Network) -> ModelCard:
    settings = msgspec.to_builtins(network.config)
    del settings["classes"], settings["preprocess"]
    return ModelCard(network.task, "tiny", "tiny", settings, network.classes, network.preprocess)


def pictures(folder: Path) -> list[str]:
    """Smooth pictures of odd sizes, one of them gray."""
    folder.mkdir()
    chance, paths = np.random.default_rng(4), []
    for number, size in enumerate([(101, 67), (64, 64), (37, 120), (90, 81)]):
        tiles = Image.fromarray(chance.integers(0, 256, (5, 6, 3), np.uint8))
        image = tiles.resize(size, Image.Resampling.BICUBIC)
        paths.append(str(folder / f"{number}.png"))
        (image.convert("L") if number == 2 else image).save(paths[-1])
    return paths


def without_training(program: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`program` run where none of what training needs can be imported."""
    blocked = f"import sys\nfor name in {TRAINING}: sys.modules[name] = None\n"
    environment = {**os.environ, "PYTHONPATH": str(Path(striate.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, *options, "-c", blocked + program],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )


API = """
import json, pathlib, striate
for name in {names}:
    found = striate.load(f"{{name}}.onnx").predict(sorted(str(p) for p in pathlib.Path("photos").iterdir()))
    print(json.dumps([result.to_dict() for result in found]))
"""

COMMANDS = """
from striate.cli import main
for name in {names}:
    code = main(["predict", f"{{name}}.onnx", "photos", "--out", f"{{name}}.jsonl"])
    assert code == 0, code
"""


def assert_alike(expected: Result, found: Result) -> None:
    """Fail where two results of a picture differ by more than the tolerance of their task."""
    assert type(found) is type(expected)
    if isinstance(expected, Classification) and isinstance(found, Classification):
        assert found.label == expected.label
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=PROBABILITY)
    elif isinstance(expected, Detections) and isinstance(found, Detections):
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=PROBABILITY)
        np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=PIXELS)
    elif isinstance(expected, Segmentation) and isinstance(found, Segmentation):
        assert found.mask.shape == expected.mask.shape
        assert (found.mask != expected.mask).mean() <= SHARE


def test_python_gives_the_results_of_the_training_environment(prepared: Prepared) -> None:
    done = without_training(API.format(names=NETWORKS), prepared.folder)
    assert (done.stderr, done.returncode) == ("", 0)
    for (name, expected), line in zip(prepared.expected.items(), done.stdout.splitlines(), strict=True):
        found = [type(expected[0]).from_dict(row) for row in json.loads(line)]
        assert len(found) == 4, name
        for one, other in zip(expected, found, strict=True):
            assert_alike(one, other)


def test_the_commands_give_the_results_of_the_training_environment(prepared: Prepared) -> None:
    done = without_training(COMMANDS.format(names=NETWORKS), prepared.folder)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr
    for name, expected in prepared.expected.items():
        lines = (prepared.folder / f"{name}.jsonl").read_text("utf-8").splitlines()
        for one, line in zip(expected, lines, strict=True):
            assert_alike(one, type(one).from_dict(json.loads(line)))


def test_what_is_compared_says_something(prepared: Prepared) -> None:
    classified, detected, segmented = prepared.expected.values()
    assert np.ptp([row.probabilities[0] for row in classified if isinstance(row, Classification)]) > 1e-3
    assert sum(len(row) for row in detected) > 10
    assert any(len(np.unique(row.mask)) > 1 for row in segmented if isinstance(row, Segmentation))


def test_no_torch_is_imported_even_where_it_is_installed(prepared: Prepared) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "striate", "predict", "resnet.onnx", "photos", "--json"],
        capture_output=True,
        text=True,
        cwd=prepared.folder,
        env={**os.environ, "PYTHONPATH": str(Path(striate.__file__).parents[1])},
    )
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 4)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in lines}
    assert "onnxruntime" in imported
    assert not {name.partition(".")[0] for name in imported} & set(TRAINING)


def test_a_model_file_says_what_to_install(prepared: Prepared) -> None:
    network = models.families()["resnet"].build(models.families()["resnet"].TINY)
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    write_model(prepared.folder / "model.safetensors", tensors, card_of(network))
    command = "main(['predict', 'model.safetensors', 'photos'])"
    done = without_training(f"from striate.cli import main\nsys.exit({command})", prepared.folder)
    assert done.returncode == 5
    assert done.stderr.endswith("torch is not installed. fix: pip install 'striate[train]'\n")
