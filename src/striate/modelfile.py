"""The model file: tensors in safetensors, and one JSON entry that says what they are.

No pickle, no code, no path: a name from the closed list of families, its config, the class names, the
preprocessing, and where it all came from. Everything is checked before a tensor is allocated.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError, UsageError
from striate.files import atomic_write
from striate.structures import Preprocess

__all__ = [
    "CARD_ENTRY",
    "MODEL_FILE",
    "ModelCard",
    "card_from_text",
    "card_text",
    "find_model_file",
    "read_card",
    "read_shapes",
    "read_tensors",
    "write_model",
]

MODEL_FILE = "model.safetensors"
FORMAT_VERSION = 1
CARD_ENTRY = "striate"
"""The key of the card in the metadata of a model file, and of an export."""
_MAX_HEADER = 64 << 20  # bytes; the largest network here needs less than one
_ARCHIVE = ".pt2"
_PICKLED = (".pt", ".pth", ".th", ".ckpt", ".pkl", ".bin", ".tar")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Everything about a model but its tensors; the same in a model file and in an export."""

    task: str  # "classification"
    family: str  # file in models/<task>/: "resnet"
    variant: str  # public name: "resnet18"
    config: dict[str, Any]  # the family's own settings, without classes and preprocess
    classes: tuple[str, ...]
    preprocess: Preprocess
    context: int = 0  # pixels around one that its output hangs on; 0: all of them, or not known
    metrics: dict[str, float] = field(default_factory=dict)  # measured when it was saved
    data: dict[str, Any] = field(default_factory=dict)  # where the training data was and its fingerprint
    versions: dict[str, str] = field(default_factory=dict)  # of striate and the libraries
    licence: str = ""
    format_version: int = FORMAT_VERSION


def write_model(path: Path, tensors: Mapping[str, NDArray[Any]], card: ModelCard) -> None:
    """Write `tensors` and `card` to `path`, whole or not at all."""
    from safetensors.numpy import save

    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    with atomic_write(path) as file:
        file.write(save(contiguous, metadata={CARD_ENTRY: card_text(card)}))


def find_model_file(place: Path) -> Path:
    """The model file that `place` means: itself, or the `model.safetensors` of a folder.

    Raises ModelError for anything else, with the way to convert pickled weights.
    """
    if place.is_dir():
        inside = place / MODEL_FILE
        if inside.is_file():
            return inside
        raise ModelError(place, f"this folder has no {MODEL_FILE}", "give a run folder or a model file")
    if place.suffix.lower() == _ARCHIVE:
        raise ModelError(
            place,
            "a torch.export archive is for torch alone; parts of it are pickled, and can run code",
            "give the model file that it was made of",
        )
    if place.suffix.lower() in _PICKLED:
        raise ModelError(
            place,
            "pickled weights can run code, so they are not loaded",
            f"striate convert {place} --model NAME --out FOLDER",
        )
    if not place.is_file():
        raise ModelError(
            place, "there is no such file or folder", "give a run folder, a model file or a name"
        )
    return place


def read_card(path: Path) -> ModelCard:
    """The card in a model file; its tensors are not read. Raises ModelError if it is not one of ours."""
    metadata = _header(path).get("__metadata__", {})
    if CARD_ENTRY not in metadata:
        raise ModelError(
            path,
            "this safetensors file holds weights only",
            f"tell which network they are for: striate convert {path} --model NAME --out FOLDER",
        )
    return card_from_text(metadata[CARD_ENTRY], path)


def card_text(card: ModelCard) -> str:
    """`card` as the JSON text that a model file and an export carry."""
    return json.dumps(msgspec.to_builtins(card), allow_nan=False, sort_keys=True)


def card_from_text(text: str, path: Path) -> ModelCard:
    """The card that `text`, found in `path`, spells. Raises ModelError naming the file where it is none."""
    try:
        fields = json.loads(text)
        if fields.get("format_version") != FORMAT_VERSION:
            raise ModelError(
                path,
                f"its format is version {fields.get('format_version')}, this striate reads {FORMAT_VERSION}",
                "use the striate that wrote it, or a newer one",
            )
        unknown = set(fields) - set(ModelCard.__slots__)
        if unknown:
            raise ModelError(
                path, f"its card has an unknown entry {min(unknown)!r}", "use the striate that wrote it"
            )
        card = msgspec.convert(fields, ModelCard)
        least = 1 if card.task == "detection" else 2
        if len(card.classes) < least or len(set(card.classes)) < len(card.classes):
            raise ModelError(path, "its classes are too few, or repeat a name", "use an intact copy")
        return card
    except UsageError as error:
        raise ModelError(path, f"its card is damaged ({error.what})", "use an intact copy") from None
    except (json.JSONDecodeError, AttributeError, msgspec.ValidationError) as error:
        raise ModelError(path, f"its card is damaged ({error})", "use an intact copy") from None


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each tensor in the file, from its header alone."""
    try:
        return {
            name: tuple(entry["shape"]) for name, entry in _header(path).items() if name != "__metadata__"
        }
    except (KeyError, TypeError):
        raise ModelError(path, "its header is damaged", "use an intact copy of the model file") from None


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Name -> array of each tensor in the file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, TypeError, AttributeError) as error:
        # The last two are safetensors' words for types that numpy has not, such as bfloat16.
        raise ModelError(path, f"its tensors cannot be read ({error})", "use an intact copy") from None


def weights_hash(path: Path) -> str:
    """SHA-256 in hexadecimal over the tensors of the file: names in order, types, shapes and values.

    The card is left out, so that two runs that learned the same have the same hash.
    """
    digest = hashlib.sha256()
    for name, array in sorted(read_tensors(path).items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: 8 bytes of length, little-endian, then the text."""
    damaged = "use an intact copy of the model file"
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            if len(prefix) < 8:
                raise ModelError(path, "it is too short for a model file", damaged)
            (length,) = struct.unpack("<Q", prefix)
            if length > _MAX_HEADER:
                raise ModelError(
                    path, "this is not a safetensors file", "give a model file that striate wrote"
                )
            header = json.loads(file.read(length))
    except OSError as error:
        raise ModelError(
            path, f"cannot be read ({error.strerror})", "check the path and its permissions"
        ) from None
    except ValueError:
        raise ModelError(path, "its header is damaged", damaged) from None
    if not isinstance(header, dict):
        raise ModelError(path, "its header is damaged", damaged)
    return header
