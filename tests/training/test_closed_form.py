"""R-CNN's SVMs and box regressions: against numpy, by hand, and on a network."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from striate.errors import DataError, EnvironmentProblem
from striate.models.detection import rcnn
from striate.structures import Batch, BoxTargets, Geometry
from striate.training import closed_form
from striate.training.closed_form import (
    BoxRegression,
    HardNegativeSVM,
    Looked,
    SVMSettings,
    finish,
    looked_at,
    solve,
)

SETTINGS = SVMSettings()


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ridge_of(values: NDArray[Any], targets: NDArray[Any], ridge: float) -> NDArray[np.float64]:
    """(M + 1, 4) by the normal equations, a constant 1 behind the values."""
    values = np.concatenate((values.astype(np.float64), np.ones((len(values), 1))), 1)
    solved: NDArray[np.float64] = np.linalg.solve(
        values.T @ values + ridge * np.eye(values.shape[1]), values.T @ targets
    )
    return solved


@pytest.mark.parametrize("count", [1, 6, 40, 300])  # fewer and more than 20 features
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_ridge_equals_numpy(count: int, parts: int, scale: float) -> None:
    values, targets = numbers(count, 20), numbers(count, 4, seed=1).astype(np.float64) + 2
    regression = BoxRegression(20)
    for part in np.array_split(np.arange(count), parts):
        regression.add(values[part], targets[part])
    found = regression.solution(scale)
    # Whitened by another factorisation than the eigenvalues' own.
    mean = targets.mean(0)
    covariance = (targets - mean).T @ (targets - mean) / count + 1e-3 * np.eye(4)
    left, roots, right = np.linalg.svd(covariance)
    whiten, colour = left / np.sqrt(roots) @ right, left * np.sqrt(roots) @ right
    expected = ridge_of(values * np.float64(scale), (targets - mean) @ whiten, 1000.0) @ colour
    np.testing.assert_allclose(found.weight, expected[:-1].T * scale, atol=1e-6, rtol=1e-4)
    np.testing.assert_allclose(found.bias, expected[-1] + mean, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("count", [30, 4000])
def test_a_linear_map_is_found_again(count: int) -> None:
    planted = numbers(4, 50, seed=3)
    values = numbers(count, 50)
    if count < 50:  # not enough to tell all weights: the values they were seen on are still right
        ridge, check = 1e-6, values
    else:
        ridge, check = 1e-3, numbers(10, 50, seed=5)
    regression = BoxRegression(50)
    regression.add(values, (values @ planted.T + np.float32(0.5)).astype(np.float64))
    found = regression.solution(ridge=ridge)
    np.testing.assert_allclose(check @ found.weight.T + found.bias, check @ planted.T + 0.5, atol=2e-3)


def test_a_regression_without_examples_changes_no_box() -> None:
    regression = BoxRegression(3)
    regression.add(numbers(0, 3), np.zeros((0, 4)))
    found = regression.solution()
    assert not found.weight.any()
    assert not found.bias.any()


def test_svm_of_two_points_by_hand() -> None:
    # Margins of 1 can be kept at this cost: the widest street between 3 and 1 has w = 1, b = -2, but the
    # constant's weight costs too: minimise (w^2 + (b / 10)^2) / 2 with 3 w + b >= 1 and -(w + b) >= 1.
    machine = HardNegativeSVM(np.array([[3.0]], np.float32), replace(SETTINGS, cost=100.0))
    machine.offer(np.array([[1.0]], np.float32))
    found = machine.solution("class 0")
    assert found.weight.item() == pytest.approx(1.0, abs=1e-2)
    assert found.bias.item() == pytest.approx(-2.0, abs=1e-2)


def objective(weight: NDArray[Any], bias: float, positives: NDArray[Any], negatives: NDArray[Any]) -> float:
    """What the SVM minimises, written out."""
    inside = np.maximum(0, 1 - (positives @ weight + bias)), np.maximum(0, 1 + negatives @ weight + bias)
    return float((weight @ weight + (bias / 10) ** 2) / 2 + 1e-3 * (2 * inside[0].sum() + inside[1].sum()))


def test_svm_minimises_the_published_objective() -> None:
    positives, negatives = numbers(30, 8) * 4 + 2, numbers(200, 8, seed=1) * 4
    machine = HardNegativeSVM(positives, SETTINGS)
    machine.offer(negatives)
    found = machine.solution("class 0")
    weight, bias = found.weight[0].astype(np.float64), float(found.bias[0])
    least = objective(weight, bias, positives, negatives)
    chance = np.random.default_rng(2)
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(50):
            step = chance.standard_normal(9) * size
            assert (
                objective(weight + step[:8], bias + step[8] * 10, positives, negatives) > least - 1e-4 * least
            )


def test_only_hard_negatives_are_kept_once_it_was_trained() -> None:
    positives = np.array([[10.0, 0]], np.float32)
    machine = HardNegativeSVM(positives, replace(SETTINGS, cost=1.0, retrain_after=2))
    assert machine.offer(np.array([[0.0, 0], [0, 1]], np.float32)) == 2  # trains now
    hard, easy = [9.0, 0], [-50.0, 0]
    assert machine.offer(np.array([hard, easy], np.float32)) == 1
    assert machine.negatives[-1].tolist() == hard


def test_easy_negatives_are_dropped_after_training() -> None:
    machine = HardNegativeSVM(np.array([[10.0]], np.float32), replace(SETTINGS, cost=1.0, retrain_after=3))
    machine.offer(np.array([[8.0], [-90.0], [-91.0]], np.float32))
    assert machine.negatives.tolist() == [[8.0]]


def test_mining_finds_what_training_on_all_negatives_does() -> None:
    positives, negatives = numbers(20, 5) + 3, numbers(900, 5, seed=1)
    whole = HardNegativeSVM(positives, replace(SETTINGS, retrain_after=10**6))
    whole.offer(negatives)
    mined = HardNegativeSVM(positives, replace(SETTINGS, retrain_after=100))
    for part in np.array_split(negatives, 30):
        mined.offer(part)
    expected, found = whole.solution("class 0"), mined.solution("class 0")
    np.testing.assert_allclose(found.weight, expected.weight, rtol=0.05, atol=0.005)


def test_a_class_without_objects_is_never_seen() -> None:
    machine = HardNegativeSVM(numbers(0, 6), SETTINGS)
    assert machine.offer(numbers(5, 6)) == 0
    found = machine.solution("class 0")
    assert (numbers(9, 6) @ found.weight.T + found.bias <= -10).all()


def test_objects_without_background_are_refused() -> None:
    with pytest.raises(DataError, match=r"class 4: no proposal lies apart.* fix: add pictures"):
        HardNegativeSVM(numbers(3, 6), SETTINGS).solution("class 4")


def looked(*, crowd: tuple[bool, ...] = (False, False)) -> Looked:
    """Two objects of classes 0 and 1; features are numbered by the proposal they belong to."""
    boxes = np.array([[0, 0, 10, 10], [50, 50, 70, 70]], np.float32)
    proposals = np.array(
        [
            [0, 0, 10, 10],  # the first object
            [50, 50, 70, 70],  # the second
            [0, 0, 10, 7],  # near the first: .7
            [0, 0, 10, 4],  # .4 of it: nothing for its SVM, a negative of class 1
            [0, 0, 10, 2],  # .2
            [80, 80, 90, 90],  # background
            [0, 0, 0, 0],  # unused
        ],
        np.float32,
    )
    features = np.arange(1, 8, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    return Looked(features, features[:, :2], proposals, boxes, np.array([0, 1]), np.array(crowd))


class Recorded(HardNegativeSVM):
    """What is offered, and no training."""

    def __init__(self, positives: NDArray[np.float32]) -> None:
        super().__init__(positives, SETTINGS)
        self.offered: list[float] = []

    def offer(self, negatives: NDArray[np.float32]) -> int:
        self.offered += negatives[:, 0].tolist()
        return 0


def offered(picture: Looked) -> list[list[float]]:
    machines = [Recorded(numbers(1, 3)) for _ in range(2)]
    closed_form._offer(picture, list(machines), 1.0)
    return [machine.offered for machine in machines]


def test_positives_are_the_objects_own_boxes_and_negatives_what_overlaps_them_little() -> None:
    gathered = closed_form._gather([looked()], 2)
    assert [(found / gathered.scale)[:, 0].tolist() for found in gathered.positives] == [
        [pytest.approx(1)],
        [pytest.approx(2)],
    ]
    assert offered(looked()) == [[2, 5, 6], [1, 3, 4, 5, 6]]


def test_what_lies_in_a_crowd_is_no_negative() -> None:
    assert offered(looked(crowd=(True, False))) == [[2, 6], [6]]


def test_features_are_scaled_to_a_mean_norm_of_20() -> None:
    gathered = closed_form._gather([looked(), looked()], 2)
    # Norms are 1 to 6 times the root of 3; the unused row does not count.
    assert gathered.scale == pytest.approx(20 / (3.5 * 3**0.5))
    assert gathered.box_scale == pytest.approx(20 / (3.5 * 2**0.5))


def test_boxes_are_regressed_from_what_overlaps_an_object_by_more_than_point_6() -> None:
    values, goals = closed_form._corrections(looked(), 0)
    assert values[:, 0].tolist() == [3]
    # From 10 x 7 to 10 x 10: the centre goes down by 1.5 of 7.
    np.testing.assert_allclose(goals, [[0, 1.5 / 7, 0, np.log(10 / 7)]], atol=1e-6)
    assert len(closed_form._corrections(looked(), 1)[0]) == 0
    assert len(closed_form._corrections(looked(crowd=(True, True)), 0)[0]) == 0


def test_no_proposals_at_all_are_refused() -> None:
    empty = replace(looked(), proposals=np.zeros((7, 4), np.float32))
    with pytest.raises(DataError, match="no picture has one"):
        solve(lambda: [empty], 2)


def test_weights_are_for_features_as_they_come() -> None:
    first = []
    for seed in range(3):
        features = numbers(7, 3, seed=seed) + 3 * looked().features
        first.append(replace(looked(), features=features, pool5=features[:, :2]))
    large = [replace(one, features=100 * one.features, pool5=100 * one.pool5) for one in first]
    expected, found = solve(lambda: first, 2), solve(lambda: large, 2)
    np.testing.assert_allclose(found.svm.weight * 100, expected.svm.weight, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.svm.bias, expected.svm.bias, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.box.weight * 100, expected.box.weight, rtol=1e-3, atol=1e-6)


def batch(count: int = 3) -> Batch[torch.Tensor]:
    """Pictures with a bright square each, class 0 where it is tall and 1 where it is wide."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)
    boxes, labels = torch.zeros(count, 2, 4), torch.zeros(count, 2, dtype=torch.int64)
    for row in range(count):
        left, label = 4 + 3 * row, row % 2
        box = [left, 10, left + 14, 50] if label == 0 else [left, 10, left + 40, 24]
        boxes[row, 0], labels[row, 0] = torch.tensor(box, dtype=torch.float32), label
        images[row, :, box[1] : box[3], box[0] : box[2]] = 240
    corner = torch.rand(count, 30, 2, generator=generator) * 40
    proposals = torch.cat((corner, corner + 6 + 18 * torch.rand(count, 30, 2, generator=generator)), 2)
    valid = torch.tensor([True, False]).expand(count, 2)
    targets = BoxTargets(boxes, labels, valid, torch.zeros_like(valid), torch.ones(count))
    geometry = (Geometry((64, 64), (64, 64)),) * count
    return Batch(images, targets, tuple(map(str, range(count))), geometry, {"proposals": proposals})


