"""What DeepLab's forms of VGG and FCN share: an encoder that keeps the maps large, its layers, a recipe."""

from torch import nn

from striate.layers.initialise import he_normal
from striate.layers.stack import Stack
from striate.models.network import Classifier
from striate.models.recipes import recipe_with_adamw
from striate.models.segmentation._photos import PHOTOS
from striate.models.vgg_backbone import vgg_backbone
from striate.structures import Preprocess

__all__ = ["dense_vgg", "draw_fully_connected", "fully_connected", "recipe_for_vgg"]


def dense_vgg(preprocess: Preprocess, depths: tuple[int, ...], width: int, output_stride: int) -> Classifier:
    """DeepLab's VGG: 3x3 pools, the last of them without a stride, and convolutions spread behind them.

    Value j of pool5 lies at pixel `output_stride * j`, and sizes round up, so that the last one lies on the
    last pixel or beyond.
    """
    pools = {"first_pools": 2, "pool4": 2 if output_stride == 16 else 1, "pool5": 1}
    return vgg_backbone(
        preprocess,
        ("pool5",),
        depths=depths,
        width=width,
        output_stride=output_stride,
        pool_ceil=True,
        **{name: {"kernel": 3, "stride": stride, "padding": 1} for name, stride in pools.items()},
    )


def fully_connected(channels: int, hidden: int, classes: int, dilation: int, dropout: float) -> Stack:
    """DeepLab's fc6 (3x3, its taps `dilation` apart), fc7 and fc8 (1x1): maps -> scores of the same size."""
    return Stack(
        {
            "fc6": nn.Conv2d(channels, hidden, 3, padding=dilation, dilation=dilation),
            "relu6": nn.ReLU(inplace=True),
            "dropout6": nn.Dropout(dropout),
            "fc7": nn.Conv2d(hidden, hidden, 1),
            "relu7": nn.ReLU(inplace=True),
            "dropout7": nn.Dropout(dropout),
            "fc8": nn.Conv2d(hidden, classes, 1),
        }
    )


def draw_fully_connected(layers: Stack) -> None:
    """Draw the weights of `fully_connected`: He's, and in fc8 of a deviation of 0.01; biases become 0."""
    he_normal(layers)
    nn.init.normal_(layers.get_submodule("fc8").get_parameter("weight"), std=0.01)


def recipe_for_vgg() -> dict[str, dict[str, object]]:
    """Training and augmentation settings for what is built on a VGG without batch norm.

    AdamW at a low rate and a limit on the gradient train it from drawn weights too, without rates for each
    layer that are cut by hand.
    """
    return recipe_with_adamw(dict(PHOTOS), learning_rate=1e-4, clip_norm=5.0)
