"""Every segmentation family trained at an equal budget, beside torchvision's networks in the same trainer.

Usage: python benchmarks/segmentation.py CAMVID [--epochs 8] [--size 108x144] [--networks NAME ...] [--again]
       [--init MOBILENET] [--out benchmarks/results/segmentation.json] [--page docs/masks.md]
   or: python benchmarks/segmentation.py --page-only

CAMVID is any data with masks and a test part. Each row is `striate.train(CAMVID, model=NAME, epochs=...,
size=...)` from drawn weights: the recipe of the network's family, seed 0, as many epochs over as many
pictures for all; its scores are those of the test part at the pictures' own size. A network of torchvision is
trained by the same trainer with the recipe, the size and the preprocessing of ours beside it. Networks on a
VGG-16 of full width are too slow for two cores: theirs, and U-Net's, have the width that the row says. With
--init, a model file of a MobileNet v2, the networks built on one have a second row that begins with it.

Images a second, the median over the steps of the last epoch with loading, and seconds are in the JSON file,
beside the load that the machine had; the page is about what was learnt. Every row is written as soon as it is
there, and a second run goes on behind them; --again does them anew. The page is made of the JSON alone, and
of isbi.json beside it where there is one; --page-only trains nothing and writes it anew.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from rows import add_row, known, page_options, parsed
from tables import measured_on, table
from trained import trained

from striate import models

Row = dict[str, Any]

KNOWING = ", ImageNet weights"  # behind the label of a network that begins with some


@dataclass(frozen=True, slots=True)
class Entry:
    """A network to train."""

    network: str
    settings: dict[str, Any] = field(default_factory=dict)  # of the network, beside its size
    recipe_of: str | None = None  # whose recipe it is trained by; None: its own
    takes_weights: bool = False  # whether it is built on the MobileNet of --init

    @property
    def label(self) -> str:
        """How its row is called."""
        return ", ".join([self.network, *(f"{name} {value}" for name, value in self.settings.items())])


NARROW = {"width": 16, "hidden": 512}

ENTRIES = (
    Entry("fcn8s", NARROW),
    Entry("deeplab_v1", {"width": 16, "hidden": 128}),
    Entry("deeplab_v2_vgg16", {"width": 16, "hidden": 128}),
    Entry("deeplab_v3_resnet50"),
    Entry("deeplab_v3plus_resnet18"),
    Entry("deeplab_v3plus_mobilenet_v2", takes_weights=True),
    Entry("unet", {"width": 16}),
    Entry("unet_same", {"width": 16}),
    Entry("unet_resnet18"),
    Entry("unet_mobilenet_v2", takes_weights=True),
    Entry("reseg", {"width": 16}),
    Entry("fcn_resnet50"),
    Entry("torchvision:fcn_resnet50", recipe_of="fcn_resnet50"),
    Entry("deeplab_v3_resnet50_torchvision"),
    Entry("torchvision:deeplabv3_resnet50", recipe_of="deeplab_v3_resnet50_torchvision"),
    Entry("torchvision:deeplabv3_mobilenet_v3_large", recipe_of="deeplab_v3plus_mobilenet_v2"),
    Entry("torchvision:lraspp_mobilenet_v3_large", recipe_of="deeplab_v3plus_mobilenet_v2"),
)


def main() -> None:
    """Train and write."""
    options = arguments()
    found = known(
        options, __doc__, epochs=options.epochs, size=[int(side) for side in options.size.split("x")]
    )
    if not options.page_only:
        for entry, weights in wanted(options):
            train_row(found, entry, weights, options)
    options.page.parent.mkdir(exist_ok=True)
    options.page.write_text(page(found, options.out.with_name("isbi.json")))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="?", help="what `striate train` takes")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--size", default="108x144", help="height x width")
    parser.add_argument("--init", type=Path, help="model file or folder of a mobilenet_v2")
    names = [entry.network for entry in ENTRIES]
    parser.add_argument("--networks", nargs="+", choices=names, metavar="NAME")
    page_options(parser, "segmentation", "masks.md")
    return parsed(parser, "CAMVID: what to train on")


def wanted(options: argparse.Namespace) -> Iterator[tuple[Entry, Path | None]]:
    """Each network that is asked for, and again with the weights where there are some for it."""
    for entry in ENTRIES:
        if options.networks is None or entry.network in options.networks:
            yield entry, None
            if options.init and entry.takes_weights:
                yield entry, options.init


def train_row(found: dict[str, Any], entry: Entry, weights: Path | None, options: argparse.Namespace) -> None:
    """Train one network and add its row to `found` and to the file; nothing where it has one."""
    label = entry.label + (KNOWING if weights else "")
    measure = partial(measured, entry, weights, options.data, found["settings"])
    if row := add_row(found, {"label": label}, measure, options):
        print("  ".join(cells(row)), flush=True)


def measured(entry: Entry, weights: Path | None, data: str, settings: Mapping[str, Any]) -> Row:
    """What came of one network."""
    recipe = {}
    if entry.recipe_of is not None:
        family = models.family_of(entry.recipe_of)
        recipe = family.recipe(family.VARIANTS[entry.recipe_of])
    training = {**recipe.get("training", {}), "eval_every": settings["epochs"]}
    measures, costs = trained(
        data,
        model=entry.network,
        settings={**recipe, "training": training, "network": entry.settings},
        epochs=settings["epochs"],
        size=tuple(settings["size"]),
        seed=settings["seed"],
        init=weights,
    )
    return {**measures, **costs}


HEAD = (
    "network",
    "input",
    "mean IoU",
    "pixel accuracy",
    "Dice",
    "parameters",
    "MMACs",
)


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table."""
    return (
        row["label"],
        "x".join(map(str, row["input"])),
        *(f"{100 * row[name]:.1f} %" for name in ("mean_iou", "pixel_accuracy", "dice")),
        f"{row['parameters']:,}",
        f"{row['macs'] / 1e6:,.1f}",
    )


