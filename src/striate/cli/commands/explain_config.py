"""`striate explain-config`: every setting of a run and where it came from."""

from typing import Any

import click

from striate.cli.group import Verb
from striate.cli.options import layers_of, run_options


@click.command(cls=Verb, short_help="Show every setting of a run and where it came from.")
@click.argument("data")
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    data: str, model: str | None, config: str | None, assignments: Any, as_json: bool, **flags: Any
) -> None:
    """Show the settings that `striate train` would use with the same flags, or those of the run folder DATA.

    What is printed is TOML: save it, change it, and give it to `striate train --config`.
    """
    from striate import api
    from striate.cli.terminal import emit_json

    layers = layers_of(config, assignments, flags)
    resolved = api.explain_config(data, model, layers=layers)
    if as_json:
        emit_json([{"key": row.key, "value": row.value, "origin": row.origin} for row in resolved.rows])
    else:
        click.echo(resolved.toml, nl=False)
