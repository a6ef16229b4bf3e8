"""SimOTA against a plain loop over objects and cells, and by hand."""

import math

import pytest
import torch
from torch import Tensor

from striate.ops import sim_ota as module
from striate.ops.boxes import pairwise_iou
from striate.ops.matching import BACKGROUND, IGNORED
from striate.ops.sim_ota import Guesses, sim_ota
from striate.structures import BoxTargets


def cells_of(side: int, strides: tuple[int, ...] = (8, 16, 32)) -> Tensor:
    rows = [
        (x, y, stride) for stride in strides for y in range(side // stride) for x in range(side // stride)
    ]
    return torch.tensor(rows, dtype=torch.float32)


def targets_of(
    boxes: list[list[float]], labels: list[int] | None = None, crowd: tuple[int, ...] = ()
) -> BoxTargets[Tensor]:
    count = max(1, len(boxes))
    rows = torch.tensor(boxes or [[0.0] * 4])
    valid = torch.full((1, count), bool(boxes))
    flags = torch.tensor([[row in crowd for row in range(count)]])
    return BoxTargets(rows[None], torch.tensor([labels or [0] * count]), valid, flags, torch.ones(1))


def random_guesses(cells: Tensor, classes: int, batch: int = 1, seed: int = 0) -> Guesses:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, len(cells))
    centres = (cells[:, :2] + 0.5) * cells[:, 2:] + 4 * torch.randn(*shape, 2, generator=generator)
    sides = cells[:, 2:] * (0.5 + 2 * torch.rand(*shape, 2, generator=generator))
    return Guesses(
        torch.cat((centres - sides / 2, centres + sides / 2), -1),
        torch.randn(shape, generator=generator),
        torch.randn(*shape, classes, generator=generator),
    )


def random_targets(batch: int, count: int, classes: int, side: int, seed: int = 1) -> BoxTargets[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, count, 2, generator=generator) * side * 0.7
    sides = 1 + torch.rand(batch, count, 2, generator=generator) * side * 0.3
    boxes = torch.cat((corner, corner + sides), -1)
    valid = torch.arange(count) < torch.randint(0, count + 1, (batch, 1), generator=generator)
    labels = torch.randint(0, classes, (batch, count), generator=generator)
    return BoxTargets(boxes * valid[..., None], labels, valid, torch.zeros_like(valid), torch.ones(batch))


def by_loops(guesses: Guesses, targets: BoxTargets[Tensor], cells: Tensor) -> Tensor:
    """Each picture, object and cell on its own, in double precision."""
    matched = torch.full(guesses.objectness.shape, BACKGROUND)
    for picture in range(len(matched)):
        objects = [n for n in range(targets.boxes.shape[1]) if targets.valid[picture, n]]
        own = {
            n: [a for a in range(len(cells)) if near(targets.boxes[picture, n], cells[a])] for n in objects
        }
        candidates = sorted({a for found in own.values() for a in found})
        wanted: dict[int, list[tuple[float, int]]] = {}
        for n in objects:
            ious = {
                a: float(pairwise_iou(targets.boxes[picture, n : n + 1], guesses.boxes[picture, a : a + 1]))
                for a in candidates
            }
            k = max(1, int(sum(sorted(ious.values(), reverse=True)[:10])))
            label = int(targets.labels[picture, n])
            costs = {a: cost(guesses, picture, a, label, ious[a]) for a in own[n]}
            for a in sorted(costs, key=lambda cell: costs[cell])[:k]:
                wanted.setdefault(a, []).append((costs[a], n))
        for a, claims in wanted.items():
            matched[picture, a] = min(claims)[1]
    return matched


def near(box: Tensor, cell: Tensor) -> bool:
    x, y, stride = map(float, cell)
    across = abs((x + 0.5) * stride - float(box[0] + box[2]) / 2)
    down = abs((y + 0.5) * stride - float(box[1] + box[3]) / 2)
    return max(across, down) < 1.5 * stride


