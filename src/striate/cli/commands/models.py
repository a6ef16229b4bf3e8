"""`striate models`: the networks that can be trained here."""

from itertools import groupby

import click

from striate.cli.group import Verb


@click.command(cls=Verb, short_help="List the networks.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a network.")
def command(name: str | None, as_json: bool) -> None:
    """List the networks with their sizes, or those whose name begins with NAME.

    \b
    striate models resnet
    striate models torchvision:    those of another library
    """
    from striate import api
    from striate.cli.terminal import data_console, emit_json, table

    found = api.models(name)
    if as_json:
        for row in found:
            emit_json(row.to_dict())
        return
    rows = []
    for _, members in groupby(found, key=lambda row: row.family):
        for number, row in enumerate(members):
            size = f"{row.input[0]}x{row.input[1]} {row.color}"
            weights = "" if row.parameters is None else f"{row.parameters:,}"
            rows.append((row.name, weights, size, "" if number else row.summary))
    data_console().print(table(("network", "weights", "input", "family"), rows, numbers=(1,)))
