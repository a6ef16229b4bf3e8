"""Every public network, and some of others: its arithmetic beside torch's, its fields beside gradients.

Usage: python benchmarks/verified.py PICTURES [--networks NAME ...] [--again]
       [--out benchmarks/results/verified.json] [--page docs/verified.md]
   or: python benchmarks/verified.py --page-only

PICTURES is a folder of pictures at any depth; the first one is given to each network, at its real size, with
weights of seed 0; those of batch normalisation are drawn too, since some begin at 0 and shut their branch.
Networks of torchvision and timm (FOREIGN) take it at 224x224 (SIDES names the others). Of networks that take
proposals PROPOSALS are looked at, spread over the picture.

numbers: one of every call, drawn by a seed, worked out in float64 as `striate explain` does it and held
against torch's; the largest difference stands there as a share of what is allowed. fields: of FIELDS maps,
spread from the first to the last, whether the pixels that the gradient of the middle reaches lie in the box
that `summary` states.

Every row is written as soon as it is there, and a second run goes on behind them; --again does them anew.
About twenty minutes on one core, and up to 8 GB of memory for the large ones.
"""

import argparse
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import timm
import torch
import torchvision
from rows import add_row, known, page_options, parsed
from tables import measured_on, table
from torch import Tensor, nn

from striate import models
from striate.data.decode import SUFFIXES, decode_image
from striate.data.preprocess import apply
from striate.errors import StriateError
from striate.explain.field_on_picture import field_on_picture
from striate.explain.nodes import Node
from striate.explain.summary import summarise
from striate.explain.verify import Verification, verify
from striate.structures import Image, Preprocess

FIELDS = 3  # maps of a network whose receptive field is looked at
PROPOSALS = 16
FOREIGN = {
    "torchvision": (
        *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet"),
        *("inception_v3", "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_large", "regnet_x_400mf"),
        *("regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v2_x1_0"),
        *("squeezenet1_0", "vgg11", "vgg16_bn", "wide_resnet50_2"),
    ),
    "timm": (
        *("convnextv2_atto", "cspresnet50", "dla34", "dpn48b", "ese_vovnet19b_dw", "ghostnet_100"),
        *("hrnet_w18_small", "lcnet_050", "mixnet_s", "mobilenetv4_conv_small", "mobilevit_xxs"),
        *("regnetz_005", "repvgg_a0", "res2net50_26w_4s", "resnest14d", "resnetv2_50", "rexnet_100"),
        *("seresnet18", "skresnet18", "xception41"),
    ),
}
SIDES = {"inception_v3": 299, "mobilevit_xxs": 256}  # pixels

Row = dict[str, Any]
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def main() -> None:
    """Measure and write."""
    options = arguments()
    found = known(options, __doc__)
    if not options.page_only:
        image = picture_of(Path(options.data))
        for source, name in wanted(options.networks):
            subject = {"source": source, "network": name}
            if row := add_row(found, subject, partial(measured, source, name, image), options):
                print(f"{source:12}{name:36}{verdict(row)}   {row['seconds']:.0f} s", flush=True)
    options.page.parent.mkdir(exist_ok=True)
    options.page.write_text(page(found))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="?", help="a folder of pictures, at any depth")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="these alone, of whatever source")
    page_options(parser, "verified", "verified.md")
    return parsed(parser, "PICTURES: the first of them is looked at")


