"""`striate datasets`: the data that needs no folder of yours, and folders of yours as tar shards."""

from typing import Any

import click

from striate.cli.group import Verb
from striate.errors import UnknownName, UsageError


class _Datasets(Verb, click.Group):
    """A verb of its own that also has subcommands."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise UnknownName("striate datasets", args[0], self.commands)
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Datasets,
    invoke_without_command=True,
    short_help="List datasets and formats; pack your own into tar shards.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a dataset.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the datasets that go by name, and what a folder of your own may look like."""
    from striate import api
    from striate.cli.terminal import data_console, emit_json, table

    if context.invoked_subcommand is not None:
        if as_json:
            raise UsageError("--json", "it stands before the subcommand", "put it behind")
        return
    found = api.datasets()
    if as_json:
        for row in found:
            emit_json({"name": row.name, "kind": row.kind, "description": row.description})
        return
    rows = [(row.name, row.kind, row.description) for row in found]
    data_console().print(table(("name", "kind", "what it is"), rows))


@command.command(cls=Verb, short_help="Write a dataset as tar shards (WebDataset layout).")
@click.argument("data")
@click.option("--out", required=True, type=click.Path(), help="New folder for the shards.")
@click.option("--format", "form", help="Read DATA as this format instead of recognising it.")
@click.option("--shard-megabytes", type=float, default=256.0, help="10**6 bytes a shard has at most. [256]")
@click.option("--val-fraction", type=float, help="Validation share where DATA has no such part. [0.1]")
@click.option("--test-fraction", type=float, help="Test share where DATA has no such part. [0.1]")
@click.option("--seed", type=int, help="Of the split and of the order in the shards. [0]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def pack(
    data: str, out: str, form: str | None, shard_megabytes: float, as_json: bool, **split: float | int | None
) -> None:
    """Write DATA as tar shards that train, eval and check read like any folder.

    For more pictures than a disk likes as single files: shards are read from front to back. Pictures that
    are broken or contradict each other are left out. Interrupted, the same command goes on.

    \b
    striate datasets pack photos/ --out shards/photos
    striate train shards/photos
    """
    from striate import api
    from striate.cli.pack_view import PackView
    from striate.cli.terminal import emit_json

    given: dict[str, Any] = {name: value for name, value in split.items() if value is not None}
    with PackView() as view:
        packed = api.pack_dataset(
            data, out, form=form, shard_megabytes=shard_megabytes, split=given, progress=view.progressed
        )
    if as_json:
        emit_json(packed.to_dict())
    else:
        view.outcome(packed)
