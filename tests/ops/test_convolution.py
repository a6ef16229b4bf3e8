"""Convolution spelt out, against torch in float64 and against sums done by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from striate.errors import UsageError
from striate.ops import convolution as C
from striate.ops.sizes import input_sizes, output_size, transposed_size

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, dict[str, object]]:
    groups = draw(st.integers(1, 3))
    channels, channels_out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    kernel, dilation = draw(pairs), draw(pairs)
    size = [draw(st.integers(gap * (taps - 1) + 1, 9)) for taps, gap in zip(kernel, dilation, strict=True)]
    chance = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    settings = {
        "stride": draw(pairs),
        "padding": draw(st.tuples(st.integers(0, 3), st.integers(0, 3))),
        "dilation": dilation,
        "groups": groups,
    }

    def values(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=chance, dtype=torch.float64)

    maps = values(2, channels, *size)
    return maps, values(channels_out, channels // groups, *kernel), values(channels_out), settings


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_window_times_a_kernel_is_summed_by_hand() -> None:
    maps = torch.arange(9.0).view(1, 1, 3, 3)
    kernel = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    # Top left: 0*1 + 1*2 + 3*3 + 4*4 = 27, and the bias 10.
    assert C.cross_correlate(maps, kernel, torch.tensor([10.0]))[0, 0].tolist() == [[37, 47], [67, 77]]
    # Flipped: 0*4 + 1*3 + 3*2 + 4*1 = 13.
    assert C.convolve(maps, kernel)[0, 0, 0, 0] == 13


@settings(deadline=None, max_examples=60)
@given(problems())
def test_cross_correlation_equals_conv2d(problem: tuple[Tensor, Tensor, Tensor, dict[str, object]]) -> None:
    maps, kernels, bias, options = problem
    same(C.cross_correlate(maps, kernels, bias, **options), F.conv2d(maps, kernels, bias, **options))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@given(problems(), pairs)
def test_the_transposed_convolution_equals_conv_transpose2d(
    problem: tuple[Tensor, Tensor, Tensor, dict[str, object]], extra: tuple[int, int]
) -> None:
    maps, kernels, _, options = problem
    if maps.shape[1] * kernels.shape[1] == 0:
        return
    groups = int(str(options["groups"]))
    kernels = kernels.repeat(maps.shape[1], 1, 1, 1)[: maps.shape[1]]  # (C, C_out / groups, kh, kw)
    bias = torch.arange(kernels.shape[1] * groups, dtype=torch.float64)
    # torch takes an output padding below the stride or the dilation only.
    steps = options["stride"]
    options["output_padding"] = tuple(min(e - 1, s - 1) for e, s in zip(extra, steps, strict=True))  # type: ignore[arg-type, call-overload]
    try:
        expected = F.conv_transpose2d(maps, kernels, bias, **options)  # type: ignore[arg-type]
    except RuntimeError:
        with pytest.raises(UsageError):
            C.transposed(maps, kernels, bias, **options)  # type: ignore[arg-type]
    else:
        same(C.transposed(maps, kernels, bias, **options), expected)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 9), st.integers(4, 9), pairs, st.sampled_from(["reflect", "circular", "replicate"]))
def test_padding_equals_torch_at_every_border(
    height: int, width: int, cells: tuple[int, int], border: str
) -> None:
    maps = torch.randn(2, 3, height, width, dtype=torch.float64)
    around = (cells[0], 0, 1, cells[1])
    expected = F.pad(maps, (1, cells[1], cells[0], 0), mode=border)
    same(C.pad(maps, around, border), expected)  # type: ignore[arg-type]


def test_reflected_circular_and_repeated_borders_by_hand() -> None:
    row = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3)
    found = {border: C.pad(row, (0, 0, 2, 2), border).flatten().tolist() for border in ("zeros", "reflect")}  # type: ignore[arg-type]
    assert found == {"zeros": [0, 0, 1, 2, 3, 0, 0], "reflect": [3, 2, 1, 2, 3, 2, 1]}
    assert C.pad(row, (0, 0, 1, 1), "circular").flatten().tolist() == [3, 1, 2, 3, 1]
    assert C.pad(row, (0, 0, -1, 1), "replicate").flatten().tolist() == [2, 3, 3]
    with pytest.raises(UsageError, match="reflect padding of 3 needs more than 3 cells"):
        C.pad(row, (0, 0, 3, 0), "reflect")


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@settings(deadline=None, max_examples=30)
@given(problems())
def test_same_keeps_the_size_and_full_gives_every_overlap(
    problem: tuple[Tensor, Tensor, Tensor, dict[str, object]],
) -> None:
    maps, kernels, bias, options = problem
    dilation, groups = options["dilation"], options["groups"]
    common = {"dilation": dilation, "groups": groups}
    kept = C.cross_correlate(maps, kernels, bias, padding="same", **common)  # type: ignore[arg-type]
    same(kept, F.conv2d(maps, kernels, bias, padding="same", **common))  # type: ignore[call-overload]
    full = C.cross_correlate(maps, kernels, padding="full", **common)  # type: ignore[arg-type]
    reach = [gap * (taps - 1) for gap, taps in zip(dilation, kernels.shape[2:], strict=True)]  # type: ignore[call-overload]
    assert full.shape[2:] == (maps.shape[2] + reach[0], maps.shape[3] + reach[1])


def test_same_with_a_stride_is_refused() -> None:
    with pytest.raises(UsageError, match="no meaning with stride 2"):
        C.cross_correlate(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 3, 3), padding="same", stride=2)


def test_full_convolution_multiplies_polynomials_and_commutes() -> None:
    # (1 + 2x)(3 + x + 5x^2) = 3 + 7x + 7x^2 + 10x^3
    first, second = (torch.tensor(row).view(1, 1, 1, -1) for row in ([1.0, 2.0], [3.0, 1.0, 5.0]))
    for maps, kernel in ((first, second), (second, first)):
        found = C.convolve(maps, kernel, "full").flatten()
        assert found.tolist() == [3, 7, 7, 10] == np.convolve([1, 2], [3, 1, 5]).tolist()


@settings(deadline=None, max_examples=30)
@given(problems())
def test_a_dilated_kernel_is_one_spread_with_zeros(
    problem: tuple[Tensor, Tensor, Tensor, dict[str, object]],
) -> None:
    maps, kernels, _, options = problem
    spread = C.spread(kernels, options.pop("dilation"))  # type: ignore[arg-type]
    expected = F.conv2d(maps, kernels, dilation=tuple(_gaps(spread, kernels)), **options)  # type: ignore[arg-type]
    same(C.cross_correlate(maps, spread, **options), expected)  # type: ignore[arg-type]


def _gaps(spread: Tensor, kernels: Tensor) -> list[int]:
    sizes = zip(spread.shape[2:], kernels.shape[2:], strict=True)
    return [(wide - 1) // (narrow - 1) if narrow > 1 else 1 for wide, narrow in sizes]


@settings(deadline=None, max_examples=60)
@given(problems(), pairs, st.booleans(), st.booleans())
def test_pooling_equals_torch(
    problem: tuple[Tensor, Tensor, Tensor, dict[str, object]],
    kernel: tuple[int, int],
    ceil: bool,
    count: bool,
) -> None:
    maps, _, _, options = problem
    step = options["stride"]
    cells = tuple(min(p, k // 2) for p, k in zip(options["padding"], kernel, strict=True))  # type: ignore[call-overload]
    try:
        expected = F.max_pool2d(maps, kernel, step, cells, options["dilation"], ceil)  # type: ignore[arg-type]
    except RuntimeError:
        with pytest.raises(UsageError):
            C.max_pool(maps, kernel, stride=step, padding=cells, dilation=options["dilation"], ceil=ceil)  # type: ignore[arg-type]
    else:
        found = C.max_pool(maps, kernel, stride=step, padding=cells, dilation=options["dilation"], ceil=ceil)  # type: ignore[arg-type]
        same(found, expected)
    try:
        expected = F.avg_pool2d(maps, kernel, step, cells, ceil, count)  # type: ignore[arg-type]
    except RuntimeError:
        return
    same(
        C.average_pool(maps, kernel, stride=step, padding=cells, ceil=ceil, count_padding=count),  # type: ignore[arg-type]
        expected,
    )


def test_channels_that_do_not_fit_are_refused_with_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"\(1, 3, 4, 4\) does not fit kernels for 4 channels in 2 groups"):
        C.cross_correlate(torch.zeros(1, 3, 4, 4), torch.zeros(2, 2, 3, 3), groups=2)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 7), st.integers(1, 4), st.integers(0, 4), st.integers(1, 3))
def test_the_input_sizes_are_just_those_that_give_the_output(
    output: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    giving = [size for size in range(1, 90) if _output(size, kernel, options) == output]
    if not giving:
        with pytest.raises(UsageError, match=f"no input gives {output} positions"):
            input_sizes(output, kernel, **options)
        return
    assert list(input_sizes(output, kernel, **options)) == giving


def _output(size: int, kernel: int, options: dict[str, int]) -> int | None:
    try:
        return output_size(size, kernel, **options).output
    except UsageError:
        return None


def test_a_transposed_convolution_gives_an_input_size_of_the_convolution() -> None:
    # 7x7 / 2 with padding 3 takes 223 and 224 to 112.
    assert list(input_sizes(112, 7, stride=2, padding=3)) == [223, 224]
    sizes = [transposed_size(112, 7, stride=2, padding=3, output_padding=extra) for extra in (0, 1)]
    assert sizes == [223, 224]


def test_the_fields_of_a_resnet_stem_by_hand() -> None:
    # 7x7 / 2: 7 pixels, 2 apart. 3x3 / 2 pool: 7 + 2*2 = 11, 4 apart. 3x3: 11 + 2*4 = 19.
    field = C.receptive_field([(7, 2, 3, 1), (3, 2, 1, 1), (3, 1, 1, 1)])
    assert field == C.ReceptiveField(size=19, jump=4, start=-3 - 2 - 4)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2)),
        min_size=1,
        max_size=4,
    )
)
def test_the_recurrence_gives_the_pixels_that_a_gradient_reaches(
    layers: list[tuple[int, int, int, int]],
) -> None:
    pixels = torch.ones(1, 1, 1, 401, dtype=torch.float64, requires_grad=True)
    maps = pixels
    for kernel, stride, padding, dilation in layers:
        weights = torch.ones(1, 1, 1, kernel, dtype=torch.float64)
        maps = C.cross_correlate(
            maps, weights, stride=(1, stride), padding=(0, padding), dilation=(1, dilation)
        )
    field, centre = C.receptive_field(layers), maps.shape[3] // 2
    maps[..., centre].sum().backward()
    assert pixels.grad is not None
    reached = pixels.grad.flatten().nonzero().flatten()
    assert reached[0] == field.start + centre * field.jump
    assert reached[-1] - reached[0] + 1 == field.size