def wanted(names: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """Source and name of each network that is asked for; ours, and then the others."""
    sources = {"striate": tuple(models.variants()), **FOREIGN}
    for source, own in sources.items():
        yield from ((source, name) for name in own if names is None or name in names)


def picture_of(folder: Path) -> Image:
    """The first picture. Raises SystemExit where there is none."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"{folder}: there are no pictures below it")
    return decode_image(paths[0])


def measured(source: str, name: str, image: Image) -> Row:
    """What came of one network."""
    begun = time.monotonic()
    torch.manual_seed(0)
    module, images, extras = made(source, name, image)
    found = verify(module, images, **extras)
    fields = list(fields_of(module, images, extras))
    return {
        "input": list(images.shape[2:]),
        **arithmetic_of(found),
        "fields": fields,
        "seconds": round(time.monotonic() - begun, 1),
    }


def made(source: str, name: str, image: Image) -> tuple[nn.Module, Tensor, Mapping[str, Any]]:
    """The network, in evaluation mode, `image` as it takes it, and its further inputs."""
    if source == "striate":
        network = drawn(models.create(name))
        images = as_batch(apply(network.preprocess, image)[0])
        has_proposals = bool(network.preprocess.proposals)
        return network, images, {"proposals": proposals(*images.shape[2:])} if has_proposals else {}
    module = torchvision.models.get_model(name) if source == "torchvision" else timm.create_model(name)
    side = SIDES.get(name, 224)
    pixels, _ = apply(Preprocess((side, side), "stretch"), image)
    return drawn(module), as_batch(pixels).float() / 255, {}


def drawn(module: ModuleT) -> ModuleT:
    """`module` in evaluation mode, with batch normalisation that neither shuts a branch nor leaves it be."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and part.affine:
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
    return module.eval()


def proposals(height: int, width: int) -> Tensor:
    """Boxes (1, PROPOSALS, 4) of a quarter of the picture, in rows."""
    side = math.isqrt(PROPOSALS)
    corners = torch.cartesian_prod(torch.arange(side), torch.arange(side)).flip(1) / (2 * side)
    scale = torch.tensor((width, height))
    return torch.cat((corners * scale, (corners + 0.5) * scale), 1)[None]


def as_batch(pixels: Image) -> Tensor:
    """(1, C, H, W) of pixels (H, W, C)."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def arithmetic_of(found: Verification) -> Row:
    """What was recomputed, and whether it agreed."""
    return {
        "agrees": found.ok,
        "calls": found.calls,
        "numbers": sum(found.counts.values()),
        "worst_share": round(found.worst_share, 5),
        "not_explained": dict(Counter(each.reason for each in found.not_explained).most_common()),
    }


def fields_of(module: nn.Module, images: Tensor, extras: Mapping[str, Any]) -> Iterator[Row]:
    """What the middle of some maps sees, by rule and by gradient."""
    nodes = summarise(module, images.shape[1:]).nodes
    maps = [node for node in nodes if is_map(node)]
    places = np.linspace(0, len(maps) - 1, min(len(maps), FIELDS)).round().astype(int).tolist()
    for node in (maps[place] for place in places):
        assert node.output_shape is not None
        _, height, width = node.output_shape
        try:
            seen = field_on_picture(module, images, node.call, height // 2, width // 2, **extras)
        except StriateError as error:
            yield {"call": node.call, "refused": error.what}
            continue
        y0, x0, y1, x1 = seen.box
        outside = seen.mask.copy()
        outside[y0:y1, x0:x1] = False
        yield {
            "call": node.call,
            "status": seen.status.label,
            "is_inside": not outside.any(),
            "share": round(seen.share, 4),
        }


def is_map(node: Node) -> bool:
    """Whether it is a module's call that gives one map of several places, which its field moves over."""
    if node.kind == "function" or node.children or not node.operations or node.field is None:
        return False
    shape = node.operations[-1].output_shape
    return len(shape) == 4 and shape[0] == 1 and shape[2] * shape[3] > 1


def verdict(row: Row) -> str:
    """One row in words."""
    fields = [field for field in row["fields"] if "refused" not in field]
    inside = sum(field["is_inside"] for field in fields)
    agrees = "agrees" if row["agrees"] else "DIFFERS"
    return f"{agrees} in {row['numbers']} numbers, {inside} of {len(fields)} fields inside"


def page(found: Mapping[str, Any]) -> str:
    """The page in markdown."""
    return "\n".join(lines(found)) + "\n"


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Of the page."""
    rows = found["rows"]
    fields = [field for row in rows for field in row["fields"] if "refused" not in field]
    yield "# Every network, worked out"
    yield ""
    yield "Written by `benchmarks/verified.py`; do not edit. How it is done is told there."
    yield ""
    yield (
        f"{len(rows)} networks at their real size, {sum(row['numbers'] for row in rows):,} numbers of "
        f"{sum(row['calls'] for row in rows):,} calls worked out in float64: "
        f"{sum(row['agrees'] for row in rows)} networks agree with torch in all of them. "
        f"{sum(field['is_inside'] for field in fields)} of {len(fields)} receptive fields hold every pixel "
        "that the gradient reaches."
    )
    yield ""
    yield (
        "Difference: the largest of a network, as a share of what is allowed. Left: operations that are not "
        "worked out, such as sorting boxes or attention; `striate explain` names them. Fields: how many of "
        "the boxes looked at hold all that the gradient reaches."
    )
    for source in dict.fromkeys(row["source"] for row in rows):
        yield ""
        yield f"## {source}"
        yield ""
        own = [row for row in rows if row["source"] == source]
        yield from table(
            ("network", "input", "numbers", "difference", "left", "fields"), list(map(cells, own))
        )
    yield ""
    yield from measured_on(found, itemgetter("network"))


def cells(row: Row) -> tuple[str, ...]:
    """One line of a table."""
    fields = [field for field in row["fields"] if "refused" not in field]
    share = f"{100 * row['worst_share']:.2g} %"
    return (
        row["network"],
        "x".join(map(str, row["input"])),
        f"{row['numbers']:,}",
        share if row["agrees"] else f"{share}, DIFFERS",
        f"{sum(row['not_explained'].values()):,}",
        f"{sum(field['is_inside'] for field in fields)} of {len(fields)}",
    )


if __name__ == "__main__":
    main()
