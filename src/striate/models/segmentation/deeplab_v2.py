"""DeepLab v2: the same map seen with four fields of view at once, the scores summed.

Chen, Papandreou, Kokkinos, Murphy, Yuille, "DeepLab: Semantic Image Segmentation with Deep Convolutional
Nets, Atrous Convolution, and Fully Connected CRFs", PAMI 2018, arXiv:1606.00915: the form ASPP-L (section
3.2, Fig. 7). `deeplab_v2_vgg16` has four of v1's heads, of rates 6, 12, 18 and 24; `deeplab_v2_resnet101`
four 3x3 convolutions that score at once, over the paper's ResNet (v1) with an output stride of 8. The
paper's CRF is a step behind the network; its fusion of three scales is not here.

    321x321 ──VGG or ResNet, output stride 8──> 41x41 ─┬─ rate 6 ──┬─ sum ──> classes x 41x41 ──x8──> 321x321
                                                       ├─ rate 12 ─┤
                                                       ├─ rate 18 ─┤
                                                       └─ rate 24 ─┘

The authors compare the 41x41 scores with every 8th label, and enlarge them to predict; here training sees
what prediction gives, the scores at the picture's size.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn

from striate.errors import UsageError
from striate.layers.stack import Stack
from striate.models.backbone import backbone, with_prefix
from striate.models.classification import vgg
from striate.models.network import Classifier, PixelLogits, Segmenter, SegmenterConfig, class_names
from striate.models.segmentation._photos import recipe_for_photos
from striate.models.segmentation._upsampling import upsampled
from striate.models.segmentation._vgg import dense_vgg, draw_fully_connected, fully_connected, recipe_for_vgg
from striate.models.vgg_backbone import name_of, subsampled, with_kernels
from striate.structures import Preprocess

__all__ = [
    "NATIVE_SIZE_UP_TO",
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "DeepLabV2",
    "backbone_of",
    "build",
    "from_backbone",
    "recipe",
]

NATIVE_SIZE_UP_TO = 512

Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[int, Meta(ge=2, multiple_of=2)]


class Config(SegmenterConfig, frozen=True, kw_only=True):
    """Settings of DeepLab v2."""

    preprocess: Preprocess = Preprocess(size=(321, 321), fit="letterbox")
    backbone: Literal["vgg16", "resnet50_v1", "resnet101_v1"] = "resnet101_v1"
    # Convolutions of each of VGG's five blocks, or blocks of each of a ResNet's four stages; None: its own.
    depths: tuple[Count, ...] | None = None
    width: Count = 64  # maps of the backbone's first layer
    output_stride: Literal[8, 16] = 8
    # Of the branches: the taps of their kernels are so many times 8 pixels apart.
    rates: Annotated[tuple[Rate, ...], Meta(min_length=1)] = (6, 12, 18, 24)
    hidden: Count | None = None  # maps of fc6 and fc7 in each branch; None: one convolution scores at once
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0  # behind fc6 and fc7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dropout and self.hidden is None:
            raise UsageError(
                "network.dropout",
                f"{self.dropout} has no meaning where the branches have no fc6 and fc7",
                "set it to 0, or set network.hidden",
            )


class SummedBranches(nn.Module):
    """The sum of what all branches, `c0`, `c1`, ..., say of the same maps: atrous spatial pyramid pooling."""

    def __init__(self, branches: Iterable[nn.Module]) -> None:
        super().__init__()
        for number, branch in enumerate(branches):
            self.add_module(f"c{number}", branch)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.stack([branch(maps) for branch in self.children()]).sum(0)


class DeepLabV2(Segmenter):
    """A backbone with an output stride of 8 -> summed branches -> bilinear enlargement."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.stride = config.output_stride
        self.backbone = _encoder(config)
        last = self.backbone.feature_info[-1]
        self.last = last.name
        self.aspp = SummedBranches(
            _branch(config, last.channels, rate * 8 // config.output_stride) for rate in config.rates
        )

    def forward(self, images: Tensor) -> PixelLogits:  # type: ignore[override]
        maps = self.backbone.features(self.normalize(images))[self.last]  # (B, 512 or 2048, H / 8, W / 8)
        scores = self.aspp(maps)  # (B, K, H / 8, W / 8)
        return PixelLogits(upsampled(scores, self.stride, (images.shape[-2], images.shape[-1])))


def _encoder(config: Config) -> Classifier:
    if config.backbone == "vgg16":
        return dense_vgg(config.preprocess, config.depths or vgg.D, config.width, config.output_stride)
    own = {} if config.depths is None else {"depths": config.depths}
    return backbone(
        config.backbone,
        "layer4",
        config.preprocess,
        width=config.width,
        output_stride=config.output_stride,
        **own,
    )


def _branch(config: Config, channels: int, rate: int) -> nn.Module:
    classes = len(class_names(config.classes))
    if config.hidden is None:
        return nn.Conv2d(channels, classes, 3, padding=rate, dilation=rate)
    return fully_connected(channels, config.hidden, classes, rate, config.dropout)


VARIANTS = {
    "deeplab_v2_vgg16": Config(backbone="vgg16", hidden=1024, dropout=0.5),
    "deeplab_v2_resnet101": Config(backbone="resnet101_v1"),
}

TINY = Config(
    classes=5,
    preprocess=Preprocess(size=(41, 56), fit="letterbox"),
    backbone="vgg16",
    depths=(1, 1, 2, 1, 1),
    width=4,
    rates=(2, 4),
    hidden=32,
    dropout=0.5,
)

TINIES = {
    "resnet": Config(
        classes=5,
        preprocess=Preprocess(size=(41, 56), fit="letterbox"),
        depths=(1, 1, 1, 1),
        width=4,
        output_stride=16,
        rates=(2, 4),
    )
}


def build(config: Config) -> DeepLabV2:
    """DeepLab v2 with He's starting weights, and small ones in the layers that score."""
    network = DeepLabV2(config)
    for branch in network.aspp.children():
        if isinstance(branch, Stack):
            draw_fully_connected(branch)
        elif isinstance(branch, nn.Conv2d):
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.zeros_(branch.bias)  # type: ignore[arg-type]
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for small sets.

    The authors fine-tune ImageNet's weights by SGD, with ten times the rate in the last layer, and leave
    batch norm as it was.
    """
    return recipe_for_vgg() if config.backbone == "vgg16" else recipe_for_photos()


def backbone_of(config: Config) -> str | None:
    """The classification network whose weights the encoder can take, by its public name; None without one."""
    return name_of(config.depths or vgg.D) if config.backbone == "vgg16" else config.backbone


def from_backbone(state_dict: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights of a VGG or ResNet under the names used here; all but the layers that score.

    Every branch of VGG starts from the same fc6 and fc7, thinned out.
    """
    if config.backbone != "vgg16":
        kept = {name: tensor for name, tensor in state_dict.items() if not name.startswith("fc.")}
        return with_prefix(kept, "backbone.")
    trunk, layers = with_kernels(state_dict)
    if config.hidden is None:
        return trunk
    thin = subsampled(layers, config.hidden)
    branches = (with_prefix(thin, f"aspp.c{number}.") for number in range(len(config.rates)))
    return trunk | {name: tensor for branch in branches for name, tensor in branch.items()}
