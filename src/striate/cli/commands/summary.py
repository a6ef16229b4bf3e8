"""`striate summary`: what a network is made of and what it costs."""

import click

from striate.cli.group import Verb
from striate.errors import UsageError


@click.command(cls=Verb, short_help="Show a network's layers, costs and receptive fields.")
@click.argument("model")
@click.option("--input", "text", metavar="CxHxW", help="Shape of one input. [the network's own]")
@click.option("--depth", type=click.IntRange(1), help="Levels of modules to open. [up to 60 rows]")
@click.option("--why", metavar="LAYER", help="Work out the numbers of one layer: --why layer1.0.conv2")
@click.option("--csv", "as_csv", is_flag=True, help="Print every call as CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every call.")
def command(
    model: str, text: str | None, depth: int | None, why: str | None, as_csv: bool, as_json: bool
) -> None:
    """Show the layers of MODEL: a name, a run folder or a model file. No weight is needed.

    \b
    striate summary resnet50
    striate summary resnet50 --input 3x320x320 --why layer3.0.conv2
    """
    asked = {"--json": as_json, "--csv": as_csv, "--why": why, "--depth": depth}
    given = [name for name, value in asked.items() if value]
    if len(given) > 1:
        raise UsageError("summary", f"{' and '.join(given)} contradict each other", "give one of them")
    from striate import api
    from striate.api.summarising import parse_input
    from striate.cli.summary_view import show_summary, show_why
    from striate.cli.terminal import emit_json

    found = api.summary(model, None if text is None else parse_input(text))
    if as_json:
        emit_json(found.to_dict())
    elif as_csv:
        click.echo(found.to_csv(), nl=False)
    elif why is not None:
        show_why(found.why(why))
    else:
        show_summary(found, depth)
