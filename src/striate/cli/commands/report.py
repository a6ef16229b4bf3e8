"""`striate report`: all that is known of a run as one file to read."""

from typing import Any

import click

from striate.cli.group import Verb


@click.command(cls=Verb, short_help="Write one HTML file that shows a run.")
@click.argument("run")
@click.option("-o", "--out", type=click.Path(), help="File to write. [report.html in the run's folder]")
@click.option("--data", help="Measure on these pictures instead of those beside which it was trained.")
@click.option(
    "--folds",
    type=click.IntRange(2),
    help="Also train so many networks like it, to look for wrong labels in all of its pictures.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option(
    "--model", "made_by", metavar="FUNCTION", help="package.module:function that makes the network."
)
@click.option("--json", "as_json", is_flag=True, help="Print the path of the file as a JSON object.")
def command(run: str, out: str | None, as_json: bool, **options: Any) -> None:
    """Measure RUN and write what was found: data, curves, classes, mistakes, calibration, network, and
    what one picture becomes in it.

    The file needs no network and no other file. RUN is a run folder or a model file.

    \b
    striate report runs/resnet18-photos -o report.html
    """
    from striate import api
    from striate.cli.report_view import ReportView
    from striate.cli.terminal import emit_json

    with ReportView() as view:
        written = api.report(run, out, progress=view.stage, **options)
    if as_json:
        emit_json({"report": str(written)})
    else:
        view.written(written)
