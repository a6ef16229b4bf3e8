"""Receptive fields against the pixels that a gradient reaches, on twenty networks, ours and torchvision's."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as zoo
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

import striate
from striate.explain.receptive_field import Status, Track
from striate.explain.trace import trace

SeeThrough = Callable[[nn.Module], nn.Module]


class Seen(NamedTuple):
    first: int
    size: int


def reached(network: nn.Module, length: int, narrow: int, place: Callable[[int], int]) -> tuple[Seen, int]:
    """The rows of the input that the output's row `place(rows)` sees, by its gradient; and that row."""
    pixels = torch.ones(1, 3, length, narrow, dtype=torch.float64, requires_grad=True)
    maps = last_map(network(pixels))
    row = place(maps.shape[2])
    maps[0, :, row, maps.shape[3] // 2].sum().backward()
    assert pixels.grad is not None
    rows = pixels.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    return Seen(int(rows[0]), int(rows[-1] - rows[0]) + 1), row


def last_map(outputs: Tensor | dict[str, Tensor]) -> Tensor:
    return outputs if isinstance(outputs, Tensor) else [*outputs.values()][-1]


class Features(nn.Module):
    """The named map of one of our networks."""

    def __init__(self, name: str, feature: str, **config: object) -> None:
        super().__init__()
        self.network = striate.create(name, classes=10, **config)
        self.feature = feature

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.features(pixels)[self.feature]  # type: ignore[operator, no-any-return]


class Until(nn.Module):
    """The children of a network up to the one named."""

    def __init__(self, network: nn.Module, last: str) -> None:
        super().__init__()
        for name, child in network.named_children():
            self.add_module(name, child)
            if name == last:
                break

    def forward(self, maps: Tensor) -> Tensor:
        for child in self.children():
            maps = child(maps)
        return maps


class Atrous(nn.Module):
    """Four rates side by side, as in DeepLab."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(3, 2, 3, padding=rate, dilation=rate) for rate in (6, 12, 18, 24)
        )

    def forward(self, maps: Tensor) -> Tensor:
        return sum(branch(maps) for branch in self.branches)  # type: ignore[return-value]


class Stacked(nn.Module):
    """Pixels to channels and back, channels shuffled, cut and joined again."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(12, 8, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, maps: Tensor) -> Tensor:
        batch, channels, height, width = maps.shape
        blocks = maps.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
        maps = self.first(blocks.reshape(batch, channels * 4, height // 2, width // 2))
        one, other = maps.chunk(2, 1)
        maps = torch.cat((one, self.second(other)), 1)
        maps = maps.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)
        return self.last(maps)


def mixed_padding() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, (5, 3), (2, 1), (2, 1), padding_mode="circular"),
        nn.Conv2d(4, 4, 3, padding="same", dilation=3, padding_mode="reflect"),
        nn.ZeroPad2d((1, 2, 3, 4)),
        nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(4, 4, 4, padding=2, padding_mode="replicate"),
    )


def valid_stack() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 5), nn.AvgPool2d(2), nn.Conv2d(4, 4, 5), nn.AvgPool2d(2), nn.Conv2d(4, 4, 5)
    )


def thin_vgg(*depths: int) -> nn.Module:
    plan: list[int | str] = []
    for depth in depths:
        plan += [8] * depth + ["M"]
    return zoo.vgg.make_layers(plan)  # type: ignore[arg-type]


NARROW_BLOCKS = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, 16, 1), CNBlockConfig(16, None, 1)]

NETWORKS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    # What is built, and the field's size where a paper or a sum by hand gives it (0: not known).
    "ours resnet18": (lambda: Features("resnet18", "layer4", width=8), 435),
    "ours resnet50": (lambda: Features("resnet50", "layer3", width=4), 0),
    "ours resnet50_v1": (lambda: Features("resnet50_v1", "layer3", width=4), 0),
    "ours resnet20_cifar": (lambda: Features("resnet20_cifar", "layer3"), 0),
    "ours resnet56_cifar": (lambda: Features("resnet56_cifar", "layer3", width=4), 0),
    "lenet-like": (valid_stack, 32),
    "alexnet": (lambda: zoo.alexnet().features, 195),
    "vgg11": (lambda: thin_vgg(1, 1, 2, 2, 2), 150),
    "vgg16": (lambda: thin_vgg(2, 2, 3, 3, 3), 212),
    "squeezenet1_1": (lambda: zoo.squeezenet1_1().features, 0),
    "googlenet": (lambda: Until(zoo.googlenet(init_weights=False, aux_logits=False), "inception5b"), 0),
    "resnet34": (lambda: Until(zoo.resnet34(), "layer2"), 0),
    "resnext50": (lambda: Until(zoo.resnext50_32x4d(), "layer2"), 0),
    "mobilenet_v2": (lambda: zoo.mobilenet_v2(width_mult=0.25).features, 491),
    "shufflenet_v2": (lambda: Until(zoo.shufflenet_v2_x0_5(), "stage4"), 0),
    "ours shufflenet_v1": (lambda: Features("shufflenet_v1_g3", "stage4"), 0),
    "mnasnet": (lambda: zoo.mnasnet0_5().layers[:12], 0),
    "densenet": (lambda: zoo.DenseNet(8, (2, 3, 4, 2), 16).features, 0),
    "convnext": (lambda: ConvNeXt(NARROW_BLOCKS).features, 0),
    "regnet trunk": (lambda: zoo.regnet_x_400mf().stem, 0),
    "atrous pyramid": (Atrous, 49),
    "pixels in channels": (Stacked, 10),
    "mixed padding": (mixed_padding, 0),
    "inception_v3": (lambda: Until(zoo.inception_v3(init_weights=False, aux_logits=False), "Mixed_5d"), 0),
}


