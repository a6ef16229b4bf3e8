"""YOLOX: one guess a cell, no anchors, and the network itself decides which cell is to find what.

Ge, Liu, Wang, Li, Sun, "YOLOX: Exceeding YOLO Series in 2021", arXiv:2107.08430. A CSPDarknet gives maps at
strides 8, 16 and 32; a path aggregation network mixes them downwards and upwards again (Liu et al. 2018,
arXiv:1803.01534); a head of its own at each stride has one branch for the classes and one for the box and
whether there is an object (section 2.1, "decoupled head"). At 640x640, `yolox_s`:

    images (3, 640, 640) ──focus──> (12, 320, 320) ──stem──> 320 ──dark2──> 160
        ──dark3──> (128, 80, 80) ──dark4──> (256, 40, 40) ──dark5──> (512, 20, 20)
    neck: 20 -> 40 -> 80 -> 40 -> 20, same maps      heads: 6400 + 1600 + 400 = 8400 cells

Sizes are published for the whole family: depth .33, .67, 1, 1.33 and width .25 to 1.25; the nano form has
depthwise separable convolutions. Pixels enter as they are, 0..255 in the order blue, green, red.
"""

import math
from collections.abc import Mapping
from typing import Annotated, NamedTuple

import msgspec
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from striate.layers.convolution_norm import ConvolutionNorm, Norm
from striate.layers.depthwise_separable import DepthwiseSeparable
from striate.layers.initialise import he_normal
from striate.layers.size_multiple import SizeMultiple
from striate.models.network import Detector, DetectorConfig
from striate.ops.boxes import centred, cornered, overlap
from striate.ops.matching import IGNORED
from striate.ops.sim_ota import Guesses, sim_ota
from striate.structures import BoxTargets, Preprocess

__all__ = ["TINIES", "TINY", "VARIANTS", "YOLOX", "Config", "RawYOLOX", "build", "from_yolox", "recipe"]

STRIDES = (8, 16, 32)
POOLS = (5, 9, 13)  # kernels of the spatial pyramid
NORM = Norm(eps=1e-3)
BOX_WEIGHT = 5.0  # of the overlap in the loss
PRIOR = 0.01  # probability of an object and of each class before training (arXiv:1708.02002, section 4.1)
_MOST_GROWTH = 8.0  # log of the longest side in strides: beyond any picture, and still finite when squared


