"""`striate convert`: weights from elsewhere to a model file."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from striate.cli.group import Verb

if TYPE_CHECKING:
    from striate.api import ConversionReport

_SHOWN = 3  # renamed tensors that are listed


@click.command(cls=Verb, short_help="Turn a .pt, .pth or .th state dict into a model file.")
@click.argument("file", type=click.Path())
@click.option("--model", help="Network that the weights are for: resnet20_cifar. [told by their shapes]")
@click.option("--out", required=True, type=click.Path(), help="Folder for the model file.")
@click.option(
    "--source", help="Where the names of the tensors come from: torchvision, akamaster. [all tried]"
)
@click.option(
    "--match",
    type=click.Choice(["name", "order"]),
    default="name",
    help="What tells which tensor goes where: its name, or its place in FILE. [name]",
)
@click.option("--classes", help="Names of the classes, in the order of the outputs: cat,dog.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(file: str, out: str, as_json: bool, classes: str | None, **choices: Any) -> None:
    """Turn FILE, a state dict, into a model file that every other verb takes.

    Tensors are read without running any code of the file (torch's weights_only).
    """
    from striate import api
    from striate.cli.terminal import data_console, emit_json

    names = tuple(name.strip() for name in classes.split(",")) if classes else None
    report = api.convert(file, out=out, classes=names, **choices)
    if as_json:
        emit_json(report.to_dict())
        return
    console = data_console()
    for line in _lines(report, has_classes=names is not None):
        console.print(line, markup=False, soft_wrap=True)


def _lines(report: "ConversionReport", has_classes: bool) -> Iterator[str]:
    how = "in their order" if report.source == "order" else f"names of {report.source}"
    yield f"{report.path}: {report.model}, {report.matched} tensors, {how}"
    if report.recognised:
        yield f"  {report.model} is the only network here with tensors of these shapes"
    changed = [f"{there} -> {here}" for there, here in report.names.items() if there != here]
    yield from (f"  {line}" for line in changed[:_SHOWN])
    if len(changed) > _SHOWN:
        yield f"  and {len(changed) - _SHOWN} more renamed; --json lists all"
    if report.filled:
        yield f"  {len(report.filled)} batch normalisation counters were missing and start at 0"
    if report.untrained:
        yield f"  not in the file, so 0 until it is trained: {', '.join(report.untrained)}"
    if not has_classes:
        yield "  its classes are numbers; --classes cat,dog,... gives them names"
    if not report.untrained:
        yield f"next: striate eval {Path(report.path).parent} DATA"