def test_there_are_twenty_networks() -> None:
    assert len(NETWORKS) >= 20


@pytest.mark.parametrize("name", NETWORKS)
def test_an_exact_field_is_what_the_gradient_reaches(name: str, see_through: SeeThrough) -> None:
    build, known = NETWORKS[name]
    torch.manual_seed(0)
    network = build()
    # On an empty copy first, for the size that the real pass must have.
    field = trace(network, (3, 2048, 64)).root.field
    assert field is not None
    height = field[0]
    assert height.status is Status.EXACT
    assert known in (0, height.size)
    jump = int(height.jump)
    length = -(-(int(height.size) + 6 * jump) // (2 * jump)) * 2 * jump
    seen, row = reached(see_through(network), length, 64, lambda rows: rows // 2)
    assert (seen.first, seen.size) == (height.start + row * jump, height.size)
    assert seen.first > 0
    assert seen.first + seen.size < length


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(
    "mode", ["nearest", "bilinear", "bicubic", "transposed 2", "transposed 3", "adaptive"]
)
def test_a_field_behind_interpolation_is_an_upper_bound_of_what_the_gradient_reaches(
    mode: str, padding: int, see_through: SeeThrough
) -> None:
    grown: nn.Module
    if mode.startswith("transposed"):
        grown = nn.ConvTranspose2d(4, 4, int(mode[-1]), stride=2, padding=padding)
    elif mode == "adaptive":
        grown = nn.AdaptiveAvgPool2d((21 + padding, 9))
    else:
        grown = nn.Upsample(scale_factor=2 + padding, mode=mode)
    network = nn.Sequential(nn.Conv2d(3, 4, 5, 2, 2), grown, nn.Conv2d(4, 4, 3, padding=1))
    field = trace(network, (3, 64, 20)).root.field
    assert field is not None
    height = field[0]
    assert height.status is Status.UPPER_BOUND
    for place in range(4, 16):
        seen, row = reached(see_through(network), 64, 20, lambda _, place=place: place)  # type: ignore[misc]
        assert seen.first >= max(0, height.start + row * height.jump) - 1e-9
        assert seen.first + seen.size <= height.start + row * height.jump + height.size + 1e-9
    assert height.size <= 5 + 2 * 2 + 5 * 2 * 2, "and it is no loose one"


def whole_field(network: nn.Module, *shape: int) -> tuple[float, float, Status, bool]:
    field = trace(network, shape).root.field
    assert field is not None
    track = field[0]
    return track.start, track.size, track.status, track.moves


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1)),
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4)),
        nn.Sequential(nn.Flatten(2), nn.MultiheadAttention(64, 2, batch_first=True).out_proj),
    ],
)
def test_a_sum_over_all_positions_sees_the_whole_input(network: nn.Module) -> None:
    start, size, status, moves = whole_field(network, 3, 8, 8)
    assert start <= 0
    assert start + size >= 8
    assert (status, moves) == (Status.EXACT, False)


def test_attention_sees_the_whole_input_exactly() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, 4)
            self.mix = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, pixels: Tensor) -> Tensor:
            tokens = self.patches(pixels).flatten(2).transpose(1, 2)
            return self.mix(tokens, tokens, tokens, need_weights=False)[0]  # type: ignore[no-any-return]

    assert whole_field(Attention(), 3, 16, 16) == (0, 16, Status.EXACT, False)


