"""YOLO: detection as one regression from the picture to boxes and classes on a grid.

Redmon, Divvala, Girshick, Farhadi, "You Only Look Once: Unified, Real-Time Object Detection", CVPR 2016,
arXiv:1506.02640. `yolo_v1` is Figure 3: 24 convolutions without normalisation, 4096 units, and for each of
7x7 cells 20 classes and 2 boxes with a confidence. `yolo_v1_bn` has batch norm behind each convolution and
trains without pretrained weights. `fast_yolo` has the 9 convolutions of section 2 and the fully connected
layers of the authors' released settings (256 linear units, 4096), and batch norm too, without which it hardly
trains; `tiny_yolo_v1` is their later small network, whose darknet weights fit.

    images (3, 448, 448) -> convolutions (1024, 7, 7) -> 4096 -> 1470 = 7 x 7 x (20 + 2 x 5)

A cell is responsible for the object whose centre lies in it, and in it the box that overlaps the object most.
The grid follows from the size of the pictures, a multiple of 64 a side; the fully connected layers fix it.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

import msgspec
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from striate.layers.darknet import SLOPE, convolution
from striate.layers.fixed_size import FixedSize
from striate.layers.initialise import he_normal
from striate.layers.size_multiple import SizeMultiple
from striate.models.detection._yolo import Count, counted, mean_over_pictures, recipe_for_photos
from striate.models.network import Detector, DetectorConfig
from striate.ops.boxes import centred, cornered, overlap
from striate.ops.grid import cell_of, owners
from striate.ops.matching import IGNORED, spared_in_crowds
from striate.structures import BoxTargets, Preprocess

__all__ = ["TINIES", "TINY", "VARIANTS", "Config", "Raw", "YoloV1", "build", "recipe"]

COORDINATES, NO_OBJECT = 5.0, 0.5  # the weights lambda of eq. 3

Step = tuple[Count, Literal[1, 3, 7], Literal[1, 2]]  # maps, kernel, stride of a convolution
Block = Annotated[tuple[Step, ...], Meta(min_length=1)]

FIGURE_3: tuple[Block, ...] = (
    ((64, 7, 2),),
    ((192, 3, 1),),
    ((128, 1, 1), (256, 3, 1), (256, 1, 1), (512, 3, 1)),
    (*(((256, 1, 1), (512, 3, 1)) * 4), (512, 1, 1), (1024, 3, 1)),
    (*(((512, 1, 1), (1024, 3, 1)) * 2), (1024, 3, 1), (1024, 3, 2), (1024, 3, 1), (1024, 3, 1)),
)
_SMALL: tuple[Block, ...] = tuple(((maps, 3, 1),) for maps in (16, 32, 64, 128, 256, 512))
FAST = (*_SMALL, ((1024, 3, 1), (1024, 3, 1), (1024, 3, 1)))
RELEASED = (*_SMALL, ((1024, 3, 1), (256, 3, 1)))


def _stretched(size: tuple[int, int]) -> Preprocess:
    return Preprocess(size=size, fit="stretch", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Config(DetectorConfig, frozen=True, kw_only=True):
    """Settings of a YOLO."""

    preprocess: Preprocess = _stretched((448, 448))
    boxes: Count = 2  # of each cell: B
    # Convolutions; between the blocks the larger of each 2x2 values is kept.
    blocks: Annotated[tuple[Block, ...], Meta(min_length=1)] = FIGURE_3
    norm: bool = False  # batch norm behind each convolution
    bottleneck: Annotated[int, Meta(ge=0)] = 0  # linear units in front of the hidden ones; 0: none
    hidden: Annotated[int, Meta(ge=0)] = 4096  # units of the first fully connected layer; 0: there is none
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.5  # in front of the last layer

    @property
    def stride(self) -> int:
        """Pixels a cell."""
        own = math.prod(stride for block in self.blocks for _, _, stride in block)
        return own << (len(self.blocks) - 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells: S."""
        height, width = self.preprocess.size
        return height // self.stride, width // self.stride


class Raw(NamedTuple):
    """What `forward` gives, on M = rows * columns cells."""

    classes: Tensor  # (B, M, K) probabilities of the classes, if there is an object
    confidence: Tensor  # (B, M, boxes)
    boxes: Tensor  # (B, M, boxes, 4): x, y in 0..1 of the cell; roots of w, h in 0..1 of the picture


