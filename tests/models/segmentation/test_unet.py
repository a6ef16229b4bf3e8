"""U-Net: the paper's sizes and numbers, its sums done in numpy, and tiles that equal the whole."""

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from striate import models
from striate.errors import UsageError
from striate.models.segmentation import unet
from striate.models.segmentation.unet import Expansion, UNet
from striate.models.unweighted import unweighted
from striate.structures import MaskTargets
from striate.tasks._views import spans
from striate.tasks.segmentation import ViewOptions, views

Array = NDArray[np.float64]
GRAY = {"color": "gray", "mean": [0.5], "std": [0.25]}


def made(name: str = "unet", size: int = 128, **config: Any) -> UNet:
    """A small gray network in evaluation, its biases and statistics off their starting values."""
    torch.manual_seed(0)
    network = models.create(name, preprocess={**GRAY, "size": [size, size]}, **config)
    assert isinstance(network, UNet)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.normal_(module.bias, 0.0, 0.1)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            nn.init.normal_(module.running_mean, 0.0, 0.1)
            nn.init.uniform_(module.weight, 0.5, 1.0)
    return network.eval()


def weightless(name: str = "unet", **config: Any) -> UNet:
    with unweighted():
        network = models.create(name, **config)
    assert isinstance(network, UNet)
    return network.eval()


def context_of(network: UNet) -> int:
    assert network.context is not None
    return network.context


def empty(height: int, width: int, channels: int = 1) -> Tensor:
    return torch.empty(1, channels, height, width, device="meta")


def picture(height: int, width: int) -> Tensor:
    """(1, 1, height, width) uint8, always the same."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (1, 1, height, width), dtype=torch.uint8, generator=generator)


@torch.inference_mode()
def logits(network: UNet, images: Tensor) -> Tensor:
    return network.dense(images)["logits"]


@torch.inference_mode()
def valid(network: UNet, images: Tensor) -> Tensor:
    return network.valid(network.normalize(images))


def mirrored(images: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """By numpy: `images` with so many pixels around them, each as far behind the edge as its own before."""
    margins = ((0, 0), (0, 0), (top, bottom), (left, right))
    return torch.from_numpy(np.pad(images.numpy(), margins, mode="reflect"))


def test_the_paper_s_network_has_its_weights() -> None:
    network = weightless("unet", classes=2)
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_030_658


def test_the_padded_network_has_batch_norm_in_place_of_biases() -> None:
    network = weightless("unet_same", classes=2)
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_037_698


@pytest.mark.parametrize(("side", "expected"), [(188, 4), (204, 20), (572, 388), (700, 516)])
def test_the_bare_map_is_184_pixels_smaller(side: int, expected: int) -> None:
    assert weightless().valid(empty(side, 188)).shape == (1, 2, expected, 4)


def test_every_level_has_the_size_of_figure_1() -> None:
    network, sizes = weightless(), []
    for block in (*network.contracting, *network.expansive):
        block.register_forward_hook(lambda _, __, maps: sizes.append((maps.shape[1], maps.shape[-1])))
    network.valid(empty(572, 572))
    down = [(64, 568), (128, 280), (256, 136), (512, 64), (1024, 28)]
    assert sizes == [*down, (512, 52), (256, 100), (128, 196), (64, 388)]


def test_skips_lose_88_40_16_and_4_pixels_a_side() -> None:
    steps = [step for step in weightless().expansive if isinstance(step, Expansion)]
    assert [step.crop for step in reversed(steps)] == [88, 40, 16, 4]


@pytest.mark.parametrize(("name", "sides", "billions"), [("unet", 572, 150.4), ("unet_same", 512, 192.4)])
def test_it_takes_as_many_multiply_adds_as_known(name: str, sides: int, billions: float) -> None:
    network = weightless(name, preprocess=GRAY)
    with FlopCounterMode(display=False) as counter:
        network.valid(empty(sides, sides))
    assert counter.get_total_flops() / 2e9 == pytest.approx(billions, abs=0.05)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_other_depths_follow_the_same_arithmetic(depth: int) -> None:
    network = weightless(depth=depth, width=2)
    assert network.valid(empty(2 * network.border + 4, 2 * network.border + 4 + network.stride)).shape == (
        *(1, 2, 4, 4 + network.stride),
    )


class Reference:
    """The unpadded network in numpy, from its state dict: sums over windows, nothing else."""

    def __init__(self, network: UNet) -> None:
        self.weights = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
        self.depth = len(network.expansive)

    def __call__(self, values: Array) -> Array:
        """Logits (K, H', W') of values (C, H, W)."""
        skips = []
        for level in range(self.depth + 1):
            values = self.block(f"contracting.{level}", values)
            skips.append(values)
            if level < self.depth:
                channels, height, width = values.shape
                values = values.reshape(channels, height // 2, 2, width // 2, 2).max((2, 4))
        for number, skip in enumerate(reversed(skips[:-1])):
            up = self.up(f"expansive.{number}.up", values)
            top = (skip.shape[1] - up.shape[1]) // 2
            middle = skip[:, top : top + up.shape[1], top : top + up.shape[2]]
            values = self.block(f"expansive.{number}.convolutions", np.concatenate((middle, up)))
        return self.convolution("last", values)

    def block(self, name: str, values: Array) -> Array:
        for number in (1, 2):
            values = np.maximum(self.convolution(f"{name}.conv{number}", values), 0)
        return values

    def convolution(self, name: str, values: Array) -> Array:
        kernel, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        windows = sliding_window_view(values, kernel.shape[2:], axis=(1, 2))
        sums: Array = np.einsum("chwyx,kcyx->khw", windows, kernel)
        sums += bias[:, None, None]
        return sums

    def up(self, name: str, values: Array) -> Array:
        kernel, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        _, height, width = values.shape
        sums: Array = np.empty((kernel.shape[1], 2 * height, 2 * width))
        for y, x in product(range(2), range(2)):
            sums[:, y::2, x::2] = np.einsum("chw,ck->khw", values, kernel[:, :, y, x])
        sums += bias[:, None, None]
        return sums


@pytest.mark.parametrize("depth", [1, 3])
def test_it_computes_what_numpy_computes(depth: int) -> None:
    network = made(depth=depth, width=3, classes=3)
    side = 2 * network.border + 4 + network.stride
    images = picture(side, side)
    normalised = (images[0].double().numpy() / 255 - 0.5) / 0.25
    expected = Reference(network)(normalised)
    np.testing.assert_allclose(valid(network, images)[0].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(116, 116), (117, 131), (108, 160)])
def test_forward_is_the_bare_network_on_the_mirrored_picture(height: int, width: int) -> None:
    network, images = made(width=2), picture(height, width)
    below, right = (4 - height) % 16, (4 - width) % 16
    around = mirrored(images, 92, 92 + right, 92, 92 + below)
    assert (around.shape[2] - 188) % 16 == (around.shape[3] - 188) % 16 == 0
    expected = valid(network, around)[:, :, :height, :width]
    torch.testing.assert_close(logits(network, images), expected, rtol=0, atol=1e-5)


def test_tiles_cut_from_the_mirrored_picture_cover_the_map_without_a_seam() -> None:
    """The paper's Fig. 2, for a picture whose sides are no multiples of 16."""
    network, height, width, tile = made(width=2), 139, 150, 64
    images = picture(height, width)
    around = mirrored(images, *(92, 92 + tile), *(92, 92 + tile))
    covered = torch.full((1, 2, height + tile, width + tile), torch.nan)
    for top, left in product(range(0, height, tile), range(0, width, tile)):
        # A tile of 64 pixels lies in the 68 that the next valid size gives.
        given = around[:, :, top : top + tile + 188, left : left + tile + 188]
        covered[:, :, top : top + tile, left : left + tile] = valid(network, given)[:, :, :tile, :tile]
    torch.testing.assert_close(
        covered[:, :, :height, :width], logits(network, images), rtol=0, atol=1e-5, equal_nan=False
    )


