"""OpenVINO's own form: the graph in NAME.xml, its weights in NAME.bin beside it."""

import io
import logging
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from striate.errors import EnvironmentProblem, ModelError
from striate.files import staged
from striate.modelfile import CARD_ENTRY, ModelCard, card_text
from striate.runtime.unreported import openvino_core, unreported
from striate.runtime.wiring import told

if TYPE_CHECKING:
    from striate.models.network import Network
    from striate.runtime.engine import Engine

__all__ = ["DESCRIPTION", "INSTALL", "PACKAGES", "SUFFIX", "opened", "quantise", "write"]

SUFFIX = ".xml"
DESCRIPTION = "OpenVINO, for Intel's processors: an .xml and the .bin of its weights beside it"
PACKAGES: tuple[str, ...] = ("torch", "onnx", "onnxscript", "openvino")
INSTALL = "pip install 'striate[export,openvino]'"

_OTHERWISE = "export it to onnx, and run that"


def write(network: "Network", path: Path, card: ModelCard) -> None:
    """Write `network` to `path` and to the .bin beside it, with `card` in the `rt_info`; weights in float32.

    By way of ONNX. Raises ModelError as `targets.onnx.write`, and for a network with an operation that
    OpenVINO has not.
    """
    from striate.export.targets import onnx

    with staged(path) as xml, TemporaryDirectory(dir=xml.parent) as folder:
        graph = Path(folder) / "model.onnx"
        onnx.write(network, graph, card)
        try:
            model = openvino_core().read_model(graph)
        except RuntimeError as error:
            raise ModelError(
                network.name, f"OpenVINO cannot read its graph ({told(error)})", _OTHERWISE
            ) from error
        _save(model, xml, card_text(card))


def opened(path: Path) -> "Engine":
    """What runs the file `path`: OpenVINO, as `striate.load` does."""
    from striate.runtime.engines import openvino

    return openvino.opened(path, "cpu", None, None).engine


def quantise(source: Path, path: Path, batches: Iterable[Mapping[str, NDArray[Any]]]) -> None:
    """Write the graph of `source`, .xml, to `path` with weights and activations of 8 bits.

    After training, by NNCF: weights per channel, ranges of activations from `batches`, each the inputs by
    name. What follows the last convolution stays in float32. Raises EnvironmentProblem without NNCF.
    """
    nncf = _nncf()
    model = openvino_core().read_model(source)
    card = model.get_rt_info([CARD_ENTRY]).astype(str)
    pictures = list(batches)
    kept = nncf.IgnoredScope(names=_kept(model), validate=False)
    # Its log and its progress bars are for people who call it themselves.
    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(io.StringIO()):
        quantised = nncf.quantize(
            model,
            nncf.Dataset(pictures),
            subset_size=len(pictures),
            target_device=nncf.TargetDevice.CPU,
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=kept,
        )
    with staged(path) as xml:
        _save(quantised, xml, card)


def _save(model: Any, path: Path, card: str) -> None:
    """Write `model`, and `card` as the one entry that is not OpenVINO's own."""
    for name in list(model.rt_info):
        del model.rt_info[name]
    model.set_rt_info(card, [CARD_ENTRY])
    unreported("openvino").save_model(model, path, compress_to_fp16=False)


def _nncf() -> Any:
    try:
        return unreported("nncf")
    except ModuleNotFoundError as error:
        if error.name != "nncf":
            raise
        raise EnvironmentProblem("--int8", "nncf is not installed", INSTALL) from None


def _kept(model: Any) -> list[str]:
    """The operations that stay in float32: those before the first and behind the last product of weights.

    Normalisation on one side, on the other what makes boxes and scores, where eight bits are too few.
    """
    operations = model.get_ordered_ops()
    behind: set[str] = set()  # a product, itself included
    for operation in operations:
        sources = (value.get_source_output().get_node() for value in operation.inputs())
        if _is_product(operation) or any(source.get_friendly_name() in behind for source in sources):
            behind.add(operation.get_friendly_name())
    before: set[str] = set()
    for operation in reversed(operations):
        targets = (use.get_node() for value in operation.outputs() for use in value.get_target_inputs())
        if _is_product(operation) or any(target.get_friendly_name() in before for target in targets):
            before.add(operation.get_friendly_name())
    return sorted({operation.get_friendly_name() for operation in operations} - (behind & before))


def _is_product(operation: Any) -> bool:
    return operation.get_type_name() in (
        "Convolution",
        "ConvolutionBackpropData",
        "GroupConvolution",
        "MatMul",
    )
