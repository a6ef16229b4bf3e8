from collections.abc import Callable
from typing import Any

import numpy as np

from striate.api.evidence.classification import Gatherer
from striate.data.dataset import Dataset
from striate.structures import Classification
from striate.tasks import classification

NAMES = ("a", "b", "c")


def told(
    gatherer: Gatherer, rows: list[tuple[int, list[float]]], measured: int | None = None
) -> classification.Scores:
    """Feeds (truth, probabilities) as items 0, 1, ...; the scores of the first `measured`."""
    metric = classification.metric(NAMES)
    for index, (truth, probabilities) in enumerate(rows):
        if index == measured:
            gatherer.end_of_measured()
        result = Classification(str(index), np.array(probabilities, np.float32), NAMES)
        gatherer.add(index, result, truth)
        if measured is None or index < measured:
            metric.update([result], [truth])
    return metric.compute()


ROWS = [
    (0, [0.9, 0.05, 0.05]),
    (0, [0.2, 0.7, 0.1]),
    (0, [0.1, 0.9, 0.0]),
    (1, [0.1, 0.8, 0.1]),
    (2, [0.2, 0.2, 0.6]),
]


def test_mistakes_come_the_surest_first_with_what_was_said(
    dataset: Callable[..., Dataset], export: Any
) -> None:
    gatherer = Gatherer(dataset("classification", 5), export)
    found = gatherer.gathered(told(gatherer, ROWS))
    worst = found.galleries[0]
    assert worst.title == "Worst mistakes"
    assert [picture.key for picture in worst.pictures] == ["2", "1"]
    assert worst.pictures[0].lines == ("is a", "taken for b, 90.0 %")
    assert "an export has no gradients" in worst.text


def test_cells_hold_their_own_pictures(dataset: Callable[..., Dataset], export: Any) -> None:
    gatherer = Gatherer(dataset("classification", 5), export)
    confusion = gatherer.gathered(told(gatherer, ROWS)).confusion
    keys = {
        (truth, said): [confusion.pictures[place].key for place in places]
        for truth, said, places in confusion.cells
    }
    assert keys == {(0, 1): ["2", "1"], (0, 0): ["0"], (1, 1): ["3"], (2, 2): ["4"]}
    assert confusion.counts == ((1, 2, 0), (0, 1, 0), (0, 0, 1))


def test_the_headline_has_the_interval_of_the_measured_pictures(
    dataset: Callable[..., Dataset], export: Any
) -> None:
    gatherer = Gatherer(dataset("classification", 5), export)
    top1 = gatherer.gathered(told(gatherer, ROWS)).headline[0]
    assert top1.value == 0.6
    assert top1.low is not None
    assert top1.high is not None
    assert (round(top1.low, 3), round(top1.high, 3)) == (0.231, 0.882)  # Wilson's, of 3 in 5


def test_pictures_that_are_not_measured_are_looked_at_for_their_labels_alone(
    dataset: Callable[..., Dataset], export: Any
) -> None:
    rows = [*ROWS[3:], (0, [0.9, 0.05, 0.05]), (0, [0.85, 0.1, 0.05]), (0, [0.0, 0.99, 0.01])]
    gatherer = Gatherer(dataset("classification", 5), export)
    found = gatherer.gathered(told(gatherer, rows, measured=2))
    assert [gallery.title for gallery in found.galleries] == ["Likely label errors"]
    assert [picture.key for picture in found.galleries[0].pictures] == ["4"]
    assert found.galleries[0].pictures[0].lines == ("labelled a, 0.0 %", "rather b, 99.0 %?")
    assert sum(map(sum, found.confusion.counts)) == 2
    assert found.headline[0].value == 1.0


def test_what_the_probabilities_are_worth_is_said(dataset: Callable[..., Dataset], export: Any) -> None:
    for part, words in (("test", "were not trained on them (test 5)"), ("train", "trained on some of them")):
        gatherer = Gatherer(dataset("classification", 5, part), export)
        doubted = gatherer.gathered(told(gatherer, ROWS)).galleries[-1]
        assert doubted.title == "Likely label errors"
        assert words in doubted.text


def test_no_mistake_leaves_the_section_out(dataset: Callable[..., Dataset], export: Any) -> None:
    gatherer = Gatherer(dataset("classification", 5), export)
    rows = [row for row in ROWS if np.argmax(row[1]) == row[0]]
    assert gatherer.gathered(told(gatherer, rows)).galleries == ()


def test_pictures_behind_cells_are_bounded_and_every_cell_has_its_first(
    dataset: Callable[..., Dataset], export: Any
) -> None:
    rows = [(0, [0.4, 0.6, 0.0])] * 200 + [(0, [0.4, 0.0, 0.6])] + [(1, [0.0, 1.0, 0.0])] * 20
    gatherer = Gatherer(dataset("classification", len(rows)), export)
    cells = {cell[:2]: len(cell[2]) for cell in gatherer.gathered(told(gatherer, rows)).confusion.cells}
    assert cells == {(0, 1): 24, (0, 2): 1, (1, 1): 6}


def test_the_example_is_the_first_that_is_right_of_those_measured(
    dataset: Callable[..., Dataset], export: Any
) -> None:
    gatherer = Gatherer(dataset("classification", 5), export)
    example = gatherer.gathered(told(gatherer, ROWS[1:] + ROWS[:1])).example
    assert example.index == 2
    assert example.text == "The first picture that the model is right about: it says b, with 80.0 %."


def test_without_a_right_one_the_first_is_the_example_and_told_so(
    dataset: Callable[..., Dataset], export: Any
) -> None:
    gatherer = Gatherer(dataset("classification", 3), export)
    example = gatherer.gathered(told(gatherer, [*ROWS[1:3], ROWS[0]], measured=2)).example
    assert example.index == 0
    assert example.text == "It is right about none; this is the first: it says b, with 70.0 %, and it is a."
