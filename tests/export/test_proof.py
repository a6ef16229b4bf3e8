"""What a model and its export say is compared, on whole pictures, with tolerances that are stated."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.errors import StriateError
from striate.export.proof import Agreement, Examination, card_problems, odd_sized
from striate.modelfile import ModelCard
from striate.runtime.predictor import Predictor
from striate.structures import Preprocess, Sample

Arrays = dict[str, NDArray[Any]]


def card(task: str = "classification", **changes: Any) -> ModelCard:
    preprocess = Preprocess(size=(8, 8), fit="none" if task == "segmentation" else "stretch")
    return replace(ModelCard(task, "none", "toy", {}, ("red", "green", "blue"), preprocess), **changes)


class Toy:
    """An engine that says what a function makes of the pictures; it keeps the sizes of its batches."""

    lanes = 1

    def __init__(self, says: Any) -> None:
        self.says, self.batches = says, list[int]()

    def dense(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        self.batches.append(len(inputs["images"]))
        found: Arrays = self.says(inputs["images"].astype(np.float32))
        return found


def logits(images: NDArray[np.float32]) -> Arrays:
    return {"logits": images.mean(axis=(2, 3)) / 32}


def masks(images: NDArray[np.float32]) -> Arrays:
    return {"logits": images}


def one_box(images: NDArray[np.float32]) -> Arrays:
    """A box of which the picture's red says the score."""
    scores = images[:, 0].mean(axis=(1, 2))[:, None] / 255
    boxes = np.broadcast_to(np.array([1, 1, 6, 7], np.float32), (len(images), 1, 4))
    return {"boxes": boxes, "scores": scores, "labels": np.zeros((len(images), 1), np.int64)}


def samples(count: int = 3, size: tuple[int, int] = (8, 8)) -> list[Sample]:
    chance = np.random.default_rng(1)
    return [Sample(f"{n}.png", chance.integers(1, 255, (*size, 3), np.uint8)) for n in range(count)]


def agreement(ours: Any, theirs: Any, task: str, exact: bool = True, count: int = 3) -> Agreement:
    examination = Examination(Predictor(card(task), Toy(ours)), Predictor(card(task), Toy(theirs)), exact)
    pictures = samples(count)
    results, _ = examination.compare(pictures)
    examination.compare_alone(pictures, results)
    return examination.agreement()


@pytest.mark.parametrize(
    ("says", "task"), [(logits, "classification"), (masks, "segmentation"), (one_box, "detection")]
)
def test_an_export_that_says_the_same_agrees(says: Any, task: str) -> None:
    found = agreement(says, says, task)
    assert found.problems == ()
    assert (found.same, found.excused, found.comparisons) == (1.0, 0, 6)
    assert set(found.largest.values()) == {0.0}
    assert "allowed" in found.summary


def test_a_probability_further_away_is_a_problem_with_its_name() -> None:
    def other(images: NDArray[np.float32]) -> Arrays:
        dense = logits(images)
        dense["logits"][0, 2] += 0.01
        return dense

    found = agreement(logits, other, "classification")
    # The first picture of the batch, and each of the three alone, for all come first then.
    assert found.problems[0].startswith("0.png: blue has 0.")
    assert found.problems[-1] == "and 1 more"
    assert 1e-4 < found.largest["probability"] < 0.01


def test_a_sure_network_hides_no_difference() -> None:
    def sure(images: NDArray[np.float32]) -> Arrays:
        return {"logits": np.tile(np.float32([30, 0, 0]), (len(images), 1))}

    def other(images: NDArray[np.float32]) -> Arrays:
        return {"logits": np.tile(np.float32([30, 0.02, 0]), (len(images), 1))}

    # 9e-14 and 2 % more of it: far below what a probability may differ by.
    found = agreement(sure, other, "classification")
    assert found.largest["probability"] < 1e-6
    assert found.largest["ratio"] == pytest.approx(np.expm1(0.02), rel=1e-4)
    assert found.problems[0] == "0.png: green has 9.358e-14 and gets 9.547e-14"


def test_masks_hide_no_difference_of_the_logits() -> None:
    def other(images: NDArray[np.float32]) -> Arrays:
        return {"logits": images * np.float32(1.002)}

    found = agreement(masks, other, "segmentation")
    assert found.same == 1.0
    assert found.problems[0] == "0.png: its logits differ by 0.2 % of the largest"
    # Compared on those pictures that are looked at closely.
    assert found.largest["logits"] == pytest.approx(0.002, rel=1e-3)


def test_a_tie_of_two_classes_is_excused_and_counted() -> None:
    def tie(images: NDArray[np.float32]) -> Arrays:
        return {"logits": np.tile(np.float32([1, 1, 0]), (len(images), 1))}

    def other_tie(images: NDArray[np.float32]) -> Arrays:
        return {"logits": np.tile(np.float32([1, 1.00001, 0]), (len(images), 1))}

    found = agreement(tie, other_tie, "classification")
    assert (found.problems, found.excused, found.same) == ((), 6, 0.0)
    assert found.excused_share == 1.0