class YoloV1(Detector):
    """Convolutions -> fully connected layers -> classes, confidences and boxes of each cell."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.size_multiple = SizeMultiple(config.preprocess, config.stride)
        self.fixed_size = FixedSize(config.preprocess)
        self.trunk = nn.Sequential(*_trunk(config))
        rows, columns = config.grid
        self.connected = nn.Sequential(OrderedDict(_connected(config)))
        last = config.hidden or config.bottleneck or _values(config)
        self.output = nn.Linear(last, rows * columns * (len(self.classes) + 5 * config.boxes))

    def forward(self, images: Tensor) -> Raw:  # type: ignore[override]
        maps = self.trunk(self.normalize(self.size_multiple(self.fixed_size(images))))  # (B, 1024, S, S)
        values = self.output(self.connected(maps.flatten(1)))
        (rows, columns), boxes = self.config.grid, self.config.boxes
        cells = rows * columns
        # All classes, then all confidences, then all boxes: the order of darknet's files.
        classes, confidence, places = values.split(
            (cells * len(self.classes), cells * boxes, cells * boxes * 4), 1
        )
        return Raw(
            classes.unflatten(1, (cells, -1)),
            confidence.unflatten(1, (cells, boxes)),
            places.unflatten(1, (cells, boxes, 4)),
        )

    def predictions(self, raw: Raw) -> tuple[Tensor, Tensor]:
        """The boxes, and section 2's class-specific confidences: Pr(class | object) * confidence."""
        classes, confidence = raw.classes.float().clamp(0, 1), raw.confidence.float().clamp(0, 1)
        scores = classes[:, :, None] * confidence[..., None]  # (B, M, boxes, K)
        return self._boxes(raw.boxes.float()).flatten(1, 2), scores.flatten(1, 2)

    def loss(self, raw: Raw, targets: BoxTargets[Tensor]) -> dict[str, Tensor]:
        """The lines of eq. 3, with their lambda: `place`, `size`, `object`, `no_object`, `class`.

        Sums over a picture, averaged over the batch. Of several objects in a cell the first one counts, as a
        cell has one set of classes. Cells that lie mostly in a crowd need not say that nothing is there.
        """
        raw = Raw(*(values.float() for values in raw))
        owner = self._owners(targets)
        has_object, row = owner >= 0, owner.clamp(min=0)  # (B, M)
        truth = targets.boxes.gather(1, row[..., None].expand(-1, -1, 4))[has_object]  # (P, 4)
        labels = targets.labels.gather(1, row)[has_object]
        own, iou = _responsible(self._boxes(raw.boxes).detach()[has_object], truth)  # (P, boxes), (P,)
        responsible = torch.zeros_like(raw.confidence, dtype=torch.bool)
        responsible[has_object] = own

        place_and_size = (raw.boxes[responsible] - self._aims(truth)).square()  # (P, 4)
        sure = raw.confidence[responsible] - iou
        classes = raw.classes[has_object]
        wrong = (classes - F.one_hot(labels, classes.shape[1]).to(classes.dtype)).square()
        values = {
            "place": COORDINATES * place_and_size[:, :2].sum(1),
            "size": COORDINATES * place_and_size[:, 2:].sum(1),
            "object": sure.square(),
            "class": wrong.sum(1),
        }
        weight = targets.weight[:, None].expand_as(owner)
        idle = torch.where(responsible | (owner == IGNORED)[..., None], 0.0, weight[..., None])
        none = NO_OBJECT * raw.confidence.square()
        terms = {name: mean_over_pictures(v, weight[has_object], targets) for name, v in values.items()}
        return {**terms, "no_object": mean_over_pictures(none, idle, targets)}

    def _owners(self, targets: BoxTargets[Tensor]) -> Tensor:
        """The row of the object of each cell, BACKGROUND, or IGNORED in a crowd: (B, M)."""
        rows, columns = self.config.grid
        cell, _ = cell_of(targets.boxes, self.config.preprocess.size, (rows, columns))
        owner = owners(cell[..., 0] * columns + cell[..., 1], counted(targets), rows * columns)
        crowd = targets.valid & targets.crowd
        return spared_in_crowds(owner, self._cells(targets.boxes), targets.boxes, crowd)

    def _boxes(self, outputs: Tensor) -> Tensor:
        """The boxes (B, M, boxes, 4) in pixels that such outputs mean."""
        corner = self._cells(outputs)[:, None, :2]
        centre = corner + outputs[..., :2] * self.config.stride
        height, width = self.config.preprocess.size
        return cornered(
            torch.cat((centre, outputs[..., 2:].square() * outputs.new_tensor((width, height))), -1)
        )

    def _cells(self, like: Tensor) -> Tensor:
        """The cells as boxes (M, 4) in pixels, on the device of `like`."""
        rows, columns = self.config.grid
        y, x = torch.meshgrid(
            torch.arange(rows, device=like.device), torch.arange(columns, device=like.device), indexing="ij"
        )
        corner = torch.stack((x, y), -1).flatten(0, 1)
        return (torch.cat((corner, corner + 1), -1) * self.config.stride).to(like.dtype)

    def _aims(self, truth: Tensor) -> Tensor:
        """What the outputs of the boxes ought to be (P, 4) for objects (P, 4) in pixels."""
        size = self.config.preprocess.size
        _, place = cell_of(truth, size, self.config.grid)
        share = centred(truth)[:, 2:] / truth.new_tensor((size[1], size[0]))
        return torch.cat((place, share.clamp(min=0).sqrt()), 1)


