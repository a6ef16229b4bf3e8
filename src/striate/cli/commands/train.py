"""`striate train`: pictures become a trained, measured model."""

from typing import Any

import click

from striate.cli.group import Verb
from striate.cli.options import layers_of, run_options
from striate.errors import UsageError


@click.command(cls=Verb, short_help="Train a network on a folder of pictures.")
@click.argument("data", required=False)
@run_options
@click.option("--out", type=click.Path(), help="Folder of the run. [runs/NETWORK-DATA]")
@click.option(
    "--find-lr",
    is_flag=True,
    help="Train nothing: find a learning rate and show the curve; --out FILE.svg or .csv keeps it.",
)
@click.option("--resume", metavar="RUN", help="Go on with the stopped run in this folder; no DATA then.")
@click.option(
    "--inexact", is_flag=True, help="With --resume: go on even if data, versions or device are others."
)
@click.option(
    "--report/--no-report", "reports", default=True, help="Also write report.html in the run's folder. [on]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON object.")
def command(
    data: str | None,
    find_lr: bool,
    resume: str | None,
    inexact: bool,
    reports: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Train on DATA: a folder, a zip, a CSV of labels, or a name such as `digits`.

    \b
    striate train digits
    striate train photos/ --model resnet18 --epochs 20
    striate train photos/ --model resnet18 --find-lr
    striate train --resume runs/resnet18-photos
    """
    from striate import api
    from striate.api.resumption import refuse_beside
    from striate.cli.terminal import emit_json
    from striate.cli.training_view import TrainingView

    if resume is not None:
        others = {"DATA": data, "find_lr": find_lr or None, **choices}
        if ":" in (choices["model"] or ""):  # a function, which the run's own files may not name
            del others["model"]
        refuse_beside(f"--resume {resume}", _given(others))
    elif data is None or inexact:
        raise _incomplete(data)
    if find_lr:
        from striate.cli.rate_view import find_rate

        find_rate(str(data), choices, as_json)
        return
    with TrainingView() as view:
        if resume is not None:
            maker = choices["model"]
            plan = api.prepare_resumption(resume, inexact=inexact, progress=view.checking, made_by=maker)
        else:
            plan = _new_plan(str(data), view, **choices)
        view.plan(plan)
        for event in plan.events():
            view.event(event)
        run = plan.finish()
        if not as_json:
            view.outcome(run)
        page = view.report(run) if reports else None
    if as_json:
        emit_json({**run.to_dict(), "report": page and str(page)})
    else:
        view.next(run, page)


def _new_plan(
    data: str,
    view: Any,
    *,
    model: str | None,
    config: str | None,
    assignments: Any,
    out: str | None,
    **flags: Any,
) -> Any:
    from striate import api

    layers = layers_of(config, assignments, flags)
    return api.prepare(data, model, out=out, layers=layers, progress=view.checking, on_trial=view.trial)


def _given(choices: dict[str, Any]) -> list[str]:
    """What was typed, as it was typed."""
    names = {"assignments": "--set", "DATA": "DATA"}
    typed = [name for name, value in choices.items() if value is not None and value != ()]
    return [names.get(name, f"--{name.replace('_', '-')}") for name in typed]


def _incomplete(data: str | None) -> UsageError:
    if data is None:
        return UsageError(
            "striate train", "missing argument 'DATA'", "striate train DATA, or striate train --resume RUN"
        )
    return UsageError("--inexact", "it has a meaning for a resumed run only", "give it with --resume RUN")
