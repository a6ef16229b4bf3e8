"""PyTorch runs the model files that striate writes; it needs the extra `train`."""

from pathlib import Path

from striate.errors import UsageError
from striate.modelfile import ModelCard, read_card
from striate.runtime.engine import Opened

__all__ = ["INSTALL", "PACKAGE", "READS", "SUFFIXES", "opened"]

SUFFIXES: tuple[str, ...] = (".safetensors",)
READS: tuple[str, ...] = ()
PACKAGE = "torch"
INSTALL = "pip install 'striate[train]'"


def opened(path: Path, device: str, made_by: str | None, card: ModelCard | None) -> Opened:
    """The network of the model file `path` on `device`. Raises ModelError as `PyTorchEngine.from_file`."""
    if card is not None:
        raise UsageError("card", f"{path} is a model file, which has its own", "leave it out")
    from striate.runtime.pytorch import PyTorchEngine

    return Opened(PyTorchEngine.from_file(path, device, made_by), read_card(path))
