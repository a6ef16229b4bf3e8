"""`striate eval`: how good a model is on pictures with known labels."""

from typing import Any

import click

from striate.cli.group import Verb


@click.command(cls=Verb, short_help="Measure a model on labelled pictures.")
@click.argument("model")
@click.argument("data", required=False)
@click.option(
    "--part",
    type=click.Choice(["train", "val", "test", "all"]),
    help="Part of DATA. [test, else val, else all]",
)
@click.option("--batch-size", type=click.IntRange(1), help="Pictures at once. [64, or fewer large ones]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--model", "made_by", metavar="FUNCTION", help="package.module:function that makes MODEL.")
@click.option("--engine", default="auto", show_default=True, help="auto, onnxruntime, openvino or pytorch.")
@click.option("--card", type=click.Path(), help="For another tool's ONNX: a TOML file that says what it is.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: str, data: str | None, as_json: bool, **options: Any) -> None:
    """Measure MODEL on DATA, by default on the test part that it was trained beside.

    Accuracy, precision, recall and F1 of each class, the confusion matrix and the calibration error.
    """
    from striate import api
    from striate.cli.scores_view import EvalView
    from striate.cli.terminal import emit_json

    with EvalView() as view:
        found = api.evaluate(model, data, progress=view.progress, on_error=view.unreadable, **options)
    if as_json:
        emit_json(found.to_dict())
    else:
        view.outcome(found)
