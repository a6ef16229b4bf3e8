"""SSDLite: SSD for small machines, a MobileNet under heads of depthwise separable convolutions.

Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
arXiv:1801.04381, section 6.2 (`ssdlite320_mobilenet_v2`); Howard et al., "Searching for MobileNetV3", ICCV
2019, arXiv:1905.02244, section 6.3 (`..._mobilenet_v3`, torchvision's `ssdlite320_mobilenet_v3_large`: the
stage of stride 32 has half of its maps). On 320x320, with a MobileNet v2:

    images -> the wide maps inside the first block of stride 32 (576, 20, 20) -> the last maps (1280, 10, 10)
    -> extras, each half as large: (512, 5, 5), (256, 3, 3), (256, 2, 2), (128, 1, 1)

Each of these has six default boxes a cell, 3,234 in all.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from torch import Tensor, nn

from striate.errors import UsageError
from striate.layers.convolution_norm import ConvolutionNorm, Norm
from striate.layers.depthwise import Depthwise
from striate.layers.depthwise_separable import DepthwiseSeparable
from striate.layers.fixed_size import FixedSize
from striate.layers.inverted_residual import InvertedResidual
from striate.layers.relu6 import ReLU6
from striate.layers.stack import Stack
from striate.models.backbone import backbone, with_prefix
from striate.models.classification import mobilenet_v3
from striate.models.detection._multibox import (
    MultiBox,
    MultiBoxConfig,
    MultiBoxDetector,
    MultiBoxHead,
)
from striate.models.network import Classifier
from striate.models.recipes import recipe_with_adamw
from striate.models.renaming import renamed
from striate.structures import Preprocess

__all__ = [
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "SSDLite",
    "backbone_of",
    "build",
    "from_backbone",
    "from_torchvision",
    "recipe",
]

_MAPS = 6
_STRIDE = 32  # of the backbone's last maps


class Config(MultiBoxConfig, frozen=True, kw_only=True):
    """Settings of an SSDLite."""

    preprocess: Preprocess = Preprocess(size=(320, 320), fit="stretch")
    backbone: Literal[
        "mobilenet_v2",
        "mobilenet_v2_0.75",
        "mobilenet_v2_0.5",
        "mobilenet_v2_0.35",
        "mobilenet_v3_large",
        "mobilenet_v3_large_0.75",
        "mobilenet_v3_small",
        "mobilenet_v3_small_0.75",
    ] = "mobilenet_v2"
    # A MobileNet v3's last stage with half of its maps (its Table 6); weights of the whole do not fit then.
    reduced_tail: bool = False
    norm_momentum: Annotated[float, Meta(gt=0, le=1)] = 0.1  # of the extras, the heads and a MobileNet v3
    extras: tuple[Annotated[int, Meta(ge=2)], ...] = (512, 256, 256, 128)  # maps of each, finest first
    # SSD's rule for PASCAL VOC: a tenth, then evenly from 0.2 to 0.9; the papers give none.
    scales: tuple[Annotated[float, Meta(gt=0)], ...] = (0.1, 0.2, 0.375, 0.55, 0.725, 0.9, 1.05)
    ratios: tuple[tuple[Annotated[float, Meta(gt=0)], ...], ...] = ((2, 3),) * _MAPS
    steps: tuple[Annotated[float, Meta(ge=0)], ...] = (0,) * _MAPS
    clip_sides: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduced_tail and not self.is_v3:
            raise UsageError(
                "network.reduced_tail",
                f"{self.backbone} has no such form",
                "use a MobileNet v3, or leave it out",
            )

    @property
    def is_v3(self) -> bool:
        """Whether the backbone is a MobileNet v3."""
        return self.backbone.startswith("mobilenet_v3")

    @property
    def norm(self) -> Norm:
        """Batch normalisation of the extras and heads."""
        return Norm(eps=1e-3, momentum=self.norm_momentum)


class SSDLite(MultiBoxDetector):
    """MobileNet -> further maps -> default boxes on six of them."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.fixed_size = FixedSize(config.preprocess)
        self.backbone = _encoder(config)
        self.split = next(info.name for info in self.backbone.feature_info if info.stride == _STRIDE)
        last = self.backbone.feature_info[-1].channels
        self.extras = nn.ModuleList(
            _extra(channels, maps, config.norm) for channels, maps in pairwise((last, *config.extras))
        )
        maps = (_widest(self.backbone, self.split), last, *config.extras)
        self.head = MultiBoxHead(config, len(self.classes), maps, partial(_prediction, norm=config.norm))

    def forward(self, images: Tensor) -> MultiBox:  # type: ignore[override]
        maps = list(self._maps(self.normalize(self.fixed_size(images))))
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return self.multi_box(maps)

    def _maps(self, values: Tensor) -> Iterator[Tensor]:
        """The wide maps inside the first block of stride 32, and the last maps."""
        for name, layer in self.backbone.get_submodule("trunk").named_children():
            if name == self.split:
                first, *others = layer.children()
                assert isinstance(first, InvertedResidual)
                wide = first.widened(values)
                yield wide
                values = first.narrowed(wide)
                for block in others:
                    values = block(values)
            else:
                values = layer(values)
        yield values


def _encoder(config: Config) -> Classifier:
    """The backbone with its last convolution, without its average and classifier."""
    settings: dict[str, Any] = {}
    if config.is_v3:
        settings["norm_momentum"] = config.norm_momentum
    if config.reduced_tail:
        settings["blocks"] = _reduced(mobilenet_v3.VARIANTS[config.backbone].blocks)
    return backbone(config.backbone, "head", config.preprocess, **settings)


