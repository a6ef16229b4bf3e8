"""ONNX Runtime runs ONNX files; it comes with striate itself and needs no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from striate.errors import EnvironmentProblem, ModelError, UsageError
from striate.modelfile import CARD_ENTRY, ModelCard
from striate.runtime._cores import usable_cores
from striate.runtime._onnx_file import OnnxFile, read_onnx
from striate.runtime.engine import Opened
from striate.runtime.wiring import Port, chosen_card, told, wired

__all__ = ["INSTALL", "PACKAGE", "READS", "SUFFIXES", "OnnxRuntimeEngine", "opened"]

SUFFIXES: tuple[str, ...] = (".onnx",)
READS: tuple[str, ...] = ()
PACKAGE = "onnxruntime"
INSTALL = "pip install onnxruntime"

_FATAL = 4  # of ONNX Runtime's log; what goes wrong is raised too
_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}


def opened(path: Path, device: str, made_by: str | None, card: ModelCard | None) -> Opened:
    """The graph of the ONNX file `path` on `device`: "auto", "cpu", "cuda" or "cuda:1".

    Its card is in its metadata; `card` stands in for it in a file of another tool, whose graph takes
    pixels, or pictures normalised as that card says, and gives logits. Raises ModelError where the file is
    damaged, reaches outside itself, has no card, or another's; EnvironmentProblem without such a device.
    """
    if made_by is not None:
        raise UsageError(f"model {made_by}", f"{path} holds its network itself", "leave it out")
    file = read_onnx(path)
    found = chosen_card(path, file.metadata.get(CARD_ENTRY), card)
    engine = OnnxRuntimeEngine(file, found, device)
    return Opened(engine, found)


class OnnxRuntimeEngine:
    """Runs a graph in ONNX Runtime. Calls from several threads do not disturb it, and share its weights.

    On the CPU a call computes in the thread that makes it, so that as many side by side as there are cores
    keep each of them busy; on CUDA one call at a time fills the device.
    """

    def __init__(self, file: OnnxFile, card: ModelCard, device: str = "auto") -> None:
        self._session = _session(file, device)
        self._lanes = 1 if device.startswith("cuda") else usable_cores()
        inputs, outputs = map(_ports, (self._session.get_inputs(), self._session.get_outputs()))
        self._wiring = wired(card, inputs, outputs, file.path)
        self._names = [port.name for port in self._wiring.outputs.values()]

    @property
    def lanes(self) -> int:
        """Cores on the CPU, 1 on CUDA."""
        return self._lanes

    def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The dense outputs by name for `images` (B, C, H, W) uint8 and further inputs.

        Raises ModelError where the graph cannot take them.
        """
        return self._wiring.run(inputs, self._call)

    def _call(self, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            found = self._session.run(self._names, arrays)
        except Exception as error:  # its classes share no other base
            raise self._wiring.failed(arrays, error) from error
        return dict(zip(self._names, found, strict=True))


def _session(file: OnnxFile, device: str) -> Any:
    """The file's graph made ready on `device`, silent, and without a thread that waits by spinning."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    for key, value in _ENTRIES.items():
        options.add_session_config_entry(key, value)
    provider = _provider(device, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(
            file.content, options, [provider], enable_fallback=0, read_config_from_model=0
        )
    except Exception as error:  # its classes share no other base
        raise ModelError(
            file.path, f"ONNX Runtime cannot run it ({told(error)})", "export it again"
        ) from error
    if provider[0] not in session.get_providers():
        raise EnvironmentProblem(
            f"device {device!r}", f"{provider[0]} does not start here", "use auto or cpu, or mend CUDA"
        )
    # It would keep the file's bytes, in case it had to begin anew elsewhere, which it must not.
    session._model_bytes = None
    return session


_ENTRIES = {
    # Bytes that could be read as the runtime's own format were not looked through as such.
    "session.load_model_format": "ONNX",
    "session.intra_op.allow_spinning": "0",
    "session.inter_op.allow_spinning": "0",
}


def _provider(device: str, available: list[str]) -> tuple[str, dict[str, str]]:
    """ONNX Runtime's name of `device`, with its options. Raises EnvironmentProblem without it."""
    kind, _, number = device.partition(":")
    if device in ("auto", "cpu"):
        return "CPUExecutionProvider", {}
    if kind != "cuda" or (number and not number.isdecimal()):
        raise UsageError(
            f"device {device!r}",
            "ONNX Runtime computes on cpu, cuda and cuda:1",
            "use auto, or --engine pytorch",
        )
    if "CUDAExecutionProvider" not in available:
        raise EnvironmentProblem(
            f"device {device!r}",
            "this ONNX Runtime is built without CUDA",
            "use auto or cpu, or pip install onnxruntime-gpu in place of onnxruntime",
        )
    # Ten bits of mantissa are too few for the answers of the CPU.
    return "CUDAExecutionProvider", {"device_id": number or "0", "use_tf32": "0"}


def _ports(nodes: list[Any]) -> list[Port]:
    return [Port(node.name, _TYPES.get(node.type, node.type), _shape(node.shape)) for node in nodes]


def _shape(shape: Any) -> tuple[int | None, ...] | None:
    """ONNX Runtime's shape, in which free lengths are names; an unknown number of axes is told as none."""
    return tuple(length if isinstance(length, int) else None for length in shape) or None