def _square(side: int) -> Preprocess:
    return Preprocess(
        size=(side, side),
        fit="letterbox",
        pad_value=114,
        channel_order="bgr",
        scale=1.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


class Config(DetectorConfig, frozen=True, kw_only=True):
    """Settings of a YOLOX."""

    classes: tuple[str, ...] | int = 80  # of COCO
    preprocess: Preprocess = _square(640)
    nms_threshold: float = 0.65
    depth: Annotated[float, Meta(gt=0, le=4)] = 1.0  # multiplies the numbers of blocks
    width: Annotated[float, Meta(ge=1 / 64, le=8)] = 1.0  # multiplies the numbers of maps
    depthwise: bool = False  # 3x3 convolutions in two steps
    # Weight of the newest batch in the running statistics. A run of a few hundred steps wants more.
    norm_momentum: Annotated[float, Meta(gt=0, le=1)] = 0.03
    l1: bool = False  # also the distance of the four numbers of a box; the paper: in the last 15 epochs

    @property
    def base(self) -> int:
        """Maps of the stem, of which all others are multiples."""
        return int(64 * self.width)

    @property
    def blocks(self) -> int:
        """Bottlenecks of a short stage."""
        return max(1, round(3 * self.depth))


class RawYOLOX(NamedTuple):
    """What the heads say of each cell, stride by stride and row by row; A cells."""

    offsets: Tensor  # (B, A, 4) centre x, y from the cell's corner, log width, log height: in strides
    objectness: Tensor  # (B, A) logits
    classes: Tensor  # (B, A, K) logits
    cells: Tensor  # (A, 3) column, row, stride in pixels


def _convolution(channels: int, maps: int, kernel: int, stride: int = 1) -> ConvolutionNorm:
    convolution = nn.Conv2d(channels, maps, kernel, stride, kernel // 2, bias=False)
    return ConvolutionNorm(convolution, nn.SiLU(inplace=True), NORM)


def _spatial(channels: int, maps: int, depthwise: bool, stride: int = 1) -> nn.Module:
    """A 3x3 convolution, in two steps where `depthwise`."""
    if depthwise:
        return DepthwiseSeparable(channels, maps, lambda: nn.SiLU(inplace=True), stride, norm=NORM)
    return _convolution(channels, maps, 3, stride)


class Focus(nn.Module):
    """Each 2x2 pixels as one of four times the channels, then a 3x3 convolution."""

    def __init__(self, channels: int, maps: int) -> None:
        super().__init__()
        self.conv = _convolution(4 * channels, maps, 3)

    def forward(self, values: Tensor) -> Tensor:
        even, odd = values[..., ::2, :], values[..., 1::2, :]
        # Column by column, as the published weights have it.
        parts = (even[..., ::2], odd[..., ::2], even[..., 1::2], odd[..., 1::2])
        mixed: Tensor = self.conv(torch.cat(parts, 1))
        return mixed


class Bottleneck(nn.Module):
    """1x1 -> 3x3, added to what came in where `adds_input`."""

    def __init__(self, maps: int, adds_input: bool, depthwise: bool) -> None:
        super().__init__()
        self.conv1 = _convolution(maps, maps, 1)
        self.conv2 = _spatial(maps, maps, depthwise)
        self.adds_input = adds_input

    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = self.conv2(self.conv1(maps))
        return changed + maps if self.adds_input else changed


class CSPLayer(nn.Module):
    """Half of the maps through bottlenecks, half past them (Wang et al. 2020, arXiv:1911.11929)."""

    def __init__(self, channels: int, maps: int, blocks: int, adds_input: bool, depthwise: bool) -> None:
        super().__init__()
        half = maps // 2
        self.conv1 = _convolution(channels, half, 1)
        self.conv2 = _convolution(channels, half, 1)
        self.conv3 = _convolution(2 * half, maps, 1)
        self.m = nn.Sequential(*(Bottleneck(half, adds_input, depthwise) for _ in range(blocks)))

    def forward(self, maps: Tensor) -> Tensor:
        merged: Tensor = self.conv3(torch.cat((self.m(self.conv1(maps)), self.conv2(maps)), 1))
        return merged


class SpatialPyramid(nn.Module):
    """Maxima over 5x5, 9x9 and 13x13 cells beside the maps (He et al. 2015, arXiv:1406.4729)."""

    def __init__(self, channels: int, maps: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, channels // 2, 1)
        self.pools = nn.ModuleList(nn.MaxPool2d(kernel, 1, kernel // 2) for kernel in POOLS)
        self.conv2 = _convolution(channels // 2 * (1 + len(POOLS)), maps, 1)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.conv1(maps)
        merged: Tensor = self.conv2(torch.cat((maps, *(pool(maps) for pool in self.pools)), 1))
        return merged


class CSPDarknet(nn.Module):
    """Stem and four stages, each with half the pixels a side: maps at strides 8, 16 and 32."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        base, blocks = config.base, config.blocks
        self.stem = Focus(config.preprocess.channels, base)
        self.dark2 = _stage(config, base, blocks)
        self.dark3 = _stage(config, 2 * base, 3 * blocks)
        self.dark4 = _stage(config, 4 * base, 3 * blocks)
        self.dark5 = nn.Sequential(
            _spatial(8 * base, 16 * base, config.depthwise, 2),
            SpatialPyramid(16 * base, 16 * base),
            CSPLayer(16 * base, 16 * base, blocks, False, config.depthwise),
        )

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dark3 = self.dark3(self.dark2(self.stem(values)))
        dark4 = self.dark4(dark3)
        return dark3, dark4, self.dark5(dark4)


def _stage(config: Config, channels: int, blocks: int) -> nn.Sequential:
    """Half the pixels a side, twice the maps."""
    return nn.Sequential(
        _spatial(channels, 2 * channels, config.depthwise, 2),
        CSPLayer(2 * channels, 2 * channels, blocks, True, config.depthwise),
    )


class PathAggregation(nn.Module):
    """The three maps mixed from coarse to fine and back: the same strides and numbers of maps."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        small, middle, large = (factor * config.base for factor in (4, 8, 16))

        def merge(channels: int, maps: int) -> CSPLayer:
            return CSPLayer(channels, maps, config.blocks, False, config.depthwise)

        self.lateral_conv0 = _convolution(large, middle, 1)
        self.C3_p4 = merge(2 * middle, middle)
        self.reduce_conv1 = _convolution(middle, small, 1)
        self.C3_p3 = merge(2 * small, small)
        self.bu_conv2 = _spatial(small, small, config.depthwise, 2)
        self.C3_n3 = merge(2 * small, middle)
        self.bu_conv1 = _spatial(middle, middle, config.depthwise, 2)
        self.C3_n4 = merge(2 * middle, large)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        fine, middle, coarse = maps
        lateral = self.lateral_conv0(coarse)
        reduced = self.reduce_conv1(self.C3_p4(_joined(_doubled(lateral), middle)))
        fine = self.C3_p3(_joined(_doubled(reduced), fine))
        middle = self.C3_n3(_joined(self.bu_conv2(fine), reduced))
        return fine, middle, self.C3_n4(_joined(self.bu_conv1(middle), lateral))


def _joined(maps: Tensor, others: Tensor) -> Tensor:
    return torch.cat((maps, others), 1)


def _doubled(maps: Tensor) -> Tensor:
    """Twice the pixels a side, each four times."""
    return F.interpolate(maps, scale_factor=2.0, mode="nearest")


class DecoupledHead(nn.Module):
    """A stem at each stride, then one branch for the classes and one for box and objectness (Figure 2)."""

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        hidden = 4 * config.base

        def branch() -> nn.Sequential:
            return nn.Sequential(*(_spatial(hidden, hidden, config.depthwise) for _ in range(2)))

        def outputs(count: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(hidden, count, 1) for _ in STRIDES)

        self.stems = nn.ModuleList(_convolution(stride // 2 * config.base, hidden, 1) for stride in STRIDES)
        self.cls_convs = nn.ModuleList(branch() for _ in STRIDES)
        self.reg_convs = nn.ModuleList(branch() for _ in STRIDES)
        self.cls_preds, self.reg_preds, self.obj_preds = outputs(classes), outputs(4), outputs(1)

    def forward(self, maps: tuple[Tensor, ...]) -> RawYOLOX:
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for level, values in enumerate(maps):
            stem = self.stems[level](values)
            box, classes = self.reg_convs[level](stem), self.cls_convs[level](stem)
            outputs = self.reg_preds[level](box), self.obj_preds[level](box), self.cls_preds[level](classes)
            found.append((_by_cell(outputs[0]), _by_cell(outputs[1])[..., 0], _by_cell(outputs[2])))
        offsets, objectness, classes = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        return RawYOLOX(offsets, objectness, classes, _cells(maps))


def _by_cell(maps: Tensor) -> Tensor:
    """Maps (B, C, h, w) as (B, h x w, C)."""
    return maps.flatten(2).transpose(1, 2)


def _cells(maps: tuple[Tensor, ...]) -> Tensor:
    """Column, row and stride of each cell of `maps`, (A, 3) float32."""
    cells = []
    for stride, values in zip(STRIDES, maps, strict=True):
        sides = (torch.arange(side, device=values.device) for side in values.shape[-2:])
        row, column = (index.flatten() for index in torch.meshgrid(*sides, indexing="ij"))
        cells.append(torch.stack((column, row, torch.full_like(row, stride)), 1))
    return torch.cat(cells).float()


class YOLOX(Detector):
    """CSPDarknet -> path aggregation -> decoupled heads."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.size_multiple = SizeMultiple(config.preprocess, STRIDES[-1])
        self.backbone = CSPDarknet(config)
        self.neck = PathAggregation(config)
        self.head = DecoupledHead(config, len(self.classes))

    def forward(self, images: Tensor) -> RawYOLOX:  # type: ignore[override]
        values = self.normalize(self.size_multiple(images))
        raw: RawYOLOX = self.head(self.neck(self.backbone(values)))
        return raw

    def loss(self, raw: RawYOLOX, targets: BoxTargets[Tensor]) -> dict[str, Tensor]:
        """5 (1 - IoU^2) and cross-entropies of objectness and classes, over the cells that find an object.

        The class that is there has the overlap as its target, so that its score says how well the box fits.
        Sums over the batch by the pictures' weights, divided by the number of those cells, at least 1.
        """
        raw = RawYOLOX(*(values.float() for values in raw))
        boxes = _boxes(raw)
        matched = sim_ota(Guesses(boxes, raw.objectness, raw.classes), targets, raw.cells)
        found, heard = _shares(matched, targets.weight)
        rows = matched.clamp(min=0)
        truths = targets.boxes.gather(1, rows[..., None].expand(-1, -1, 4))
        overlaps = overlap(boxes, truths)
        labels = targets.labels.gather(1, rows)[..., None]
        wanted = torch.zeros_like(raw.classes).scatter(2, labels, overlaps.detach()[..., None])
        classes = F.binary_cross_entropy_with_logits(raw.classes, wanted, reduction="none").sum(-1)
        present = (matched >= 0).float()
        objects = F.binary_cross_entropy_with_logits(raw.objectness, present, reduction="none")
        terms = {
            "box": BOX_WEIGHT * ((1 - overlaps.square()) * found).sum(),
            "objectness": (objects * heard).sum(),
            "classes": (classes * found).sum(),
        }
        if self.config.l1:
            distance = (raw.offsets - _offsets(truths, raw.cells)).abs().sum(-1)
            terms["l1"] = (distance * found).sum()
        return terms

    def predictions(self, raw: RawYOLOX) -> tuple[Tensor, Tensor]:
        objectness = raw.objectness.float().sigmoid()[..., None]
        return _boxes(raw), raw.classes.float().sigmoid() * objectness


def _shares(matched: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """By how much each cell counts (B, A): of those that find an object, and of all that are not ignored."""
    found, heard = (matched >= 0) * weight[:, None], (matched != IGNORED) * weight[:, None]
    count = found.sum().clamp(min=1)
    return found / count, heard / count


def _boxes(raw: RawYOLOX) -> Tensor:
    """The boxes (B, A, 4) in input pixels that the offsets mean."""
    offsets, corners, strides = raw.offsets.float(), raw.cells[:, :2], raw.cells[:, 2:]
    centres = (offsets[..., :2] + corners) * strides
    sides = offsets[..., 2:].clamp(max=_MOST_GROWTH).exp() * strides
    return cornered(torch.cat((centres, sides), -1))


def _offsets(boxes: Tensor, cells: Tensor) -> Tensor:
    """The four numbers (B, A, 4) by which each cell says its one of `boxes` (B, A, 4)."""
    own, strides = centred(boxes), cells[:, 2:]
    shift = own[..., :2] / strides - cells[:, :2]
    return torch.cat((shift, torch.log(own[..., 2:] / strides + 1e-8)), -1)


VARIANTS = {
    "yolox_nano": Config(preprocess=_square(416), depth=0.33, width=0.25, depthwise=True),
    "yolox_tiny": Config(preprocess=_square(416), depth=0.33, width=0.375),
    "yolox_s": Config(depth=0.33, width=0.5),
    "yolox_m": Config(depth=0.67, width=0.75),
    "yolox_l": Config(),
    "yolox_x": Config(depth=1.33, width=1.25),
}

TINY = Config(classes=3, preprocess=_square(64), per_class=20, depth=0.33, width=0.125, l1=True)

TINIES = {"depthwise": msgspec.structs.replace(TINY, depthwise=True, l1=False)}


def build(config: Config) -> YOLOX:
    """A YOLOX with He's starting weights, whose heads first see an object in one cell of a hundred."""
    network = YOLOX(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = config.norm_momentum
    he_normal(module for module in network.modules() if isinstance(module, nn.Conv2d))
    head = network.head
    for outputs in (*head.cls_preds, *head.reg_preds, *head.obj_preds):
        nn.init.normal_(outputs.get_parameter("weight"), std=0.01)
    for outputs in (*head.cls_preds, *head.obj_preds):
        nn.init.constant_(outputs.get_parameter("bias"), -math.log((1 - PRIOR) / PRIOR))
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for small sets and machines.

    Mosaic, mixup for the larger forms, sizes, cosine with warm-up and the moving average are the paper's
    (section 2.1). AdamW for its SGD: 300 epochs of 118,000 pictures are long, and it gets there in fewer
    steps. Half of the pictures stay whole, where the paper ends with 15 epochs of whole ones.
    """
    is_small = config.width < 0.5
    training: dict[str, object] = {
        "optimiser": "adamw",
        "learning_rate": 2e-3 if is_small else 1e-3,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "warmup_epochs": 3.0,
        "ema": 0.998,
        "batch_size": 8,
        "epochs": 50,
    }
    augment: dict[str, object] = {
        "flip": 0.5,
        "hue": 0.02,
        "saturation": 1.5,
        "exposure": 1.5,
        "mosaic": 0.5,
        "mixup": 0.0 if is_small else 0.15,
        "sizes": [0.75, 1.25],
    }
    return {"training": training, "augment": augment}


def from_yolox(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that the paper's authors publish, under the names used here.

    There the neck holds the backbone; `bn` is `norm` here, `dconv` and `pconv` the two steps of a separable
    convolution.
    """
    return {_name_here(name): tensor for name, tensor in state_dict.items()}


def _name_here(name: str) -> str:
    if name.startswith("backbone."):
        rest = name.removeprefix("backbone.")
        name = rest if rest.startswith("backbone.") else f"neck.{rest}"
    for there, here in ((".bn.", ".norm."), (".dconv.", ".depthwise."), (".pconv.", ".pointwise.")):
        name = name.replace(there, here)
    return name
