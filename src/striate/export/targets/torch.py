"""torch.export: a program that torch runs without the code of the network."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError
from striate.files import atomic_write
from striate.modelfile import CARD_ENTRY, ModelCard, card_text

if TYPE_CHECKING:
    from torch.nn import Module

    from striate.models.network import Network

__all__ = ["DESCRIPTION", "INSTALL", "PACKAGES", "SUFFIX", "ProgramEngine", "opened", "write"]

SUFFIX = ".pt2"
DESCRIPTION = "torch.export, for programs with torch in them; striate itself does not load it"
PACKAGES: tuple[str, ...] = ("torch",)
INSTALL = "pip install 'striate[train]'"


def write(network: "Network", path: Path, card: ModelCard) -> None:
    """Write `network` to `path` as a torch.export archive, whole or not at all, with `card` beside it.

    It is for torch's own users: `torch.export.load(path).module()` is a function of `images` (B, C, H, W)
    uint8, and `proposals` (B, P, 4) where the network takes them, to the tuple of its dense outputs; with
    `extra_files={"striate": ""}` that dict gets the card's text. Where detectors are meant, `torchvision` has
    to be imported before. `striate.load` refuses it: parts of such an archive are read by pickle, and what
    is unpickled can run code. Raises ModelError for a network that torch's tracer cannot follow.
    """
    import torch

    from striate.export.graph import quiet, traced

    program = traced(network)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it would tell where the code lies on this machine
    with atomic_write(path) as file, quiet():
        torch.export.save(program, file, extra_files={CARD_ENTRY: card_text(card)})


def opened(path: Path) -> "ProgramEngine":
    """What runs the file `path`, which has to be one's own: what is unpickled can run code."""
    return ProgramEngine(path)


class ProgramEngine:
    """Runs a torch.export archive on the CPU."""

    def __init__(self, path: Path) -> None:
        import torch
        from torchvision import ops  # noqa: F401 - with it torch knows the operations of detectors

        from striate import plugins, tasks
        from striate.export.graph import quiet
        from striate.modelfile import card_from_text

        extra = {CARD_ENTRY: ""}
        try:
            with quiet():
                self._program: Module = torch.export.load(path, extra_files=extra).module()
        except Exception as error:  # whatever a damaged one makes its many readers say
            raise ModelError(path, f"it cannot be read ({error!r:.200})", "export it again") from error
        self._names = tuple(plugins.load(tasks, card_from_text(extra[CARD_ENTRY], path).task).DENSE)

    @property
    def lanes(self) -> int:
        """1: torch shares one call among all cores."""
        return 1

    def dense(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The dense outputs by name for `inputs["images"]` (B, C, H, W) uint8 and further inputs by name."""
        import torch

        # An archive knows its inputs by their order.
        arrays = [inputs[name] for name in ("images", "proposals") if name in inputs]
        with torch.inference_mode():
            found = self._program(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
        return {name: tensor.numpy() for name, tensor in zip(self._names, found, strict=True)}
