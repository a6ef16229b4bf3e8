"""`striate check`: is this data fit to train on."""

import click

from striate.cli.group import Verb
from striate.errors import StriateError


@click.command(cls=Verb, short_help="Look every picture over before training.")
@click.argument("data")
@click.option("--format", "form", help="Read DATA as this format instead of recognising it.")
@click.option("--near/--no-near", default=True, help="Also look for near duplicates.")
@click.option("--workers", type=click.IntRange(0), help="Threads that decode pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(data: str, form: str | None, near: bool, workers: int | None, as_json: bool) -> None:
    """Decode every picture of DATA once; name what is broken, doubled or lopsided, with its fix.

    Nothing is changed. Exit code 1 if anything is an error.
    """
    from striate import api
    from striate.cli.check_view import CheckView
    from striate.cli.terminal import emit_json

    with CheckView() as view:
        checked = api.check(data, form=form, near=near, workers=workers, progress=view.progress)
    if as_json:
        emit_json(checked.to_dict())
    else:
        view.outcome(checked)
    if checked.report.errors:
        count = len(checked.report.errors)
        raise StriateError(
            data, f"{count} finding{'s' * (count != 1)} of level error", "mend or remove those files"
        )
