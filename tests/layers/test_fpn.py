"""The feature pyramid: torchvision's numbers, and any sizes of maps."""

import torch
from torchvision.ops import FeaturePyramidNetwork

from striate.layers.fpn import FPN


def test_the_pyramid_gives_torchvision_s_maps_whatever_their_sizes() -> None:
    torch.manual_seed(0)
    own, theirs = FPN((3, 5, 7), 4), FeaturePyramidNetwork([3, 5, 7], 4)
    for name in ("inner", "layer"):
        for level in range(3):
            weights = getattr(own, name)[level].state_dict()
            getattr(theirs, f"{name}_blocks")[level][0].load_state_dict(weights)
    maps = [torch.randn(2, 3, 13, 21), torch.randn(2, 5, 7, 11), torch.randn(2, 7, 4, 6)]
    expected = theirs({str(level): values for level, values in enumerate(maps)})
    for found, wanted in zip(own(maps), expected.values(), strict=True):
        torch.testing.assert_close(found, wanted)


def test_each_level_hears_the_coarser_ones_alone() -> None:
    pyramid = FPN((2, 2, 2), 3)
    maps = [torch.randn(1, 2, 8 // stride, 8 // stride) for stride in (1, 2, 4)]
    before = pyramid(maps)
    maps[1] = maps[1] + 1
    changed = [not torch.equal(*pair) for pair in zip(before, pyramid(maps), strict=True)]
    assert changed == [True, True, False]
