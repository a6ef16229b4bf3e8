"""`striate export`: a model as a file that runs without torch, proven to say what the model says."""

from typing import Any

import click

from striate.cli.group import Verb


@click.command(cls=Verb, short_help="Write a model for ONNX Runtime or OpenVINO, and prove it.")
@click.argument("model")
@click.option(
    "--to", default="onnx", show_default=True, help="What to write: onnx, openvino, torch or winograd."
)
@click.option("--out", type=click.Path(), help="File to write. [beside the model file]")
@click.option(
    "--data", help="Pictures for the proof. [the val part of what MODEL was trained beside]", metavar="DATA"
)
@click.option("--int8", is_flag=True, help="Weights and activations of 8 bits: faster, and a little is lost.")
@click.option(
    "--calibrate",
    metavar="DATA",
    help="Pictures whose values say what 8 bits must hold. [the train part of those of the proof]",
)
@click.option("--max-drop", type=float, metavar="POINTS", help="Percentage points that int8 may lose. [1]")
@click.option("--model", "made_by", metavar="FUNCTION", help="package.module:function that makes MODEL.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: str, as_json: bool, **options: Any) -> None:
    """Write MODEL, a run folder or a model file, as a file that runs without torch.

    The export and the model are run on the same pictures, in batches, one by one and at odd sizes, and the
    export is written only if it says the same: probabilities may differ by 0.0001, boxes by 0.1 pixels and
    0.0001 in score, 0.1 % of the pixels of masks, and the measure by 0.001. With --int8 the measure alone
    counts, and may be --max-drop lower. Without it a file that was there before is replaced only then.

    --to winograd is ONNX too: large 3x3 convolutions, as ResNet and VGG have them, keep less than half of
    their multiplications, and the file and its memory grow.

    \b
    striate export runs/resnet18-photos
    striate export runs/resnet18-photos --to openvino --int8
    striate export runs/resnet18-photos --to winograd --out fast.onnx
    striate export models/resnet50 --data photos/ --out resnet50.onnx
    """
    from striate import api
    from striate.cli.export_view import ExportView
    from striate.cli.terminal import emit_json

    with ExportView() as view:
        plan = api.prepare_export(model, **options)
        view.plan(plan)
        found = plan.finish(view.stage, view.unreadable)
    if as_json:
        emit_json(found.to_dict())
    else:
        view.outcome(found)
