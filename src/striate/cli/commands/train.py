"""`striate train`: pictures become a trained, measured model."""

from typing import Any

import click

from striate.cli.group import Verb
from striate.cli.options import layers_of, run_options


@click.command(cls=Verb, short_help="Train a network on a folder of pictures.")
@click.argument("data")
@run_options
@click.option("--out", type=click.Path(), help="Folder of the run. [runs/NETWORK-DATA]")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON object.")
def command(
    data: str,
    model: str | None,
    config: str | None,
    assignments: Any,
    out: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train on DATA: a folder, a zip, a CSV of labels, or a name such as `digits`.

    \b
    striate train digits
    striate train photos/ --model resnet18 --epochs 20
    """
    from striate import api
    from striate.cli.terminal import emit_json
    from striate.cli.training_view import TrainingView

    layers = layers_of(config, assignments, flags)
    with TrainingView() as view:
        plan = api.prepare(data, model, out=out, layers=layers, progress=view.checking)
        view.plan(plan)
        for event in plan.events():
            view.event(event)
        run = plan.finish()
    if as_json:
        emit_json(run.to_dict())
    else:
        view.outcome(run)
