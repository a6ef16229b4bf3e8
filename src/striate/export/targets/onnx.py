"""ONNX: one file for ONNX Runtime, OpenVINO and whatever else reads the open format."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import ModelError, first_line
from striate.export.onnx_int8 import quantise
from striate.files import atomic_write
from striate.modelfile import CARD_ENTRY, ModelCard, card_text

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.export import ExportedProgram
    from torch.onnx import ONNXProgram

    from striate.models.network import Network
    from striate.runtime.engine import Engine

__all__ = ["DESCRIPTION", "INSTALL", "OPSET", "PACKAGES", "SUFFIX", "model_of", "opened", "quantise", "write"]

SUFFIX = ".onnx"
DESCRIPTION = "ONNX, for ONNX Runtime and whatever else reads it; run by striate without torch"
PACKAGES: tuple[str, ...] = ("torch", "onnx", "onnxscript")
INSTALL = "pip install 'striate[export]'"

# Torch's own choice: its translations are made for 18 and raised to this. Later ones bring nothing that
# networks of convolutions use, and fewer runtimes read them.
OPSET = 20

_AXES = ("batch", "channels", "height", "width")

_LARGEST = 2**31 - 2**20  # bytes of weights; a protobuf ends at 2 GiB, and the graph has to fit in as well


def write(network: "Network", path: Path, card: ModelCard) -> None:
    """Write `network` to `path` as one ONNX file, whole or not at all, as `model_of` says."""
    with atomic_write(path) as file:
        file.write(model_of(network, card).SerializeToString())


def model_of(network: "Network", card: ModelCard) -> "ModelProto":
    """`network` as an ONNX model with `card` in its metadata.

    Takes `images` (B, C, H, W) uint8, and `proposals` (B, P, 4) float32 where the network does; gives its
    dense outputs. The batch is free, and so are height and width where the preprocessing gives pictures of
    several sizes. In float32, whatever the weights are. Raises ModelError for a network that cannot be
    followed by torch's tracer, has an operation that ONNX has not, or is too large for one file.
    """
    _refuse_too_large(network)
    from striate.export.graph import input_names, output_names, traced

    program = _translated(network, traced(network), input_names(network), output_names(network))
    model = program.model_proto
    _tidy(model)
    model.metadata_props.add(key=CARD_ENTRY, value=card_text(card))
    return model


def opened(path: Path) -> "Engine":
    """What runs the file `path`: ONNX Runtime, as `striate.load` does."""
    from striate.runtime.engines import onnxruntime

    return onnxruntime.opened(path, "cpu", None, None).engine


def _refuse_too_large(network: "Network") -> None:
    size = 4 * sum(tensor.numel() for tensor in network.state_dict().values())
    if size > _LARGEST:
        raise ModelError(
            network.name,
            f"its weights take {size / 2**30:.1f} GiB, and an ONNX file holds less than 2 GiB",
            "export it with --to torch, or choose a smaller network",
        )


def _translated(
    network: "Network", program: "ExportedProgram", inputs: Sequence[str], outputs: Sequence[str]
) -> "ONNXProgram":
    """`program` in ONNX's operations. Raises ModelError naming one that ONNX has not."""
    import torch
    from torchvision import ops  # noqa: F401 - with it torch knows the operation below

    from striate.export.graph import quiet

    try:
        with quiet():
            translated = torch.onnx.export(
                program,
                input_names=inputs,
                output_names=outputs,
                opset_version=OPSET,
                custom_translation_table={torch.ops.torchvision.roi_pool.default: _max_roi_pool},
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise _untranslatable(network, error) from error
    assert translated is not None  # only where a file was named
    return translated


def _untranslatable(network: "Network", error: BaseException) -> ModelError:
    """What to tell of an `error` of the translation, whose innermost cause says what it was."""
    while error.__cause__ is not None:
        error = error.__cause__
    if missing := re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error)):
        what, fix = f"ONNX has no operation for torch's {missing[1]}", "use others in its code, or --to torch"
    else:
        what, fix = f"it cannot be put in ONNX's operations ({first_line(error)})", "write it with --to torch"
    return ModelError(network.name, what, fix)


def _max_roi_pool(maps: Any, rows: Any, scale: float, height: int, width: int) -> tuple[Any, Any]:
    """torchvision's RoI pooling in ONNX: what is pooled, and in the place of where it was found the same.

    That is for the gradient alone, and nothing of it stays in the graph. Torch's own translation expects
    other arguments than the operation has (onnxscript 0.7).
    """
    from onnxscript import opset18

    pooled = opset18.MaxRoiPool(maps, rows, pooled_shape=(height, width), spatial_scale=scale)
    return pooled, pooled


def _tidy(model: "ModelProto") -> None:
    """Name the free axes of `model`, and take out what the exporter noted of the code and where it lies."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    for part in (graph, *graph.node, *graph.initializer, *values):
        part.ClearField("metadata_props")
    names: dict[str, str] = {}
    for value in graph.input:
        for axis, length in zip(_AXES, value.type.tensor_type.shape.dim, strict=False):
            if length.dim_param:
                names.setdefault(length.dim_param, axis)
    for value in values:
        for length in value.type.tensor_type.shape.dim:
            if length.dim_param:
                length.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), length.dim_param)
