"""A small resnet18 with weights that do something, its model file, and a small ONNX file without torch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from striate.modelfile import CARD_ENTRY, ModelCard, card_text, write_model
from striate.models import card_of, create
from striate.models.network import Network
from striate.structures import Preprocess

CLASSES = ("ant", "bee", "cow", "dog", "eel")


@pytest.fixture(scope="session")
def network() -> Network:
    """resnet18 for 64x64 pictures, seeded, its batch norms away from the identity."""
    torch.manual_seed(0)
    made = create("resnet18", CLASSES, preprocess={"size": [64, 64], "resize_to": 72})
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return made.eval()


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the model file of a network, with changed tensors or card fields."""

    def written(network: Network, tensors: dict[str, Any] | None = None, **changes: Any) -> Path:
        arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        path = tmp_path / "model.safetensors"
        write_model(path, {**arrays, **(tensors or {})}, replace(card_of(network), **changes))
        return path

    return written


COLORS = ("red", "green", "blue")
WriteOnnx = Callable[..., Path]


@pytest.fixture
def colors_card() -> ModelCard:
    """Of a network that names the strongest channel of an 8x8 picture."""
    return ModelCard("classification", "none", "colors", {}, COLORS, Preprocess(size=(8, 8)))


@pytest.fixture
def write_onnx(tmp_path: Path, colors_card: ModelCard) -> WriteOnnx:
    """Writes a graph whose logits are the mean of each channel over 16, its initialisers `axes` and `weight`.

    `change` gets the ModelProto before it is written; without `card` the file is as another tool leaves it.
    """
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto

    def written(
        name: str = "model.onnx",
        *,
        card: ModelCard | None = colors_card,
        shape: tuple[str | int, ...] = ("batch", 3, 8, 8),
        kind: str = "UINT8",
        names: tuple[str, str] = ("images", "logits"),
        change: Callable[[Any], object] = lambda _: None,
    ) -> Path:
        images, logits = names
        nodes = [
            helper.make_node("Cast", [images], ["values"], to=kinds.FLOAT),
            helper.make_node("ReduceMean", ["values", "axes"], ["means"], keepdims=0),
            helper.make_node("Mul", ["means", "weight"], [logits]),
        ]
        initialisers = [
            onnx.numpy_helper.from_array(np.array([2, 3]), "axes"),
            onnx.numpy_helper.from_array(np.full(3, 1 / 16, np.float32), "weight"),
        ]
        takes = helper.make_tensor_value_info(images, getattr(kinds, kind), shape)
        gives = helper.make_tensor_value_info(logits, kinds.FLOAT, [shape[0], 3])
        graph = helper.make_graph(nodes, "colors", [takes], [gives], initialisers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        if card is not None:
            helper.set_model_props(model, {CARD_ENTRY: card_text(card)})
        change(model)
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return written
