"""The inside of a network as HTML; `test_in_a_browser` opens it."""

import re
from dataclasses import replace

from striate.reports.evidence import Evidence, Grid, Inside, WindowChannel
from striate.reports.inside import inside_section

HOSTILE = "<img src=x onerror=alert(1)>"


def shown(made: Inside, values: tuple[tuple[float, ...], ...]) -> list[str]:
    """The cells of a grid of one row of `values`."""
    (numbers,) = values
    grid = Grid("input", (0,), tuple(range(len(numbers))), values, ((False,) * len(numbers),))
    assert made.worked is not None
    channel = WindowChannel("channel 0", 0.0, (grid,))
    section = inside_section(replace(made, worked=replace(made.worked, channels=(channel,), sums=None)))
    return re.findall("<td>([^<]+)</td>", section)


def test_every_number_of_a_window_is_a_cell_under_its_row_and_column(classification: Evidence) -> None:
    section = inside_section(classification.inside)
    tables = re.findall('<table class="grid-table">.*?</table>', section)
    assert [re.findall(r"<caption><span>(\w+)", table) for table in tables] == [
        ["input"],
        ["kernel"],
        ["products"],
    ] * 2
    assert re.findall('<th scope="row">(.*?)</th>', tables[0]) == [str(row) for row in range(-1, 10)]
    assert re.findall('<th scope="col">(.*?)</th>', tables[0]) == [str(column) for column in range(11)]
    assert tables[0].count("-12.35") == 110


def test_padded_cells_have_a_mark_that_is_text(classification: Evidence) -> None:
    section = inside_section(classification.inside)
    padded = '<td class="padded">0 <abbr title="padded">p</abbr></td>'
    assert section.count(padded) == 2 * 11  # of the input and the products; a kernel has none
    assert section.count("A p marks cells outside the input.") == 1


def test_the_largest_number_of_a_grid_has_four_digits_and_the_others_as_many_decimals(
    classification: Evidence,
) -> None:
    assert shown(classification.inside, ((0.0, 1.5, -0.25),)) == ["0", "1.500", "-0.250"]
    assert shown(classification.inside, ((255.0, 3.0),)) == ["255.0", "3.0"]
    assert shown(classification.inside, ((0.00123456, 0.0001),)) == ["0.001235", "0.000100"]
    assert shown(classification.inside, ((1e-30, 1e-31),)) == ["0.00000000", "0.00000000"]
    assert shown(classification.inside, ((12345.0, float("nan")),)) == ["12345", "nan"]


def test_a_step_that_differs_stands_out_and_one_that_agrees_does_not(classification: Evidence) -> None:
    section = inside_section(classification.inside)
    agreeing = '<span class="quiet">torch: 3, difference 0 (allowed 1e-05): they agree</span>'
    assert section.count(agreeing) == 2
    assert '<span class="error">torch: 2.5, difference 0.5 (allowed 1e-05): they differ</span>' in section


def test_the_first_channel_is_open_and_the_others_are_folded(classification: Evidence) -> None:
    section = inside_section(classification.inside)
    assert re.findall("<details( open)?><summary>([^<]+)", section) == [
        (" open", "channel 1: its products add up to -7.25"),
        ("", "channel 0: its products add up to -7.25"),
    ]


def test_each_layer_has_its_heading_its_maps_and_what_is_left_out(classification: Evidence) -> None:
    section = inside_section(classification.inside)
    assert (
        "<h4>&lt;img src=x onerror=alert(1)&gt;</h4><div><p>ReLU: 2 maps. 7 more are not shown.</p>"
        in section
    )
    assert HOSTILE not in section


def test_parts_that_there_are_none_of_are_not_there(classification: Evidence) -> None:
    made = classification.inside
    assert made.worked is not None
    section = inside_section(replace(made, worked=replace(made.worked, entering=(), channels=(), sums=None)))
    assert not [title for title in ("A pixel comes in", "Its window", "What adds up") if title in section]
    assert "The sum, and what is made of it" in section


def test_what_is_not_known_is_said_in_a_sentence(detection: Evidence) -> None:
    section = inside_section(detection.inside)
    assert section.count("<p>Not shown.</p>") == 2
    assert "<table" not in section
