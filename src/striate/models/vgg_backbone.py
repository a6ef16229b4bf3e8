"""VGG as the encoder of others, its fully connected layers made convolutions."""

from collections.abc import Mapping
from math import isqrt
from typing import Any

from torch import Tensor

from striate.models.backbone import backbone, with_prefix
from striate.models.classification import vgg
from striate.models.network import Classifier
from striate.structures import Preprocess

__all__ = ["VGG_DEPTHS", "name_of", "subsampled", "vgg_backbone", "with_kernels"]

VGG_DEPTHS = tuple[vgg.Count, vgg.Count, vgg.Count, vgg.Count, vgg.Count]


def name_of(depths: tuple[int, ...]) -> str | None:
    """The VGG that has so many convolutions in its blocks, by its public name; None where there is none."""
    named = ("vgg11", "vgg13", "vgg16", "vgg19")
    return next((name for name in named if vgg.VARIANTS[name].depths == depths), None)


def vgg_backbone(preprocess: Preprocess, features: tuple[str, ...], **settings: Any) -> Classifier:
    """A VGG cut behind pool5, which gives `features` alone: the other maps need no memory then.

    `settings` are further fields of VGG's Config.
    """
    # Of what is cut off at once, fc6 and fc7, nothing large shall be drawn.
    encoder = backbone("vgg16", "pool5", preprocess, grid=1, hidden=1, **settings)
    encoder.feature_info = tuple(info for info in encoder.feature_info if info.name in features)
    return encoder


def with_kernels(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a VGG: for `backbone.`, and fc6 (units, maps, 7, 7) and fc7 (units, units, 1, 1).

    The last layer, fc8, is left out: it is for other classes.
    """
    trunk = {name: tensor for name, tensor in state_dict.items() if name.startswith("trunk.")}
    channels = [tensor for tensor in trunk.values() if tensor.ndim == 4][-1].shape[0]
    fc6, fc7 = state_dict["fc6.weight"], state_dict["fc7.weight"]
    side = isqrt(fc6.shape[1] // channels)
    layers = {
        "fc6.weight": fc6.reshape(len(fc6), channels, side, side),
        "fc6.bias": state_dict["fc6.bias"],
        "fc7.weight": fc7[:, :, None, None],
        "fc7.bias": state_dict["fc7.bias"],
    }
    return with_prefix(trunk, "backbone."), layers


def subsampled(layers: Mapping[str, Tensor], hidden: int) -> dict[str, Tensor]:
    """fc6 and fc7 of a VGG thinned out to `hidden` units and 3x3 pixels.

    Of 4096 units every 4th stays for 1024, and of 7x7 pixels the first, the middle and the last along
    each axis: at a stride of 8 instead of 32 those are 12 apart. Chen et al. 2015 (arXiv:1412.7062), section
    3.2, decimate so too, and do not tell which units they keep.
    """
    fc6, fc7 = layers["fc6.weight"], layers["fc7.weight"]
    units = slice(None, None, max(1, len(fc6) // hidden))
    taps = slice(None, None, max(1, (fc6.shape[-1] - 1) // 2))
    return {
        "fc6.weight": fc6[units, :, taps, taps],
        "fc6.bias": layers["fc6.bias"][units],
        "fc7.weight": fc7[units, units],
        "fc7.bias": layers["fc7.bias"][units],
    }
