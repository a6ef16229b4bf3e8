"""SSD: objects found in one pass, on maps of several sizes.

Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg, "SSD: Single Shot MultiBox Detector", ECCV 2016,
arXiv:1512.02325. `ssd300` and `ssd512` are the paper's with the published code's default boxes for PASCAL
VOC, 8,732 and 24,564 of them; `..._coco` have its smaller ones for COCO. `ssd300_torchvision` is that
library's: COCO's boxes, none longer than the picture, and pixels of 0..255 less their mean. On 300x300:

    images -> VGG-16's conv4_3 (512, 38, 38) -> pool5 of stride 1 (512, 19, 19)
    -> conv6 (1024, 19, 19), 3x3 with its taps 6 apart -> conv7 (1024, 19, 19), 1x1
    -> conv8_2 (512, 10, 10) -> conv9_2 (256, 5, 5) -> conv10_2 (256, 3, 3) -> conv11_2 (256, 1, 1)

Each map that is named, conv4_3 brought to a length that is learnt, conv6 left out, has its default boxes and
a pair of 3x3 convolutions that say where an object lies by each of them and which it is.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import msgspec
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from striate.layers.fixed_size import FixedSize
from striate.layers.smallest_size import smallest_side
from striate.layers.stack import Stack
from striate.models.backbone import with_prefix
from striate.models.classification import vgg
from striate.models.detection._multibox import (
    Count,
    MultiBox,
    MultiBoxConfig,
    MultiBoxDetector,
    MultiBoxHead,
)
from striate.models.recipes import recipe_with_adamw
from striate.models.renaming import renamed
from striate.models.vgg_backbone import VGG_DEPTHS, name_of, subsampled, vgg_backbone, with_kernels
from striate.structures import Preprocess

__all__ = [
    "SSD",
    "TINY",
    "VARIANTS",
    "Config",
    "backbone_of",
    "build",
    "from_backbone",
    "from_torchvision",
    "recipe",
]

# Of the 1x1 and the k x k convolution behind it: maps, maps, k, stride, padding.
Extra = tuple[Count, Count, Count, Literal[1, 2], Annotated[int, Meta(ge=0)]]

_STRIDED: Extra = (128, 256, 3, 2, 1)
_VALID: Extra = (128, 256, 3, 1, 0)
_START = 20.0  # of L2Norm's scales (Liu et al. 2015, arXiv:1506.04579)


class Config(MultiBoxConfig, frozen=True, kw_only=True):
    """Settings of an SSD."""

    preprocess: Preprocess = Preprocess(size=(300, 300), fit="stretch")
    depths: VGG_DEPTHS = (2, 2, 3, 3, 3)  # convolutions of VGG's blocks: VGG-16
    width: Count = 64  # maps of VGG's first block
    hidden: Count = 1024  # maps of conv6 and conv7
    extras: tuple[Extra, ...] = ((256, 512, 3, 2, 1), _STRIDED, _VALID, _VALID)  # conv8 and on
    scales: tuple[Annotated[float, Meta(gt=0)], ...] = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05)
    ratios: tuple[tuple[Annotated[float, Meta(gt=0)], ...], ...] = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
    steps: tuple[Annotated[float, Meta(ge=0)], ...] = (8, 16, 32, 64, 0, 0)


class L2Norm(nn.Module):
    """Maps (B, C, H, W) whose values at each pixel have the length 1, times a scale a map that is learnt.

    Liu, Rabinovich, Berg, "ParseNet", 2015, arXiv:1506.04579, section 3.3: conv4_3's values are far larger
    than those of later maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), _START))

    def forward(self, maps: Tensor) -> Tensor:
        return F.normalize(maps.float(), dim=1) * self.scale[:, None, None]


class SSD(MultiBoxDetector):
    """VGG -> further maps, each half as large -> default boxes on six or seven of them."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.first, self.last = f"conv4_{config.depths[3]}", "pool5"
        self.backbone = vgg_backbone(
            config.preprocess,
            (self.first, self.last),
            depths=config.depths,
            width=config.width,
            pool_ceil=True,
            output_stride=16,
        )
        first, last = (feature.channels for feature in self.backbone.feature_info)
        self.norm = L2Norm(first)
        self.fc = _fc(last, config.hidden)
        self.extras = _extras(config)
        layers = [*self.backbone.get_submodule("trunk"), *self.fc, *self.extras]  # type: ignore[misc]
        self.fixed_size = FixedSize(config.preprocess, smallest_side(layers))
        maps = (first, config.hidden, *(extra[1] for extra in config.extras))
        self.head = MultiBoxHead(config, len(self.classes), maps, _convolution)

    def forward(self, images: Tensor) -> MultiBox:  # type: ignore[override]
        found = self.backbone.features(self.normalize(self.fixed_size(images)))
        conv7 = self.fc(found[self.last])
        further = self.extras.maps(conv7, {f"relu{name}": name for name in _extra_names(self.config)})
        return self.multi_box((self.norm(found[self.first]), conv7, *further.values()))


def _fc(channels: int, hidden: int) -> Stack:
    """VGG's fc6 and fc7 as convolutions: of 7x7 taps 3x3 are left, so far apart that they see as much."""
    return Stack(
        {
            "conv6": nn.Conv2d(channels, hidden, 3, padding=6, dilation=6),
            "relu6": nn.ReLU(inplace=True),
            "conv7": nn.Conv2d(hidden, hidden, 1),
            "relu7": nn.ReLU(inplace=True),
        }
    )