def cost(guesses: Guesses, picture: int, cell: int, label: int, iou: float) -> float:
    objectness = 1 / (1 + math.exp(-float(guesses.objectness[picture, cell])))
    total = 0.0
    for k, logit in enumerate(guesses.classes[picture, cell].tolist()):
        probability = math.sqrt(objectness / (1 + math.exp(-logit)))
        total -= math.log(probability if k == label else 1 - probability)
    return total - 3 * math.log(iou + 1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_a_plain_loop(seed: int) -> None:
    cells = cells_of(64)
    guesses = random_guesses(cells, classes=3, batch=4, seed=seed)
    targets = random_targets(batch=4, count=7, classes=3, side=64, seed=100 + seed)
    found = sim_ota(guesses, targets, cells)
    assert (found >= 0).any()
    assert torch.equal(found, by_loops(guesses, targets, cells))


def test_a_picture_without_objects_is_background() -> None:
    cells = cells_of(64)
    assert (sim_ota(random_guesses(cells, 2), targets_of([]), cells) == BACKGROUND).all()


def test_guesses_that_fit_nothing_leave_an_object_its_cheapest_cell() -> None:
    cells = cells_of(64, (8,))
    guesses = Guesses(torch.zeros(1, 64, 4), torch.zeros(1, 64), torch.zeros(1, 64, 2))
    guesses.classes[0, 3 * 8 + 4, 1] = 1.0  # column 4, row 3: its centre (36, 28) is 4 from the object's
    found = sim_ota(guesses, targets_of([[30.0, 30, 34, 34]], [1]), cells)
    assert found[0, 3 * 8 + 4] == 0
    assert (found >= 0).sum() == 1


def test_perfect_guesses_give_an_object_ten_cells() -> None:
    cells = cells_of(64)
    box = [20.0, 20, 44, 44]
    guesses = Guesses(torch.tensor(box).expand(1, len(cells), 4), torch.ones(1, 84), torch.ones(1, 84, 1))
    found = sim_ota(guesses, targets_of([box]), cells)
    assert (found == 0).sum() == 10


def test_no_cell_outside_the_centre_region_is_taken_though_its_guess_is_perfect() -> None:
    cells = cells_of(64, (32,))  # centres at 16 and 48; the region of (8, 8) ends before 56
    box = [6.0, 6, 10, 10]
    guesses = Guesses(torch.tensor(box).expand(1, 4, 4), torch.zeros(1, 4), torch.zeros(1, 4, 1))
    assert (sim_ota(guesses, targets_of([box]), cells) == 0).all()
    far = cells_of(64, (8,))
    guesses = Guesses(torch.tensor(box).expand(1, 64, 4), torch.zeros(1, 64), torch.zeros(1, 64, 1))
    found = sim_ota(guesses, targets_of([box]), far).view(8, 8)
    # Rows and columns 0 and 1 have their centres at 4 and 12; 20 is 12 away from 8, too far: 4 of 10 cells.
    assert (found[:2, :2] == 0).all()
    assert (found >= 0).sum() == 4


def test_a_contested_cell_goes_to_the_object_whose_class_it_names() -> None:
    cells = cells_of(32, (32,))
    box = [8.0, 8, 24, 24]
    for label in (0, 1):
        classes = torch.full((1, 1, 2), -3.0)
        classes[0, 0, label] = 3.0
        guesses = Guesses(torch.tensor(box).expand(1, 1, 4), torch.zeros(1, 1), classes)
        assert sim_ota(guesses, targets_of([box, box], [0, 1]), cells).item() == label


def test_equal_objects_share_no_cell() -> None:
    cells = cells_of(64)
    box = [20.0, 20, 44, 44]
    found = sim_ota(random_guesses(cells, 2), targets_of([box, box]), cells)
    alone = sim_ota(random_guesses(cells, 2), targets_of([box]), cells)
    assert torch.equal(found >= 0, alone >= 0)


def test_cells_in_a_crowd_are_ignored_unless_an_object_takes_them() -> None:
    cells = cells_of(64, (8,))
    targets = targets_of([[0.0, 0, 32, 32], [8, 8, 16, 16]], crowd=(0,))
    squares = torch.cat((cells[:, :2] * 8, cells[:, :2] * 8 + 8), 1)[None]  # each guesses itself
    found = sim_ota(Guesses(squares, torch.zeros(1, 64), torch.zeros(1, 64, 1)), targets, cells).view(8, 8)
    expected = torch.full((8, 8), BACKGROUND)
    expected[:4, :4] = IGNORED
    expected[1, 1] = 1
    assert torch.equal(found, expected)


def test_boxes_without_area_and_rows_without_an_object_take_nothing() -> None:
    cells = cells_of(64)
    targets = targets_of([[5.0, 5, 5, 9]])
    assert (sim_ota(random_guesses(cells, 2), targets, cells) == BACKGROUND).all()


def test_looking_at_few_pairs_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = cells_of(64)
    guesses = random_guesses(cells, classes=3, batch=5)
    targets = random_targets(batch=5, count=6, classes=3, side=64)
    whole = sim_ota(guesses, targets, cells)
    monkeypatch.setattr(module, "_MOST_PAIRS", 2 * 6 * len(cells))
    assert torch.equal(sim_ota(guesses, targets, cells), whole)


def test_sure_and_wrong_guesses_cost_a_finite_amount() -> None:
    cells = cells_of(64)
    guesses = random_guesses(cells, 2)
    sure = Guesses(guesses.boxes, torch.full((1, 84), 200.0), torch.full((1, 84, 2), 200.0))
    assert (sim_ota(sure, targets_of([[20.0, 20, 44, 44]]), cells) == 0).any()
