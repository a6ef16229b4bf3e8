"""ReNet against a plain loop over patches, with the GRU's equations written out."""

import pytest
import torch
from torch import Tensor, nn

from striate.layers.renet import ReNet, StackedSweep, Sweep, patches_of


def own_gru(gru: nn.GRU, line: list[Tensor], suffix: str = "") -> list[Tensor]:
    """The states of a GRU after each value of `line`; a gate is 1 where the old state stays."""
    w, u, b, c = (
        getattr(gru, f"{kind}_l0{suffix}").double().chunk(3)
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    state = torch.zeros(gru.hidden_size, dtype=torch.float64)
    states = []
    for x in line:
        reset = torch.sigmoid(w[0] @ x + b[0] + u[0] @ state + c[0])
        keep = torch.sigmoid(w[1] @ x + b[1] + u[1] @ state + c[1])
        candidate = torch.tanh(w[2] @ x + b[2] + reset * (u[2] @ state + c[2]))
        state = keep * state + (1 - keep) * candidate
        states.append(state)
    return states


def own_sweep(sweep: nn.Module, line: list[Tensor]) -> list[Tensor]:
    if isinstance(sweep, StackedSweep):
        there = own_gru(sweep.there, line)
        back = own_gru(sweep.back, there[::-1])[::-1]
    else:
        assert isinstance(sweep, Sweep)
        there = own_gru(sweep.gru, line)
        back = own_gru(sweep.gru, line[::-1], "_reverse")[::-1]
    return [torch.cat(pair) for pair in zip(there, back, strict=True)]


def own_renet(layer: ReNet, picture: Tensor) -> Tensor:
    """The output of `layer` for one picture (C, H, W), patch by patch."""
    height, width = layer.patch
    _, rows, columns = picture.shape
    count = -(-rows // height), -(-columns // width)
    whole = torch.zeros(len(picture), count[0] * height, count[1] * width, dtype=torch.float64)
    whole[:, :rows, :columns] = picture
    grid = []
    for i in range(count[0]):
        line = [
            whole[:, i * height : (i + 1) * height, j * width : (j + 1) * width].flatten()
            for j in range(count[1])
        ]
        grid.append(own_sweep(layer.rows, line))
    found = torch.zeros(2 * 3, *count, dtype=torch.float64)
    for j in range(count[1]):
        for i, value in enumerate(own_sweep(layer.columns, [grid[i][j] for i in range(count[0])])):
            found[:, i, j] = value
    return found


def shaken(layer: nn.Module) -> nn.Module:
    """With biases that are not 0."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return layer


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize(
    ("size", "patch"), [((4, 5), (1, 1)), ((4, 6), (2, 2)), ((5, 7), (2, 3)), ((1, 2), (2, 4))]
)
def test_it_equals_a_loop_over_patches(size: tuple[int, int], patch: tuple[int, int], stacked: bool) -> None:
    torch.manual_seed(0)
    layer = ReNet(2, 3, patch, stacked).double()
    shaken(layer)
    maps = torch.randn(2, 2, *size, dtype=torch.float64)
    found = layer(maps)
    for picture, own in zip(maps, found, strict=True):
        torch.testing.assert_close(own, own_renet(layer, picture))


def test_patches_are_taken_row_by_row_and_filled_up_with_zeros() -> None:
    maps = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    patches = patches_of(maps, (2, 2))
    assert patches.shape == (1, 2, 2, 4)
    assert patches[0].tolist() == [
        [[1, 2, 4, 5], [3, 0, 6, 0]],
        [[7, 8, 0, 0], [9, 0, 0, 0]],
    ]


def test_channels_of_a_patch_stand_one_behind_the_other() -> None:
    maps = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert patches_of(maps, (2, 2)).flatten().tolist() == list(range(8))
    assert patches_of(maps, (1, 1))[0, 1, 0].tolist() == [2, 6]


@pytest.mark.parametrize("stacked", [False, True])
def test_every_position_depends_on_every_other(stacked: bool) -> None:
    torch.manual_seed(0)
    layer = ReNet(1, 3, stacked=stacked)
    maps = torch.randn(1, 1, 3, 4, requires_grad=True)
    found = layer(maps)
    for row in range(3):
        for column in range(4):
            (gradient,) = torch.autograd.grad(found[0, :, row, column].sum(), maps, retain_graph=True)
            assert gradient.all()


def test_parameters_are_those_of_the_equations() -> None:
    def count(**options: bool) -> int:
        return sum(parameter.numel() for parameter in ReNet(256, 100, **options).parameters())

    def gru(features: int) -> int:
        return 3 * (100 * features + 100 * 100 + 2 * 100)

    assert count() == 2 * gru(256) + 2 * gru(200)
    assert count(stacked=True) == gru(256) + gru(200) + 2 * gru(100)


def test_recurrent_weights_start_orthogonal_gate_by_gate() -> None:
    gru = Sweep(7, 5).gru
    for gate in gru.weight_hh_l0_reverse.chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(5))
    assert gru.weight_ih_l0.abs().max() <= (6 / 12) ** 0.5
    assert not gru.bias_ih_l0.any()
