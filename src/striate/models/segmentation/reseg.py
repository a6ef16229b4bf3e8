"""ReSeg: recurrent sweeps over the maps of a convolutional network, so that each pixel knows of all others.

Visin et al., "ReSeg: A Recurrent Neural Network-based Model for Semantic Segmentation", CVPR Workshops 2016,
arXiv:1511.07053.

    360x480 ──VGG16, conv1_1 to conv3_3──> 256x90x120
            ──ReNet 1──> 200x90x120 ──ReNet 2──> 200x90x120       section 3.1
            ──two transposed convolutions──> 50x360x480 ──1x1──> classes x 360x480       section 3.2

The defaults are those of the authors' CamVid network: patches of one position, 100 units a direction. Here
each sweep reads its line from both ends; in the code that they published the way back reads what the way
there found, not the line: `stacked`. They keep VGG as ImageNet left it, which needs weights to start from:

    striate train DATA --model reseg --init WEIGHTS --freeze 'backbone.*'

Every height and width will do. Pools round up, zeros fill up the last patches, and what the transposed
convolutions give too much is cut off at the bottom and right. An exported graph has one height and width, as
its recurrences have a length.
"""

from collections.abc import Mapping
from math import prod
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from torch import Tensor, nn

from striate.errors import UsageError
from striate.layers.initialise import he_normal
from striate.layers.renet import ReNet
from striate.models.backbone import backbone, taken_over
from striate.models.network import PixelLogits, Segmenter, SegmenterConfig
from striate.structures import Preprocess

__all__ = [
    "NATIVE_SIZE_UP_TO",
    "TINIES",
    "TINY",
    "VARIANTS",
    "Config",
    "ReSeg",
    "backbone_of",
    "build",
    "from_backbone",
    "recipe",
]

NATIVE_SIZE_UP_TO = 512  # a map of 128 positions a side, and as long a recurrence

LAST = "conv3_3"
ENCODER_STRIDE = 4  # pool1 and pool2
COARSEST = 64  # pixels a side; the maps of full size are made of steps of that

Count = Annotated[int, Meta(ge=1)]


class Config(SegmenterConfig, frozen=True, kw_only=True):
    """Settings of ReSeg."""

    preprocess: Preprocess = Preprocess(size=(360, 480), fit="letterbox")
    backbone: Literal["vgg16", "vgg16_bn"] = "vgg16"  # the paper's, or with batch norm
    width: Count = 64  # maps of its first block
    # One ReNet layer each: how many positions a side it reads as one.
    patches: Annotated[tuple[Literal[1, 2, 4], ...], Meta(min_length=1)] = (1, 1)
    units: Count = 100  # of each direction, in all of them
    stacked: bool = False  # in a sweep, the way back reads what the way there found
    up_width: Count = 50  # maps of each transposed convolution

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride > COARSEST:
            raise UsageError(
                "network.patches",
                f"a position of the last layer would stand for {self.stride} pixels a side",
                f"choose patches whose product is at most {COARSEST // ENCODER_STRIDE}",
            )

    @property
    def stride(self) -> int:
        """Pixels a side that one position of the last ReNet layer stands for."""
        return ENCODER_STRIDE * prod(self.patches)


class ReSeg(Segmenter):
    """VGG's first three blocks -> ReNet layers -> transposed convolutions -> a class for each pixel."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        # Of what is cut off at once, fc6 and fc7, nothing large shall be drawn.
        self.backbone = backbone(
            config.backbone,
            LAST,
            config.preprocess,
            width=config.width,
            pool_ceil=True,
            grid=1,
            hidden=1,
        )
        channels = self.backbone.feature_info[-1].channels
        self.renet = _renet_layers(config, channels)
        self.upsampling = _upsampling(config, 2 * config.units)
        self.classifier = nn.Conv2d(config.up_width, len(self.classes), 1)
        he_normal([self.classifier])

    def forward(self, images: Tensor) -> PixelLogits:  # type: ignore[override]
        height, width = images.shape[-2:]
        maps = self.backbone.features(self.normalize(images))[LAST]  # (B, 256, H / 4, W / 4)
        maps = self.upsampling(self.renet(maps))  # (B, 50, H or more, W or more)
        logits: Tensor = self.classifier(maps)
        return PixelLogits(logits[..., :height, :width])


def _renet_layers(config: Config, channels: int) -> nn.Sequential:
    widths = [channels] + [2 * config.units] * len(config.patches)
    return nn.Sequential(
        *(
            ReNet(width, config.units, (patch, patch), config.stacked)
            for width, patch in zip(widths, config.patches, strict=False)
        )
    )


def _upsampling(config: Config, channels: int) -> nn.Sequential:
    """2x2 of stride 2 with ReLU, as many as bring the maps back to the size of the pictures."""
    layers: list[nn.Module] = []
    for _ in range(config.stride.bit_length() - 1):
        up = nn.ConvTranspose2d(channels, config.up_width, 2, stride=2)
        # No two kernels overlap: a value is a sum over the channels of one position.
        nn.init.normal_(up.weight, std=(2 / channels) ** 0.5)
        nn.init.zeros_(up.get_parameter("bias"))
        layers += [up, nn.ReLU(inplace=True)]
        channels = config.up_width
    return nn.Sequential(*layers)


VARIANTS = {"reseg": Config()}

TINY = Config(
    classes=5,
    preprocess=Preprocess(size=(30, 42), fit="letterbox"),
    width=4,
    patches=(2, 1),
    units=8,
    up_width=6,
)

TINIES = {
    "stacked": msgspec.structs.replace(TINY, stacked=True, patches=(1, 1)),
    "batch_norm": msgspec.structs.replace(TINY, backbone="vgg16_bn"),
}


def build(config: Config) -> ReSeg:
    """ReSeg with He's starting weights where ReLUs are, and orthogonal recurrences."""
    return ReSeg(config)


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings: the authors' batch of 5, and AdamW for their Adadelta.

    They neither augment nor weigh classes at first; in a second run classes count by the median of their
    frequencies, which `training.balance = "median"` does. A limit on the gradient keeps long recurrences
    from a leap.
    """
    del config
    training: dict[str, object] = {
        "optimiser": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "warmup_epochs": 1.0,
        "batch_size": 5,
        "epochs": 100,
        "clip_norm": 1.0,
    }
    return {"training": training, "augment": {"flip": 0.5, "zoom": [0.5, 2.0], "jitter": 0.2}}


def backbone_of(config: Config) -> str:
    """The classification network whose weights its encoder can take."""
    return config.backbone


def from_backbone(state_dict: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights of `backbone_of(config)` under the names used here, up to conv3_3."""
    return taken_over(state_dict, lambda: ReSeg(config), "backbone.")