def tiles(side: int, tile: int, step: int) -> Iterator[tuple[int, int]]:
    """Where each tile begins and ends; the last one ends with the picture."""
    for start in range(0, side, step):
        yield start, min(start + tile, side)
        if start + tile >= side:
            return


@pytest.mark.parametrize(
    ("name", "height", "width"), [("unet", 131, 350), ("unet", 140, 341), ("unet_same", 97, 331)]
)
@pytest.mark.parametrize("tile", [256, 261])
def test_parts_of_a_picture_have_the_whole_s_values_where_their_context_is(
    name: str, height: int, width: int, tile: int
) -> None:
    network, images = made(name, width=2), picture(height, width)
    whole, seen = logits(network, images), torch.zeros(width, dtype=torch.bool)
    for start, end in tiles(width, tile, step=16):
        part = logits(network, images[:, :, :, start:end])
        first = 0 if start == 0 else context_of(network)
        last = end - start if end == width else end - start - context_of(network)
        inner = slice(start + first, start + last)
        torch.testing.assert_close(part[..., first:last], whole[..., inner], rtol=0, atol=1e-5)
        seen[inner] = True
    assert seen.all()


@pytest.mark.parametrize("name", ["unet", "unet_same"])
def test_tiles_as_prediction_cuts_them_have_the_values_of_one_pass_wherever_they_count(name: str) -> None:
    network, images = made(name, width=2), picture(261, 395)
    options = ViewOptions(tile=256, context=context_of(network))
    whole, counted = logits(network, images), 0
    for view in views(images[0].permute(1, 2, 0).numpy(), network.preprocess, options):
        high, wide = spans(261, options)[view.row], spans(395, options)[view.column]
        part = logits(network, torch.from_numpy(view.image.transpose(2, 0, 1).copy())[None])
        expected = whole[:, :, high.start : high.stop, wide.start : wide.stop]
        counts = torch.from_numpy((high.weight[:, None] > 0) & (wide.weight > 0))
        torch.testing.assert_close(part[..., counts], expected[..., counts], rtol=0, atol=1e-5)
        counted += 1
    assert counted == len(spans(261, options)) * len(spans(395, options)) > 2


