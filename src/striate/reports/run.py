"""The report of one run."""

from collections.abc import Iterator

from striate.reports.charts import line_chart, reliability_chart
from striate.reports.confusion import confusion_section
from striate.reports.evidence import (
    Bin,
    Calibration,
    Column,
    Data,
    Evidence,
    Finding,
    Headline,
    Provenance,
    Table,
)
from striate.reports.inside import inside_section
from striate.reports.markup import Markup, joined, tag
from striate.reports.network import network_section
from striate.reports.page import Section, whole_page
from striate.reports.pictures import gallery
from striate.reports.tables import data_table, described, percent

__all__ = ["headlines", "run_report"]


def run_report(evidence: Evidence) -> str:
    """The HTML file that shows `evidence`."""
    head = tag(
        "div",
        tag("h1", evidence.title),
        *(tag("p", line) for line in evidence.subject),
        headlines(evidence.headline),
        *(tag("p", f"Note: {note}", class_="note") for note in evidence.notes),
    )
    return whole_page(evidence.title, head, tuple(_sections(evidence)))


def headlines(numbers: tuple[Headline, ...]) -> Markup:
    """Large numbers, each with its interval."""
    return tag("dl", *map(_headline, numbers), class_="headlines")


def _sections(evidence: Evidence) -> Iterator[Section]:
    yield Section("data", "Data", _data(evidence.data))
    if evidence.curves:
        charts = tag("div", *map(line_chart, evidence.curves), class_="charts")
        yield Section("training", "Training", charts)
    yield Section("classes", "Classes", data_table(evidence.classes))
    if evidence.precision_recall is not None:
        yield Section("curves", "Precision and recall", line_chart(evidence.precision_recall))
    yield Section("confusion", "Confusion", confusion_section(evidence.confusion))
    for place, shown in enumerate(evidence.galleries):
        yield Section(f"pictures-{place + 1}", shown.title, gallery(shown))
    if evidence.calibration is not None:
        yield Section("calibration", "Calibration", _calibration(evidence.calibration))
    if evidence.network is not None:
        yield Section("network", "Network", network_section(evidence.network))
    yield Section("inside", "Inside the network", inside_section(evidence.inside))
    yield Section("origin", "Where it comes from", _origin(evidence.provenance))


def _headline(number: Headline) -> Markup:
    interval = ""
    if number.low is not None and number.high is not None:
        interval = tag("dd", f"95 % interval {percent(number.low)} to {percent(number.high)}", class_="quiet")
    return tag("div", tag("dt", number.label), tag("dd", percent(number.value), class_="large"), interval)


def _data(data: Data) -> Markup:
    left_out = f"{data.findings_left_out:,} more are listed by `striate check`."
    return tag(
        "div",
        *(tag("p", line) for line in data.lines),
        data_table(data.classes),
        tag("h3", "Health"),
        _findings(data.findings),
        tag("p", left_out) if data.findings_left_out else "",
        tag("h3", data.samples.title),
        gallery(data.samples),
    )


def _findings(findings: tuple[Finding, ...]) -> Markup:
    if not findings:
        return tag("p", "The check found nothing to mend.")
    rows = (
        tag(
            "li",
            tag("strong", finding.level, class_=finding.level),
            " ",
            tag("span", finding.where, class_="key-name"),
            f" {finding.message}. ",
            tag("span", f"Fix: {finding.fix}.", class_="quiet"),
        )
        for finding in findings
    )
    return tag("ul", *rows, class_="findings")


def _calibration(made: Calibration) -> Markup:
    said = (
        f"The expected calibration error is {percent(made.error)}: how far, on average, the confidence is "
        "from the share of pictures that are right."
    )
    columns = ("confidence above", "up to", "pictures", "mean confidence", "right")
    rows = tuple(_bin_row(each) for each in made.bins if each.pictures)
    table = Table("Pictures by confidence", tuple(map(Column, columns)), rows)
    numbers = tag("details", tag("summary", "The numbers"), data_table(table))
    return tag("div", tag("p", said), reliability_chart(made.bins), numbers)


def _bin_row(each: Bin) -> tuple[float, float, int, float, float]:
    return each.low, each.high, each.pictures, each.confidence, each.accuracy


def _origin(made: Provenance) -> Markup:
    settings = ""
    if made.settings:
        settings = tag(
            "details",
            tag("summary", "Every setting with its origin: run.toml"),
            tag("pre", tag("code", made.settings), tabindex=0),
        )
    return joined(
        (
            tag("h3", "To repeat it"),
            tag("pre", tag("code", made.command), tabindex=0),
            settings,
            tag("h3", "Speed"),
            described(made.speed),
            tag("h3", "Environment"),
            described(made.environment),
        )
    )
