"""`striate calc conv|pool`: the size of an output, worked out."""

import json
from typing import Any

import click

from striate.cli.group import Verb


@click.command(cls=Verb, short_help="Work out the output size of a convolution or pooling.")
@click.argument("kind", type=click.Choice(["conv", "pool"]))
@click.option("--in", "size", type=int, required=True, help="Input pixels along the axis.")
@click.option("-k", "--kernel", type=int, required=True, help="Kernel size.")
@click.option("-s", "--stride", type=int, help="Step of the window. [conv: 1, pool: the kernel]")
@click.option("-p", "--padding", type=int, default=0, show_default=True, help="Pixels added at each end.")
@click.option("-d", "--dilation", type=int, default=1, show_default=True, help="Gap between kernel taps.")
@click.option("--ceil", is_flag=True, help="Round up instead of down (pool only).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(kind: Any, size: int, kernel: int, stride: int | None, as_json: bool, **rest: Any) -> None:
    """Work out the output size along one axis, formula and numbers.

    \b
    striate calc conv --in 224 --kernel 7 --stride 2 --padding 3
    """
    from dataclasses import asdict

    from striate import api

    found = api.calc(kind, size, kernel, stride=stride, **rest)
    if as_json:
        click.echo(json.dumps({**asdict(found), "formula": found.formula, "worked": found.worked}))
        return
    click.echo(found.formula)
    click.echo(f"    = {found.worked}")
    click.echo(f"window spans {found.reach} input pixels, steps by {found.stride}", nl=not found.unused)
    if found.unused:
        click.echo(f"; the last {found.unused} of the padded input are never seen")