@pytest.mark.parametrize("name", ["unet", "unet_same"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_output_pixel_hangs_on_one_farther_than_the_context(name: str, depth: int) -> None:
    network = made(name, width=2, depth=depth)
    side = 6 * network.stride + 2 * context_of(network)
    farthest = 0
    for column in range(side // 2, side // 2 + network.stride):
        images = picture(60, side).float()
        images[..., column] = torch.nan  # whatever hangs on it is no number either
        touched = logits(network, images)[0, 0, 30].isnan().nonzero().flatten()
        farthest = max(farthest, *(abs(int(place) - column) for place in (touched[0], touched[-1])))
    assert farthest == context_of(network) == 7 * 2**depth - 5


def test_the_context_of_the_paper_s_network_is_its_border_and_a_block() -> None:
    network = weightless()
    assert (network.border, network.context) == (92, 107)


def test_a_network_whose_blocks_are_larger_than_the_steps_of_tiles_states_no_context() -> None:
    assert weightless(depth=5, width=1).context == 219
    assert weightless(depth=6, width=1, preprocess={"size": [512, 512]}).context is None


@pytest.mark.parametrize("name", ["unet", "unet_same"])
def test_the_map_has_the_picture_s_size_whatever_it_is(name: str) -> None:
    network = weightless(name, width=2, preprocess=GRAY)
    for side in (108, 109, 115, 116, 117, 131, 512, 640):
        assert network.dense(empty(side, 333))["logits"].shape == (1, 2, side, 333)


def test_the_padded_network_takes_the_smallest_pictures() -> None:
    network = made("unet_same", width=2, size=16)
    assert logits(network, picture(1, 1)).shape == (1, 2, 1, 1)
    assert logits(network, picture(3, 17)).shape == (1, 2, 3, 17)


def test_a_picture_too_small_to_be_mirrored_is_refused() -> None:
    network = weightless()
    with pytest.raises(UsageError, match="at least 108 pixels a side, got 107x300"):
        network(empty(107, 300))
    with pytest.raises(UsageError, match=re.escape("preprocess.size")):
        models.create("unet", width=2, preprocess={**GRAY, "size": [128, 107]})


def test_the_grid_begins_at_the_same_place_for_every_size() -> None:
    network, images = made(width=2), picture(120, 360)
    widths = range(343, 361)
    maps = [logits(network, images[..., :width])[..., : 343 - context_of(network)] for width in widths]
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0], rtol=0, atol=1e-5)


def test_starting_weights_are_he_s() -> None:
    weights = made(width=32, depth=2).state_dict()
    fans = {"contracting.2.conv1": 9 * 64, "contracting.2.conv2": 9 * 128, "expansive.0.up": 128}
    for name, fan in fans.items():
        assert float(weights[f"{name}.weight"].std()) == pytest.approx((2 / fan) ** 0.5, rel=0.02), name


def test_only_the_end_of_the_contracting_path_drops() -> None:
    names = [name for name, module in weightless().named_modules() if isinstance(module, nn.Dropout)]
    assert names == ["contracting.3.dropout", "contracting.4.dropout"]
    assert not [module for module in weightless("unet_same").modules() if isinstance(module, nn.Dropout)]


def plain_data(config: unet.Config) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(config)
    return plain


@pytest.mark.parametrize("loss", ["cross_entropy", "dice", "focal"])
@pytest.mark.parametrize("config", [unet.TINY, unet.TINIES["same"]], ids=["valid", "same"])
def test_it_trains_in_half_precision(config: unet.Config, loss: str) -> None:
    network = models.create("unet", **{**plain_data(config), "loss": loss}).train()
    labels = torch.randint(0, 2, (2, 40, 40), dtype=torch.uint8)
    targets = MaskTargets(labels, torch.ones(2, 40, 40))
    with torch.autocast("cpu", torch.bfloat16):
        terms = network.loss(network(picture(40, 40).repeat(2, 1, 1, 1)), targets)
    terms[loss].backward()  # type: ignore[no-untyped-call]
    assert terms[loss].dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_borders_weigh_more_only_between_two_classes() -> None:
    two, many = (unet.recipe(unet.Config(classes=classes))["augment"] for classes in (2, 3))
    assert two["border_weight"] == 10.0
    assert "border_weight" not in many


class Dense(nn.Module):
    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.dense(images)["logits"]


@pytest.mark.parametrize("config", [unet.TINY, unet.TINIES["same"]], ids=["valid", "same"])
def test_it_exports_for_every_size_of_whole_blocks(config: unet.Config) -> None:
    network = unet.build(config).eval()
    blocks = (torch.export.Dim(name, min=6, max=100) for name in ("rows", "columns"))
    sizes = dict(zip((2, 3), (network.stride * count for count in blocks), strict=True))
    exported = torch.export.export(Dense(network), (picture(40, 48),), dynamic_shapes={"images": sizes})
    for images in (picture(24, 64), picture(100, 80)):
        torch.testing.assert_close(exported.module()(images), logits(network, images))
