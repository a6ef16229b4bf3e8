"""Summaries of the segmentation networks, over every family in the folder: counts, and what a pixel sees."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import striate
from striate import models
from striate.explain.receptive_field import Status, Track
from striate.explain.summary import Summary, summarise
from striate.explain.trace import trace
from striate.layers.renet import StackedSweep, Sweep
from striate.models.network import Network
from striate.models.unweighted import unweighted

SeeThrough = Callable[[nn.Module], nn.Module]


def forms() -> dict[str, tuple[Any, Any]]:
    """Each family's small configs, with the family."""
    families = [
        name
        for name in models.families()
        if models.families()[name].__name__.split(".")[-2] == "segmentation"
    ]
    return {
        f"{name}-{form}": (models.families()[name], config)
        for name in families
        for form, config in {
            "tiny": models.families()[name].TINY,
            **getattr(models.families()[name], "TINIES", {}),
        }.items()
    }


FORMS = forms()


def on_meta(form: str) -> Network:
    family, config = FORMS[form]
    with unweighted():
        network: Network = family.build(config)
    return network.eval()


def summary_of(form: str) -> tuple[Network, Summary]:
    network = on_meta(form)
    return network, summarise(network, (network.preprocess.channels, *network.preprocess.size))


@pytest.mark.parametrize("form", FORMS)
def test_every_operation_is_known_and_the_counts_are_torchs(form: str) -> None:
    network, found = summary_of(form)
    assert not [note for note in found.notes if "no rule" in note or "depends on values" in note]
    assert found.root.output_shape == (len(network.classes), *network.preprocess.size)
    images = torch.empty(1, network.preprocess.channels, *network.preprocess.size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.dense(images)
    assert 2 * found.macs == counter.get_total_flops()
    unused = [
        int(note.split(":")[1].split()[0].replace(",", "")) for note in found.notes if "not use" in note
    ]
    assert found.root.parameters + sum(unused) == sum(p.numel() for p in network.parameters())


def reached(network: nn.Module, size: tuple[int, int], channels: int, place: tuple[int, int]) -> list[range]:
    """The rows and the columns of the input on which the logits at `place` hang, by their gradient."""
    is_whole = isinstance(network, Network)
    bright = 255.0 if is_whole else 0.5  # above the mean of all channels, where there is one
    pixels = torch.full((1, channels, *size), bright, dtype=torch.float64, requires_grad=True)
    logits = network.dense(pixels)["logits"] if is_whole else network(pixels)  # type: ignore[operator]
    logits[0, :, place[0], place[1]].sum().backward()
    assert pixels.grad is not None
    seen = []
    for axis in (3, 2):
        touched = pixels.grad.abs().sum((0, 1, axis)).nonzero().flatten().tolist()
        seen.append(range(touched[0], touched[-1] + 1))
    return seen


def claimed(track: Track, length: int, position: int) -> range:
    """The pixels that the value at `position` of the output is said to see, within the picture."""
    first = track.start + position * track.jump
    return range(max(0, round(first)), min(length, round(first + track.size)))


@pytest.mark.parametrize("form", FORMS)
def test_a_pixel_sees_no_more_than_the_summary_says(form: str, see_through: SeeThrough) -> None:
    family, config = FORMS[form]
    torch.manual_seed(0)
    network = family.build(config)
    see_through(network)
    size, channels = network.preprocess.size, network.preprocess.channels
    field = trace(network, (channels, *size)).root.field
    assert field is not None
    for share in (0.1, 0.5, 0.95):
        place = (int(share * size[0]), int(share * size[1]))
        for axis, seen in enumerate(reached(network, size, channels, place)):
            said = claimed(field[axis], size[axis], place[axis])
            assert said.start <= seen.start
            assert seen.stop <= said.stop
            if field[axis].status is Status.EXACT:
                assert said == seen


class Rows(nn.Module):
    """A convolution, then a sweep along the rows; `ends` says which of its outputs is asked for."""

    def __init__(self, sweep: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.sweep = sweep

    def forward(self, maps: Tensor) -> Tensor:
        return self.sweep(self.conv(maps).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("sweep", "status"), [(Sweep(4, 3), Status.EXACT), (StackedSweep(4, 3), Status.UPPER_BOUND)]
)
def test_a_sweep_along_the_rows_sees_all_of_its_row_and_three_rows_of_the_picture(
    sweep: nn.Module, status: Status, see_through: SeeThrough
) -> None:
    network = see_through(Rows(sweep))
    field = trace(network, (3, 8, 9)).root.field
    assert field is not None
    rows, columns = field
    assert (rows.start, rows.size, rows.jump, rows.status) == (-1, 3, 1, status)
    assert (columns.start, columns.size, columns.moves, columns.status) == (-1, 11, False, status)
    assert reached(network, (8, 9), 3, (4, 2)) == [range(3, 6), range(9)]


class Last(nn.Module):
    """The last state of a recurrence over the pixels of each row, or what it gives at each of them."""

    def __init__(self, cell: nn.RNNBase, last: bool) -> None:
        super().__init__()
        self.cell, self.last = cell, last

    def forward(self, maps: Tensor) -> Tensor:
        outputs, states = self.cell(maps[0].permute(1, 2, 0))  # (rows, columns, 3)
        state = states[0] if isinstance(states, tuple) else states
        return (state if self.last else outputs)[None]  # type: ignore[no-any-return]


@pytest.mark.parametrize("cell", [nn.GRU, nn.LSTM, nn.RNN])
def test_one_way_each_place_sees_at_most_its_line_and_the_last_state_all_of_it(cell: Any) -> None:
    tracks = []
    for last in (False, True):
        field = trace(Last(cell(3, 4, batch_first=True), last), (3, 5, 7)).root.field
        assert field is not None
        tracks.append(field)
    for rows, columns in tracks:
        assert (rows.size, rows.jump) == (1, 1)
        assert (columns.size, columns.moves) == (7, False)
    assert [columns.status for _, columns in tracks] == [Status.UPPER_BOUND, Status.EXACT]


@pytest.mark.parametrize(
    "cell",
    [
        nn.GRU(3, 4, num_layers=2, bidirectional=True),
        nn.LSTM(3, 4, num_layers=2, batch_first=True),
        nn.LSTM(3, 8, proj_size=2, bidirectional=True),
        nn.RNN(3, 4, nonlinearity="relu"),
    ],
)
def test_a_recurrence_is_one_operation_with_torchs_multiply_adds(cell: nn.RNNBase) -> None:
    network = Last(cell, False).to("meta")
    found = summarise(network, (3, 5, 7))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, 5, 7, device="meta"))
    assert 2 * found.macs == counter.get_total_flops()
    assert found.root.parameters == sum(parameter.numel() for parameter in cell.parameters())
    (node,) = (node for node in found.nodes if node.kind == type(cell).__name__)
    assert [operation.name for operation in node.operations if operation.macs] == [
        {"GRU": "gru", "LSTM": "lstm", "RNN": "rnn_relu"}[node.kind]
    ]


