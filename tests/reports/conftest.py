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
    Headline,
    Layer,
    Network,
    Pair,
    Picture,
    Provenance,
    Series,
    Shown,
    Table,
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
    return replace(classification, precision_recall=curve, galleries=(worst,), calibration=None)


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