def _reduced(blocks: tuple[mobilenet_v3.Row, ...]) -> tuple[mobilenet_v3.Row, ...]:
    """The table with half of the maps from its last stride on."""
    start = max(number for number, row in enumerate(blocks) if row[5] == 2)
    changed = []
    for number, (kernel, inside, maps, *rest) in enumerate(blocks[start:]):
        # The first block's inner maps are the last of stride 16.
        changed.append((kernel, inside if number == 0 else inside // 2, maps // 2, *rest))
    return (*blocks[:start], *changed)  # type: ignore[arg-type]


def _widest(encoder: Classifier, split: str) -> int:
    """Maps inside the first block of the stage `split`."""
    block = encoder.get_submodule(f"trunk.{split}.0.depthwise.conv")
    assert isinstance(block, nn.Conv2d)
    return block.in_channels


def _extra(channels: int, maps: int, norm: Norm) -> Stack:
    """Maps half as large: 1x1 to half of them, 3x3 one filter a map with stride 2, 1x1 to all."""
    squeeze = nn.Conv2d(channels, maps // 2, 1, bias=False)
    return Stack(
        {
            "squeeze": ConvolutionNorm(squeeze, ReLU6(), norm),
            "separable": DepthwiseSeparable(maps // 2, maps, ReLU6, stride=2, norm=norm),
        }
    )


def _prediction(channels: int, outputs: int, norm: Norm) -> Stack:
    """A head's convolution in two steps: one filter a map, then 1x1."""
    return Stack(
        {
            "depthwise": ConvolutionNorm(Depthwise(channels, 3), ReLU6(), norm),
            "conv": nn.Conv2d(channels, outputs, 1),
        }
    )


VARIANTS = {
    "ssdlite320_mobilenet_v2": Config(),
    "ssdlite320_mobilenet_v3": Config(
        classes=90,
        preprocess=Preprocess(
            size=(320, 320), fit="stretch", antialias=False, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        ),
        backbone="mobilenet_v3_large",
        reduced_tail=True,
        norm_momentum=0.03,
        scales=(0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0),
        per_class=300,
        score_threshold=0.001,
        nms_threshold=0.55,
        detections=300,
    ),
}

TINY = Config(
    classes=3,
    preprocess=Preprocess(size=(64, 64), fit="stretch"),
    backbone="mobilenet_v2_0.35",
    extras=(32,),
    scales=(0.15, 0.25, 0.3, 0.35),
    ratios=((2, 3), (2,), (2,)),
    steps=(0, 0, 0),
)

TINIES = {
    "v3": msgspec.structs.replace(
        TINY, backbone="mobilenet_v3_small_0.75", reduced_tail=True, steps=(16, 32, 0)
    )
}


def build(config: Config) -> SSDLite:
    """An SSDLite with the backbone's own starting weights and N(0, 0.03) behind it, biases of 0."""
    network = SSDLite(config)
    for module in (network.extras, network.head):
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.03)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
    return network


def backbone_of(config: Config) -> str | None:
    """The classification network whose weights the encoder can take; None where half of its maps are gone."""
    return None if config.reduced_tail else config.backbone


def from_backbone(state_dict: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights of a whole MobileNet under the names that the encoder has here."""
    del config
    kept = {name: tensor for name, tensor in state_dict.items() if not name.startswith("classifier.")}
    return with_prefix(kept, "backbone.")


def from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's `ssdlite320_mobilenet_v3_large` under the names used here."""
    trunk = _torchvision_trunk(state_dict)
    rest = {name: tensor for name, tensor in state_dict.items() if _IN_TRUNK.match(name) is None}
    return with_prefix(mobilenet_v3.from_torchvision(trunk), "backbone.") | renamed(
        rest, _torchvision_modules()
    )


_IN_TRUNK = re.compile(r"backbone\.features\.(0|1)\.(\d+)\.(.*)")


def _torchvision_trunk(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the MobileNet under torchvision's own names.

    There it is in two parts, cut inside a block: the first ends with its 1x1 to many maps.
    """
    found = {name: match for name in state_dict if (match := _IN_TRUNK.match(name))}
    cut = max((int(match[2]) for match in found.values() if match[1] == "0"), default=0)
    trunk = {}
    for name, match in found.items():
        number, below = int(match[2]), match[3]
        if match[1] == "0":
            inside = "block.0." if number == cut else ""
        else:
            inside = "block." if number == 0 else ""
            number += cut
        trunk[f"features.{number}.{inside}{below}"] = state_dict[name]
    return trunk


def _torchvision_modules() -> Iterator[tuple[str, str]]:
    """Name there and here of every module with weights behind the MobileNet."""
    for number in range(_MAPS - 2):
        parts = ("squeeze", "separable.depthwise", "separable.pointwise")
        for place, part in enumerate(parts):
            yield from _torchvision_pair(f"backbone.extra.{number}.{place}", f"extras.{number}.{part}")
    for there, here in (("classification", "conf"), ("regression", "loc")):
        for number in range(_MAPS):
            head = f"head.{there}_head.module_list.{number}"
            yield from _torchvision_pair(f"{head}.0", f"head.{here}.{number}.depthwise")
            yield (f"{head}.1", f"head.{here}.{number}.conv")


def _torchvision_pair(there: str, here: str) -> Iterable[tuple[str, str]]:
    return ((f"{there}.0", f"{here}.conv"), (f"{there}.1", f"{here}.norm"))


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings: SSD's augmentation, zooming out less, with a cosine.

    The papers' start from ImageNet's weights and RMSProp on many machines are not needed for small sets: with
    batch norm in every layer AdamW trains from drawn weights.
    """
    del config
    augment: dict[str, object] = {"flip": 0.5, "distort": 0.5, "expand": 2.0, "crop": True}
    return recipe_with_adamw(augment, clip_norm=5.0)
