"""What the YOLOs share: darknet's pictures, a loss over pictures, and boxes around anchors on a grid.

A grid of YOLO v2 and v3 has rows x columns cells over the picture, each with the same anchors. An output
(x, y, w, h, object, classes ...) of a cell and an anchor means a box with the centre sigmoid(x), sigmoid(y)
of a cell's sides into the cell and the sides anchor * exp(w), anchor * exp(h) (YOLO9000, section 2, "Direct
location prediction"). An object belongs to the cell with its centre, and there to the anchor most like it.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from striate.errors import UsageError
from striate.layers.initialise import he_normal
from striate.models.backbone import taken_over, with_prefix
from striate.models.detection._trunk import trunk
from striate.models.network import Classifier, DetectorConfig
from striate.ops.boxes import cornered, pairwise_iou
from striate.ops.grid import cell_of, owners
from striate.ops.matching import BACKGROUND, spared_in_crowds
from striate.structures import BoxTargets, Preprocess

__all__ = [
    "LAST_STRIDE",
    "AnchorConfig",
    "Anchors",
    "Count",
    "Grid",
    "Matches",
    "backbone_of",
    "counted",
    "draw_head",
    "encoder",
    "from_backbone",
    "grid_of",
    "match_cells",
    "mean_over_pictures",
    "prepared",
    "recipe_for_photos",
    "sides_of",
]

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
Anchors = Annotated[tuple[tuple[Positive, Positive], ...], Meta(min_length=1)]  # widths and heights

LAST_STRIDE = 32  # of the coarsest maps
OBJECT, CLASSES = 4, slice(5, None)  # places in an output; before them are x, y, w, h
_OWN = ("classes", "preprocess")
_MOST_GROWTH = math.log(1000 / 16)  # of an anchor's side, so that boxes stay finite
_LEAST_WEIGHT = 1e-12  # of a batch of which no picture counts
_THINNEST = 1.0  # pixels: a thinner object is learnt as one so wide, whose logarithm is finite


def prepared(size: tuple[int, int]) -> Preprocess:
    """Darknet's preprocessing: the whole picture on grey, scaled to 0..1."""
    return Preprocess(size=size, fit="letterbox", pad_value=127, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class AnchorConfig(DetectorConfig, frozen=True, kw_only=True):
    """What the settings of YOLO v2 and v3 hold."""

    preprocess: Preprocess = prepared((416, 416))
    nms_threshold: float = 0.45
    backbone: str = "darknet19"  # a Darknet, a MobileNet v2 or a ResNet, by its public name
    backbone_settings: dict[str, Any] = msgspec.field(default_factory=dict)  # its own: {"width": 0.5}


class Grid(NamedTuple):
    """The outputs of a head, and what they are relative to."""

    outputs: Tensor  # (B, A, rows, columns, 5 + K) float32
    anchors: Tensor  # (A, 2) width and height in pixels
    stride: int  # pixels a cell

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.outputs.shape[2], self.outputs.shape[3]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self.shape[0] * self.stride, self.shape[1] * self.stride

    def boxes(self) -> Tensor:
        """The boxes that the outputs mean: (B, A * rows * columns, 4) x0 y0 x1 y1 in pixels."""
        device, (rows, columns) = self.outputs.device, self.shape
        y, x = torch.meshgrid(
            torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij"
        )
        centre = (self.outputs[..., :2].sigmoid() + torch.stack((x, y), -1)) * self.stride
        growth = self.outputs[..., 2:4].clamp(max=_MOST_GROWTH).exp()
        return cornered(torch.cat((centre, growth * self.anchors[:, None, None]), -1)).flatten(1, 3)

    def objectness(self) -> Tensor:
        """How sure it is of an object, before the sigmoid: (B, A * rows * columns)."""
        return self.outputs[..., OBJECT].flatten(1)

    def classes(self) -> Tensor:
        """What it says of the classes, before any function: (B, A * rows * columns, K)."""
        return self.outputs[..., CLASSES].flatten(1, 3)


class Matches(NamedTuple):
    """The outputs that have an object, P in all pictures together, and what they ought to be."""

    outputs: Tensor  # (P, 5 + K)
    boxes: Tensor  # (P, 4) that the outputs mean, without gradient
    truth: Tensor  # (P, 4) boxes of the objects
    labels: Tensor  # (P,)
    place: Tensor  # (P, 2) x, y of the object's centre in the cell, 0..1
    growth: Tensor  # (P, 2) logarithm of the object's sides over the anchor's
    weight: Tensor  # (P,) of the picture
    scale: Tensor  # (P,) 2 - the object's share of the picture: errors in small boxes weigh more
    idle: Tensor  # (B, M) the picture's weight where an output ought to say that there is no object, or 0


def grid_of(maps: Tensor, anchors: Anchors, stride: int) -> Grid:
    """The grid that a head's maps (B, A * (5 + K), rows, columns) are; `anchors` are in pixels."""
    batch, _, rows, columns = maps.shape
    outputs = maps.float().reshape(batch, len(anchors), -1, rows, columns).permute(0, 1, 3, 4, 2)
    return Grid(outputs, outputs.new_tensor(anchors), stride)


def counted(targets: BoxTargets[Tensor]) -> Tensor:
    """The rows that hold one object that is to be found: (B, N) bool."""
    return targets.valid & ~targets.crowd


def sides_of(boxes: Tensor) -> Tensor:
    """Width and height (..., 2) of boxes (..., 4)."""
    return boxes[..., 2:] - boxes[..., :2]


def match_cells(
    grid: Grid, targets: BoxTargets[Tensor], anchor: Tensor, wanted: Tensor, ignore: float
) -> Matches:
    """The outputs of `grid` that have an object, by its centre and the `anchor` (B, N) that it belongs to.

    wanted (B, N) bool: the objects that are looked for in this grid. Where two belong to the same output, it
    is the first one's. Outputs without an object ought to say so, but for those whose box overlaps one by an
    IoU above `ignore`, or lies mostly in a crowd.
    """
    rows, columns = grid.shape
    boxes = grid.boxes().detach()
    cell, _ = cell_of(targets.boxes, grid.size, grid.shape)
    places = (anchor * rows + cell[..., 0]) * columns + cell[..., 1]
    owner = owners(places, wanted, boxes.shape[1])
    owner = spared_in_crowds(owner, boxes, targets.boxes, targets.valid & targets.crowd)
    has_object = owner >= 0
    near = (pairwise_iou(targets.boxes, boxes) > ignore) & counted(targets)[..., None]
    weight = targets.weight[:, None].expand_as(owner)

    row = owner.clamp(min=0)
    truth = targets.boxes.gather(1, row[..., None].expand(-1, -1, 4))[has_object]
    anchors = grid.anchors[:, None].expand(-1, rows * columns, -1).flatten(0, 1).expand(*owner.shape, 2)
    sides = sides_of(truth).clamp(min=_THINNEST)
    return Matches(
        outputs=grid.outputs.flatten(1, 3)[has_object],
        boxes=boxes[has_object],
        truth=truth,
        labels=targets.labels.gather(1, row)[has_object],
        place=cell_of(truth, grid.size, grid.shape)[1],
        growth=torch.log(sides / anchors[has_object]),
        weight=weight[has_object],
        scale=2 - sides.prod(1) / math.prod(grid.size),
        idle=torch.where((owner == BACKGROUND) & ~near.any(1), weight, 0.0),
    )


def mean_over_pictures(values: Tensor, weight: Tensor, targets: BoxTargets[Tensor]) -> Tensor:
    """The sum of `values` of each picture, averaged over the pictures by their weight: a scalar.

    weight: of each value's picture, or 0 where a value does not count; both of one shape.
    """
    return (values * weight).sum() / targets.weight.sum().clamp(min=_LEAST_WEIGHT)


def encoder(config: AnchorConfig, *strides: int) -> Classifier:
    """The backbone up to its deepest maps of stride 32; its features are those maps and those at `strides`.

    Raises UsageError for one without such maps.
    """
    for name in _OWN:
        if name in config.backbone_settings:
            raise UsageError(
                f"network.backbone_settings.{name}", "it is the network's own to set", "leave it out"
            )
    return trunk(config.backbone, (*strides, LAST_STRIDE), config.preprocess, config.backbone_settings)


def backbone_of(config: AnchorConfig) -> str:
    """The classification network whose weights the encoder can take."""
    return config.backbone


def from_backbone(state_dict: Mapping[str, Tensor], config: AnchorConfig) -> dict[str, Tensor]:
    """The weights of a whole classification network under the names that the encoder has here."""
    return with_prefix(taken_over(state_dict, lambda: encoder(config)), "backbone.")


def draw_head(network: nn.Module, outputs: Mapping[nn.Conv2d, int], likely: float) -> None:
    """Draw starting weights for all but the backbone: He's, and N(0, 0.01) for the last layers.

    `outputs` are these with the number of anchors of each; they start by finding an object in a share of
    `likely` of their boxes, as most boxes have none.
    """
    he_normal(module for name, module in network.named_modules() if not name.startswith("backbone."))
    for output, anchors in outputs.items():
        nn.init.normal_(output.weight, 0.0, 0.01)
        bias = torch.zeros(anchors, output.out_channels // anchors)
        bias[:, OBJECT] = math.log(likely / (1 - likely))
        output.bias = nn.Parameter(bias.flatten())


def recipe_for_photos(
    jitter: float, learning_rate: float = 1e-3, **augment: object
) -> dict[str, dict[str, object]]:
    """Training and augmentation settings for small sets, from drawn weights too; the colours are darknet's.

    Darknet's SGD goes through tens of thousands of batches of 64, the first thousand at low rates, after
    a pretraining on ImageNet; AdamW with a cosine learns faster from few pictures. `jitter` is the share of a
    side by which the borders move, `augment` are further settings.
    """
    training: dict[str, object] = {
        "optimiser": "adamw",
        "learning_rate": learning_rate,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "warmup_epochs": 3.0,
        "batch_size": 8,
        "epochs": 60,
    }
    colours = {"hue": 0.1, "saturation": 1.5, "exposure": 1.5}
    return {"training": training, "augment": {"flip": 0.5, "jitter": jitter, **colours, **augment}}
