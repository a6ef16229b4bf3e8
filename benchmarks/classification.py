"""Every classification family trained at an equal budget, beside the same networks of other libraries.

Usage: python benchmarks/classification.py PICTURES [--epochs 3] [--pictures 5000] [--networks NAME ...]
       [--again] [--out benchmarks/results/classification.json] [--page docs/networks.md]
   or: python benchmarks/classification.py --page-only

PICTURES is what `striate train` takes, with a test part. The first --pictures training pictures, evenly by
class, are used, all of them to train on; accuracy is measured on the whole test part, once, after the last
epoch. Each row is `striate.train(PICTURES, model=NAME, epochs=..., size=...)`: the recipe of the network's
family, seed 0, as many epochs over as many pictures for all. A network of torchvision or timm is trained
by the same trainer with the recipe, the size and the preprocessing of ours beside it; only its code and the
starting weights that it draws are its own. One with other counts of parameters or multiply-adds is refused.

One network stands for each family, at the size of the pictures (32) where it can use that; those that shrink
their input 32 times, or need more for their stem, have 64, and the tutorial's CNN its own 39. VGG-11 has 32
and, without the 49 regions that are all the same there, `grid` 1; no other library has that, so the pair of
VGGs is the one with 49.

Images a second is the median over the steps of the last epoch, loading included; MACs are those of
`striate summary`, of one picture.

Every row is written as soon as it is there, and a second run goes on behind them; --again does them anew. The
page is made of the JSON alone, and of overfit.json beside it where there is one; --page-only trains
nothing and writes it anew. About 25 minutes on two cores.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from few_pictures import write_pictures
from rows import add_row, known, page_options, parsed
from tables import measured_on, table
from trained import trained

from striate import models
from striate.data.open import DataConfig, open_dataset

NATIVE, LARGER = 32, 64  # pixels a side


@dataclass(frozen=True)
class Entry:
    """A network to train, and those that have the same layers elsewhere."""

    network: str
    size: int | None  # pixels a side; None: the family's default
    peers: tuple[str, ...] = ()
    grid: int | None = None  # of VGG; None: its own

    @property
    def label(self) -> str:
        """How its row is called."""
        return self.network if self.grid is None else f"{self.network}, grid {self.grid}"


ENTRIES = (
    Entry("mlp", NATIVE),
    Entry("lenet5", NATIVE),
    Entry("tutorial_cnn", None),
    Entry("simple_cnn", NATIVE),
    Entry("speedrun_m", NATIVE),
    Entry("resnet20_cifar", NATIVE),
    Entry("plain20_cifar", NATIVE),
    Entry("mobilenet_v3_small", LARGER, ("torchvision:mobilenet_v3_small",)),
    Entry("shufflenet_v1_g3", LARGER),
    Entry("shufflenet_v2", LARGER, ("torchvision:shufflenet_v2_x1_0",)),
    Entry("mobilenet_v2", LARGER, ("torchvision:mobilenet_v2",)),
    Entry("mobilenet_v1", LARGER, ("timm:mobilenetv1_100",)),
    Entry("alexnet", LARGER, ("torchvision:alexnet",)),
    Entry("googlenet_bn", LARGER, ("torchvision:googlenet",)),
    Entry("resnet18", LARGER, ("torchvision:resnet18", "timm:resnet18")),
    Entry("vgg11_bn", NATIVE, grid=1),
    Entry("vgg11_bn", NATIVE, ("torchvision:vgg11_bn",)),
)

Row = dict[str, Any]


def main() -> None:
    """Train and write."""
    options = arguments()
    found = known(options, __doc__, epochs=options.epochs, pictures=options.pictures)
    if not options.page_only:
        with tempfile.TemporaryDirectory() as folder:
            pictures = Path(folder) / "pictures"
            write_pictures(open_dataset(DataConfig(options.data)), options.pictures, pictures)
            for entry, name in wanted(options.networks):
                train_row(found, entry, name, pictures, options)
    options.page.parent.mkdir(exist_ok=True)
    options.page.write_text(page(found, options.out.with_name("overfit.json")))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="?", help="what `striate train` takes")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=5000, help="to train on")
    own = sorted({entry.network for entry in ENTRIES})
    parser.add_argument("--networks", nargs="+", choices=own, metavar="NAME", help="these and their peers")
    page_options(parser, "classification", "networks.md")
    return parsed(parser, "PICTURES: which to train on")


def wanted(networks: Sequence[str] | None) -> Iterator[tuple[Entry, str]]:
    """Each of ours that is asked for, and behind it its peers."""
    for entry in ENTRIES:
        if networks is None or entry.network in networks:
            for name in (entry.network, *entry.peers):
                yield entry, name


def train_row(
    found: dict[str, Any], entry: Entry, name: str, pictures: Path, options: argparse.Namespace
) -> None:
    """Train one network and add its row to `found` and to the file; nothing where it has one."""
    label = entry.label if name == entry.network else name

    def measured() -> Row:
        measures, costs = trained(
            pictures,
            model=name,
            settings=settings_for(entry, is_peer=name != entry.network),
            epochs=options.epochs,
            seed=0,
            val_fraction=0.0,
        )
        row = {
            "beside": None if name == entry.network else entry.label,
            "family": models.family_name(entry.network),
            "top1": measures["top1"],
            **costs,
        }
        refuse_unlike(label, row, found["rows"])
        return row

    if row := add_row(found, {"label": label}, measured, options):
        print(
            f"{label:32}{100 * row['top1']:6.2f} %{row['images_per_second']:10.1f}/s{row['seconds']:8.1f} s",
            flush=True,
        )


def refuse_unlike(label: str, row: Row, others: Sequence[Row]) -> None:
    """Raise SystemExit where `row` is not the network that it stands beside."""
    for other in others:
        counts = [(one["parameters"], one["macs"]) for one in (row, other)]
        if other["label"] == row["beside"] and counts[0] != counts[1]:
            raise SystemExit(f"{label} is not {other['label']}: {counts[0]} parameters, MACs; {counts[1]}")


def settings_for(entry: Entry, is_peer: bool) -> dict[str, Any]:
    """Settings that a row has beside the budget; for a peer, the recipe of ours too."""
    family = models.family_of(entry.network)
    default = family.VARIANTS[entry.network]
    recipe = family.recipe(default) if is_peer else {}
    network: dict[str, Any] = {}
    if entry.size is not None:
        network["preprocess"] = {"size": [entry.size, entry.size], "fit": "stretch", "resize_to": None}
    if entry.grid is not None:
        network["grid"] = entry.grid
    return {**recipe, "network": network}


def page(found: Mapping[str, Any], overfit: Path) -> str:
    """The page about all networks, every figure from a JSON file."""
    settings = found["settings"]
    lines = [
        "# Networks compared",
        "",
        "Written by `benchmarks/classification.py`; do not edit. How each figure is measured is told there.",
        "",
        "## At an equal budget",
        "",
        f"Every family on {settings['data']}, {settings['pictures']:,} training pictures seen "
        f"{settings['epochs']} times, from fresh weights and with the family's own recipe; accuracy on the "
        "test part, one seed. So short a budget favours small and fast-starting networks: it does not tell "
        "how good a network gets.",
        "",
        *table(HEAD, [cells(row) for row in in_order(found["rows"])]),
        "",
        *measured_on(found, itemgetter("label")),
        "",
        "A row that begins with ↳ is the same network as another library writes it, trained by the same "
        "trainer with the same recipe; its starting weights are drawn in that library's way.",
        "",
    ]
    if overfit.exists():
        lines += overfit_section(json.loads(overfit.read_text()))
    return "\n".join(lines)


HEAD = ("network", "input", "accuracy", "parameters", "MMACs", "images/s", "seconds")


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table."""
    return (
        f"↳ {row['label']}" if row["beside"] else row["label"],
        "x".join(map(str, row["input"])),
        f"{100 * row['top1']:.1f} %",
        f"{row['parameters']:,}",
        f"{row['macs'] / 1e6:,.1f}",
        f"{row['images_per_second']:,.0f}",
        f"{row['seconds']:,.0f}",
    )


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Ours in the order of ENTRIES, each with its peers behind it, whenever they were measured."""
    order = [entry.label if name == entry.network else name for entry, name in wanted(None)]
    return sorted(rows, key=lambda row: order.index(row["label"]))


def overfit_section(found: Mapping[str, Any]) -> list[str]:
    """What `benchmarks/overfit.py` found."""
    settings = found["settings"]
    inputs = "its full size" if settings["size"] is None else f"{settings['size']} pixels a side"
    head = ("network", "input", "parameters", "MMACs", "steps", "rate", "first loss", "last loss", "seconds")
    rows = [overfit_cells(name, row) for name, row in found["rows"].items()]
    return [
        "## A few pictures by heart",
        "",
        f"Every network at {inputs}, in steps on one batch of {settings['pictures']} pictures of "
        f"{settings['source']} ({settings['optimiser']}) until the loss is at most {settings['goal']:.0%} of "
        f"the first; {settings['steps']} at most. `benchmarks/overfit.py`; reached: {found['reached']}.",
        "",
        *table(head, rows),
        "",
    ]


def overfit_cells(name: str, row: Row) -> tuple[str, ...]:
    """One row of that table."""
    first = (
        name,
        "x".join(map(str, row["input"])),
        f"{row['parameters']:,}",
        f"{row['macs'] / 1e6:,.1f}",
    )
    if "not_run" in row:
        return (*first, f"not run: {row['not_run']}", "", "", "", "")
    steps = f"{row['steps']}" if row["reached"] else f"{row['steps']}, not reached"
    losses = (f"{row['first_loss']:.3f}", f"{row['last_loss']:.3f}")
    return (*first, steps, f"{row['rate']:g}", *losses, f"{row['seconds']:,.1f}")


if __name__ == "__main__":
    main()
