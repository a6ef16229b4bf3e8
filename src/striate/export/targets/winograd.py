"""ONNX whose large 3x3 convolutions multiply less, as Winograd does: for batches on a processor."""

from pathlib import Path
from typing import TYPE_CHECKING

from striate.errors import ModelError
from striate.export.targets.onnx import INSTALL, PACKAGES, SUFFIX, model_of, opened
from striate.export.winograd import rewrite
from striate.files import atomic_write
from striate.modelfile import ModelCard

if TYPE_CHECKING:
    from striate.models.network import Network

__all__ = ["DESCRIPTION", "INSTALL", "PACKAGES", "SUFFIX", "opened", "write"]

DESCRIPTION = "ONNX whose large 3x3 convolutions multiply less (Winograd), for processors"


def write(network: "Network", path: Path, card: ModelCard) -> None:
    """Write `network` to `path` as `targets.onnx.write` does, with what `export.winograd.rewrite` changes.

    Raises ModelError as that does, and for a network that has no convolution which gains.
    """
    model = model_of(network, card)
    if not rewrite(model):
        raise ModelError(
            network.name,
            "it has no large 3x3 convolution of stride 1 on maps of one size, which alone gains by Winograd",
            "export it with --to onnx",
        )
    with atomic_write(path) as file:
        file.write(model.SerializeToString())