def page(found: Mapping[str, Any], isbi: Path) -> str:
    """The page about the networks for masks, every figure from a JSON file."""
    settings, order = found["settings"], [entry.label for entry in ENTRIES]
    rows = sorted(found["rows"], key=lambda row: order.index(row["label"].removesuffix(KNOWING)))
    height, width = settings["size"]
    lines = [
        "# Networks for masks compared",
        "",
        "Written by `benchmarks/segmentation.py`; do not edit. How each figure is measured is told there.",
        "",
        f"Every family on {settings['data']} at {height}x{width}, its training pictures seen "
        f"{settings['epochs']} times, from drawn weights (or with an encoder that knows ImageNet, where the "
        "row says so) and with the family's own recipe; scores of the test part, one seed. So short a budget "
        "favours small networks and those that begin with something: it does not tell how good one gets.",
        "",
        *table(HEAD, [cells(row) for row in rows]),
        "",
        *measured_on(found, itemgetter("label")),
        "",
    ]
    if isbi.exists():
        lines += isbi_section(json.loads(isbi.read_text()))
    return "\n".join(lines)


WAYS = {
    "neither": "neither",
    "border_weight": "weights at borders",
    "elastic": "elastic deformation",
    "both": "both",
}


def isbi_section(isbi: Mapping[str, Any]) -> list[str]:
    """What `benchmarks/isbi.py` found."""
    settings, slices = isbi["settings"], isbi["slices"]
    changes = "".join(f", {change}" for change in settings["changes"])
    rows = [(WAYS[name], *shares(found), str(found["n"])) for name, found in isbi["summary"].items()]
    return [
        "## Borders and deformation",
        "",
        f"{settings['model']} of width {settings['width']} on {slices['trained']} slices of ISBI 2012, "
        f"{settings['epochs']} epochs{changes}; mean over n seeds of the scores of the {slices['measured']} "
        "slices held out, in brackets the least and the largest. The paper's network is four times as wide "
        "and trains for hours on a GPU, so this tells what its two devices do in a small one that trains for "
        "minutes. Written by `benchmarks/isbi.py`.",
        "",
        *table(("with", "wrong pixels", "mean IoU", "Dice", "n"), rows),
        "",
    ]


def shares(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The three measures of one way in %."""
    least, most = (f"{100 * found[f'pixel_error_{end}']:.1f}" for end in ("least", "most"))
    wrong, iou, dice = (f"{100 * found[name]:.1f} %" for name in ("pixel_error", "mean_iou", "dice"))
    return f"{wrong} ({least} to {most})", iou, dice


if __name__ == "__main__":
    main()