def test_a_recurrence_that_is_run_gives_its_own_values() -> None:
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRU(3, 4)
            self.seen: list[Tensor] = []

        def forward(self, maps: Tensor) -> Tensor:
            values = self.cell(maps[0].permute(1, 2, 0))[0]
            self.seen.append(values)
            return values * 2 if bool(values.mean() > 0) else values  # type: ignore[no-any-return]

    torch.manual_seed(0)
    network = Chooses()
    found = summarise(network, (3, 5, 7))
    assert any("depends on values" in note for note in found.notes)
    assert found.macs == 5 * 7 * 12 * (3 + 4)
    assert network.seen[-1].abs().max() > 0


def test_the_sums_behind_a_sweep_are_worked_out() -> None:
    found = striate.summary("reseg")
    assert "MACs        90·120 positions x 213,600 weights = 2,306,880,000" in found.why("renet.0.rows")
    assert 213_600 == 2 * 3 * 100 * (256 + 100)
    assert "sees        the whole input: EXACT" in found.why("renet.0.columns")


def test_a_packed_sequence_is_followed_step_by_step() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRU(3, 4)

        def forward(self, maps: Tensor) -> Tensor:
            lines = maps[0].permute(1, 2, 0)
            packed = nn.utils.rnn.pack_padded_sequence(lines, torch.tensor([5, 4, 4, 3, 2, 1, 1]))
            return nn.utils.rnn.pad_packed_sequence(self.cell(packed)[0])[0]

    found = summarise(Packed(), (3, 5, 7))
    assert found.macs == 20 * 12 * (3 + 4)


def test_unet_sees_its_context_of_92_pixels_and_the_grid_of_its_deepest_maps() -> None:
    """A pixel of the paper's network sees 92 on each side; up to 15 more to where the grid of 16 begins."""
    found = striate.summary("unet").root.field
    assert found is not None
    assert found.jump == (1, 1)
    assert found.status is Status.UPPER_BOUND
    assert all(2 * 92 + 1 <= side <= 2 * (92 + 15) + 1 for side in found.size)


def test_a_staircase_beside_a_straight_map_keeps_its_pace() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.MaxPool2d(2), nn.ConvTranspose2d(3, 3, 2, stride=2)

        def forward(self, maps: Tensor) -> Tensor:
            return torch.cat((maps, self.up(self.down(maps))), 1)

    field = trace(Skip(), (3, 8, 8)).root.field
    assert field is not None
    # Pixel 0 of a pair sees itself and the next, pixel 1 the one before and itself.
    assert (field[0].start, field[0].size, field[0].jump) == (-1, 3, 1)
    assert field[0].status is Status.UPPER_BOUND