def test_a_network_scores_by_what_was_solved_for() -> None:
    torch.manual_seed(0)
    network = rcnn.build(rcnn.TINIES["fully_connected"])
    pictures = batch()
    expected = solve(lambda: looked_at(network, [pictures]), 3)
    finish(network, lambda: [pictures])
    assert network.fitted
    assert not network.training
    raw = network(pictures.images, pictures.extras["proposals"])
    boxes, scores = network.predictions(raw)
    margins = raw.features @ torch.from_numpy(expected.svm.weight).T + torch.from_numpy(expected.svm.bias)
    torch.testing.assert_close(scores, margins.sigmoid())
    assert scores[..., 2].max() < 1e-4  # no picture shows the third class
    assert (boxes[:, :, 0] != raw.proposals).any()
    torch.testing.assert_close(boxes[:, :, 2], raw.proposals)


def test_a_network_looks_at_the_objects_own_boxes_too() -> None:
    network, pictures = rcnn.build(rcnn.TINIES["fully_connected"]), batch()
    found = list(looked_at(network, [pictures]))
    assert [len(picture.features) for picture in found] == [32, 32, 32]
    for row, picture in enumerate(found):
        assert picture.labels.tolist() == [row % 2]
        assert picture.proposals[0].tolist() == picture.boxes[0].tolist()


