"""FCN: a classifier without its last layer, slid over the picture, and skips from finer maps.

Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
arXiv:1411.4038, and with the same authors in PAMI 2017, arXiv:1605.06211. VGG16's fc6 and fc7 become
convolutions (7x7 and 1x1), a 1x1 scores the classes, and transposed convolutions that start as bilinear
interpolation bring the scores back to pixels. `fcn16s` and `fcn8s` add the scores of pool4 and of pool3.

    500x500 ──pad 100, VGG──> pool3 88  pool4 44  pool5 22 ──fc6──> 16 ──fc7, score──> 16
    fcn32s   16 ──x32──> 544, crop at 19
    fcn16s   16 ──x2──> 34 + pool4[5:39] ──x16──> 560, crop at 27
    fcn8s    34 ──x2──> 70 + pool3[9:79] ──x8──> 568, crop at 31

The 100 pixels around the picture leave fc6, which has no padding, something to stand on at the edges;
where each map begins follows from the paddings and strides (`crops`).
"""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from striate.errors import UsageError
from striate.layers.bilinear_upsampling import BilinearUpsampling
from striate.layers.initialise import he_normal
from striate.layers.smallest_size import SmallestSize, smallest_side
from striate.models.classification import vgg
from striate.models.network import PixelLogits, Segmenter, SegmenterConfig
from striate.models.segmentation._vgg import recipe_for_vgg
from striate.models.stage import Stage
from striate.models.vgg_backbone import VGG_DEPTHS, name_of, vgg_backbone, with_kernels
from striate.structures import Preprocess

__all__ = [
    "FCN",
    "NATIVE_SIZE_UP_TO",
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "backbone_of",
    "build",
    "crops",
    "from_backbone",
    "recipe",
]

NATIVE_SIZE_UP_TO = 512

SKIPS: dict[int, tuple[str, ...]] = {32: (), 16: ("pool4",), 8: ("pool4", "pool3")}


class Config(SegmenterConfig, frozen=True, kw_only=True):
    """Settings of an FCN over VGG."""

    preprocess: Preprocess = Preprocess(size=(500, 500), fit="letterbox")
    stride: Literal[8, 16, 32] = 8  # pixels between the finest scores, before the last upsampling
    # pool4 and pool3 are multiplied by these before they are scored. The authors train all three at once from
    # Caffe's VGG, whose values are large, with (0.01, 0.0001).
    scales: tuple[float, float] = (1.0, 1.0)
    depths: VGG_DEPTHS = vgg.D  # convolutions of each block
    width: vgg.Count = 64  # maps of the first block
    first_padding: Annotated[int, Meta(ge=0)] = 100  # of conv1_1
    # Pixels a side that fc6 sees; with fewer than 4, pool3 would end before the scores that it is added to.
    kernel: Annotated[int, Meta(ge=4)] = 7
    hidden: vgg.Count = 4096  # maps of fc6 and of fc7
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.5  # behind fc6 and fc7
    in_stages: bool = False  # as the CVPR version: the coarse scores first, then pool4's, then pool3's

    def __post_init__(self) -> None:
        super().__post_init__()
        unread = self.scales[len(SKIPS[self.stride]) :]
        if any(scale != 1 for scale in unread):
            raise UsageError(
                "network.scales",
                f"{self.scales} has no meaning with a stride of {self.stride}",
                "leave at 1 what stands for a pool that is not scored: (pool4, pool3)",
            )
        if (begin := crops(self)["images"]) < 0:
            raise UsageError(
                "network.first_padding",
                f"{self.first_padding} leaves no score for the outermost {-begin} pixels",
                f"give at least {self.first_padding - begin} for a kernel of {self.kernel}",
            )


class Grid(NamedTuple):
    """Where the values of a map lie along each axis: value j on pixel `start + j * step` of the picture."""

    step: float = 1
    start: float = 0

    def through(self, kernel: int, stride: int = 1, padding: int = 0) -> "Grid":
        """The grid behind a window, each value in the middle of what it sees."""
        return Grid(self.step * stride, self.start + self.step * ((kernel - 1) / 2 - padding))

    def upsampled(self, factor: int) -> "Grid":
        """The grid behind a `BilinearUpsampling`."""
        step = self.step / factor
        return Grid(step, self.start - step * (factor - 0.5))

    def first_in(self, finer: "Grid") -> int:
        """Which value of `finer`, a grid of the same step, lies where the first of this one does."""
        return round((self.start - finer.start) / finer.step)


def crops(config: Config) -> dict[str, int]:
    """The row and column at which what is fused begins: in each pool, and of "images" in the last scores."""
    grid = Grid().through(3, padding=config.first_padding)  # the other 3x3, of padding 1, keep it
    pools = {}
    for number in range(1, 6):
        grid = pools[f"pool{number}"] = grid.through(2, stride=2)
    grid = grid.through(config.kernel)
    found = {}
    for pool in SKIPS[config.stride]:
        grid = grid.upsampled(2)
        found[pool] = grid.first_in(pools[pool])
    return found | {"images": Grid().first_in(grid.upsampled(config.stride))}


