"""A network as a tree of calls with shapes, windows, receptive fields, parameters and multiply-adds.

`summarise(module, (3, 224, 224))` reads any nn.Module: its calls, and the functions that its own code
calls between them.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from striate.errors import UnknownName, UsageError
from striate.explain.nodes import Node, tree_of, unspaced
from striate.explain.rows import COLUMNS, rows_of, short, times
from striate.explain.table import Table, laid_out
from striate.explain.trace import Trace, trace
from striate.explain.worked import worked

__all__ = ["MACS", "SEES", "Summary", "summarise"]

MACS = (
    "multiply-adds of convolutions, linear layers and matrix products; FLOPs = 2 x MACs. "
    "Biases, normalisation, activation and pooling are not counted"
)

SEES = (
    "input pixels a side that one position sees, padding included; jump: pixels from one to the next. "
    "No mark: EXACT; ≤: UPPER BOUND; ?: DATA DEPENDENT; all: the whole input"
)


@dataclass(frozen=True, slots=True, repr=False)
class Summary:
    """What `striate.summary` gives: prints as a table, shows itself in a notebook."""

    name: str
    root: Node
    input_shape: tuple[int, ...]  # without the batch axis
    parameters: int  # each counted once, however often it is used
    trainable: int
    macs: int
    notes: tuple[str, ...]
    parameter_names: dict[int, str] = field(default_factory=dict)  # id of each parameter -> its name

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every call and function in order, the network itself first."""
        return tuple(node for _, node in self.root.walk())

    def find(self, call: str) -> Node:
        """The node named `call`: "layer1.0.conv2", "relu #2". Raises UnknownName with the nearest."""
        named = {unspaced(node.call): node for node in self.nodes}
        if unspaced(call) not in named:
            raise UnknownName(f"{self.name} layer", call, [node.call for node in self.nodes if node.call])
        return named[unspaced(call)]

    def why(self, call: str) -> str:
        """The sums behind the numbers of one call, worked out with its own numbers."""
        return "\n".join(worked(self.find(call), self.name, self.parameter_names))

    def table(self, width: int = 100, depth: int | None = None) -> Table:
        """Rows folded by module and repeated block, in at most `width` characters where that can be.

        depth: levels of modules to open; None opens as many as leave 60 rows at most.
        """
        if depth is not None and depth < 1:
            raise UsageError("depth", f"{depth} levels show nothing", "give 1 or more")
        return laid_out(COLUMNS, rows_of(self.root, self.input_shape, depth), width)

    def legend(self, table: Table) -> Iterator[tuple[str, str]]:
        """Below `table`: the totals, what its columns mean, and what could not be seen, each with a label."""
        fixed = self.parameters - self.trainable
        frozen = f" ({fixed:,} of them not trained)" if fixed else ""
        yield (
            "total",
            f"{self.parameters:,} parameters{frozen}, {self.macs:,} MACs ({short(self.macs).strip()})",
        )
        yield "MACs", MACS
        if any(column.name == "sees" for column in table.columns):
            yield "sees", SEES
        if any(" x" in row[0] for row in table.rows):
            yield "x N", "N equal calls: numbers added, seen by the last; opened, it shows the first"
        if any(row[0].lstrip().startswith("(") for row in table.rows):
            yield "(name)", "a function called between the modules"
        if table.left_out:
            yield "left out", f"{', '.join(table.left_out)}: no room in this width"
        for note in self.notes:
            yield "note", note

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `summary --json`: every call, unfolded."""
        return {
            "model": self.name,
            "input": list(self.input_shape),
            "parameters": self.parameters,
            "trainable": self.trainable,
            "macs": self.macs,
            "macs_definition": MACS,
            "notes": list(self.notes),
            "calls": [node.to_dict(depth) for depth, node in self.root.walk()],
        }

    def to_csv(self) -> str:
        """Every call, unfolded, a line each; lists of numbers joined with x."""
        rows = [node.to_dict(depth) for depth, node in self.root.walk()]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _cell(value) for key, value in row.items()})
        return text.getvalue()

    def __repr__(self) -> str:
        table = self.table()
        legend = (f"{label}: {text}" for label, text in self.legend(table))
        return "\n".join([self.title, *table.lines(), "", *legend])

    def _repr_html_(self) -> str:
        table = laid_out(COLUMNS, rows_of(self.root, self.input_shape, None), None)
        return table.html(self.title, [f"{label}: {text}" for label, text in self.legend(table)])

    @property
    def title(self) -> str:
        """The network and its input."""
        return f"{self.name}, input {times(self.input_shape)}"


def summarise(module: nn.Module, input_shape: Sequence[int], name: str = "") -> Summary:
    """The summary of `module` over one input of `input_shape`, channels first and without the batch axis.

    In evaluation mode; the module is left as it was. Raises UsageError where the network refuses the input,
    naming the call.
    """
    shape = tuple(input_shape)
    if not shape or not all(isinstance(length, int) and length > 0 for length in shape):
        raise UsageError("input", f"{shape} is no shape", "give lengths above 0, such as (3, 224, 224)")
    found = trace(module, shape)
    root, met = tree_of(found)
    parameters = list(module.parameters())
    return Summary(
        name=name or type(module).__name__,
        root=root,
        input_shape=shape,
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        macs=root.macs,
        notes=tuple(_notes(module, found, met)),
        parameter_names={id(parameter): name for name, parameter in module.named_parameters()},
    )


def _notes(module: nn.Module, found: Trace, met: dict[int, Tensor]) -> Iterator[str]:
    unused: dict[str, int] = {}
    for name, parameter in module.named_parameters():
        if id(parameter) not in met:
            part = name.rpartition(".")[0].partition(".")[0] or name
            unused[part] = unused.get(part, 0) + parameter.numel()
    for part, count in unused.items():
        yield f"{part}: {count:,} parameters that this pass, in evaluation mode, does not use"
    if found.ran:
        yield (
            "the path depends on values, so a random picture was run; another picture may take another path"
        )
    for name, count in sorted(found.not_understood.items()):
        yield f"{name} ({count} x): no rule for what it sees, so taken as all it gets; no MACs counted in it"


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return "x".join(f"{number:g}" for number in value)
    return "" if value is None else value
