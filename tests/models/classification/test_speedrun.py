"""The speedrun networks: their start, their sizes, and the mirror image in use."""

import msgspec
import pytest
import torch
from torch import Tensor, nn

from striate import models
from striate.errors import UsageError
from striate.models.classification import speedrun
from striate.models.classification.speedrun import TINY, Config, Speedrun
from striate.structures import Preprocess


def tiny(**changes: object) -> Speedrun:
    torch.manual_seed(0)
    return speedrun.build(msgspec.structs.replace(TINY, **changes)).eval()


def pictures(count: int = 3, size: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def test_in_use_the_answer_is_the_mean_over_the_picture_and_its_mirror_image() -> None:
    images, network, single = pictures(), tiny(), tiny(average_mirror=False)
    plain, mirrored = single(images).logits, single(images.flip(3)).logits
    assert not torch.allclose(plain, mirrored, atol=1e-3)
    torch.testing.assert_close(network(images).logits, (plain + mirrored) / 2)
    torch.testing.assert_close(network(images.flip(3)).logits, network(images).logits)


def test_in_training_a_picture_is_seen_as_it_is() -> None:
    network, single = tiny().train(), tiny(average_mirror=False).train()
    assert torch.equal(network(pictures()).logits, single(pictures()).logits)


def test_each_convolution_begins_by_handing_its_input_on() -> None:
    for module in tiny().stages.modules():
        if isinstance(module, nn.Conv2d):
            count = min(module.in_channels, module.out_channels)
            maps = torch.randn(1, module.in_channels, 5, 5)
            torch.testing.assert_close(module(maps)[:, :count], maps[:, :count])


def test_kernels_that_hand_nothing_on_are_drawn_at_random() -> None:
    network = speedrun.build(Config(widths=(200,), convolutions=(1,)))
    (convolution,) = (module for module in network.stages.modules() if isinstance(module, nn.Conv2d))
    drawn = convolution.weight[convolution.in_channels :].detach()
    fan_in = convolution.in_channels * 9
    assert drawn.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)


def test_start_from_whitens_the_patches_of_the_pictures_it_is_given() -> None:
    network, images = tiny(), pictures(50)
    before = network.whiten.weight.clone()
    speedrun.start_from(network, images)
    assert not torch.equal(network.whiten.weight, before)
    with torch.no_grad():
        values = network.whiten(network.normalize(images))[:, :12].transpose(0, 1).flatten(1)
    moments = values @ values.T / values.shape[1]
    torch.testing.assert_close(moments, moments.diag().diag(), atol=1e-4, rtol=0)


def test_whitening_is_a_constant_of_the_gradient() -> None:
    network = tiny().train()
    assert "whiten.weight" in network.state_dict()
    assert "whiten.weight" not in dict(network.named_parameters())


def test_parameters_are_counted_by_hand() -> None:
    # 54 whitened maps; three convolutions without bias, each with a norm of two values a map; 10 classes.
    expected = 9 * (54 * 32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128) + 10 * 128
    assert sum(weight.numel() for weight in models.create("speedrun_s").parameters()) == expected


@pytest.mark.parametrize(
    ("size", "patch", "strides"),
    [(28, 3, [2, 4, 8]), (32, 2, [2, 4, 8]), (16, 2, [2, 4, 4]), (16, 3, [2, 4, 8]), (8, 3, [2, 4, 4])],
)
def test_a_pool_that_would_leave_less_than_two_pixels_is_left_out(
    size: int, patch: int, strides: list[int]
) -> None:
    network = tiny(preprocess=Preprocess(size=(size, size), fit="stretch"), patch=patch)
    assert [feature.stride for feature in network.feature_info] == strides
    last = network.features(pictures(1, size))["stage3"]
    assert min(last.shape[2:]) >= 2


def test_widths_without_their_convolutions_are_refused() -> None:
    with pytest.raises(UsageError, match="2 widths and 3 numbers of convolutions"):
        Config(widths=(8, 16))
