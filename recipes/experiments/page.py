"""The page of all experiments, made of their result files alone: what was found, and the verdict by rule."""

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from picture import Dots, Panel, picture
from tables import measured_on, table

__all__ = ["Verdict", "verdict_of", "write_page"]

Verdict = Literal["held", "not seen", "the other way round", "not measured"]
Found = Mapping[str, Any]

LEAST_SEEDS = 2
UNITS = {"percent": " %", "milliseconds": " ms"}

INTRODUCTION = (
    "What tutorials say of convolutional networks, put to the test: networks that differ in one thing, "
    "trained alike from fresh weights. Every experiment is one file in `recipes/experiments/`, which says "
    "how, and one command, which takes some minutes on one core."
)
RULE = (
    "The verdict is made from the figures by a rule. **Held**: of the way that should have more, even the "
    "lowest seed is above the highest seed of the other. **The other way round**: the opposite. **Not "
    "seen**: the ranges overlap, so that these seeds cannot tell."
)
LIMITS = (
    "So few pictures and epochs say what is easier to begin with, not what is best in the end; and a "
    "verdict is about this network, these pictures and this budget. The range is over seeds alone: the "
    "test pictures are the same for all, and other ones would move all figures by a point or two."
)


def write_page(results: Path, page: Path) -> None:
    """Write `page` (markdown), and a picture for each experiment, from the JSON files in `results`."""
    every = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for found in every:
        drawn = picture(title_of(found), panels(found))
        (folder / f"{found['name']}.svg").write_text(drawn, "utf-8")
    page.write_text("\n".join(page_of(every, folder.name)), "utf-8")


def verdict_of(more: Sequence[float], less: Sequence[float]) -> Verdict:
    """What the values of the arm that should have more and those of the other, one a seed, say by rule."""
    if min(len(more), len(less)) < LEAST_SEEDS:
        return "not measured"
    if min(more) > max(less):
        return "held"
    return "the other way round" if max(more) < min(less) else "not seen"


def page_of(every: Sequence[Found], folder: str) -> Iterator[str]:
    """The lines of the page; the pictures lie in `folder` beside it."""
    yield from ("# The tutorials' claims as experiments", "")
    yield from ("Written by the scripts in `recipes/experiments/`; do not edit.", "", INTRODUCTION, "")
    yield from (RULE, *chances(every), "", LIMITS, "")
    head = ("claim, and what was found", "held", "n", "command")
    yield from table(head, [overview(found) for found in every])
    yield ""
    for found in every:
        yield from section(found, folder)


def chances(every: Sequence[Found]) -> Iterator[str]:
    """How often the rule is wrong, for the numbers of seeds that there are."""
    for seeds in sorted({count for found in every if (count := seeds_of(found)) >= LEAST_SEEDS}):
        wrong = 2 / math.comb(2 * seeds, seeds)
        yield f"With {seeds} seeds, chance alone tells equal ways apart in {wrong:.0%} of the cases,"
    claims = sum(len(found["claims"]) for found in every)
    yield f"and there are {claims} verdicts on this page: some of them may be chance's."


def seeds_of(found: Found) -> int:
    """The number of seeds that every arm has."""
    counts = [len(values(found, name, "test")) for name in found["arm_names"]]
    return min(counts, default=0)


def values(found: Found, arm: str, measure: str) -> list[float]:
    """The values of one arm, one a seed."""
    rows = sorted((row for row in found["rows"] if row["arm"] == arm), key=lambda row: row["seed"])
    return [row["measures"][measure] for row in rows]


def overview(found: Found) -> tuple[str, ...]:
    """The row of an experiment in the first table."""
    verdicts = [verdict for verdict, _ in judged(found)]
    title = title_of(found)
    said = [
        f"**[{title}](#{anchor(title)})**",
        *(f"**{verdict}**: {text}" for verdict, text in judged(found)),
    ]
    held = f"{verdicts.count('held')} of {len(verdicts)}"
    command = f"`python recipes/experiments/{found['name']}.py DATA`"
    return "<br>".join(said), held, str(seeds_of(found)), command


def title_of(found: Found) -> str:
    """The heading of an experiment."""
    title: str = found["what"].rstrip(".")
    return title


def anchor(title: str) -> str:
    """The fragment by which a heading is reached on the usual hosts."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def judged(found: Found) -> Iterator[tuple[Verdict, str]]:
    """Each claim's verdict, and the claim with its figures."""
    forms = {measure["name"]: measure["form"] for measure in found["measures"]}
    for claim in found["claims"]:
        both = [values(found, claim[side], claim["measure"]) for side in ("more", "less")]
        figures = " against ".join(spread(own, forms[claim["measure"]]) for own in both)
        yield verdict_of(*both), f"{claim['text']}: {figures}"


def section(found: Found, folder: str) -> Iterator[str]:
    """Heading, method, verdicts, table and picture of one experiment."""
    settings, title = found["settings"], title_of(found)
    minutes = sum(row["seconds"] for row in found["rows"]) / 60
    yield from (f"## {title}", "")
    for paragraph in found["how"]:
        yield from (paragraph, "")
    yield from (f"- **{verdict}**: {text}" for verdict, text in judged(found))
    yield from ("", f"![{title}: every dot is a seed]({folder}/{found['name']}.svg)", "")
    head = ("", *(measure["title"] for measure in found["measures"]))
    yield from table(head, [cells(found, arm) for arm in found["arm_names"]])
    yield from (
        "",
        f"Median and range of {seeds_of(found)} seeds; {settings['data']}, {settings['pictures']:,} training "
        f"pictures seen {settings['epochs']} times, at most {settings['tested']:,} test pictures; "
        f"{minutes:.1f} minutes of training in all.",
        *measured_on(found, lambda row: f"{row['arm']} with seed {row['seed']}"),
        "",
    )


def cells(found: Found, arm: str) -> tuple[str, ...]:
    """The row of an arm in its table."""
    measures = found["measures"]
    return arm, *(spread(values(found, arm, measure["name"]), measure["form"]) for measure in measures)


def spread(own: Sequence[float], form: str) -> str:
    """The median and, where there is one, the range."""
    if not own:
        return "no figure"
    low, middle, high = (shown(value, form) for value in (min(own), statistics.median(own), max(own)))
    unit = UNITS.get(form, "")
    return middle + unit if low == high else f"{middle}{unit} ({low}–{high})"


def shown(value: float, form: str) -> str:
    """A figure for people, without its unit."""
    if form == "percent":
        return f"{100 * value:.1f}"
    if form == "count":
        return f"{value:,.0f}"
    digits = {"milliseconds": ".1f", "ratio": ".2f"}.get(form, ".3g")
    return f"{value:{digits}}"


def panels(found: Found) -> Iterator[Panel]:
    """What the picture shows."""
    measures = {measure["name"]: measure for measure in found["measures"]}
    for names in found["shown"]:
        first = measures[names[0]]
        dots = tuple(
            Dots(
                measures[name]["title"], {arm: tuple(values(found, arm, name)) for arm in found["arm_names"]}
            )
            for name in names
        )
        yield Panel(dots, is_percent=first["form"] == "percent", is_log=first["is_log"])
