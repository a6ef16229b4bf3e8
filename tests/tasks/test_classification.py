"""The classification task: targets, collation, results, scores, class matching, drawing."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate.errors import DataError, ModelError, NotFiniteError, UsageError
from striate.structures import Classification, Geometry
from striate.tasks.classification import (
    SCORE,
    ResultOptions,
    TargetOptions,
    balanced_weights,
    draw,
    match_classes,
    metric,
    results,
    targets,
)

HERE = Geometry((2, 3), (2, 3))


def result_rows(logits: list[list[float]]) -> list[Classification]:
    names = tuple("abcdefgh"[: len(logits[0])])
    keys = [f"{i}.png" for i in range(len(logits))]
    return results({"logits": np.array(logits, np.float32)}, keys, [HERE] * len(logits), ResultOptions(names))


# targets


def test_targets_without_smoothing_are_one_hot_with_weight_1() -> None:
    made = targets(np.array([2, 0]), TargetOptions(3))
    assert made.probabilities.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert made.weight.tolist() == [1, 1]
    assert made.probabilities.dtype == made.weight.dtype == np.float32


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    made = targets(np.array([1]), TargetOptions(4, smoothing=0.2))
    np.testing.assert_allclose(made.probabilities, [[0.05, 0.85, 0.05, 0.05]], rtol=1e-6)


def test_class_weights_follow_the_label() -> None:
    made = targets(np.array([1, 0, 1]), TargetOptions(2, class_weights=(0.5, 2.0)))
    assert made.weight.tolist() == [2.0, 0.5, 2.0]


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_outside_the_classes_is_refused(label: int) -> None:
    with pytest.raises(DataError, match=rf"class id {label} is not in 0\.\.2"):
        targets(np.array([0, label]), TargetOptions(3))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("classes", {"classes": 0}),
        ("smoothing", {"classes": 2, "smoothing": 1.0}),
        ("smoothing", {"classes": 2, "smoothing": float("nan")}),
        ("class_weights", {"classes": 2, "class_weights": (1.0,)}),
        ("class_weights", {"classes": 2, "class_weights": (1.0, -1.0)}),
        ("class_weights", {"classes": 2, "class_weights": (1.0, float("inf"))}),
    ],
)
def test_target_options_out_of_range_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"^{name}: "):
        TargetOptions(**options)  # type: ignore[arg-type]


def inverse_weights(counts: list[int]) -> tuple[float, ...]:
    return balanced_weights(np.array(counts), "inverse", np.full(len(counts), sum(counts)))


def test_balanced_weights_by_hand() -> None:
    assert inverse_weights([6, 2]) == (8 / 2 / 6, 8 / 2 / 2)


def test_an_empty_class_has_weight_1_and_changes_no_other() -> None:
    assert inverse_weights([6, 0, 2]) == (8 / 2 / 6, 1.0, 8 / 2 / 2)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=9).filter(any))
def test_balanced_weights_average_1_and_give_each_class_the_same_share(counts: list[int]) -> None:
    weights = np.array(inverse_weights(counts))
    assert (weights * counts).sum() / sum(counts) == pytest.approx(1)
    shares = (weights * counts)[np.array(counts) > 0]
    np.testing.assert_allclose(shares, shares[0])


# results


def test_probabilities_are_the_softmax() -> None:
    rows = result_rows([[0.0, np.log(3.0)], [5.0, 5.0]])
    np.testing.assert_allclose(rows[0].probabilities, [0.25, 0.75], rtol=1e-6)
    assert rows[1].probabilities.tolist() == [0.5, 0.5]
    assert [row.key for row in rows] == ["0.png", "1.png"]
    assert rows[0].label == "b"
    assert rows[0].probabilities.dtype == np.float32


def test_huge_logits_do_not_overflow() -> None:
    assert result_rows([[3e38, -3e38, 0.0]])[0].probabilities.tolist() == [1, 0, 0]


@pytest.mark.parametrize("classes", [1, 2, 3, 7, 8, 17, 129, 1000])
def test_a_row_alone_has_the_bits_it_has_in_a_batch(classes: int) -> None:
    logits = np.random.default_rng(classes).normal(0, 4, (9, classes)).astype(np.float32)
    options = ResultOptions(tuple(map(str, range(classes))))
    together = results({"logits": logits}, list("abcdefghi"), [HERE] * 9, options)
    for index, row in enumerate(together):
        alone = results({"logits": logits[index : index + 1]}, ["x"], [HERE], options)
        assert alone[0].probabilities.tobytes() == row.probabilities.tobytes()


def test_half_precision_and_other_memory_orders_give_the_same_bits() -> None:
    logits = np.random.default_rng(0).normal(0, 4, (5, 33)).astype(np.float16)
    options = ResultOptions(tuple(map(str, range(33))))
    plain = results({"logits": logits.astype(np.float32)}, list("abcde"), [HERE] * 5, options)
    other = results({"logits": np.asfortranarray(logits)}, list("abcde"), [HERE] * 5, options)
    assert all(
        a.probabilities.tobytes() == b.probabilities.tobytes() for a, b in zip(plain, other, strict=True)
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_refused_with_its_picture(bad: float) -> None:
    with pytest.raises(NotFiniteError, match=r"^1\.png: "):
        result_rows([[0.0, 1.0], [0.0, bad], [0.0, 1.0]])


def test_logits_of_another_shape_are_refused() -> None:
    with pytest.raises(ModelError, match=r"\(2, 3\).*expected \(1, 2\)"):
        results({"logits": np.zeros((2, 3))}, ["a"], [HERE], ResultOptions(("x", "y")))


# scores


def one_hot(predicted: list[int], classes: int) -> list[Classification]:
    return result_rows((np.eye(classes)[predicted] * 50).tolist())


def test_scores_worked_by_hand() -> None:
    seen = metric(("a", "b", "c"))
    seen.update(one_hot([0, 1, 1, 2], 3), [0, 0, 1, 2])
    scores = seen.compute()
    assert scores.values == {
        "top1": 0.75,
        "top5": 1.0,
        "macro_precision": pytest.approx((1 + 0.5 + 1) / 3),
        "macro_recall": pytest.approx((0.5 + 1 + 1) / 3),
        "macro_f1": pytest.approx((2 / 3 + 2 / 3 + 1) / 3),
        "ece": pytest.approx(0.25),
    }
    assert SCORE in scores.values
    assert scores.classes[1] == {
        "name": "b",
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "support": 1,
    }
    assert scores.worst_pairs() == (("a", "b", 1),)
    assert scores.class_names == ("a", "b", "c")


def test_scores_survive_json() -> None:
    seen = metric(("a", "b"))
    seen.update(one_hot([0, 1, 1], 2), [0, 0, 1])
    data = json.loads(json.dumps(seen.compute().to_dict(), allow_nan=False))
    assert set(data) == {"metrics", "classes", "confusion", "reliability"}
    assert data["confusion"] == [[1, 1], [0, 1]]
    assert list(data["metrics"]) == ["top1", "top5", "macro_precision", "macro_recall", "macro_f1", "ece"]
    assert [row["support"] for row in data["classes"]] == [2, 1]
    assert sum(row["pictures"] for row in data["reliability"]) == 3


def test_two_processes_merge_to_one_exactly() -> None:
    random = np.random.default_rng(1)
    rows = result_rows(random.normal(0, 2, (40, 6)).tolist())
    truths = random.integers(0, 6, 40).tolist()
    whole, first, second = (metric(tuple("abcdef")) for _ in range(3))
    whole.update(rows, truths)
    first.update(rows[:13], truths[:13])
    second.update(rows[13:], truths[13:])
    first.merge(second.state())
    assert first.compute().to_dict() == whole.compute().to_dict()


def test_a_state_of_other_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be added"):
        metric(("a", "b")).merge(metric(("a", "b", "c")).state())


def test_scores_of_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="no picture was measured"):
        metric(("a", "b")).compute()


# classes of the data and of the model


def test_classes_match_by_name_in_any_order() -> None:
    ids, note = match_classes(("cat", "dog", "owl"), ("owl", "cat"))
    assert ids.tolist() == [2, 0]
    assert ids.dtype == np.int64
    assert note == ""


def test_capitals_do_not_matter_and_are_noted() -> None:
    ids, note = match_classes(("cat", "Dog"), ("dog", "cat"))
    assert ids.tolist() == [1, 0]
    assert "dog = Dog" in note
    assert "cat" not in note


def test_the_same_spelling_wins_over_other_capitals() -> None:
    assert match_classes(("CAT", "cat"), ("cat", "CAT")).ids.tolist() == [1, 0]


def test_two_model_classes_that_differ_in_capitals_are_not_guessed_between() -> None:
    with pytest.raises(DataError, match="1 of the data's 1 classes"):
        match_classes(("CAT", "cat"), ("Cat",))


def test_a_model_with_numbers_takes_as_many_names_by_order_and_says_so() -> None:
    ids, note = match_classes(("0", "1", "2"), ("ants", "bees", "cows"))
    assert ids.tolist() == [0, 1, 2]
    assert "0 = ants" in note
    assert "2 = cows" in note


def test_numbers_match_numbers_by_name() -> None:
    assert match_classes(tuple("0123"), ("3", "1")).ids.tolist() == [3, 1]


def test_shifted_numbers_are_not_matched_by_order() -> None:
    with pytest.raises(DataError, match=r"1 of the data's 3 classes .*: 3"):
        match_classes(("0", "1", "2"), ("1", "2", "3"))


def test_a_model_with_numbers_refuses_another_count() -> None:
    with pytest.raises(DataError, match="3 of the data's 3 classes"):
        match_classes(("0", "1"), ("a", "b", "c"))


def test_every_class_that_matches_none_is_listed_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"2 of the data's 3 .*: dgo \(nearest: dog\), zebra\. fix: "):
        match_classes(("cat", "dog"), ("cat", "dgo", "zebra"))


# drawing


@pytest.mark.parametrize(
    "shape", [(28, 28, 1), (300, 400, 3), (1, 1, 3), (2000, 30, 3), (30, 2000, 3), (900, 1200, 3)]
)
def test_a_drawing_is_rgb_of_a_readable_width(shape: tuple[int, int, int]) -> None:
    drawn = draw(np.full(shape, 200, np.uint8), result_rows([[3.0, 1.0, 2.0, 0.0]])[0])
    assert drawn.dtype == np.uint8
    assert drawn.shape[2] == 3
    assert 256 <= drawn.shape[1] <= 1536
    assert drawn.shape[0] > 60


def test_the_picture_is_untouched_above_its_caption() -> None:
    image = np.random.default_rng(0).integers(0, 256, (260, 300, 3), dtype=np.uint8)
    drawn = draw(image, result_rows([[3.0, 1.0]])[0])
    np.testing.assert_array_equal(drawn[:260], image)
    assert drawn[260:].min() < 60 < 200 < drawn[260:].max()


def test_a_small_picture_is_enlarged_by_whole_pixels() -> None:
    image = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28, 1)
    drawn = draw(image, result_rows([[3.0, 1.0]])[0])
    np.testing.assert_array_equal(drawn[:280:10, ::10], image.repeat(3, axis=2))


def test_the_likeliest_class_has_the_longest_bar() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    drawn = draw(image, result_rows([[0.0, np.log(9.0)]])[0])
    bar = (drawn[300:] == (36, 99, 176)).all(axis=2).any(axis=0)
    assert 0.8 < bar.mean() < 0.9  # nine tenths of the width between the margins


def test_a_name_too_long_is_cut_and_control_characters_do_not_break_the_row() -> None:
    names = ("x" * 500, "two\nlines\t\x07", "")
    result = Classification("k", np.array([0.5, 0.3, 0.2], np.float32), names)
    assert draw(np.zeros((50, 50, 3), np.uint8), result).shape == (300 + 3 * 23 + 11, 300, 3)
