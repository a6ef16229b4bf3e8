"""`striate models`: the networks that can be trained here."""

import click

from striate.cli.group import Verb


@click.command(cls=Verb, short_help="List the networks.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a network.")
def command(name: str | None, as_json: bool) -> None:
    """List the networks with their sizes, or those whose name begins with NAME."""
    from striate import api
    from striate.cli.terminal import data_console, emit_json, table

    found = api.models(name)
    if as_json:
        for row in found:
            emit_json(row.to_dict())
        return
    rows = [
        (
            row.name,
            row.family,
            f"{row.parameters:,}",
            f"{row.input[0]}x{row.input[1]} {row.color}",
            row.summary,
        )
        for row in found
    ]
    data_console().print(table(("network", "family", "weights", "input", ""), rows, numbers=(2,)))
