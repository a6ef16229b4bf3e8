"""Numbers recomputed by hand: windows, padding, groups, pools, norms, and what they are made of."""

import json
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import striate
from striate.errors import UnknownName, UsageError
from striate.explain.arithmetic import Arithmetic, arithmetic, tolerance_of
from striate.explain.arithmetics._explained import PoolWindow, WindowSum
from striate.explain.recording import record
from striate.layers.local_response_norm import LocalResponseNorm


def picture(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.3


def one(module: nn.Module, images: Tensor, *position: int, call: str = "0") -> Arithmetic:
    """The number at `position` of `call`, by default of `module` itself."""
    network = nn.Sequential(module)
    found = arithmetic(record(network, images, wanted=lambda name: name == call), call, *position)
    assert found.ok, found
    return found


def counting(*shape: int) -> Tensor:
    return torch.arange(float(torch.tensor(shape).prod())).view(shape)


def test_a_convolution_by_hand() -> None:
    """2 + 3·2 + (5·4 + 6·8) of [[1 2 3] [4 5 6]] under [[1 2] [4 8]] is 76, and the bias 10 more."""
    conv = nn.Conv2d(1, 1, 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[[1.0, 2], [4, 8]]]]))
        conv.bias.fill_(10)
    found = one(conv, 1 + counting(1, 1, 2, 3), 0, 0, 1)
    window = found.window
    assert (found.value, window.sum, window.bias, found.torch_value) == (86, 76, 10, 86)
    assert (window.places, window.taps) == (((0, 1), (1, 2)), ((0, 1), (0, 1)))
    assert window.channels[0].values.tolist() == [[2, 3], [5, 6]]
    assert window.channels[0].products.tolist() == [[2, 6], [20, 48]]
    assert not window.is_padded.any()


