"""Two 3x3 convolutions, each with its ReLU: what a level of a U-Net is made of."""

from torch import nn

from striate.layers.stack import Stack

__all__ = ["DoubleConvolution"]


class DoubleConvolution(Stack):
    """conv1 -> (norm1) -> relu1 -> conv2 -> (norm2) -> relu2 -> (dropout).

    Maps (B, channels, H, W) become (B, width, H, W), or 4 pixels a side fewer where they are not padded.
    With batch normalisation the convolutions have no bias: it would be subtracted again.
    """

    def __init__(
        self, channels: int, width: int, *, padded: bool = True, norm: bool = True, dropout: float = 0.0
    ) -> None:
        layers: dict[str, nn.Module] = {}
        for number, channels_in in ((1, channels), (2, width)):
            layers[f"conv{number}"] = nn.Conv2d(channels_in, width, 3, padding=int(padded), bias=not norm)
            if norm:
                layers[f"norm{number}"] = nn.BatchNorm2d(width)
            layers[f"relu{number}"] = nn.ReLU(inplace=True)
        if dropout:
            layers["dropout"] = nn.Dropout(dropout)
        super().__init__(layers)
