"""Cells and owners on hand-made grids."""

import pytest
import torch
from torch import Tensor

from striate.ops.grid import cell_of, owners
from striate.ops.matching import BACKGROUND

SIZE, GRID = (60, 120), (3, 4)  # cells 20 pixels high and 30 wide


@pytest.mark.parametrize(
    ("box", "cell", "place"),
    [
        ([30.0, 20.0, 60.0, 40.0], [1, 1], [0.5, 0.5]),
        ([0.0, 0.0, 1.0, 1.0], [0, 0], [0.5 / 30, 0.5 / 20]),
        ([25.0, 15.0, 35.0, 25.0], [1, 1], [0.0, 0.0]),  # on the corner of four: the last one's
        ([0.0, 0.0, 120.0, 60.0], [1, 2], [0.0, 0.5]),
        ([110.0, 50.0, 130.0, 70.0], [2, 3], [1.0, 1.0]),  # its centre is the picture's corner
        ([-50.0, -50.0, -40.0, 30.0], [0, 0], [0.0, 0.0]),
    ],
)
def test_an_object_is_in_the_cell_of_its_centre(
    box: list[float], cell: list[int], place: list[float]
) -> None:
    found, where = cell_of(torch.tensor([box]), SIZE, GRID)
    assert found.dtype == torch.int64
    assert found.tolist() == [cell]
    torch.testing.assert_close(where, torch.tensor([place]))


def rows(*values: list[int]) -> Tensor:
    return torch.tensor(values)


def test_the_first_of_two_objects_has_the_place() -> None:
    wanted = torch.ones(2, 3, dtype=torch.bool)
    found = owners(rows([2, 0, 2], [1, 1, 1]), wanted, 4)
    none = BACKGROUND
    assert found.tolist() == [[1, none, 0, none], [none, 0, none, none]]


def test_an_object_that_takes_no_part_has_no_place_wherever_it_points() -> None:
    wanted = torch.tensor([[False, True, False]])
    assert owners(rows([2, 2, -7]), wanted, 3).tolist() == [[BACKGROUND, BACKGROUND, 1]]


def test_no_object_at_all_leaves_every_place_free() -> None:
    assert (owners(rows([0, 1]), torch.zeros(1, 2, dtype=torch.bool), 5) == BACKGROUND).all()
