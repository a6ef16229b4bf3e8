"""`striate convert`: weights from elsewhere to a model file."""

import click

from striate.cli.group import Verb

_SHOWN = 3  # renamed tensors that are listed


@click.command(cls=Verb, short_help="Turn a .pt, .pth or .th state dict into a model file.")
@click.argument("file", type=click.Path())
@click.option("--model", required=True, help="Network that the weights are for: resnet20_cifar.")
@click.option("--out", required=True, type=click.Path(), help="Folder for the model file.")
@click.option(
    "--source", help="Where the names of the tensors come from: torchvision, akamaster. [all tried]"
)
@click.option("--classes", help="Names of the classes, in the order of the outputs: cat,dog.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(file: str, model: str, out: str, source: str | None, classes: str | None, as_json: bool) -> None:
    """Turn FILE, a state dict, into a model file that every other verb takes.

    Tensors are read without running any code of the file (torch's weights_only).
    """
    from striate import api
    from striate.cli.terminal import data_console, emit_json

    names = tuple(name.strip() for name in classes.split(",")) if classes else None
    report = api.convert(file, model=model, out=out, source=source, classes=names)
    if as_json:
        emit_json(report.to_dict())
        return
    console = data_console()
    console.print(f"{report.path}: {model}, {report.matched} tensors, names of {report.source}", markup=False)
    changed = [f"{there} -> {here}" for there, here in report.names.items() if there != here]
    for line in changed[:_SHOWN]:
        console.print(f"  {line}", markup=False)
    if len(changed) > _SHOWN:
        console.print(f"  and {len(changed) - _SHOWN} more renamed; --json lists all")
    if report.filled:
        console.print(f"  {len(report.filled)} batch normalisation counters were missing and start at 0")
    if names is None:
        console.print("  its classes are numbers; --classes cat,dog,... gives them names")
    console.print(f"next: striate eval {out} DATA", markup=False)