class Skip(nn.Module):
    """Coarse scores at twice the size, plus those of a finer map (CVPR version, section 4.2, Fig. 3)."""

    def __init__(self, channels: int, classes: int, scale: float, begin: int) -> None:
        super().__init__()
        self.scale, self.begin = scale, begin
        self.upscore = BilinearUpsampling(classes, 2)
        self.score = nn.Conv2d(channels, classes, 1)

    def forward(self, scores: Tensor, maps: Tensor) -> Tensor:
        coarse: Tensor = self.upscore(scores)
        fine = self.score(maps * self.scale)
        return coarse + cropped(fine, self.begin, (coarse.shape[-2], coarse.shape[-1]))

    def extra_repr(self) -> str:
        return f"scale={self.scale}, begin={self.begin}"


class FCN(Segmenter):
    """VGG -> fc6, fc7, score -> sums with the scores of finer pools -> a class for each pixel."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        pools, begin, classes = SKIPS[config.stride], crops(config), len(self.classes)
        self.backbone = vgg_backbone(
            config.preprocess,
            ("pool5", *pools),
            depths=config.depths,
            width=config.width,
            first_padding=config.first_padding,
            pool_ceil=True,
        )
        channels = {info.name: info.channels for info in self.backbone.feature_info}
        self.fc6 = nn.Conv2d(channels["pool5"], config.hidden, config.kernel)
        self.fc7 = nn.Conv2d(config.hidden, config.hidden, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.score_fr = nn.Conv2d(config.hidden, classes, 1)
        self.skips = nn.ModuleDict(
            {
                pool: Skip(channels[pool], classes, scale, begin[pool])
                for pool, scale in zip(pools, config.scales, strict=False)
            }
        )
        self.upscore = BilinearUpsampling(classes, config.stride)
        self.begin = begin["images"]
        self.in_stages = config.in_stages
        layers = [*self.backbone.get_submodule("trunk").children(), self.fc6]
        self.smallest_size = SmallestSize(config.preprocess, smallest_side(layers))

    @property
    def training_stages(self) -> tuple[Stage, ...]:
        """All at once; or 32s, then 16s, then 8s, each from what the one before has learnt (section 4.2).

        Scores of a pool are zeros until its stage, so the sums are those of the coarser network.
        """
        if not self.in_stages:
            return super().training_stages
        patterns, found = ["backbone.*", "fc6.*", "fc7.*", "score_fr.*", "upscore.*"], [32]
        stages = [Stage("fcn32s", trainable=tuple(patterns))]
        for pool in self.skips:
            patterns.append(f"skips.{pool}.*")
            found.append(found[-1] // 2)
            stages.append(Stage(f"fcn{found[-1]}s", trainable=tuple(patterns)))
        return tuple(stages)

    def forward(self, images: Tensor) -> PixelLogits:  # type: ignore[override]
        found = self.backbone.features(self.normalize(self.smallest_size(images)))
        fc6 = self.dropout(F.relu(self.fc6(found["pool5"])))  # (B, 4096, H / 32, W / 32)
        fc7 = self.dropout(F.relu(self.fc7(fc6)))
        scores = self.score_fr(fc7)  # (B, K, H / 32, W / 32)
        for pool, skip in self.skips.items():
            scores = skip(scores, found[pool])  # (B, K, H / 16, W / 16), (B, K, H / 8, W / 8)
        return PixelLogits(cropped(self.upscore(scores), self.begin, (images.shape[-2], images.shape[-1])))


def cropped(maps: Tensor, begin: int, size: tuple[int, int]) -> Tensor:
    """`maps` from row and column `begin` on, (B, C, *size)."""
    height, width = size
    return maps[..., begin : begin + height, begin : begin + width]


VARIANTS = {"fcn32s": Config(stride=32), "fcn16s": Config(stride=16), "fcn8s": Config(stride=8)}

TINY = Config(
    classes=5,
    preprocess=Preprocess(size=(60, 64), fit="letterbox"),
    scales=(0.5, 0.25),
    depths=(1, 1, 2, 1, 1),
    width=4,
    first_padding=36,
    kernel=4,
    hidden=32,
)

TINIES = {
    "16s": msgspec.structs.replace(TINY, stride=16, scales=(1.0, 1.0)),
    "32s": msgspec.structs.replace(TINY, stride=32, scales=(1.0, 1.0)),
}


def build(config: Config) -> FCN:
    """An FCN with He's starting weights, scoring layers of zeros and bilinear upsampling.

    Zeros are the paper's: drawn scores did not train faster or better (CVPR version, section 4.3).
    """
    network = FCN(config)
    he_normal((network.fc6, network.fc7))
    scoring = [network.score_fr, *(skip.score for skip in network.skips.children() if isinstance(skip, Skip))]
    for layer in scoring:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings: those of a VGG, all scores at once.

    The paper fine-tunes ImageNet's weights in stages, by SGD, with a sum over all pixels for a loss and rates
    to match. As there, the last upsampling stays bilinear and the ones before it learn.
    """
    del config
    shared = recipe_for_vgg()
    return {**shared, "training": {**shared["training"], "batch_size": 4, "freeze": ["upscore.*"]}}


def backbone_of(config: Config) -> str | None:
    """The classification network whose weights the encoder can take, by its public name; None without one."""
    return name_of(config.depths)


def from_backbone(state_dict: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights of a VGG under the names used here, fc6 and fc7 as kernels; all but the scoring layers."""
    del config
    trunk, fully_connected = with_kernels(state_dict)
    return trunk | fully_connected