@pytest.mark.parametrize(
    ("options", "shape", "position", "rows", "columns"),
    [
        ({"kernel_size": 3, "padding": 1}, (1, 3, 6, 5), (1, 0, 4), (-1, 0, 1), (3, 4, 5)),
        ({"kernel_size": 3, "stride": 2, "padding": 1}, (1, 3, 6, 6), (2, 2, 0), (3, 4, 5), (-1, 0, 1)),
        ({"kernel_size": (3, 2), "stride": (4, 3)}, (1, 3, 9, 9), (0, 1, 2), (4, 5, 6), (6, 7)),
        ({"kernel_size": 3, "dilation": 2, "padding": 2}, (1, 3, 6, 6), (3, 1, 5), (-1, 1, 3), (3, 5, 7)),
        ({"kernel_size": 3, "padding": "same"}, (1, 3, 6, 6), (3, 0, 0), (-1, 0, 1), (-1, 0, 1)),
        ({"kernel_size": 2, "padding": "same"}, (1, 3, 4, 4), (0, 3, 0), (3, 4), (0, 1)),
        ({"kernel_size": 1, "stride": 3}, (1, 3, 7, 7), (3, 2, 1), (6,), (3,)),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_windows_lie_where_stride_padding_and_dilation_put_them(
    options: dict[str, object],
    shape: tuple[int, ...],
    position: tuple[int, ...],
    rows: tuple[int, ...],
    columns: tuple[int, ...],
) -> None:
    with_kernel = nn.Conv2d(3, 4, **options)
    images = picture(*shape)
    found = one(with_kernel, images, *position)
    assert found.window.places == (rows, columns)
    channel = next(each for each in found.window.channels if each.channel == 2)
    seen = [
        [float(images[0, 2, y, x]) if 0 <= y < shape[2] and 0 <= x < shape[3] else 0.0 for x in columns]
        for y in rows
    ]
    assert channel.values.tolist() == seen
    inside = [[0 <= y < shape[2] and 0 <= x < shape[3] for x in columns] for y in rows]
    assert found.window.is_padded.tolist() == [[not each for each in row] for row in inside]


@pytest.mark.parametrize(
    ("mode", "values", "origins"),
    [
        ("zeros", [0, 0, 0, 1], (None, None, 0, 1)),
        ("reflect", [2, 1, 0, 1], (2, 1, 0, 1)),
        ("replicate", [0, 0, 0, 1], (0, 0, 0, 1)),
        ("circular", [3, 4, 0, 1], (3, 4, 0, 1)),
    ],
)
def test_padded_cells_hold_what_the_mode_puts_there(
    mode: str, values: list[float], origins: tuple[int | None, ...]
) -> None:
    conv = nn.Conv2d(1, 1, (1, 4), padding=(0, 2), padding_mode=mode)
    found = one(conv, counting(1, 1, 1, 5), 0, 0, 0)
    assert found.window.channels[0].values.tolist() == [values]
    assert found.window.places == ((0,), (-2, -1, 0, 1))
    assert found.window.origins[1] == origins
    assert found.window.is_padded.tolist() == [[True, True, False, False]]
    assert f"padded cells: {'zeros' if mode == 'zeros' else 'the'}" in repr(found)


def test_the_far_end_is_padded_as_well() -> None:
    conv = nn.Conv1d(1, 1, 3, padding=2, padding_mode="reflect")
    found = one(conv, counting(1, 1, 4), 0, 5)
    assert found.window.places == ((3, 4, 5),)
    assert found.window.origins == ((3, 2, 1),)
    assert found.window.channels[0].values.tolist() == [3, 2, 1]


def test_a_group_sees_its_own_channels() -> None:
    found = one(nn.Conv2d(6, 4, 3, groups=2, bias=False), picture(1, 6, 5, 5), 3, 1, 1)
    assert sorted(channel.channel for channel in found.window.channels) == [3, 4, 5]
    assert found.window.bias is None
    depthwise = one(nn.Conv2d(6, 6, 3, groups=6), picture(1, 6, 5, 5), 4, 1, 1)
    assert [channel.channel for channel in depthwise.window.channels] == [4]


def test_sums_are_by_size_and_the_rest_is_told() -> None:
    conv = nn.Conv2d(20, 1, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(-9.0, 11).view(1, 20, 1, 1))
    found = one(conv, torch.ones(1, 20, 1, 1), 0, 0, 0)
    assert [channel.sum for channel in found.window.channels[:3]] == [10, -9, 9]
    # Left are -2, -1, 0, 1 or 2 of the pairs: the weights from -2 to 2 but one of the 2s.
    assert found.window.rest_count == 4
    assert abs(found.window.rest) == 2
    assert "and 4 more channels:" in repr(found)
    assert found.value == 10


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1),
        lambda: nn.ConvTranspose2d(4, 6, 4, stride=3, dilation=2, groups=2),
        lambda: nn.ConvTranspose2d(3, 2, 2, stride=4),
        lambda: nn.ConvTranspose1d(3, 2, 3, stride=2),
        lambda: nn.Conv3d(2, 3, 2, stride=2, padding=1),
    ],
)
def test_every_number_of_other_convolutions_is_recomputed(build: Callable[[], nn.Module]) -> None:
    module = build()
    axes = module.weight.ndim - 2
    network = nn.Sequential(module)
    recording = record(network, picture(1, module.in_channels, *[4, 3, 3][:axes]), wanted=lambda _: True)
    for position in torch.ones(recording.outputs.shape[1:]).nonzero().tolist()[::5]:
        assert arithmetic(recording, "0", *position).ok


def test_a_transposed_convolution_names_the_inputs_that_reach_the_output() -> None:
    """Stride 2, kernel 3: output 2 gets input 1 through kernel cell 0 and input 0 through cell 2."""
    conv = nn.ConvTranspose1d(1, 1, 3, stride=2, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[1.0, 10, 100]]]))
    found = one(conv, torch.tensor([[[3.0, 4]]]), 0, 2)
    assert (found.window.places, found.window.taps) == (((0, 1),), ((2, 0),))
    assert found.value == 304
    alone = one(nn.ConvTranspose1d(1, 1, 1, stride=2), torch.ones(1, 1, 2), 0, 1)
    assert alone.window.places == ((),)
    assert alone.value == alone.window.bias


