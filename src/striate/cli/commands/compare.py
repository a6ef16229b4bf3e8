"""`striate compare`: several models on the same pictures, as one file to read."""

import click

from striate.cli.group import Verb


@click.command(cls=Verb, short_help="Compare models on the same pictures.")
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "-o", "--out", default="compare.html", show_default=True, type=click.Path(), help="File to write."
)
@click.option("--data", help="Measure on these pictures instead of those beside which they were trained.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as one JSON object.")
def command(runs: tuple[str, ...], out: str, data: str | None, device: str, as_json: bool) -> None:
    """Measure RUNS on the same pictures: scores with intervals, where they disagree, cost against quality.

    RUNS are two or more run folders or model files; those measured on different pictures are refused.

    \b
    striate compare runs/resnet18-photos runs/mobilenet_v2-photos -o compare.html
    """
    from striate import api
    from striate.cli.report_view import ReportView
    from striate.cli.terminal import emit_json

    with ReportView() as view:
        compared = api.compare(runs, out, data=data, device=device, progress=view.stage)
    if as_json:
        emit_json(compared.to_dict())
    else:
        view.compared(compared)
