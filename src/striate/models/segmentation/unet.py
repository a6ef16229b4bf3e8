"""U-Net: a path that contracts, one that expands, and at each level the maps of the first beside the second.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
arXiv:1505.04597, Fig. 1. `unet` is the paper's: its convolutions are not padded, so that each value of the
map it gives was computed from pixels alone, and the map is 92 pixels a side smaller. `unet_same` is the
later form, with padded convolutions and batch normalisation. Both in any depth and width.

    level   contracting path       expansive path      (the paper's tile; maps x pixels a side)
      0     572 -> 64 x 568        64 x 388 -> 2 x 388
      1     284 -> 128 x 280       128 x 196
      2     140 -> 256 x 136       256 x 100
      3      68 -> 512 x 64        512 x 52
      4      32 -> 1024 x 28

Where the paths meet, the maps of the contracting one lose 88, 40, 16 and 4 pixels on each side. A 2x2 pool
needs an even side at each level, which inputs of 188, 204, 220, ... have: 188 + 16k becomes 4 + 16k.

`forward` gives a map of the picture's size all the same: it mirrors 92 pixels at the left and the top (the
paper's Fig. 2), and at the right and the bottom as many more as the next valid size takes. The grid of the
pools starts at the same place whatever the size, so that a part of the picture that begins at a multiple of
16 gives the same values as the whole, but for pixels nearer than `context` to where it was cut.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from striate.layers.double_convolution import DoubleConvolution
from striate.layers.initialise import he_normal
from striate.layers.smallest_size import SmallestSize
from striate.models.network import PixelLogits, Segmenter, SegmenterConfig, class_names
from striate.models.segmentation._photos import recipe_for_photos
from striate.structures import Preprocess

__all__ = [
    "NATIVE_SIZE_UP_TO",
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "UNet",
    "build",
    "recipe",
]

NATIVE_SIZE_UP_TO = 512  # pictures all alike up to this side are used at their own size

# Tiles begin at multiples of it: larger blocks would not fall on the same pixels in each of them.
TILE_GRID = 32

MICROSCOPE = Preprocess(size=(512, 512), fit="letterbox", color="gray", mean=(0.5,), std=(0.25,))

Count = Annotated[int, Meta(ge=1)]


class Config(SegmenterConfig, frozen=True, kw_only=True):
    """Settings of a U-Net."""

    classes: tuple[str, ...] | int = 2
    preprocess: Preprocess = MICROSCOPE
    depth: Annotated[int, Meta(ge=1, le=8)] = 4  # pools, and so levels below the first
    width: Count = 64  # maps of the first level; each further one has twice as many
    padding: Literal["valid", "same"] = "valid"  # of the 3x3 convolutions
    norm: Literal["none", "batch"] = "none"  # behind each of them
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.5  # behind the two deepest levels of the contracting path

    @property
    def stride(self) -> int:
        """Input pixels per map pixel of the deepest level."""
        return 1 << self.depth

    @property
    def border(self) -> int:
        """Pixels that the map is smaller than the input, on each side.

        Two convolutions take 2 pixels of their level, on the way down and again on the way up.
        """
        return 6 * self.stride - 4 if self.padding == "valid" else 0

    @property
    def context(self) -> int:
        """The farthest pixel that an output pixel hangs on: 107 for a depth of 4.

        The border of an unpadded network, and where the pixel lies in its block of `stride` pixels a side.
        """
        return 7 * self.stride - 5

    @property
    def smallest_side(self) -> int:
        """Pixels a side from which on every picture is taken: a mirror shows no pixel twice."""
        return self.border + self.stride if self.padding == "valid" else 1


class Expansion(nn.Module):
    """A step up: 2x2 up-convolution to half the maps, the skip's middle beside them, two convolutions."""

    def __init__(self, config: Config, level: int) -> None:
        super().__init__()
        width = config.width << level
        steps = config.depth - level  # down from here to the bottom, and up again
        # What the levels below take from each side, in pixels of this one.
        self.crop = 6 * (1 << steps) - 8 if config.padding == "valid" else 0
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.convolutions = _convolutions(config, 2 * width, width)

    def forward(self, maps: Tensor, skip: Tensor) -> Tensor:
        if self.crop:
            skip = skip[:, :, self.crop : -self.crop, self.crop : -self.crop]
        merged: Tensor = self.convolutions(torch.cat((skip, self.up(maps)), 1))
        return merged