def test_masks_may_differ_in_one_pixel_of_a_thousand_and_no_more() -> None:
    def with_wrong(pixels: int) -> Any:
        def other(images: NDArray[np.float32]) -> Arrays:
            maps = images.copy()
            for place in range(pixels):  # of the 64 of each picture; red gets none in the first `pixels`
                maps[0, :, place // 8, place % 8] = maps[0, [1, 2, 0], place // 8, place % 8]
            return {"logits": maps}

        return other

    # Of 32 pictures in one batch, so that the wrong pixels are in 1 of 2048.
    for pixels, agrees in ((2, True), (3, False)):
        examination = Examination(
            Predictor(card("segmentation"), Toy(masks)),
            Predictor(card("segmentation"), Toy(with_wrong(pixels))),
        )
        examination.compare(samples(32))
        found = examination.agreement()
        assert found.same == 1 - pixels / 2048
        assert (found.problems == ()) == agrees
    assert found.problems == ("99.9 % of the pixels have the model's class, in 0.png 95.3 %",)


def test_boxes_that_move_are_a_problem_and_in_large_pictures_by_as_much_as_they_are_larger() -> None:
    def moved(by: float) -> Any:
        def other(images: NDArray[np.float32]) -> Arrays:
            dense = one_box(images)
            return {**dense, "boxes": dense["boxes"] + np.float32(by)}

        return other

    def problems(by: float, side: int) -> int:
        ours, theirs = (
            Predictor(card("detection"), Toy(one_box)),
            Predictor(card("detection"), Toy(moved(by))),
        )
        examination = Examination(ours, theirs)
        examination.compare(samples(1, (side, side)))
        return len(examination.agreement().problems)

    assert problems(0.09, 8) == 0
    assert problems(0.11, 8) == 2
    # Input pixels of 8x8 are ten times as large as those of 80x80.
    assert problems(0.09, 80) == 0
    assert problems(0.11, 80) == 2


def test_boxes_below_the_score_that_is_told_are_compared_too() -> None:
    faint = replace(card("detection"), metrics={"best_threshold": 0.9})
    ours = Predictor(faint, Toy(one_box), score=0.9)
    assert len(ours.predict(samples(1)[0].image)) == 0  # type: ignore[arg-type]
    examination = Examination(ours, Predictor(faint, Toy(one_box), score=0.9))
    examination.compare(samples(2))
    assert examination.agreement().things == 2


def two_boxes(surer: int) -> Any:
    """Two boxes of one class on each other (IoU 25 / 35), one of them a trace surer."""

    def says(images: NDArray[np.float32]) -> Arrays:
        boxes = np.tile(np.array([[1, 1, 7, 6], [2, 1, 8, 6]], np.float32), (len(images), 1, 1))
        scores = np.full((len(images), 2), 0.5, np.float32)
        scores[:, surer] += np.float32(0.00005)
        return {"boxes": boxes, "scores": scores, "labels": np.zeros((len(images), 2), np.int64)}

    return says


def test_boxes_of_which_a_rounding_chooses_one_are_excused_and_counted() -> None:
    examination = Examination(
        Predictor(card("detection"), Toy(two_boxes(0))), Predictor(card("detection"), Toy(two_boxes(1)))
    )
    examination.compare(samples(2))
    found = examination.agreement()
    # In each picture one side keeps the one, the other the other, and both have both.
    assert (found.excused, found.problems) == (4, ())
    assert "4 that a rounding decides excused" in found.summary


def test_a_box_at_the_threshold_is_excused() -> None:
    def at(score: float) -> Any:
        return lambda images: one_box(images) | {"scores": np.full((len(images), 1), score, np.float32)}

    for theirs, excused, problems in ((0.00995, 1, 0), (0.0098, 0, 1)):
        ours = Predictor(card("detection"), Toy(at(0.01002)))
        examination = Examination(ours, Predictor(card("detection"), Toy(at(theirs))))
        examination.compare(samples(1))
        found = examination.agreement()
        assert (found.excused, len(found.problems)) == (excused, problems)


def test_too_many_excuses_are_no_proof() -> None:
    found = agreement(two_boxes(0), two_boxes(1), "detection", count=4)
    assert found.problems == ("16 of 8 boxes hang on a rounding",)


def test_without_exactness_nothing_is_a_problem_and_how_far_it_is_is_told() -> None:
    def other(images: NDArray[np.float32]) -> Arrays:
        return {"logits": logits(images)["logits"][:, ::-1]}

    found = agreement(logits, other, "classification", exact=False)
    assert found.problems == ()
    assert found.same < 1
    assert "allowed" not in found.summary


def test_the_export_runs_in_batches_and_alone() -> None:
    export = Toy(logits)
    examination = Examination(Predictor(card(), Toy(logits)), Predictor(card(), export))
    pictures = samples(3)
    results, _ = examination.compare(pictures)
    examination.compare_alone(pictures, results)
    assert export.batches == [3, 1, 1, 1]


def test_an_export_that_fails_where_the_model_does_not_is_said_to() -> None:
    def broken(images: NDArray[np.float32]) -> Arrays:
        return {"logits": np.full((len(images), 3), np.nan, np.float32)}

    with pytest.raises(StriateError, match=r"the export fails where its model does not .*NaN") as raised:
        agreement(logits, broken, "classification")
    assert raised.value.exit_code == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ("green", "red", "blue")},
        {"preprocess": Preprocess(size=(8, 8), mean=(0.5, 0.5, 0.4))},
        {"config": {"score_threshold": 0.5}},
    ],
    ids=["classes", "preprocess", "config"],
)
def test_a_card_that_says_otherwise_is_a_problem(changes: dict[str, Any]) -> None:
    (name,) = changes
    assert card_problems(card(), card(**changes)) == (f"the {name} in its card are not the model's",)
    assert card_problems(card(), card()) == ()


def test_odd_sizes_are_odd_larger_and_of_several_proportions() -> None:
    (sample,) = samples(1, (8, 10))
    sizes = [odd_sized(sample, number).image.shape for number in range(4)]
    assert sizes == [(9, 13, 3), (13, 11, 3), (11, 13, 3), (11, 11, 3)]
    # Nearest: the corners stay, and no value is new.
    large = odd_sized(sample, 0)
    assert (large.image[0, 0] == sample.image[0, 0]).all()
    assert (large.image[-1, -1] == sample.image[-1, -1]).all()
    assert large.key == "0.png at 13x9"