def pool_of(found: Arithmetic) -> PoolWindow:
    return next(
        step.explained.window for step in found.steps if isinstance(step.explained.window, PoolWindow)
    )


def test_a_maximum_names_its_cell_and_its_ties() -> None:
    images = torch.tensor([[[[1.0, 5, 5], [0, 2, 3], [4, 4, 4]]]])
    found = one(nn.MaxPool2d(2, 2, ceil_mode=True), images, 0, 0, 0)
    assert pool_of(found).winners == ((0, 1),)
    tied = one(nn.MaxPool2d(3, 1, padding=1), images, 0, 0, 1)
    assert pool_of(tied).winners == ((0, 1), (0, 2))
    assert "row 0, column 1, and as large at 1 more = 5" in repr(tied)
    corner = pool_of(one(nn.MaxPool2d(2, 2, ceil_mode=True), images, 0, 1, 1))
    assert torch.tensor(corner.values).isnan().tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize(
    ("options", "place", "divisor"),
    [
        ({"kernel_size": 3, "stride": 2, "padding": 1}, 0, 9),
        ({"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}, 0, 4),
        ({"kernel_size": 3, "stride": 2, "divisor_override": 5}, 1, 5),
        # From column 4 on a window of three has two columns, and ceil_mode's last does not count beyond.
        ({"kernel_size": 3, "stride": 2, "ceil_mode": True}, 2, 4),
        ({"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True}, 2, 4),
    ],
)
def test_a_mean_divides_by_what_counts(options: dict[str, object], place: int, divisor: int) -> None:
    found = one(nn.AvgPool2d(**options), picture(1, 2, 6, 6), 1, place, place)
    assert pool_of(found).divisor == divisor


@pytest.mark.parametrize("build", [nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d])
def test_adaptive_pools_share_an_axis_that_does_not_divide(build: Callable[[object], nn.Module]) -> None:
    found = one(build((3, 2)), picture(1, 2, 7, 5), 1, 1, 1)
    assert pool_of(found).places == ((2, 3, 4), (2, 3, 4))


def test_a_linear_layer_adds_features() -> None:
    linear = nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 2, 3], [4, 5, -6]]))
        linear.bias.copy_(torch.tensor([0.5, 0.25]))
    found = one(linear, torch.tensor([[1.0, 10, 100]]), 1)
    assert [(each.channel, each.sum) for each in found.window.channels] == [(2, -600), (1, 50), (0, 4)]
    assert found.value == -545.75
    tokens = one(linear, torch.tensor([[[1.0, 10, 100], [1, 1, 1]]]), 1, 0)
    assert tokens.value == 6.5


def test_what_is_allowed_is_a_share_of_the_largest_output_and_what_rounding_takes() -> None:
    output = torch.tensor([1.0, -200.0, torch.inf])
    assert tolerance_of(output, 0.0) == pytest.approx(1e-5 * 200)
    assert tolerance_of(output, 1e6) == pytest.approx(4 * 2**-23 * 1e6)
    assert tolerance_of(output.bfloat16(), 0.0) == pytest.approx(4 * 2**-7 * 200)
    assert tolerance_of(torch.zeros(2), 0.0) < 1e-37


