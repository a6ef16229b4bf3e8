"""The root command: finds the verbs in their folder and answers a misspelling with the nearest name."""

import re
from typing import Any

import click

from striate import __version__, plugins
from striate.cli import commands
from striate.errors import StriateError, UnknownName, UsageError, nearest

__all__ = ["Verb", "refused", "root"]

# What a newcomer reaches for first stands first in the help.
ORDER = ("train", "eval", "predict", "check")


class Verb(click.Command):
    """A command that also takes --json where it says so, and --debug always."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.append(
            click.Option(
                ["--debug"], is_flag=True, expose_value=False, help="Show a traceback with an error."
            )
        )


class Verbs(click.Group):
    """The files of `commands`: `explain_config.py` is the verb `explain-config`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        names = [name.replace("_", "-") for name in plugins.names(commands)]
        return [*ORDER, *(name for name in names if name not in ORDER)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command: click.Command = plugins.load(commands, name.replace("-", "_")).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise UnknownName("striate", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with:  striate train digits",
)
@click.version_option(__version__, prog_name="striate")
def root() -> None:
    """A ConvNet workbench: train, measure and use convolutional networks on your own pictures."""


def refused(error: click.ClickException) -> StriateError:
    """Our one-line error for one of click's: where, what, and the nearest option if there is one."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "striate"
    what = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption) and context:
        options = [option for parameter in context.command.params for option in parameter.opts]
        return UnknownName(where, error.option_name, options)
    choices = getattr(getattr(getattr(error, "param", None), "type", None), "choices", None)
    spelt = re.search("'([^']*)' is not one of", what)
    if choices and spelt:
        close = nearest(spelt[1], choices)
        return UsageError(
            where, what, f"did you mean {' or '.join(close)}?" if close else f"see {where} --help"
        )
    return UsageError(where, f"{what[0].lower()}{what[1:]}", f"see {where} --help")
