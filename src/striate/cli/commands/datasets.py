"""`striate datasets`: the data that needs no folder of yours."""

import click

from striate.cli.group import Verb


@click.command(cls=Verb, short_help="List built-in and public datasets, and the formats of your own.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a dataset.")
def command(as_json: bool) -> None:
    """List the datasets that go by name, and what a folder of your own may look like."""
    from striate import api
    from striate.cli.terminal import data_console, emit_json, table

    found = api.datasets()
    if as_json:
        for row in found:
            emit_json({"name": row.name, "kind": row.kind, "description": row.description})
        return
    rows = [(row.name, row.kind, row.description) for row in found]
    data_console().print(table(("name", "kind", "what it is"), rows))