def test_a_sum_that_cancels_may_lose_what_float32_loses() -> None:
    """Ten thousand terms of about one, whose sum is near 0 and the only output."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(10_000, 1, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(1, 10_000, generator=generator))
        linear.weight[0, -1] -= linear.weight.double().sum().float()
    found = one(linear, torch.ones(1, 10_000), 0)
    assert abs(found.value) < 1e-3
    step = found.steps[0]
    assert step.tolerance < 5e-3
    with torch.no_grad():
        linear.weight[0, 0] += 0.01
    recording = record(nn.Sequential(linear), torch.ones(1, 10_000), wanted=lambda _: True)
    with torch.no_grad():
        linear.weight[0, 0] -= 0.01
    assert not arithmetic(recording, "0", 0).ok


def test_normalisation_and_activation_behind_it_follow_step_by_step() -> None:
    conv, norm = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=5.0)
    with torch.no_grad():
        conv.weight.fill_(3)
        for tensor, value in (
            (norm.running_mean, 3),
            (norm.running_var, 4),
            (norm.weight, 2),
            (norm.bias, 0.5),
        ):
            tensor.fill_(value)
    network = nn.Sequential(conv, norm, nn.ReLU6(inplace=True), nn.MaxPool2d(1))
    found = arithmetic(
        record(network, torch.full((1, 1, 1, 1), 5.0), wanted=lambda name: name == "0"), "0", 0, 0, 0
    )
    assert found.value == 15
    assert [(step.call, step.explained.value) for step in found.following] == [("1", 8.5), ("2", 6.0)]
    assert found.following[0].explained.worked == "(15 - 3) / sqrt(4 + 5) · 2 + 0.5 = 8.5"
    assert found.following[1].explained.worked == "min(max(8.5, 0), 6) = 6"
    assert found.ok


@pytest.mark.parametrize(
    "build",
    [
        nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.ELU,
        nn.LeakyReLU, nn.PReLU, nn.Softplus, nn.Hardtanh, nn.Mish, lambda: nn.GELU("tanh"),
        lambda: nn.ReLU(inplace=True),
    ],
)  # fmt: skip
def test_activations_are_recomputed_from_the_value_before(build: Callable[[], nn.Module]) -> None:
    images = 4 * picture(1, 2, 3, 3)
    for column in range(3):
        found = one(build(), images, 1, 0, column)
        assert found.steps[-1].explained.source.position == (0, 1, 0, column)


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.LayerNorm((4, 5)), lambda: nn.GroupNorm(2, 6), lambda: nn.InstanceNorm2d(6, affine=True),
        lambda: nn.Softmax(1), lambda: nn.LocalResponseNorm(3), lambda: LocalResponseNorm(3, 0.5),
        lambda: nn.LocalResponseNorm(4, 0.5, 0.6, 2.0),
        lambda: nn.Upsample(scale_factor=2), lambda: nn.Upsample(size=(7, 3), mode="bilinear"),
        lambda: nn.Upsample(size=(7, 9), mode="bilinear", align_corners=True), lambda: nn.PixelShuffle(1),
        lambda: nn.ZeroPad2d((1, 2, 0, 1)), lambda: nn.ReflectionPad2d(2), lambda: nn.CircularPad2d(1),
        lambda: nn.ChannelShuffle(3), lambda: nn.AvgPool2d(2),
    ],
)  # fmt: skip
def test_every_number_of_other_layers_is_recomputed(build: Callable[[], nn.Module]) -> None:
    recording = record(nn.Sequential(build()), 3 * picture(1, 6, 4, 5), wanted=lambda _: True)
    for position in torch.ones(recording.outputs.shape[1:]).nonzero().tolist()[::3]:
        found = arithmetic(recording, "0", *position)
        assert found.ok, found


def test_the_local_response_norm_of_the_paper_adds_the_squares() -> None:
    maps = torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1)
    found = one(LocalResponseNorm(3, alpha=1.0, beta=1.0, k=2.0), maps, 0, 0, 0)
    assert found.value == 1 / (2 + 1 + 4)


class Joins(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        shifted = F.relu(images) - 0.5
        return torch.cat((shifted, images + shifted), 1)


def test_a_sum_of_maps_and_a_concatenation_name_what_they_are_from() -> None:
    recording = record(Joins(), torch.tensor([[[[1.0, 2]], [[3, 4]]]]), wanted=lambda _: True)
    added = arithmetic(recording, "(add)", 1, 0, 1)
    assert added.steps[0].explained.worked == "4 + 3.5 = 7.5"
    assert added.sources == ("(sub)",)
    joined = arithmetic(recording, "(cat)", 3, 0, 1)
    assert (joined.value, joined.sources) == (7.5, ("(add)",))
    assert "input 2 of 2, the value at (1, 0, 1)" in repr(joined)
    assert arithmetic(recording, "(cat)", 1, 0, 1).sources == ("(sub)",)


class SecondHalf(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.chunk(2, 1)[1]


def test_a_part_that_was_cut_off_names_its_place() -> None:
    found = one(SecondHalf(), counting(1, 4, 1, 2), 1, 0, 1)
    assert found.value == 7
    assert found.steps[0].explained.source.position == (0, 3, 0, 1)


def test_the_first_layer_goes_from_the_pixel_to_the_number() -> None:
    network = striate.create("lenet5", classes=10)
    images = torch.full((1, 1, 32, 32), 51, dtype=torch.uint8)
    recording = record(network, images, wanted=lambda name: name == "normalize")
    found = arithmetic(recording, "normalize", 0, 3, 3)
    assert [step.explained.operation for step in found.steps] == ["copy", "multiplication", "addition"]
    assert found.steps[0].explained.value == 51
    assert found.value == pytest.approx(51 * float(network.normalize.factor) + float(network.normalize.shift))


def test_what_has_no_rule_is_said_and_not_guessed() -> None:
    network = nn.Sequential(nn.GRU(3, 2))
    recording = record(network, picture(4, 1, 3), wanted=lambda _: True)
    found = arithmetic(recording, "0", 0, 1)
    assert (found.steps, found.ok, found.value) == ((), False, None)
    assert "not explained: no rule for gru" in repr(found)
    norm = nn.Sequential(nn.BatchNorm2d(3))
    training = record(norm, picture(2, 3, 4, 4), wanted=lambda _: True, training=True)
    assert "in training mode" in arithmetic(training, "0", 0, 0, 0).not_explained


def test_places_and_names_that_are_not_there_are_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    recording = record(network, picture(1, 3, 6, 5), wanted=lambda _: True)
    for position in ((4, 0, 0), (0, 4, 0), (0, 0, -1), (0, 0)):
        with pytest.raises(UsageError, match="channel 0 to 3, row 0 to 3, column 0 to 2"):
            arithmetic(recording, "0", *position)
    with pytest.raises(UsageError, match="picture 0 to 0"):
        arithmetic(recording, "0", 0, 0, 0, picture=1)
    with pytest.raises(UnknownName):
        arithmetic(recording, "conv", 0, 0, 0)
    with pytest.raises(UsageError, match="not kept"):
        arithmetic(record(network, picture(1, 3, 6, 5)), "0", 0, 0, 0)


def test_it_reads_in_eighty_columns_and_as_json() -> None:
    for kernel in (1, 2, 3, 5, 7):
        found = one(nn.Conv2d(40, 4, kernel, padding=kernel // 2), picture(1, 40, 9, 9), 3, 0, 0)
        assert max(map(len, found.lines(80))) <= 80
        assert json.loads(json.dumps(found.to_dict()))["ok"] is True
    pooled = one(nn.MaxPool2d(2, padding=1), picture(1, 2, 4, 4), 1, 0, 0)
    assert json.loads(json.dumps(pooled.to_dict()))["steps"][0]["window"]["values"][0] == [None, None]


def test_names_are_text_in_a_notebook() -> None:
    network = nn.ModuleDict({"<b>": nn.Conv2d(1, 1, 1)})
    network.forward = network["<b>"].__call__
    recording = record(network, picture(1, 1, 2, 2), wanted=lambda _: True)
    assert "<b>" not in arithmetic(recording, "<b>", 0, 0, 0)._repr_html_()


def test_a_weight_that_changed_since_shows() -> None:
    conv = nn.Conv2d(3, 4, 3)
    recording = record(nn.Sequential(conv), picture(1, 3, 6, 6), wanted=lambda _: True)
    with torch.no_grad():
        conv.weight[2, 1, 0, 0] += 1
    found = arithmetic(recording, "0", 2, 1, 1)
    assert not found.ok
    assert "DIFFERS" in repr(found)
    assert arithmetic(recording, "0", 1, 1, 1).ok
    assert isinstance(found.window, WindowSum)
