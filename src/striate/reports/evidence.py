"""What a report shows: plain data, measured by others. Fractions are 0..1; names are what people gave."""

from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "Bin",
    "Calibration",
    "Candidate",
    "Chart",
    "Column",
    "Comparison",
    "Confusion",
    "Data",
    "Evidence",
    "Finding",
    "Gallery",
    "Grid",
    "Headline",
    "Inside",
    "Layer",
    "Network",
    "Pair",
    "Picture",
    "Point",
    "Provenance",
    "Series",
    "Shown",
    "Step",
    "Table",
    "Value",
    "WindowChannel",
    "Worked",
]

Value: TypeAlias = str | int | float | None
"""A cell: a float is a fraction 0..1 and shown in percent, None is not known."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One small picture."""

    uri: str  # data:image/webp;base64,...
    width: int  # in pixels, of what is in `uri`
    height: int
    alt: str  # what it shows, for those who cannot see it


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with what is to be said of it; several where it is shown in several ways."""

    key: str  # what the data calls it
    images: tuple[Shown, ...]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures that belong together."""

    title: str
    text: str  # what they are, and how they were chosen
    pictures: tuple[Picture, ...]
    legend: tuple[tuple[str, str], ...] = ()  # (name, colour as #rrggbb) of what is drawn in them
    left_out: int = 0  # that would belong here too


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    heading: str
    is_number: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of values."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart."""

    name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over one axis."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    is_percent: bool = False  # the values are fractions
    is_unit: bool = False  # both axes run from 0 to 1
    is_log: bool = False  # of powers of ten upwards
    is_whole: bool = False  # what is counted along x is best named by whole numbers


@dataclass(frozen=True, slots=True)
class Headline:
    """A number that sums the run up."""

    label: str
    value: float
    low: float | None = None  # of the 95 % interval
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the check of the data noticed."""

    level: str  # "error", "warning" or "note"
    where: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class Data:
    """What the pictures are."""

    lines: tuple[str, ...]
    classes: Table
    findings: tuple[Finding, ...]
    findings_left_out: int
    samples: Gallery


@dataclass(frozen=True, slots=True)
class Confusion:
    """Which class is taken for which."""

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]  # row = truth, column = prediction
    unit: str  # what is counted: "pictures", "objects", "pixels"
    pictures: tuple[Picture, ...] = ()
    cells: tuple[tuple[int, int, tuple[int, ...]], ...] = ()  # truth, prediction, places in `pictures`


@dataclass(frozen=True, slots=True)
class Bin:
    """The pictures whose confidence lies in (low, high]."""

    low: float
    high: float
    pictures: int
    accuracy: float
    confidence: float  # mean


@dataclass(frozen=True, slots=True)
class Calibration:
    """Whether a confidence of 80 % is right 80 % of the time."""

    error: float  # expected calibration error
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """A row of the network's table: a call, or several equal ones in a row."""

    depth: int  # how many rows it lies in
    cells: tuple[str, ...]  # in the order of `Network.columns`


@dataclass(frozen=True, slots=True)
class Network:
    """The network, folded."""

    title: str
    columns: tuple[Column, ...]
    layers: tuple[Layer, ...]
    legend: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """Numbers of the cells of a window, as they lie in it."""

    name: str  # "input"
    rows: tuple[int, ...]  # their headings; below 0 or beyond the input's end where it is padded
    columns: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]
    padded: tuple[tuple[bool, ...], ...]  # of what lies outside the input


@dataclass(frozen=True, slots=True)
class WindowChannel:
    """What one input channel adds to a number."""

    name: str  # "channel 0"
    sum: float
    grids: tuple[Grid, ...]  # the input, the kernel, their products


@dataclass(frozen=True, slots=True)
class Step:
    """A number that was recomputed, beside the one that it should be."""

    title: str  # "stem.bn: batch norm"
    formula: str
    worked: str  # the same with its numbers
    torch: float  # the network's own
    difference: float
    allowed: float
    agrees: bool


@dataclass(frozen=True, slots=True)
class Worked:
    """How one number of a layer is made."""

    entering_text: str  # which pixel it is
    entering: tuple[Step, ...]  # how that pixel comes in; none where it is not followed
    window_text: str  # what the window lies on, and what its marks mean
    channels: tuple[WindowChannel, ...]  # those whose cells are shown
    sums: Table | None  # what each channel or feature adds; None where there is one alone
    steps: tuple[Step, ...]  # the sum, then the normalisation and the activation behind it


@dataclass(frozen=True, slots=True)
class Inside:
    """What one picture becomes in the network."""

    picture: Gallery  # that one, at the network's input
    maps_text: str  # how the maps were chosen, or why there are none
    maps: tuple[Gallery, ...]  # a depth each
    worked_text: str  # which number is worked out, or why none is
    worked: Worked | None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the numbers come from, and how to get them again."""

    speed: tuple[tuple[str, str], ...]
    environment: tuple[tuple[str, str], ...]
    command: str
    settings: str  # the run's TOML, each value with its origin; empty where it is not known


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one run."""

    title: str  # "resnet18 on photos"
    subject: tuple[str, ...]  # what was measured, a line each
    headline: tuple[Headline, ...]
    notes: tuple[str, ...]  # what was assumed or left out
    data: Data
    curves: tuple[Chart, ...]
    classes: Table
    confusion: Confusion
    precision_recall: Chart | None  # of detection
    galleries: tuple[Gallery, ...]  # the worst mistakes, likely label errors
    calibration: Calibration | None  # of classification
    network: Network | None
    inside: Inside
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Point:
    """One model of a plot of cost against quality."""

    name: str
    cost: float
    quality: float
    low: float | None = None  # of the 95 % interval of its quality
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the models that are compared."""

    name: str
    scores: tuple[Headline, ...]
    parameters: int
    macs: int  # multiply-adds of one picture; 0 where not known


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models, picture by picture."""

    first: str
    second: str
    only_first: int  # pictures that the first alone gets right
    only_second: int
    p_value: float
    test: str  # "exact McNemar", "McNemar with continuity correction"
    pictures: Gallery


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that is known of several models on the same pictures."""

    title: str
    subject: tuple[str, ...]
    notes: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    classes: Table
    pairs: tuple[Pair, ...]
    environment: tuple[tuple[str, str], ...]
    command: str