def _extras(config: Config) -> Stack:
    layers: dict[str, nn.Module] = {}
    channels = config.hidden
    for number, (squeezed, maps, kernel, stride, padding) in enumerate(config.extras, 8):
        layers[f"conv{number}_1"] = nn.Conv2d(channels, squeezed, 1)
        layers[f"relu{number}_1"] = nn.ReLU(inplace=True)
        layers[f"conv{number}_2"] = nn.Conv2d(squeezed, maps, kernel, stride, padding)
        layers[f"relu{number}_2"] = nn.ReLU(inplace=True)
        channels = maps
    return Stack(layers)


def _extra_names(config: Config) -> list[str]:
    return [f"{number}_2" for number in range(8, 8 + len(config.extras))]


def _convolution(channels: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, 3, padding=1)


_PAPER_512 = Config(
    preprocess=Preprocess(size=(512, 512), fit="stretch"),
    extras=((256, 512, 3, 2, 1), _STRIDED, _STRIDED, _STRIDED, (128, 256, 4, 1, 1)),
    scales=(0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05),
    ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    steps=(8, 16, 32, 64, 128, 256, 0),
)

_COCO_300 = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
_COCO_512 = (0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06)

VARIANTS = {
    "ssd300": Config(),
    "ssd512": _PAPER_512,
    "ssd300_coco": Config(classes=80, scales=_COCO_300),
    "ssd512_coco": msgspec.structs.replace(_PAPER_512, classes=80, scales=_COCO_512),
    "ssd300_torchvision": Config(
        classes=90,
        preprocess=Preprocess(
            size=(300, 300),
            fit="stretch",
            antialias=False,
            mean=(0.48235, 0.45882, 0.40784),
            std=(1 / 255, 1 / 255, 1 / 255),
        ),
        scales=_COCO_300,
        clip_sides=True,
    ),
}

TINY = Config(
    classes=3,
    preprocess=Preprocess(size=(64, 64), fit="stretch"),
    depths=(1, 1, 1, 1, 1),
    width=8,
    hidden=48,
    extras=((16, 32, 3, 2, 1), (16, 24, 2, 1, 0)),
    scales=(0.1, 0.15, 0.22, 0.3, 0.4),
    ratios=((2,), (2, 3), (2,), (2,)),
    steps=(8, 16, 32, 0),
    clip_sides=True,
)


def build(config: Config) -> SSD:
    """An SSD with VGG's starting weights; behind it those of Glorot and Bengio, biases of 0.

    Section 2.2 of the paper names that rule for all that ImageNet's weights do not begin.
    """
    network = SSD(config)
    for module in (network.fc, network.extras, network.head):
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return network


def backbone_of(config: Config) -> str | None:
    """The classification network whose weights the encoder can take, by its public name; None without one."""
    return name_of(config.depths)


def from_backbone(state_dict: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights of a VGG under the names used here, its fc6 and fc7 thinned out; all but the last layer.

    The paper begins so, with ImageNet's (section 3).
    """
    trunk, layers = with_kernels(state_dict)
    thinned = renamed(subsampled(layers, config.hidden), (("fc6", "conv6"), ("fc7", "conv7")))
    return trunk | with_prefix(thinned, "fc.")


def from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's `ssd300_vgg16` under the names used here."""
    trunk = _torchvision_trunk(state_dict)
    rest = {name: tensor for name, tensor in state_dict.items() if _IN_TRUNK.fullmatch(name) is None}
    found = renamed(rest, _torchvision_modules())
    if "backbone.scale_weight" in found:
        found["norm.scale"] = found.pop("backbone.scale_weight")
    return with_prefix(vgg.from_torchvision(trunk), "backbone.") | found


_IN_TRUNK = re.compile(r"backbone\.(features|extra\.0)\.(\d+)\.(weight|bias)")


def _torchvision_trunk(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of VGG's convolutions under torchvision's own names: there they are in two parts."""
    found = {name: match for name in state_dict if (match := _IN_TRUNK.fullmatch(name))}
    first = [int(match[2]) for match in found.values() if match[1] == "features"]
    # Behind the first part's last convolution come its ReLU and, as layer 0 of the second part, pool4.
    begin = {"features": 0, "extra.0": max(first, default=0) + 2}
    return {
        f"features.{begin[match[1]] + int(match[2])}.{match[3]}": state_dict[name]
        for name, match in found.items()
    }


def _torchvision_modules() -> Iterator[tuple[str, str]]:
    """Name there and here of every module behind VGG."""
    yield from (("backbone.extra.0.7.1", "fc.conv6"), ("backbone.extra.0.7.3", "fc.conv7"))
    for number in range(1, 5):
        for place, part in ((0, 1), (2, 2)):
            yield (f"backbone.extra.{number}.{place}", f"extras.conv{number + 7}_{part}")
    for number in range(6):
        yield (f"head.classification_head.module_list.{number}", f"head.conf.{number}")
        yield (f"head.regression_head.module_list.{number}", f"head.loc.{number}")


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings: the paper's augmentation (section 2.2), with a cosine.

    Its SGD with a rate cut by hand after 80,000 steps begins with ImageNet's weights; AdamW and a limit on
    the gradient train from drawn ones too.
    """
    del config
    augment: dict[str, object] = {"flip": 0.5, "distort": 0.5, "expand": 4.0, "crop": True}
    return recipe_with_adamw(augment, learning_rate=2e-4, clip_norm=5.0)
