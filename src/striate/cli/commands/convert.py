"""`striate convert`: weights from elsewhere to a model file, boxes from one format to another."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from striate.cli.group import Verb
from striate.errors import UsageError

if TYPE_CHECKING:
    from striate.api import ConversionReport

_SHOWN = 3  # renamed tensors that are listed


@click.command(cls=Verb, short_help="Turn weights into a model file, or boxes into another format.")
@click.argument("file", metavar="FILE|DATA", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Folder for the model file, or the new folder.")
@click.option("--to", help="Format that the boxes of DATA shall have: coco, pascal, voc or yolo.")
@click.option("--format", "form", help="Read DATA as this format instead of recognising it.")
@click.option("--model", help="Network that the weights are for: resnet20_cifar. [told by their shapes]")
@click.option(
    "--source", help="Where the names of the tensors come from: torchvision, akamaster. [all tried]"
)
@click.option(
    "--match",
    type=click.Choice(["name", "order"]),
    help="What tells which tensor goes where: its name, or its place in FILE. [name]",
)
@click.option("--classes", help="Names of the classes, in the order of the outputs: cat,dog.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(file: str, out: str, as_json: bool, to: str | None, form: str | None, **choices: Any) -> None:
    """Turn FILE, a state dict or darknet's .weights, into a model file that every other verb takes.

    Tensors are read without running any code of the file (torch's weights_only).

    With --to, write DATA, pictures with boxes, in another format, and say what that has no place for.

    \b
    striate convert weights.pth --model resnet50 --out models/resnet50
    striate convert photos/ --to coco --out photos-coco
    """
    given = {name: value for name, value in choices.items() if value is not None}
    if to is None and form is not None:
        raise UsageError("--format", "it says how to read data, and weights are converted", "give --to too")
    if to is None and Path(file).is_dir():
        fix = "give --to coco, pascal, voc or yolo to convert its boxes"
        raise UsageError(file, "this is a folder, and weights are a file", fix)
    if to is None:
        _convert_weights(file, out, as_json, **given)
    elif given:
        name = min(given)
        raise UsageError(f"--{name}", "it is for weights, and --to converts data", "leave one of them out")
    else:
        _convert_data(file, to, out, form, as_json)


def _convert_data(data: str, to: str, out: str, form: str | None, as_json: bool) -> None:
    from striate import api
    from striate.cli.conversion_view import ConversionView
    from striate.cli.terminal import emit_json

    with ConversionView() as view:
        report = api.convert_dataset(data, to, out, form=form, progress=view.progress)
    if as_json:
        emit_json(report.to_dict())
    else:
        view.outcome(report)


def _convert_weights(file: str, out: str, as_json: bool, classes: str | None = None, **choices: Any) -> None:
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
    in_order = {"order": "in their order", "darknet": "in darknet's order"}
    how = in_order.get(report.source, f"names of {report.source}")
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
