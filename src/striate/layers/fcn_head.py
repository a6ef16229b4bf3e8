"""The head that torchvision's segmentation networks put on a ResNet's maps."""

from collections import OrderedDict

from torch import nn

from striate.layers.convolution_norm import ConvolutionNorm, Norm

__all__ = ["FCNHead"]


class FCNHead(nn.Sequential):
    """3x3 convolution to a quarter of the maps, dropout, 1x1 to a map a class: (B, C, h, w) to (B, K, h, w).

    After the score layer of Long et al. 2015 (arXiv:1411.4038), which is the 1x1 alone.
    """

    def __init__(self, channels: int, classes: int, dropout: float = 0.1) -> None:
        inner = channels // 4
        conv = nn.Conv2d(channels, inner, 3, padding=1, bias=False)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            hidden=ConvolutionNorm(conv, nn.ReLU(inplace=True), Norm()),
            dropout=nn.Dropout(dropout),
            classifier=nn.Conv2d(inner, classes, 1),
        )
        super().__init__(layers)