def test_a_gate_of_all_pixels_lets_every_value_see_them_all() -> None:
    class Gate(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return maps * maps.mean((2, 3), keepdim=True).sigmoid()

    assert whole_field(Gate(), 3, 8, 8) == (0, 8, Status.EXACT, False)


def test_a_sort_depends_on_the_data() -> None:
    class Sorted(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return maps.sort(dim=2).values

    assert whole_field(Sorted(), 3, 8, 8)[2] is Status.DATA_DEPENDENT


def test_a_table_looked_up_by_the_input_depends_on_the_data_and_by_constants_does_not() -> None:
    class Looked(nn.Module):
        def __init__(self, by_input: bool) -> None:
            super().__init__()
            self.by_input = by_input

        def forward(self, maps: Tensor) -> Tensor:
            places = (
                maps.argmax(2, keepdim=True) if self.by_input else torch.zeros(1, 3, 1, 8, dtype=torch.long)
            )
            return maps.gather(2, places)

    statuses = [whole_field(Looked(by_input), 3, 8, 8)[2] for by_input in (True, False)]
    assert statuses == [Status.DATA_DEPENDENT, Status.UPPER_BOUND]


def test_an_in_place_sum_into_a_slice_changes_what_the_whole_tensor_sees() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, maps: Tensor) -> Tensor:
            found = maps.clone()
            found[:, :1] += self.conv(maps)[:, :1]
            return found

    _, size, status, _ = whole_field(Written(), 3, 8, 8)
    assert size >= 3
    assert status is Status.UPPER_BOUND


class Branches(nn.Module):
    """A convolution beside the pixels as they are, of which some channels are taken."""

    def __init__(self, taken: slice, other: int) -> None:
        super().__init__()
        self.taken = taken
        self.wide, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, other, padding=other // 2)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat((self.other(maps), self.wide(maps)), 1)[:, self.taken]


@pytest.mark.parametrize(
    ("taken", "other", "status"),
    [
        (slice(None), 1, Status.EXACT),  # all channels together see 3 pixels
        (slice(0, 3), 1, Status.UPPER_BOUND),  # those taken may be those that see one
        (slice(0, 3), 3, Status.EXACT),  # both branches see 3
    ],
)
def test_some_channels_of_uneven_branches_may_see_less(taken: slice, other: int, status: Status) -> None:
    assert whole_field(Branches(taken, other), 3, 8, 8) == (-1, 3, status, True)


def test_zero_maps_beside_the_maps_see_nothing_but_together_they_see_the_same() -> None:
    class Widened(nn.Module):
        def __init__(self, taken: slice) -> None:
            super().__init__()
            self.taken = taken

        def forward(self, maps: Tensor) -> Tensor:
            return F.pad(maps, (0, 0, 0, 0, 2, 1))[:, self.taken]

    assert whole_field(Widened(slice(None)), 3, 8, 8) == (0, 1, Status.EXACT, True)
    assert whole_field(Widened(slice(0, 2)), 3, 8, 8)[2] is Status.UPPER_BOUND


def test_channels_in_another_order_see_the_same_and_turned_pixels_are_lost() -> None:
    class Turned(nn.Module):
        def __init__(self, *axes: int) -> None:
            super().__init__()
            self.axes = axes

        def forward(self, maps: Tensor) -> Tensor:
            return F.conv2d(maps.flip(self.axes), torch.ones(1, 3, 3, 3))

    assert whole_field(Turned(1), 3, 8, 8) == (0, 3, Status.EXACT, True)
    assert whole_field(Turned(2), 3, 8, 8)[1:] == (8, Status.UPPER_BOUND, False)


def test_our_bgr_networks_are_followed_from_their_first_layer() -> None:
    network = striate.create("resnet18", preprocess={"channel_order": "bgr"})
    assert striate.summary(network).find("layer4").field == striate.summary("resnet18").find("layer4").field


def test_height_and_width_are_followed_apart() -> None:
    field = trace(nn.Conv2d(3, 1, (5, 1), (1, 3), (2, 0)), (3, 9, 9)).root.field
    assert field is not None
    assert [(track.size, track.jump, track.start) for track in field] == [(5, 1, -2), (1, 3, 0)]


def test_a_volume_has_three_axes_and_a_signal_one() -> None:
    volume = trace(nn.Conv3d(1, 1, (1, 3, 5)), (1, 6, 6, 6)).root.field
    signal = trace(nn.Conv1d(1, 1, 3, dilation=2), (1, 9)).root.field
    assert volume is not None
    assert signal is not None
    assert [track.size for track in volume] == [1, 3, 5]
    assert [track.size for track in signal] == [5]


def test_digits_survive_reshaping_and_an_uneven_one_is_an_upper_bound() -> None:
    track = Track.of_input((1, 3, 12), 2)
    split = track.regrouped((1, 3, 3, 4))
    assert [digit.jump for axis in split.axes for digit in axis] == [0, 4, 1]
    assert split.permuted((0, 1, 3, 2)).regrouped((1, 12, 3)).contracted([1], [1]).size == 4
    assert track.regrouped((1, 4, 9)).status is Status.UPPER_BOUND
