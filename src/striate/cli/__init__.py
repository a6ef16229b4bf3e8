"""The command line: one file a verb in `commands`; data on stdout, everything else on stderr."""

import os
import sys

from striate.errors import EnvironmentProblem, Interrupted, StriateError, UsageError, printable

__all__ = ["main"]

_TRAIN_EXTRA = ("torch", "torchvision", "sklearn", "scipy")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code (0 ok, 1 check failed, 2 usage, 3 data, 4 model, 5 environment, ...)."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        return _run(given)
    except StriateError as error:
        return _report(error, given)
    except KeyboardInterrupt:
        return _report(Interrupted("striate", "stopped by Ctrl-C", "run the command again"), given)
    except BrokenPipeError:
        # The reader of our pipe went away (`| head`): that is no error, and Python must not
        # complain when it closes stdout for us.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _TRAIN_EXTRA:
            missing = f"{error.name} is not installed"
            return _report(EnvironmentProblem("striate", missing, "pip install 'striate[train]'"), given)
        if "--debug" in given:
            raise
        what = f"unexpected {type(error).__name__}: {error}"
        return _report(
            StriateError("striate", what, "run it again with --debug and report what it prints"), given
        )


def _run(arguments: list[str]) -> int:
    import click

    from striate.cli.group import refused, root

    if "_STRIATE_COMPLETE" in os.environ:  # the shell asks for completions
        root.main(args=arguments, prog_name="striate")
    try:
        # Not root.main(): it leaves with 1 when a pipe closes, and decides what errors look like.
        with root.make_context("striate", list(arguments) or ["--help"]) as context:
            root.invoke(context)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        raise refused(error) from None
    return 0


def _report(error: StriateError, arguments: list[str]) -> int:
    rank = os.environ.get("RANK", "0")
    if rank != "0" and isinstance(error, UsageError | Interrupted):
        return error.exit_code  # the first process says the same
    if "--debug" in arguments:
        import traceback

        traceback.print_exception(error)
    elif "--json" in arguments:
        import json

        print(json.dumps(error.to_dict()), file=sys.stderr)
    else:
        where = "" if rank == "0" else f" in process {rank}"
        print(f"error{where}: {printable(error)}", file=sys.stderr)
    return error.exit_code
