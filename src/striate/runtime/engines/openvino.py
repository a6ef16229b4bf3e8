"""OpenVINO runs its own files, NAME.xml with NAME.bin beside it, and ONNX files; it needs no torch."""

import io
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from striate.data.plain_xml import element_of
from striate.errors import DataError, ModelError, UsageError
from striate.modelfile import CARD_ENTRY, ModelCard
from striate.runtime._cores import usable_cores
from striate.runtime._onnx_file import read_onnx
from striate.runtime.engine import Opened
from striate.runtime.unreported import openvino_core, unreported
from striate.runtime.wiring import Port, chosen_card, told, wired

__all__ = ["INSTALL", "PACKAGE", "READS", "SUFFIXES", "OpenVinoEngine", "opened"]

SUFFIXES: tuple[str, ...] = (".xml",)
READS: tuple[str, ...] = (".onnx",)
PACKAGE = "openvino"
INSTALL = "pip install 'striate[openvino]'"

_MOST_XML = 64 << 20  # bytes; a network of a thousand layers takes two million
_TYPES = {"u8": "uint8", "f16": "float16", "f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64"}
_CARD_PLACES = (
    CARD_ENTRY,
    f"framework/{CARD_ENTRY}",
)  # the second: as OpenVINO keeps the metadata of an ONNX
_INTACT = "use an intact copy, or export it again"


class _File(NamedTuple):
    """A file looked through, and what OpenVINO is given of it."""

    path: Path
    card: str | None
    content: bytes  # of the XML or the ONNX
    weights: NDArray[np.uint8] | None  # of the .bin


def opened(path: Path, device: str, made_by: str | None, card: ModelCard | None) -> Opened:
    """The graph of `path`, .xml or .onnx, on the CPU (`device` "auto" or "cpu"), in full float32.

    Its card is in its `rt_info` or metadata; `card` stands in for it in a file of another tool, whose graph
    takes pixels, or pictures normalised as that card says, and gives logits. Raises ModelError where the file
    is damaged, reaches outside itself and the .bin beside it, has no card, or another's.
    """
    if made_by is not None:
        raise UsageError(f"model {made_by}", f"{path} holds its network itself", "leave it out")
    if device not in ("auto", "cpu"):
        raise UsageError(f"device {device!r}", "OpenVINO computes on the CPU here", "use auto or cpu")
    openvino = unreported(PACKAGE)
    file = _read_ir(path) if path.suffix.lower() in SUFFIXES else _read_onnx(path)
    found = chosen_card(path, file.card, card)
    return Opened(OpenVinoEngine(openvino, file, found), found)


class OpenVinoEngine:
    """Runs a graph in OpenVINO. Calls from several threads do not disturb it, and share its weights."""

    def __init__(self, openvino: Any, file: _File, card: ModelCard) -> None:
        self._lanes = usable_cores()
        self._file = file  # whose weights the compiled graph may go on reading
        compiled = _compiled(openvino, file, self._lanes)
        inputs, outputs = ([_port(port) for port in ports] for ports in (compiled.inputs, compiled.outputs))
        self._wiring = wired(card, inputs, outputs, file.path)
        self._outputs = {port.name: number for number, port in enumerate(outputs)}
        self._free: SimpleQueue[Any] = SimpleQueue()  # requests that no thread uses
        for _ in range(self._lanes):
            self._free.put(compiled.create_infer_request())

    @property
    def lanes(self) -> int:
        """As many as there are cores: each call computes on one."""
        return self._lanes

    def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The dense outputs by name for `images` (B, C, H, W) uint8 and further inputs.

        Raises ModelError where the graph cannot take them.
        """
        return self._wiring.run(inputs, self._call)

    def _call(self, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        request = self._free.get()
        try:
            found = request.infer(arrays, share_inputs=True, share_outputs=False)
            return {name: found[number] for name, number in self._outputs.items()}
        except RuntimeError as error:
            raise self._wiring.failed(arrays, error) from error
        finally:
            self._free.put(request)


def _compiled(openvino: Any, file: _File, lanes: int) -> Any:
    """The file's graph made ready for `lanes` calls side by side, each in a thread of its own."""
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # on some processors bfloat16 is the default
        "NUM_STREAMS": lanes,
        "INFERENCE_NUM_THREADS": lanes,
        # Threads held to cores would meet those of another process on the first ones.
        "ENABLE_CPU_PINNING": False,
    }
    core = openvino_core()
    try:
        if file.weights is None:
            model = core.read_model(io.BytesIO(file.content))
        else:
            weights = openvino.Tensor(file.weights, shared_memory=True)
            model = core.read_model(str(file.content, "utf-8"), weights)
        return core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise ModelError(
            file.path, f"OpenVINO cannot run it ({told(error)})", "export it again, or use --engine"
        ) from error


def _port(port: Any) -> Port:
    kind, shape = port.get_element_type().get_type_name(), port.get_partial_shape()
    known = None if shape.rank.is_dynamic else tuple(None if n.is_dynamic else n.get_length() for n in shape)
    name = port.get_any_name() if port.get_names() else "without a name"
    return Port(name, _TYPES.get(kind, kind), known)


def _read_onnx(path: Path) -> _File:
    file = read_onnx(path)
    return _File(path, file.metadata.get(CARD_ENTRY), file.content, None)


def _read_ir(path: Path) -> _File:
    """The graph in `path` and the weights beside it. Raises ModelError where they do not belong together."""
    beside = path.with_suffix(".bin")
    if beside.resolve().parent not in (path.parent.resolve(), path.resolve().parent) or not beside.is_file():
        raise ModelError(path, f"its weights, {beside.name}, are not beside it", "put both into one folder")
    try:
        if path.stat().st_size > _MOST_XML:
            raise ModelError(path, "it is too large for a graph in XML", _INTACT)
        content = path.read_bytes()
        weights = np.fromfile(beside, np.uint8)
        root = element_of(content, str(path))
        content.decode()  # OpenVINO takes it as UTF-8
    except OSError as error:
        raise ModelError(path, f"cannot be read ({error})", "check the path and its permissions") from None
    except DataError as error:
        raise ModelError(path, error.what, _INTACT) from None
    except UnicodeDecodeError:
        raise ModelError(path, "it is not written in UTF-8", _INTACT) from None
    if root.tag != "net":
        raise ModelError(path, f"it is XML of another kind, <{root.tag}>", "give a file that OpenVINO wrote")
    needed = _bytes_needed(root, path)
    if needed != weights.size:
        raise ModelError(
            path,
            f"its graph has {needed:,} bytes of weights, {beside.name} has {weights.size:,}",
            "put the two files together that were written together",
        )
    places = (root.find(f"rt_info/{place}") for place in _CARD_PLACES)
    card = next((found.get("value") for found in places if found is not None), None)
    return _File(path, card, content, weights)


def _bytes_needed(root: Element, path: Path) -> int:
    """Where the last of the graph's constants ends in the .bin, from 0."""
    ends = [0]
    for data in root.iter("data"):
        offset, size = data.get("offset"), data.get("size")
        if offset is not None and size is not None:
            if not (offset.isdecimal() and size.isdecimal()):
                raise ModelError(path, f"a constant lies at {offset!r}, size {size!r}", _INTACT)
            ends.append(int(offset) + int(size))
    return max(ends)