def _responsible(boxes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Which of a cell's boxes (P, n, 4) overlaps its object (P, 4) most, one-hot (P, n), and its IoU (P,).

    Where none overlaps it, the one that is nearest: the one it would be in the end.
    """
    iou = overlap(boxes, truth[:, None])
    distance = (boxes - truth[:, None]).square().sum(2)
    best = torch.where((iou > 0).any(1, keepdim=True), iou, -distance).argmax(1)
    own = F.one_hot(best, boxes.shape[1]).bool()
    return own, iou[own]


def _trunk(config: Config) -> Iterator[nn.Module]:
    channels = config.preprocess.channels
    for number, block in enumerate(config.blocks):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if number else []
        for maps, kernel, stride in block:
            if config.norm:
                layers.append(convolution(channels, maps, kernel, stride))
            else:
                layers.append(nn.Conv2d(channels, maps, kernel, stride, padding=kernel // 2))
                layers.append(nn.LeakyReLU(SLOPE, inplace=True))
            channels = maps
        yield nn.Sequential(*layers)


def _values(config: Config) -> int:
    """How many values the convolutions give."""
    rows, columns = config.grid
    return rows * columns * config.blocks[-1][-1][0]


def _connected(config: Config) -> Iterator[tuple[str, nn.Module]]:
    """The fully connected layers in front of the last, by name."""
    values = _values(config)
    if config.bottleneck:
        yield "bottleneck", nn.Linear(values, config.bottleneck)
        values = config.bottleneck
    if config.hidden:
        yield "hidden", nn.Linear(values, config.hidden)
        yield "activation", nn.LeakyReLU(SLOPE, inplace=True)
    yield "dropout", nn.Dropout(config.dropout)


VARIANTS = {
    "yolo_v1": Config(),
    "yolo_v1_bn": Config(norm=True),
    "fast_yolo": Config(blocks=FAST, norm=True, bottleneck=256),
    "tiny_yolo_v1": Config(blocks=RELEASED, norm=True, hidden=0, dropout=0.0),
}

TINY = Config(
    classes=3,
    preprocess=_stretched((64, 96)),
    blocks=(((8, 7, 2),), ((12, 1, 1), (16, 3, 1)), ((16, 3, 2), (16, 3, 1))),
    hidden=48,
)

TINIES = {
    "norm": msgspec.structs.replace(TINY, norm=True, bottleneck=16, boxes=3),
    "direct": msgspec.structs.replace(TINY, norm=True, hidden=0, dropout=0.0),
}


def build(config: Config) -> YoloV1:
    """A YOLO with fresh weights: He's, and N(0, 0.001) for the last layer, whose inputs are many.

    Its boxes start in the middle of their cells, a quarter of the picture wide and high.
    """
    network = YoloV1(config)
    he_normal(network.modules())
    nn.init.normal_(network.output.weight, 0.0, 0.001)
    rows, columns = config.grid
    bias = torch.zeros_like(network.output.bias)
    bias[-rows * columns * config.boxes * 4 :] = 0.5
    network.output.bias = nn.Parameter(bias)
    return network


def recipe(config: Config) -> dict[str, dict[str, object]]:
    """Training and augmentation settings; pictures move and grow by up to 20 % (section 2.2).

    Fully connected layers of thousands of inputs bear no higher rate: it throws the boxes about.
    """
    del config
    return recipe_for_photos(jitter=0.2, learning_rate=3e-4)
