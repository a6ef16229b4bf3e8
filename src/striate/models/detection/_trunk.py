"""The convolutions that all regions of a picture share: a classification network cut behind a map."""

from collections.abc import Mapping
from typing import Any

import msgspec
from torch import Tensor

from striate import models
from striate.errors import UsageError
from striate.layers.frozen_norm import freeze_norms
from striate.models.backbone import backbone, with_prefix
from striate.models.network import Classifier, Feature
from striate.models.unweighted import unweighted
from striate.structures import Preprocess

__all__ = ["backbone_weights", "trunk"]

# What is cut off at once: of it nothing large shall be drawn.
_CUT_OFF: dict[str, dict[str, int]] = {
    "vgg": {"grid": 1, "hidden": 1},
    "resnet": {},
    "mobilenet_v2": {},
    "darknet": {},
}
_FOR_CLASSES = {"mobilenet_v2": "head"}  # a map that serves classification alone
_READS_REGIONS = ("fc6.", "fc7.")  # of VGG: as they read a whole picture's maps


def trunk(
    name: str,
    strides: tuple[int, ...],
    preprocess: Preprocess,
    settings: Mapping[str, Any],
    frozen: float | None = None,
) -> Classifier:
    """The network `name` cut behind its last map at `strides`; `feature_info` has those maps alone.

    `settings` are further fields of its Config. With `frozen`, the constant in its batch normalisations, they
    do in training what they do in evaluation. Raises UsageError for a network that is no backbone here, or
    has no such maps.
    """
    family = models.variants().get(name, "")
    if family not in _CUT_OFF:
        raise UsageError(
            "network.backbone",
            f"{name!r} is no encoder for this network",
            "use a VGG, a ResNet, a MobileNet v2 or a Darknet, by its public name",
        )
    given = {**_CUT_OFF[family], **settings}
    if frozen is not None and family == "resnet":
        given["zero_init"] = False  # a block that begins at zero would stay there
    read = _maps(name, strides, preprocess, given)
    encoder = backbone(name, read[-1].name, preprocess, **given)
    encoder.feature_info = read
    if frozen is not None:
        freeze_norms(encoder, frozen)
    return encoder


def _maps(
    name: str, strides: tuple[int, ...], preprocess: Preprocess, settings: Mapping[str, Any]
) -> tuple[Feature, ...]:
    """The deepest maps of the network `name` at `strides`, finest first."""
    with unweighted():
        whole = models.create(name, preprocess=msgspec.to_builtins(preprocess), **settings)
    assert isinstance(whole, Classifier)
    unread = _FOR_CLASSES.get(models.variants()[name])
    deepest = {feature.stride: feature for feature in whole.feature_info if feature.name != unread}
    if not set(strides) <= set(deepest) or list(strides) != sorted(set(strides)):
        raise UsageError(
            "network.strides",
            f"{list(strides)} are not what {name} has maps at",
            f"choose among {', '.join(map(str, deepest))}, ascending",
        )
    return tuple(deepest[stride] for stride in strides)


def backbone_weights(
    state_dict: Mapping[str, Tensor], here: Mapping[str, Tensor], head: str
) -> dict[str, Tensor]:
    """The weights of a whole classification network under the names of a detector, as far as it has them.

    here: the detector's tensors by name; head: what it calls the layers that read a region, with a dot. VGG's
    fc6 and fc7 become theirs where they have that shape.
    """
    found = {name: tensor for name, tensor in with_prefix(state_dict, "backbone.").items() if name in here}
    for name, tensor in state_dict.items():
        place = here.get(f"{head}{name}")
        if name.startswith(_READS_REGIONS) and place is not None and place.shape == tensor.shape:
            found[f"{head}{name}"] = tensor
    return found
