"""`striate explain`: why a network says what it says of a picture."""

from pathlib import Path
from typing import Any

import click

from striate.cli.group import Verb
from striate.errors import UsageError

WHATS = ("arithmetic", "maps", "receptive-field", "filters", "gradcam", "shift", "kernel")


def row_and_column(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:  # noqa: ARG001
    """The value of --pixel."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise click.BadParameter(f"{text!r} is no row and column: 3,7")
    return int(parts[0]), int(parts[1])


@click.command(cls=Verb, short_help="Say why a network says what it says of a picture.")
@click.argument("places", metavar="MODEL IMAGE", nargs=-1, required=True)
@click.option("--what", type=click.Choice(WHATS), help="One part alone.  [all but shift and kernel]")
@click.option("--layer", help="For arithmetic, maps, receptive-field, filters, gradcam: layer1.0.conv2.")
@click.option("--pixel", metavar="Y,X", callback=row_and_column, help="Row and column of the layer's map.")
@click.option("--channel", type=click.IntRange(0), help="Channel of the layer.")
@click.option("--target", help="Class to look for, or number of a candidate box.  [the likeliest]")
@click.option("--plus-plus", is_flag=True, help="Grad-CAM++ in place of Grad-CAM.")
@click.option("--sort", type=click.Choice(("index", "energy", "sparsity")), help="Order of maps.  [index]")
@click.option("--scale", type=click.Choice(("map", "layer")), help="What shares a scale of colours.  [map]")
@click.option("--against", multiple=True, metavar="MODEL", help="For shift: another model in the same chart.")
@click.option("--axis", type=click.Choice(("x", "y")), help="For shift: to the right or down.  [x]")
@click.option(
    "--kernel",
    metavar="NAME|FILE",
    help="sobel-x, sobel-y, blur, sharpen, or a text file with rows of numbers.",
)
@click.option("--out", type=click.Path(), help="Folder for pictures, new or empty.  [explained-IMAGE]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--model", "made_by", metavar="FUNCTION", help="package.module:function that makes MODEL.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers; pictures only with --out.")
def command(
    places: tuple[str, ...], out: str | None, device: str, made_by: str | None, as_json: bool, **asked: Any
) -> None:
    """Say why MODEL, a run folder or model file, says what it says of the picture IMAGE.

    \b
    striate explain runs/simple_cnn-digits seven.png
    striate explain runs/simple_cnn-digits seven.png --layer stages.stage1.0 --pixel 3,7 --channel 5
    striate explain runs/cnn photo.jpg --what shift --against runs/mlp
    striate explain photo.jpg --kernel sobel-x
    """
    from striate.api.explaining import ExplainRequest, explain_picture
    from striate.cli.explain_view import default_folder, show_explanation, show_written
    from striate.cli.terminal import emit_json

    request = ExplainRequest(**asked)
    *model, picture = places
    if len(model) > 1 or (not model and request.asked != "kernel"):
        raise UsageError(
            "explain",
            f"{len(places)} places are named",
            "name a model and one picture; --kernel needs no model",
        )
    folder = Path(out) if out is not None else None if as_json else default_folder(picture, request.asked)
    found = explain_picture(model[0] if model else None, picture, request, folder, device, made_by)
    if as_json:
        emit_json(found.to_dict())
    else:
        show_explanation(found)
    show_written(found.written)