@pytest.mark.parametrize(("most", "calls"), [(1 << 30, 1), (3 * 32 * 32 * 4, 1), (3 * 32 * 32 * 4 - 1, 2)])
def test_pictures_are_looked_at_again_only_where_their_features_are_too_many(
    monkeypatch: pytest.MonkeyPatch, most: int, calls: int
) -> None:
    monkeypatch.setattr(closed_form, "_MOST_BYTES", most)
    torch.manual_seed(0)
    network = rcnn.build(rcnn.TINIES["fully_connected"])
    expected = solve(lambda: looked_at(network, [batch()]), 3).state()
    asked = []

    def batches() -> list[Batch[torch.Tensor]]:
        asked.append("again")
        return [batch()]

    finish(network, batches)
    assert len(asked) == calls
    for name, values in expected.items():
        np.testing.assert_array_equal(network.state_dict()[name].numpy(), values)


def test_the_same_pictures_give_the_same_numbers() -> None:
    torch.manual_seed(0)
    network = rcnn.build(rcnn.TINIES["fully_connected"])
    states = []
    for _ in range(2):
        finish(network, lambda: [batch()])
        states.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_a_missing_scikit_learn_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    machine = HardNegativeSVM(numbers(2, 3), SETTINGS)
    machine.offer(numbers(2, 3))
    with pytest.raises(EnvironmentProblem, match=r"scikit-learn is not installed. fix: pip install"):
        machine.solution("class 0")
