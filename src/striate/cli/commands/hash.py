"""`striate hash`: one line that is equal where the weights are."""

import click

from striate.cli.group import Verb


@click.command(cls=Verb, short_help="Print the SHA-256 of a model's weights.")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: str, as_json: bool) -> None:
    """Print the SHA-256 over the names, shapes and values of MODEL's tensors.

    Two runs that learned the same have the same hash, whatever their folders are called.
    """
    from striate import api
    from striate.cli.terminal import emit_json

    digest = api.hash_of(model)
    if as_json:
        emit_json({"model": model, "sha256": digest})
    else:
        click.echo(f"{digest}  {model}")
