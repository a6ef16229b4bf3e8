"""`striate predict`: what is on these pictures."""

import os
import signal
import sys
from typing import Any

import click

from striate.cli.group import Verb
from striate.cli.options import typed_again
from striate.errors import DataError, UsageError

FORMATS = ("table", "csv", "jsonl", "coco", "yolo")


def numbers(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:  # noqa: ARG001
    """The value of a flag that lists numbers."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of numbers: 0.75,1,1.25") from None


def batch(context: click.Context, parameter: click.Parameter, text: str) -> int | None:  # noqa: ARG001
    """The number of pictures at once; None for "auto"."""
    if text == "auto":
        return None
    if not text.isdecimal() or not int(text):
        raise click.BadParameter(f"{text!r} is no number of pictures: 1, 32 or auto")
    return int(text)


def way_on(can_resume: bool) -> str:
    """What to type after this command was stopped."""
    if not can_resume:
        return "run the command again; with --out it can be gone on with"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "run the same command with --resume"
    typed = typed_again(click.get_current_context(), ("--resume",))
    return f"{typed} with the same list on stdin" if "-" in typed.split() else typed


@click.command(cls=Verb, short_help="Say what is on pictures, folders or a list of them.")
@click.argument("model")
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(), help="Write here: .csv, .jsonl, .txt; masks and boxes also a new folder."
)
@click.option("--format", "form", type=click.Choice(FORMATS), help="[table, or what --out ends in]")
@click.option(
    "--top", default=3, show_default=True, type=click.IntRange(1), help="Classes shown per picture."
)
@click.option(
    "--batch-size",
    default="auto",
    show_default=True,
    callback=batch,
    help="Pictures at once; auto: the fastest, timed.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--model", "made_by", metavar="FUNCTION", help="package.module:function that makes MODEL.")
@click.option("--engine", default="auto", show_default=True, help="auto, onnxruntime, openvino or pytorch.")
@click.option("--card", type=click.Path(), help="For another tool's ONNX: a TOML file that says what it is.")
@click.option(
    "--score",
    type=click.FloatRange(0, 1, max_open=True),
    help="For boxes: leave out those of a lower score.  [the one with the best F1 on the val part]",
)
@click.option(
    "--tile",
    type=click.IntRange(1),
    help="For masks: cut large pictures into tiles of so many pixels a side.",
)
@click.option("--scales", callback=numbers, help="For masks: average over these sizes: 0.75,1,1.25.")
@click.option("--flip", is_flag=True, help="For masks: average over the picture and its mirror image.")
@click.option("--crf", is_flag=True, help="For masks: move borders to those in the picture (dense CRF).")
@click.option("--resume", is_flag=True, help="Go on with a job that was stopped; the same command otherwise.")
@click.option("--shard", metavar="I/N", help="Only part I of N: every N-th picture.  [torchrun's]")
@click.option("--strict", is_flag=True, help="Fail (exit 3) if any picture cannot be read.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format jsonl.")
def command(model: str, inputs: tuple[str, ...], form: Any, as_json: bool, **options: Any) -> None:
    """Say what is on INPUTS: pictures, folders (with all below), or - for a list of paths on stdin.

    \b
    striate predict runs/simple_cnn-digits photo.jpg
    find . -name '*.png' | striate predict MODEL - --out found.csv
    striate predict runs/unet-cells slices/ --out masks --tile 512
    striate predict runs/ssdlite-street photos/ --out found --score 0.5

    With --out, what a stopped command has done is kept: the same command and --resume do the rest.
    """
    from striate.api.shards import chosen_shard
    from striate.cli.predictions import VIEWS, Going, Looking, Writer, write_predictions

    if as_json and form not in (None, "jsonl"):
        raise UsageError("predict", f"--json and --format {form} contradict each other", "give one of them")
    paths = [line.rstrip("\r\n") for line in sys.stdin if line.strip()] if inputs == ("-",) else list(inputs)
    if "-" in paths:
        raise UsageError("predict", "- stands beside other inputs", "give - alone, and the paths on stdin")
    writer = Writer.choose("jsonl" if as_json else form, options.pop("out"), options.pop("top"))
    shard = chosen_shard(options.pop("shard"))
    going = Going(paths, shard, options.pop("resume"), way_on(writer.out is not None))
    strict = options.pop("strict")
    views = {name: options.pop(name) for name in VIEWS}
    asked = {name: value for name, value in views.items() if value}
    try:
        done = write_predictions(Looking(model, **options, views=asked), going, writer)
    except KeyboardInterrupt:
        # The second Ctrl-C, from somebody who does not wait for what threads have begun.
        click.echo(f"error: predict: stopped at once by Ctrl-C. fix: {going.way_on}", err=True)
        sys.stdout.flush()
        os._exit(128 + signal.SIGINT)
    if done.failed and (strict or not done.worked):
        raise DataError(
            "predict",
            f"{done.failed} of {done.failed + done.worked} pictures could not be read",
            "see the lines above; `striate check FOLDER` lists them with what to do",
        )
