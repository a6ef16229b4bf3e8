"""The rows of a summary's table: folded by module and repeated block."""

from collections.abc import Sequence
from dataclasses import dataclass

from striate.explain.nodes import FUNCTION, Node
from striate.explain.table import Column

__all__ = ["COLUMNS", "rows_of", "short", "times"]


def short(count: float) -> str:
    """A count with four digits: "4.089 G", "712 "; the unit follows it."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count:g} "


COLUMNS = (
    Column("call"),
    Column("type", drop=2),
    Column("output"),
    Column("window", drop=1),
    Column("sees", is_number=True, drop=4),
    Column("jump", is_number=True, drop=3),
    Column("parameters", is_number=True),
    Column("MACs", is_number=True),
    Column("share", is_number=True, drop=5),
)

_MOST_ROWS = 60


@dataclass(frozen=True, slots=True)
class _Group:
    """Equal calls in a row, shown as one."""

    nodes: tuple[Node, ...]
    depth: int

    @property
    def label(self) -> str:
        first, last, count = self.nodes[0].name, self.nodes[-1].name, len(self.nodes)
        between = "-" if first.isdigit() else " .. "
        if count == 1:
            return first or "(network)"
        return f"{first}{between}{last} x{count}"


def _grouped(nodes: Sequence[Node], depth: int) -> list[_Group]:
    """`nodes` with runs of equal ones together."""
    runs: list[list[Node]] = []
    for node in nodes:
        if runs and runs[-1][-1].signature == node.signature:
            runs[-1].append(node)
        else:
            runs.append([node])
    return [_Group(tuple(run), depth) for run in runs]


def _visible(root: Node, depth: int | None) -> list[_Group]:
    """The rows of the table: levels are opened as a whole, as long as they leave few enough rows."""
    groups = _grouped(root.children or (root,), 0)
    level = 0
    while depth is None or level < depth - 1:
        opened: list[_Group] = []
        for group in groups:
            opened.append(group)
            if group.depth == level:
                # The first stands for all of them.
                opened += _grouped(group.nodes[0].children, level + 1)
        if len(opened) == len(groups) or (depth is None and len(opened) > _MOST_ROWS):
            return groups
        groups, level = opened, level + 1
    return groups


def rows_of(root: Node, input_shape: Sequence[int], depth: int | None) -> list[tuple[str, ...]]:
    """The cells of `COLUMNS`: the input, then the calls inside `root`, `depth` levels of them.

    None opens as many levels as leave 60 rows at most.
    """
    rows = [("input", "", times(input_shape), *[""] * 6)]
    return rows + [_row(group, root.macs) for group in _visible(root, depth)]


def _row(group: _Group, all_macs: int) -> tuple[str, ...]:
    node, last = group.nodes[0], group.nodes[-1]
    macs = sum(each.macs for each in group.nodes)
    parameters = sum(each.parameters for each in group.nodes)
    return (
        "  " * group.depth + group.label,
        "" if node.kind == FUNCTION else node.kind,
        "" if last.output_shape is None else times(last.output_shape),
        "" if node.window is None else node.window.describe(),
        "" if last.field is None else last.field.size_text,
        "" if last.field is None else last.field.jump_text,
        f"{parameters:,}" if parameters else "shared" if node.is_shared else "",
        short(macs) if macs else "",
        f"{100 * macs / all_macs:.1f}%" if macs else "",
    )


def times(shape: Sequence[int]) -> str:
    """A shape for people: "3x224x224"."""
    return "x".join(map(str, shape)) or "1"
