"""A network as one function of named tensors: what every target writes."""

import copy
import io
import logging
import sysconfig
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from striate import plugins, tasks
from striate.errors import ModelError, StriateError, UsageError, first_line
from striate.models.network import Network
from striate.structures import Preprocess

__all__ = [
    "Graph",
    "dynamic_shapes",
    "example_inputs",
    "example_size",
    "graph_of",
    "input_names",
    "output_names",
    "quiet",
    "traced",
]

_BOUNDLESS = 2**31  # pixels; the tracer's infinity is larger

_LARGE = 512  # pixels; a map of one position would stand for more than any network's do

_EXAMPLES = 2  # pictures; of a single one the tracer would take the batch for fixed


class Graph(nn.Module):
    """`network.dense` as a function of tensors by position that gives a tuple, as `output_names` says."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.names = output_names(network)

    # The tracer cannot follow `**extras`, so what there may be beside pictures has a name here.
    def forward(self, images: Tensor, proposals: Tensor | None = None) -> tuple[Tensor, ...]:
        """images (B, C, H, W) uint8; proposals (B, P, 4) in pixels, for networks that take them."""
        extras = {} if proposals is None else {"proposals": proposals}
        dense = self.network.dense(images, **extras)
        return tuple(dense[name] for name in self.names)


def input_names(network: Network) -> tuple[str, ...]:
    """What its graph takes, in order."""
    return ("images", "proposals") if network.preprocess.proposals else ("images",)


def output_names(network: Network) -> tuple[str, ...]:
    """What its graph gives, in order: the names of its dense outputs."""
    return tuple(plugins.load(tasks, network.task).DENSE)


def graph_of(network: Network) -> Graph:
    """A copy of `network` as a graph: in evaluation mode, on the CPU, in float32, without gradients.

    A copy, so that the mode, place and precision of the network itself stay as they are.
    """
    duplicate = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    return Graph(duplicate.to(memory_format=torch.contiguous_format))


def example_size(spec: Preprocess) -> tuple[int, int]:
    """Height and width in pixels of pictures to trace with: those of the spec where they are fixed.

    Where they are free, they are large, for the tracer takes a map of one position for one that always is;
    and they differ, so that it does not take one for the other.
    """
    if spec.is_fixed:
        return spec.size
    height, width = (-(-max(side, _LARGE) // spec.pad_to) * spec.pad_to for side in spec.size)
    return height, width + spec.pad_to if height == width else width


def example_inputs(
    network: Network, batch: int = _EXAMPLES, size: tuple[int, int] | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """Random inputs by name for a batch of pictures of `size` (height, width): noise, and boxes within it.

    Every eighth box has no area, as rows without a box have.
    """
    height, width = size or example_size(network.preprocess)
    chance = torch.Generator().manual_seed(seed)
    shape = (batch, network.preprocess.channels, height, width)
    inputs = {"images": torch.randint(0, 256, shape, dtype=torch.uint8, generator=chance)}
    for name, whole in network.blank_extras(inputs["images"]).items():
        # Corners in the upper left three fifths, sides up to two fifths of the picture.
        corner, extent = (torch.rand(*whole.shape[:2], 2, generator=chance) for _ in range(2))
        shares = torch.cat((0.6 * corner, 0.6 * corner + 0.4 * extent), 2)
        shares[:, ::8] = 0
        inputs[name] = shares * whole[..., 2:].repeat(1, 1, 2)
    return inputs


def dynamic_shapes(network: Network) -> dict[str, dict[int, Any]]:
    """The axes of each input that are free: the batch, and height and width where pictures differ in size."""
    # Unnamed, for the tracer takes minutes to find how far axes with names and ranges of their own may go.
    shapes: dict[str, dict[int, Any]] = {name: {0: Dim.DYNAMIC} for name in input_names(network)}
    if not network.preprocess.is_fixed:
        shapes["images"] |= {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    return shapes


def traced(network: Network) -> ExportedProgram:
    """`network` as a program of torch's operations, whose free axes are those of `dynamic_shapes`.

    Raises ModelError where its code cannot be followed: where values decide which way it goes, or a size
    that has to be free is not.
    """
    examples = tuple(example_inputs(network).values())
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(graph_of(network), examples, dynamic_shapes=dynamic_shapes(network))
    except Exception as error:
        raise _untraceable(network, error) from error
    _refuse_bounded(network, program)
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Within it torch does not tell of its own future, nor print what it could not trace; errors say that."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    was_disabled = [logger.disabled for logger in loggers]
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        for message in _FORETOLD:
            warnings.filterwarnings("ignore", message, FutureWarning)
        for logger in loggers:
            logger.disabled = True
        try:
            yield
        finally:
            for logger, disabled in zip(loggers, was_disabled, strict=True):
                logger.disabled = disabled


# By torchvision's rule for how many boxes NMS keeps, and by torch's own for recurrences (torch 2.15).
_FORETOLD = ("`create_unbacked_symint` is deprecated", "_check_is_size will be removed")
_TALKATIVE = ("torch.export._trace", "torch.fx.experimental.symbolic_shapes")


def _refuse_bounded(network: Network, program: ExportedProgram) -> None:
    """Raise ModelError where the program is right for pictures up to some size alone.

    At each comparison of sizes the tracer goes one way, and keeps for which sizes that is right as a range.
    """
    images = next(node for node in program.graph.nodes if node.name == "images").meta["val"]
    for length in images.shape:
        if isinstance(length, torch.SymInt):
            for symbol in length.node.expr.free_symbols:
                limits = program.range_constraints.get(symbol)
                if limits is not None and limits.upper < _BOUNDLESS:
                    raise _of_one_size(network)


def _untraceable(network: Network, error: Exception) -> ModelError:
    """What to tell of an `error` of the tracer, or of the network under it."""
    message, spec = str(error), network.preprocess
    sides = ("['images'].size()[2]", "['images'].size()[3]")
    if not spec.is_fixed and (isinstance(error, UsageError) or any(side in message for side in sides)):
        return _of_one_size(network)
    if isinstance(error, StriateError):
        return ModelError(network.name, f"{error.where}: {error.what}", error.fix)
    if "Constraints violated" in message:
        return ModelError(
            network.name,
            "its code works for one size of batch alone",
            "let it take any, by images.shape[0] and not by len(images), which is a fixed number",
        )
    place = _last_line_of_user(error)
    if isinstance(error, GuardOnDataDependentSymNode):
        return ModelError(
            network.name,
            f"which way its code goes depends on values{place}, and a graph has one way",
            "compute both ways, and choose by torch.where",
        )
    return ModelError(
        network.name,
        f"torch.export cannot follow its code{place} ({first_line(error)})",
        "keep to torch's own operations on tensors in `forward`",
    )


def _of_one_size(network: Network) -> ModelError:
    return ModelError(
        network.name,
        f"its graph has one height and width, and with preprocess.fit {network.preprocess.fit!r} pictures "
        "come in many",
        "train it with preprocess.fit letterbox, crop or stretch",
    )


def _last_line_of_user(error: Exception) -> str:
    """Where the error arose in code that is neither torch's nor Python's: " in FILE, line 12 (`CODE`)"."""
    libraries = (str(Path(torch.__file__).parent), sysconfig.get_path("stdlib"))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(libraries) and not frame.filename.startswith("<")
    ]
    if not frames:
        return ""
    return f" in {frames[-1].filename}, line {frames[-1].lineno} (`{frames[-1].line}`)"
