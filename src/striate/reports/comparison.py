"""The report of several models that were measured on the same pictures."""

from collections.abc import Iterator

from striate.reports.charts import cost_chart
from striate.reports.evidence import Candidate, Column, Comparison, Pair, Point, Table
from striate.reports.markup import Markup, joined, tag
from striate.reports.page import Section, whole_page
from striate.reports.pictures import gallery
from striate.reports.tables import data_table, described, percent

__all__ = ["comparison_report"]

_SURE = 0.05  # p-values below it are taken for a difference


def comparison_report(made: Comparison) -> str:
    """The HTML file that shows `made`."""
    head = tag(
        "div",
        tag("h1", made.title),
        *(tag("p", line) for line in made.subject),
        *(tag("p", f"Note: {note}", class_="note") for note in made.notes),
    )
    return whole_page(made.title, head, tuple(_sections(made)))


def _sections(made: Comparison) -> Iterator[Section]:
    yield Section("scores", "Scores", joined((_scores(made.candidates), _charts(made.candidates))))
    yield Section("classes", "Classes", data_table(made.classes))
    if made.pairs:
        yield Section("pairs", "Picture by picture", joined(_pair(pair) for pair in made.pairs))
    origin = (
        tag("h3", "To repeat it"),
        tag("pre", tag("code", made.command), tabindex=0),
        tag("h3", "Environment"),
        described(made.environment),
    )
    yield Section("origin", "Where it comes from", joined(origin))


def _scores(candidates: tuple[Candidate, ...]) -> Markup:
    labels = [score.label for score in candidates[0].scores]
    columns = [Column("model", is_number=False)]
    for score in candidates[0].scores:
        columns += [Column(score.label)] + [Column("95 % interval")] * (score.low is not None)
    columns += [Column("parameters"), Column("multiply-adds")]
    rows = []
    for each in candidates:
        row: list[str | int | float | None] = [each.name]
        for score in each.scores:
            row.append(score.value)
            if score.low is not None and score.high is not None:
                row.append(f"{percent(score.low)} to {percent(score.high)}")
        rows.append((*row, each.parameters or None, each.macs or None))
    return data_table(Table(f"{', '.join(labels)} and cost", tuple(columns), tuple(rows)))


def _charts(candidates: tuple[Candidate, ...]) -> Markup:
    """Cost against quality, for each cost that all models are known to have."""
    label = candidates[0].scores[0].label
    costs = {
        "parameters": [each.parameters for each in candidates],
        "multiply-adds of a picture": [each.macs for each in candidates],
    }
    charts = [
        cost_chart(f"{label} over {name}", name, label, tuple(map(_point, candidates, values)))
        for name, values in costs.items()
        if all(values)
    ]
    return tag("div", *charts, class_="charts") if charts else Markup("")


def _point(each: Candidate, cost: int) -> Point:
    score = each.scores[0]
    return Point(each.name, float(cost), score.value, score.low, score.high)


def _pair(pair: Pair) -> Markup:
    differ = pair.only_first + pair.only_second
    verdict = (
        f"They differ by more than chance ({_p(pair.p_value)}, {pair.test})."
        if pair.p_value < _SURE
        else f"That may be chance ({_p(pair.p_value)}, {pair.test})."
    )
    told = (
        f"On {differ:,} pictures one alone is right: {pair.first} on {pair.only_first:,}, {pair.second} on "
        f"{pair.only_second:,}. {verdict}"
    )
    title = tag("h3", f"{pair.first} and {pair.second}")
    return tag("div", title, tag("p", told), gallery(pair.pictures) if pair.pictures.pictures else "")


def _p(value: float) -> str:
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.2g}"