class UNet(Segmenter):
    """Contracting path -> expansive path -> 1x1 to the classes."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.stride, self.border = config.stride, config.border
        self.context = config.context if config.stride <= TILE_GRID else None
        self.smallest_size = SmallestSize(config.preprocess, config.smallest_side)
        self.contracting = nn.ModuleList(_contracting(config))
        self.pool = nn.MaxPool2d(2)
        self.expansive = nn.ModuleList(Expansion(config, level) for level in reversed(range(config.depth)))
        self.last = nn.Conv2d(config.width, len(self.classes), 1)

    def forward(self, images: Tensor) -> PixelLogits:  # type: ignore[override]
        values = self.normalize(self.smallest_size(images))
        height, width = values.shape[-2:]
        return PixelLogits(self.valid(self._extended(values))[:, :, :height, :width])

    def valid(self, values: Tensor) -> Tensor:
        """The bare network: logits (B, K, H - 2 border, W - 2 border) of normalised values (B, C, H, W).

        H and W are of the form 2 border + 4 + k stride (188 + 16k in the paper); k stride where convolutions
        are padded, which have no border.
        """
        skips: list[Tensor] = []
        maps = values
        for block in self.contracting:
            maps = block(self.pool(skips[-1]) if skips else maps)
            skips.append(maps)
        skips.pop()
        for step in self.expansive:
            maps = step(maps, skips.pop())
        logits: Tensor = self.last(maps)
        return logits

    def _extended(self, values: Tensor) -> Tensor:
        """`values` with what `valid` needs around them: the border and, behind it, a whole last block."""
        height, width = values.shape[-2:]
        # The map of an unpadded network has 4 pixels and whole blocks, that of a padded one blocks alone.
        rest = 4 if self.border else 0
        below, right = (rest - height) % self.stride, (rest - width) % self.stride
        margins = (self.border, self.border + right, self.border, self.border + below)
        return F.pad(values, margins, mode="reflect" if self.border else "replicate")


def _contracting(config: Config) -> Iterator[DoubleConvolution]:
    channels = config.preprocess.channels
    for level in range(config.depth + 1):
        width = config.width << level
        # "Drop-out layers at the end of the contracting path" (section 3.1): the paper does not say which.
        dropout = config.dropout if level >= config.depth - 1 else 0.0
        yield _convolutions(config, channels, width, dropout)
        channels = width


def _convolutions(config: Config, channels: int, width: int, dropout: float = 0.0) -> DoubleConvolution:
    return DoubleConvolution(
        channels, width, padded=config.padding == "same", norm=config.norm == "batch", dropout=dropout
    )


VARIANTS = {
    "unet": Config(),
    "unet_same": Config(
        preprocess=Preprocess(size=(512, 512), fit="letterbox"), padding="same", norm="batch", dropout=0.0
    ),
}

TINY = Config(
    preprocess=Preprocess(size=(40, 40), fit="letterbox", color="gray", mean=(0.5,), std=(0.25,)),
    depth=2,
    width=16,
    dropout=0.1,
)

TINIES = {"same": msgspec.structs.replace(TINY, padding="same", norm="batch", dropout=0.0)}


def build(config: Config) -> UNet:
    """A U-Net with He's starting weights (section 3) and biases of 0."""
    network = UNet(config)
    he_normal(network.modules())
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            # Its 2x2 windows do not overlap: each pixel is a sum over the maps alone.
            nn.init.normal_(module.weight, 0.0, (2 / module.in_channels) ** 0.5)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # it has one
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings.

    Without normalisation the paper's (section 3): one large picture a step with a momentum of .99, random
    rotation and elastic deformation, and for two classes the weight of the borders between cells. With it
    AdamW, and augmentation for photos.
    """
    if config.norm == "batch":
        return recipe_for_photos()
    augment: dict[str, object] = {"flip": 0.5, "rotate": 180.0, "elastic": 10.0, "jitter": 0.1}
    if len(class_names(config.classes)) == 2:
        augment["border_weight"] = 10.0
    return {
        "training": {
            "optimiser": "sgd",
            "learning_rate": 1e-2,
            "momentum": 0.99,
            "nesterov": False,
            "weight_decay": 5e-4,
            "schedule": "cosine",
            "warmup_epochs": 2.0,
            "batch_size": 1,
            "epochs": 100,
            "clip_norm": 1.0,
        },
        "augment": augment,
    }
