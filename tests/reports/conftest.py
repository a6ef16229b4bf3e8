"""Evidence made by hand: small, and full of names that would break a page that trusted them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from striate.reports.evidence import (
    Bin,
    Calibration,
    Candidate,
    Chart,
    Column,
    Comparison,
    Confusion,
    Data,
    Evidence,
    Finding,
    Gallery,
    Grid,
    Headline,
    Inside,
    Layer,
    Network,
    Pair,
    Picture,
    Provenance,
    Series,
    Shown,
    Step,
    Table,
    WindowChannel,
    Worked,
)

HOSTILE = "<img src=x onerror=alert(1)>"
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


def picture(key: str, *lines: str, images: int = 1, side: int = 8) -> Picture:
    shown = tuple(Shown(PIXEL, side, side, f"{key} {place}") for place in range(images))
    return Picture(key, shown, lines)


def table(name: str) -> Table:
    rows = (("cat", 0.5, 10), (HOSTILE, 1.0, 9), ("</script>", None, 1000))
    return Table(name, (Column("class", is_number=False), Column("recall"), Column("pictures")), rows)


def layers() -> Network:
    rows = ((0, "input"), (0, "stem"), (1, "conv"), (1, "block"), (2, "relu"), (0, "head"), (1, "fc"))
    # Wider than a phone.
    columns = (Column("call", is_number=False), *(Column(f"a long heading {n}") for n in range(6)))
    made = tuple(Layer(depth, (name, *["3"] * 6)) for depth, name in rows)
    return Network("tiny, input 1x8x8", columns, made, (("sees", "input pixels a side"),))


def window(name: str, side: int, padded: int) -> WindowChannel:
    """Of `side` cells a side, the first `padded` rows outside the input."""
    values = tuple(tuple(0.0 if row < padded else -12.3456 for _ in range(side)) for row in range(side))
    marks = tuple((row < padded,) * side for row in range(side))
    rows, columns = tuple(range(-padded, side - padded)), tuple(range(side))
    grids = tuple(
        Grid(each, rows, columns, values, marks if each != "kernel" else ((False,) * side,) * side)
        for each in ("input", "kernel", "products")
    )
    return WindowChannel(name, -7.25, grids)


def inside() -> Inside:
    """A window wider than a phone, of which a row is padded; a step that differs; hostile names."""
    steps = (
        Step("conv: convolution", "y = sum", "sum 2 + bias 1 = 3", 3.0, 0.0, 1e-5, True),
        Step(f"{HOSTILE}: ReLU", "y = max(0, x)", "max(0, 3) = 3", 2.5, 0.5, 1e-5, False),
    )
    sums = Table(
        "All 2 channels", (Column("channel", is_number=False), Column("sum")), (("1", "+9"), ("0", "-2"))
    )
    worked = Worked(
        "The pixel at row 3.",
        steps[:1],
        "A p marks cells outside the input.",
        (window("channel 1", 11, 1), window("channel 0", 3, 0)),
        sums,
        steps,
    )
    maps = Gallery(
        HOSTILE, "ReLU: 2 maps.", (picture("channel 0", "0 to 1"), picture("channel 1", "0 to 0")), (), 7
    )
    return Inside(
        Gallery(
            "The picture", "The first.", (picture(HOSTILE, "8x8 pixels", side=216),), (("window", "#e69f00"),)
        ),
        "The last activation of each size.",
        (maps,),
        "The largest number.",
        worked,
    )


@pytest.fixture
def classification() -> Evidence:
    """Three classes, one of them hostile; a mistake of two pictures, of which one is shown."""
    names = ("cat", HOSTILE, "</script>")
    confusion = Confusion(
        names,
        ((8, 2, 0), (0, 9, 0), (1, 0, 99)),
        "pictures",
        (picture(HOSTILE, "is cat", f"taken for {HOSTILE}, 77.0 %"), picture("b.png", "</script>, 51.0 %")),
        ((0, 1, (0,)), (2, 2, (1,))),
    )
    worst = Gallery(
        "Worst mistakes", "The surest first.", (picture("a.png", "is cat", images=2),), (("1", "#fde725"),), 3
    )
    samples = Gallery("Sample pictures", "Of each class.", (picture(HOSTILE, HOSTILE),))
    findings = (Finding("error", "cat/a.png", "the file is empty", "replace it"),)
    epochs = (1.0, 2.0, 3.0)
    return Evidence(
        title=f"tiny on {HOSTILE}",
        subject=("Measured on 119 pictures.",),
        headline=(Headline("top-1", 0.9748, 0.93, 0.99), Headline("macro F1", 0.9)),
        notes=("classes matched without regard to capitals",),
        data=Data(("119 pictures.",), table("Pictures"), findings, 2, samples),
        curves=(
            Chart("Loss", "epoch", "loss", (Series("train", epochs, (2.0, 1.0, 0.5)),), is_whole=True),
            Chart("Scores", "epoch", "score", (Series("top-1", epochs, (0.5, 0.8, 0.97)),), is_percent=True),
        ),
        classes=table("Scores of each class"),
        confusion=confusion,
        precision_recall=None,
        galleries=(worst,),
        calibration=Calibration(0.04, (Bin(0.0, 0.5, 0, 0, 0), Bin(0.5, 1.0, 119, 0.97, 0.93))),
        network=layers(),
        inside=inside(),
        provenance=Provenance(
            (("measuring", "10 pictures/s"),),
            (("trained with", "torch"),),
            "striate train x",
            "model = 'tiny'",
        ),
    )


@pytest.fixture
def detection(classification: Evidence) -> Evidence:
    """Boxes: curves of precision over recall, wide pictures, no calibration."""
    line = Series("all", (0.0, 0.5, 1.0), (1.0, 0.9, 0.4))
    curve = Chart("Precision over recall", "recall", "precision", (line,), is_percent=True, is_unit=True)
    worst = Gallery("Worst pictures", "Most mistakes.", (picture("a.png", "1 missed", side=216),))
    unseen = replace(inside(), maps_text="Not shown.", maps=(), worked_text="Not shown.", worked=None)
    return replace(
        classification, precision_recall=curve, galleries=(worst,), calibration=None, inside=unseen
    )


@pytest.fixture
def segmentation(classification: Evidence) -> Evidence:
    """Masks: pixels in the matrix, no pictures behind it, three pictures side by side."""
    confusion = replace(classification.confusion, unit="pixels", pictures=(), cells=())
    worst = Gallery("Worst pictures", "Least right.", (picture("a.png", "96 %", images=3, side=168),))
    return replace(classification, confusion=confusion, galleries=(worst,), calibration=None)


@pytest.fixture
def comparison() -> Comparison:
    """Two models, one of them with a hostile name."""
    candidates = (
        Candidate("runs/a", (Headline("top-1", 0.9, 0.85, 0.94),), 11_000_000, 1_800_000_000),
        Candidate(HOSTILE, (Headline("top-1", 0.8, 0.74, 0.85),), 60_000, 0),
    )
    shown = Gallery("Where they disagree", "Two of them.", (picture(HOSTILE, "is cat"),), (), 1)
    pair = Pair("runs/a", HOSTILE, 12, 2, 0.0129, "exact McNemar test", shown)
    return Comparison(
        title="2 models on digits",
        subject=("180 pictures.",),
        notes=(),
        candidates=candidates,
        classes=table("F1 of each class"),
        pairs=(pair,),
        environment=(("measured with", "striate"),),
        command="striate compare runs/a b",
    )


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Puts a page into a file."""

    def write(page: str, **_: Any) -> Path:
        path = tmp_path / "page.html"
        path.write_text(page, "utf-8")
        return path

    return write
